//go:build unix

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"hydrant/e2e/parts"
	"hydrant/e2e/parts/faultproxy"
)

// storm is one daemon on one ground, with what surrounds it.
type storm struct {
	t      *testing.T
	random *rand.Rand
	duck   *parts.Duck
	store  *parts.S3Server
	bucket string
	host   testing.TB // the test at whose end the store ends
	ground *ground
	d      *daemon

	toStore, toAPI *faultproxy.Proxy
	producers      []*producer
	variant        variant          // of the file
	removed        map[string]bool  // streams that were taken out since the last count
	acceptedBefore map[string]int64 // by stream, at the last count
	events         []string         // of this season, with their times

	mu      sync.Mutex
	planted map[string]bool // keys that somebody else took first; guarded by mu

	tally tally
}

// stormStream is a stream of a storm, and what its objects look like.
type stormStream struct {
	name           string
	parquet, gzip  bool
	file           bool // goes to the file destination, not to S3
	keys           int  // rows lie in so many partitions, by key and event time; 0: by arrival
	backup         bool // all records go to a backup as well, one behind the other
	format, buffer string
}

var stormStreams = []stormStream{
	{name: "rows", parquet: true, format: `parquet: { schema: "producer bigint, n bigint, pad string, sum string", compression: zstd }`, buffer: "size: 1MiB, interval: 1s"},
	{name: "text", gzip: true, backup: true, format: "text: { delimiter: after, compression: gzip }", buffer: "size: 512KiB, interval: 1s"},
	{name: "large", format: "text: { delimiter: after }", buffer: "size: 24MiB, interval: 4s"}, // more than one PUT takes: it is sent in parts
	{name: "parts", parquet: true, keys: 200, format: `parquet: { schema: "producer bigint, n bigint, pad string, sum string, k string, ts bigint, late boolean" }`, buffer: "size: 8KiB, interval: 5s"},
	{name: "files", gzip: true, file: true, backup: true, format: "text: { delimiter: after, compression: gzip }", buffer: "size: 512KiB, interval: 1s"},
}

// backupFolder is where backups lie, beside the folders of streams.
const backupFolder = "backup/"

func newStorm(t *testing.T, host testing.TB, duck *parts.Duck, store *parts.S3Server, bucket string, g *ground, seed uint64) *storm {
	store.CreateBucket(t, bucket)
	s := &storm{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), duck: duck, store: store, bucket: bucket, host: host, ground: g,
		acceptedBefore: map[string]int64{}, removed: map[string]bool{}, planted: map[string]bool{},
		tally: tally{ground: g.name, deaths: map[string]int{}, points: map[string]int{}},
	}
	s.toStore = faultproxy.New(t, store.Endpoint)
	s.d = configureAt(t, t.TempDir(), g.data, s.yaml())
	s.toAPI = faultproxy.New(t, s.d.api)
	for i, stream := range []string{"rows", "text", "files", "rows", "text", "large", "parts", "parts"} {
		p := &producer{number: i, stream: stream, endpoint: s.toAPI.URL, records: 80, pad: 300, pause: 20 * time.Millisecond, misfits: stream == "rows"}
		if i >= 3 {
			p.endpoint = s.d.api
		}
		if stream == "large" {
			p.records, p.pad, p.pause = 250, 16<<10, 200*time.Millisecond
		}
		if stream == "parts" {
			p.records, p.pause, p.misfits = 10, 100*time.Millisecond, true
			p.keys = stormStreams[slices.IndexFunc(stormStreams, func(st stormStream) bool { return st.name == stream })].keys
			if i == 6 {
				p.endpoint = s.toAPI.URL
			}
		}
		s.producers = append(s.producers, p)
	}
	return s
}

// yaml is the file as the variant has it.
func (s *storm) yaml() string {
	var yaml strings.Builder
	yaml.WriteString("limits: { memory: 256MiB, disk: 2GiB }\nstreams:\n")
	for i, st := range stormStreams {
		if st.name == s.variant.without {
			continue
		}
		folders, partition := "dt=!{timestamp:yyyy-MM-dd}/hour=!{timestamp:HH}/", ""
		if st.keys > 0 { // of all partitions, or an epoch is closed for their number
			folders = "k=!{partitionKeyFromQuery:k}/h=!{timestamp:yyyy-MM-dd-HH}/"
			partition = fmt.Sprintf("    partition: { keys: { k: .k }, max_active: %d, event_time: { field: ts, formats: [unix_ms], allowed_lateness: 1h, late: quarantine } }\n",
				[]int{10_000, st.keys * 3 / 4}[s.variant.number%2])
		}
		place := func(top string) string {
			names := fmt.Sprintf(`prefix: "%[1]s/v%[2]d/%[3]s", error_output_prefix: "errors/%[1]s/!{firehose:error-output-type}/"`, top, s.variant.number, folders)
			if st.file {
				return fmt.Sprintf(`file: { path: %q, %s }`, s.ground.lake, names)
			}
			return fmt.Sprintf(`s3: { bucket: %s, endpoint: %q, credentials: { access_key_id: %s, secret_access_key: %s }, %s }`, s.bucket, s.toStore.URL, s.store.AccessKey, s.store.SecretKey, names)
		}
		destination := place(st.name)
		if st.backup {
			folders = ""
			partition += fmt.Sprintf("    backup: { mode: all, error_output: destination, buffer: { size: 300KiB, interval: 3s }, %s }\n", place(backupFolder+st.name))
		}
		buffer := st.buffer
		if len(s.variant.buffers) > 0 && st.name != "large" && st.keys == 0 {
			buffer = s.variant.buffers[i]
		}
		fmt.Fprintf(&yaml, "  - name: %s\n%s    format: { %s }\n    buffer: { %s }\n    destination: { %s }\n", st.name, partition, st.format, buffer, destination)
	}
	return yaml.String()
}

// change gives the file another variant, with all streams where whole. A daemon that runs is told, and may be
// anywhere, but for the first moments, in which a signal ends it.
func (s *storm) change(whole bool) {
	names := make([]string, len(stormStreams))
	for i, st := range stormStreams {
		names[i] = st.name
	}
	s.variant.draw(s.random, names)
	if whole {
		s.variant.without = ""
	} else if s.variant.without != "" {
		s.removed[s.variant.without] = true
	}
	for _, p := range s.producers {
		if p.stream == s.variant.without {
			p.hold(true)
		}
	}
	s.d.reconfigure(s.yaml())
	for _, p := range s.producers {
		if p.stream != s.variant.without {
			p.hold(false)
		}
	}
	s.note("variant %d without %q", s.variant.number, s.variant.without)
	s.tally.changes++
	if s.d.cmd == nil {
		return
	}
	for deadline := time.Now().Add(200 * time.Millisecond); !s.d.alive(); {
		if s.d.ended(time.Millisecond) || time.Now().After(deadline) {
			return // the next start reads the file
		}
	}
	s.d.cmd.Process.Signal(syscall.SIGHUP)
	s.tally.reloads++
}

// season is some deaths, and then a count.
func (s *storm) season(rounds int) {
	s.t.Helper()
	end := season(s.t, s.producers)
	defer end()
	for range rounds {
		s.round()
		if s.t.Failed() {
			return
		}
	}
	s.quiet()
	s.change(true)
	s.d.launch()
	eventually(s.t, "ready after the last death", s.d.ready)
	before := acknowledged(s.producers)
	eventually(s.t, "records acknowledged after the last death", func() bool { return acknowledged(s.producers) > before })
	if s.random.IntN(2) == 0 { // drained by the command, or by the daemon
		s.d.kill()
		end()
		s.d.cli(0, nil, "drain", "-c", s.d.config)
		s.d.start()
	} else {
		end()
		for _, st := range stormStreams {
			s.d.flush(st.name)
		}
	}
	s.count()
	s.d.kill()
}

// quiet ends all that is bad but the daemon's own death.
func (s *storm) quiet() {
	s.tally.puts += int64(s.toStore.Hits() + s.toAPI.Hits())
	s.toStore.Clear()
	s.toAPI.Clear()
	if s.ground.free != nil {
		s.ground.free()
	}
	s.d.program, s.d.env = "", nil
}

// note keeps what was done, for the case that the count is wrong.
func (s *storm) note(format string, args ...any) {
	s.events = append(s.events, time.Now().Format("15:04:05.000000 ")+fmt.Sprintf(format, args...))
}

// until lets a random part of a time pass.
func (s *storm) until(most time.Duration) {
	<-time.After(time.Duration(s.random.Int64N(int64(most))))
}

// round is one life of the daemon, from its start to its death.
func (s *storm) round() {
	s.quiet()
	s.weather()
	death, first := s.choose(), len(s.tally.deaths) == 0
	if first {
		death = deathPoint
		if s.ground.cut != nil {
			death = deathPower
		}
	}
	point := ""
	if death == deathPoint || first || death == deathPower && s.random.IntN(2) == 0 || death == deathFull && s.random.IntN(3) == 0 {
		p := crashPoints[s.random.IntN(len(crashPoints))]
		if first { // slots are allocated by the first start, and hardly ever again
			p = crashPoints[slotAllocated]
		}
		point = p.name
		if strings.HasPrefix(point, "replace") {
			s.toStore.Inject(faultproxy.Rule{Fault: s.plant(), Match: faultproxy.On("PutObject"), Times: 2})
		}
		s.d.program = withCrashPoints(s.t)
		s.d.env = []string{fmt.Sprintf("HYDRANT_CRASH_POINT=%s:%d", point, 1+s.random.IntN(p.passes))}
	}
	s.note("start (to end %s) %v", death, s.d.env)
	full := death == deathFull && s.random.IntN(2) == 0
	if full {
		s.ground.fill() // it starts on a full disk
	}
	if s.random.IntN(4) == 0 {
		s.change(false)
	}
	if death == deathDraining {
		s.d.execute("drain", "-c", s.d.config)
	} else {
		s.d.launch()
		for range s.random.IntN(3) {
			s.until(100 * time.Millisecond)
			s.change(false)
		}
	}
	if death == deathFull {
		s.until(500 * time.Millisecond)
		if !full {
			s.ground.fill()
		} else if s.random.IntN(2) == 0 {
			s.ground.free()
		}
	}
	if point != "" && s.d.ended(3*time.Second) {
		s.tally.points[point]++
		s.note("died at %s", point)
	}
	switch death {
	case deathPoint:
	case deathStart:
		s.until(40 * time.Millisecond)
	case deathDraining:
		s.until(300 * time.Millisecond)
	default:
		if point == "" {
			s.until(900 * time.Millisecond)
		}
	}
	switch death {
	case deathStore:
		s.store.Kill(s.host)
		s.until(500 * time.Millisecond)
	case deathPower:
		s.d.freeze()
		s.note("cut")
		s.ground.cut()
		s.note("power is off")
	}
	// One that has no disk yet, or no more, may give up: it has acknowledged nothing that it did not store.
	// So may one that needs another slot for its journal and finds no room for it: the round after has room again.
	noRoom := full && strings.Contains(tail(s.d.log.String(), 600), "no space left on device")
	if point == "" && death != deathDraining && death != deathPower && s.d.ended(time.Millisecond) && !noRoom {
		s.t.Errorf("the daemon ended by itself (%s)\n%s", death, tail(s.d.log.String(), 4000))
	}
	if death == deathStop {
		if code := s.d.stop(); code != 0 {
			s.t.Errorf("exit code %d after SIGTERM", code)
		}
	} else {
		s.note("kill")
		s.d.kill()
	}
	switch death {
	case deathPower:
		s.ground.restore()
		s.note("power is on")
	case deathStore:
		s.store.Restart(s.host)
		serves(s.t, s.store, s.bucket)
	}
	s.tally.deaths[death]++
}

// choose draws how the next life ends.
func (s *storm) choose() string {
	n := s.random.IntN(100)
	switch {
	case s.ground.cut != nil && n < 75:
		return deathPower
	case s.ground.fill != nil && n < 70:
		return deathFull
	}
	switch n = s.random.IntN(100); {
	case n < 40:
		return deathPoint
	case n < 65:
		return deathRandom
	case n < 75:
		return deathStart
	case n < 88:
		return deathStore
	case n < 95:
		return deathDraining
	}
	return deathStop
}

// weather puts a few faults before the store and before the API.
func (s *storm) weather() {
	pick := func(faults ...faultproxy.Fault) faultproxy.Fault { return faults[s.random.IntN(len(faults))] }
	for range s.random.IntN(5) {
		s.toStore.Inject(faultproxy.Rule{Times: 1 + s.random.IntN(2), Skip: s.random.IntN(6),
			Match: func(r *http.Request) bool { return faultproxy.Operation(r) != "" },
			Fault: pick(faultproxy.DropBefore(), faultproxy.DropAfter(), faultproxy.DropAfter(), faultproxy.TruncateRequest(), faultproxy.TruncateAnswer(),
				faultproxy.Answer(503, "SlowDown"), faultproxy.Answer(502, ""), faultproxy.AnswerAfter(500, "InternalError"),
				faultproxy.Answer(409, "ConditionalRequestConflict"), faultproxy.Duplicate(true), faultproxy.Duplicate(false), faultproxy.Delay(300*time.Millisecond))})
	}
	if s.random.IntN(8) == 0 { // an answer of 200 with an error in it, which only this operation knows
		s.toStore.Inject(faultproxy.Rule{Fault: faultproxy.Answer(200, "InternalError"), Match: faultproxy.On("CompleteMultipartUpload")})
	}
	if s.random.IntN(8) == 0 { // a refusal for good: the object goes to the error output as it is
		s.toStore.Inject(faultproxy.Rule{Fault: faultproxy.Answer(400, "KeyTooLongError"), Match: faultproxy.On("PutObject")})
	}
	if s.random.IntN(8) == 0 {
		s.toStore.Inject(faultproxy.Rule{Fault: s.plant(), Match: faultproxy.On("PutObject", "CreateMultipartUpload")})
	}
	for range s.random.IntN(5) {
		s.toAPI.Inject(faultproxy.Rule{Times: 1 + s.random.IntN(3), Skip: s.random.IntN(20),
			Fault: pick(faultproxy.DropBefore(), faultproxy.DropAfter(), faultproxy.DropAfter(), faultproxy.TruncateRequest(), faultproxy.TruncateAnswer(), faultproxy.Delay(100*time.Millisecond))})
	}
}

const somebodyElses = "somebody else's"

// plant lets somebody else store another object under the key, a moment earlier.
func (s *storm) plant() faultproxy.Fault {
	return faultproxy.PassAfterDoing("somebody else's object", func(r *http.Request) {
		bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := s.store.Client().PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, IfNoneMatch: new("*"), Body: strings.NewReader(somebodyElses)}); err != nil {
			return // ours was there, or the store is dead
		}
		s.mu.Lock()
		s.planted[key] = true
		s.mu.Unlock()
	})
}

// count drains nothing: everything has been. It reads the destinations, holds them against the logs of the
// producers and against the counters of the daemon, and clears them.
func (s *storm) count() {
	t := s.t
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "count")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bucket := filepath.Join(dir, "bucket")
	s.store.Fetch(t, s.bucket, bucket)
	s.mu.Lock()
	for key := range s.planted {
		path := filepath.Join(bucket, filepath.FromSlash(key))
		if b, err := os.ReadFile(path); err != nil || string(b) != somebodyElses {
			t.Errorf("somebody else's object %s was changed: %.40q %v", key, b, err)
		}
		os.Remove(path)
	}
	clear(s.planted)
	s.mu.Unlock()

	var places []place
	for _, st := range stormStreams {
		from := bucket
		if st.file {
			from = s.ground.lake
		}
		p := placeOf(t, from, st.name, st.parquet, st.gzip)
		p.keyed = st.keys > 0
		places = append(places, p)
	}
	s.countBackups(dir, bucket)
	sent, acked := logs(t, dir, s.producers)
	v, found := judge(t, s.duck, sent, acked, places)
	t.Logf("season %d: %s", s.tally.seasons, &v)
	s.tally.verdict.add(v)
	s.tally.seasons++
	if !v.clean() {
		t.Errorf("%s: %s", s.ground.name, &v)
		s.explain()
	}
	s.events = nil
	if v.acked == 0 {
		t.Error("nothing was put to the test: no acknowledged records")
	}
	for _, st := range stormStreams {
		got := s.d.status(st.name)
		want := status{State: "active", Accepted: s.acceptedBefore[st.name] + found[st.name], Delivered: got.Delivered, Failed: got.Failed}
		if s.removed[st.name] { // it may have been gone in between, and then it began anew
			want.Accepted = got.Accepted
		}
		if got != want || got.Delivered+got.Failed != got.Accepted {
			t.Errorf("counters of %s do not balance: %+v, with %d records in this season's objects and %d accepted before it", st.name, got, found[st.name], s.acceptedBefore[st.name])
		}
		s.acceptedBefore[st.name] = got.Accepted
	}
	clear(s.removed)
	s.clear()
}

// countBackups holds what the backups have against the logs of the producers: each acknowledged record once, as it was sent.
func (s *storm) countBackups(dir, bucket string) {
	t := s.t
	t.Helper()
	dir = filepath.Join(dir, "backups")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	var places []place
	for _, st := range stormStreams {
		if !st.backup {
			continue
		}
		kept[st.name] = true
		from := bucket
		if st.file {
			from = s.ground.lake
		}
		p := placeOf(t, from, backupFolder+st.name, false, true)
		p.stream, p.joined = st.name, true
		if len(p.errors) > 0 {
			t.Errorf("the backup of %s has error records: %v", st.name, p.errors)
		}
		places = append(places, p)
	}
	producers := slices.DeleteFunc(slices.Clone(s.producers), func(p *producer) bool { return !kept[p.stream] })
	sent, acked := logs(t, dir, producers)
	v, _ := judge(t, s.duck, sent, acked, places)
	t.Logf("season %d, backups: %s", s.tally.seasons, &v)
	if !v.clean() || v.acked == 0 {
		t.Errorf("%s, backups: %s", s.ground.name, &v)
		s.explain()
	}
	for name := range kept {
		if b := s.d.backupStatus(name); b.State != "active" || b.Delivered+b.Failed != b.Accepted || b.Backlog != 0 || b.Unaccounted != 0 {
			t.Errorf("counters of the backup of %s do not balance: %+v", name, b)
		}
	}
}

// explain says when the lost records were acknowledged, among all that happened.
func (s *storm) explain() {
	story := slices.Clone(s.events)
	for _, row := range s.duck.Query("select producer, n from acked a anti join found f using (stream, producer, n) order by producer, n") {
		if call, ok := s.producers[row["producer"].(int64)].call(row["n"].(int64)); ok {
			story = append(story, fmt.Sprintf("%s lost: acknowledged to producer %d, %d…, as %s", call.at.Format("15:04:05.000000"), row["producer"], call.first, call.id))
		}
	}
	slices.Sort(story)
	s.t.Logf("what happened:\n%s", strings.Join(slices.Compact(story), "\n"))
}

// clear removes what was delivered.
func (s *storm) clear() {
	t := s.t
	t.Helper()
	client := s.store.Client()
	for {
		page, err := client.ListObjectsV2(context.Background(), &s3.ListObjectsV2Input{Bucket: &s.bucket})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Contents) == 0 {
			break
		}
		var ids []types.ObjectIdentifier
		for _, o := range page.Contents {
			ids = append(ids, types.ObjectIdentifier{Key: o.Key})
		}
		if _, err := client.DeleteObjects(context.Background(), &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Objects: ids}}); err != nil {
			t.Fatal(err)
		}
	}
	dirs := map[string]bool{}
	for _, path := range walk(t, s.ground.lake) {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs { // or a power cut brings them back
		f, err := os.Open(dir)
		if err == nil {
			err = f.Sync()
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
