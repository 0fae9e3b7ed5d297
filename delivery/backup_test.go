package delivery

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"hydrant/buffer"
	"hydrant/sinks"
)

// inBackupWorld runs a test on the real buffer, with a shop of its own for the backups.
func inBackupWorld(t *testing.T, streams map[string]spec, f func(t *testing.T, w *world, copies *shop)) {
	t.Helper()
	for _, b := range backends {
		if b.name == "model" || b.name == "files" && testing.Short() {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, b)
				w.shops["backup"] = w.newShop()
				w.start()
				w.apply(streams)
				w.run()
				defer w.close()
				f(t, w, w.shops["backup"])
			})
		})
	}
}

// keeping is a stream whose source records go to the backup too.
func keeping(main, backup spec) map[string]spec {
	backup.Shop = "backup"
	main.Backup = &backup
	return map[string]spec{"a": main}
}

// wantRows checks that each row is there once, and no other.
func wantRows(t *testing.T, what string, got map[string]int, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s has %v, want %v", what, got, want)
	}
	for _, row := range want {
		if got[row] != 1 {
			t.Errorf("%s has %q %d times", what, row, got[row])
		}
	}
}

// A backup has every record as it came, whatever becomes of it elsewhere, in objects of its own size, interval and prefix,
// and both consumers' accounts add up.
func TestBackupKeepsWhatCame(t *testing.T) {
	streams := keeping(spec{Words: true, Size: 1000, Interval: 5 * time.Second}, spec{Prefix: "source/", Size: 40, Interval: time.Minute})
	inBackupWorld(t, streams, func(t *testing.T, w *world, copies *shop) {
		w.put("a", "row-1 row-2", "drop-3", "bad-4", "fail-5")
		time.Sleep(10 * time.Second)
		data, failed := w.shop().rows()
		wantRows(t, "the destination", data, "row-1", "row-2")
		wantRows(t, "the error output", failed, "bad-4", "fail-5")
		if keys := copies.keys(); len(keys) != 0 {
			t.Errorf("the backup has %v before its interval", keys)
		}
		if st := w.status("a"); st.BacklogRecords != 0 || st.Backup.Accepted != 4 || st.Backup.BacklogRecords != 4 || st.Backup.State != "active" {
			t.Errorf("status %+v, backup %+v", st, *st.Backup)
		}
		w.put("a", "row-6 row-7 row-8", "row-9") // 48 bytes wait now: an object of 40 is full
		time.Sleep(time.Second)
		if keys := copies.keys(); len(keys) != 1 || !strings.HasPrefix(keys[0], "source/2000/01/01/00/a-1-2000-01-01-") {
			t.Errorf("the backup has %v after 40 bytes", keys)
		}
		w.flush("a")
		rows, errs := copies.rows()
		wantRows(t, "the backup", rows, "row-1 row-2", "drop-3", "bad-4", "fail-5", "row-6 row-7 row-8", "row-9")
		if len(errs) > 0 {
			t.Errorf("error records in the backup: %v", errs)
		}
		st := w.status("a")
		if b := st.Backup; b.Delivered != 6 || b.Failed+b.Dropped+b.Unaccounted+b.BacklogRecords != 0 || st.Unaccounted+st.BacklogRecords != 0 || st.Dropped != 1 {
			t.Errorf("status %+v, backup %+v", st, *b)
		}
		w.restart()
		w.balanced("a", 6)
		if b := w.status("a").Backup; b == nil || b.Delivered != 6 || b.Unaccounted != 0 {
			t.Errorf("backup after a restart: %+v", b)
		}
		if err := gatheredOnce(w.m.Collectors()); err != nil {
			t.Error(err)
		}
	})
}

// gatheredOnce checks that no two collectors say the same.
func gatheredOnce(list []prometheus.Collector) error {
	r := prometheus.NewRegistry()
	for _, c := range list {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	families, err := r.Gather()
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
	}
	for _, name := range []string{"hydrant_backup_delivered_records_total", "hydrant_backup_unaccounted_records", "hydrant_backup_backlog_bytes", "hydrant_backup_delivery_attempts_total"} {
		if !names[name] {
			return fmt.Errorf("no metric %s", name)
		}
	}
	return nil
}

// A destination that is down holds up nothing but its own consumer.
func TestDeadBackupAndDeadDestination(t *testing.T) {
	down := func(sinks.Object, int) *fault { return &fault{err: refusal(sinks.NotStored, "Down")} }
	streams := keeping(spec{Interval: time.Second}, spec{Interval: time.Second})
	inBackupWorld(t, streams, func(t *testing.T, w *world, copies *shop) {
		copies.set(down)
		w.put("a", "row-1")
		time.Sleep(5 * time.Second)
		data, _ := w.shop().rows()
		wantRows(t, "the destination of a stream with a dead backup", data, "row-1")
		left, err := w.m.Flush(within(time.Second), "a")
		if err == nil || left.Records != 0 || left.BackupRecords != 1 || !strings.Contains(left.Error, "Down") {
			t.Errorf("flush with a dead backup leaves %+v, %v", left, err)
		}
		if list, err := w.m.Batches("a"); err != nil || len(list) != 1 || list[0].Left[0].Role != "backup" {
			t.Errorf("batches with a dead backup: %+v, %v", list, err)
		}
		if err := w.m.Pause("a"); err != nil {
			t.Fatal(err)
		}
		copies.set(nil)
		time.Sleep(time.Hour)
		if keys := copies.keys(); len(keys) != 0 {
			t.Errorf("the backup of a paused stream gets %v", keys)
		}
		w.shop().set(down)
		if err := w.m.Resume("a"); err != nil {
			t.Fatal(err)
		}
		w.put("a", "row-2")
		time.Sleep(5 * time.Second)
		rows, _ := copies.rows()
		wantRows(t, "the backup of a stream with a dead destination", rows, "row-1", "row-2")
		w.shop().set(nil)
		w.flush("a")
		data, _ = w.shop().rows()
		wantRows(t, "the destination", data, "row-1", "row-2")
	})
}

// A backup that is turned on begins with the next record. One that is turned off gets what came before, under what was in
// force then, however long that takes and over restarts, and nothing since; the next one begins after it.
func TestBackupTurnedOnAndOff(t *testing.T) {
	on := keeping(spec{Interval: time.Second}, spec{Prefix: "source/", Interval: time.Hour})
	off := map[string]spec{"a": {Interval: time.Second}}
	inBackupWorld(t, off, func(t *testing.T, w *world, copies *shop) {
		w.put("a", "row-1")
		w.apply(on)
		w.put("a", "row-2")
		copies.set(func(sinks.Object, int) *fault { return &fault{err: refusal(sinks.NotStored, "Down")} })
		w.apply(off)
		w.put("a", "row-3")
		time.Sleep(time.Minute)
		if st := w.status("a"); st.Backup == nil || st.Backup.State != "ending" || st.Backup.BacklogRecords != 1 || st.Backup.Accepted != 1 || st.Version != 3 {
			t.Fatalf("status while the backup ends: %+v, %+v", st, st.Backup)
		}
		w.restart()
		w.put("a", "row-4")
		if st := w.status("a"); st.Backup == nil || st.Backup.State != "ending" || st.Backup.BacklogRecords != 1 {
			t.Fatalf("backup after a restart: %+v", st.Backup)
		}
		w.apply(on) // before the former one has ended
		w.put("a", "row-5")
		time.Sleep(time.Minute)
		if st := w.status("a"); st.Backup.State != "ending" || st.Backup.Accepted != 1 {
			t.Errorf("backup that was turned on again too early: %+v", *st.Backup)
		}
		copies.set(nil)
		time.Sleep(2 * time.Minute)
		rows, _ := copies.rows()
		wantRows(t, "the backup that was turned off", rows, "row-2")
		if st := w.status("a"); st.Backup == nil || st.Backup.State != "active" || st.Backup.Accepted != 0 {
			t.Fatalf("the next backup: %+v", st.Backup)
		}
		w.put("a", "row-6")
		w.flush("a")
		rows, _ = copies.rows()
		wantRows(t, "the backup", rows, "row-2", "row-6")
		data, _ := w.shop().rows()
		wantRows(t, "the destination", data, "row-1", "row-2", "row-3", "row-4", "row-5", "row-6")
		w.apply(off)
		time.Sleep(time.Minute)
		if st := w.status("a"); st.Backup != nil || st.Unaccounted != 0 {
			t.Errorf("status after the end of the backup: %+v, %+v", st, st.Backup)
		}
		w.restart()
		w.balanced("a", 6)
	})
}

// A stream that is deleted is gone when its backup has got everything too; one that is deleted by force drops what waits for
// either.
func TestDeletedWithBackup(t *testing.T) {
	for _, forced := range []bool{false, true} {
		t.Run(fmt.Sprint(forced), func(t *testing.T) {
			inBackupWorld(t, map[string]spec{}, func(t *testing.T, w *world, copies *shop) {
				w.m.ours = func(buffer.Stream) bool { return false }
				def := keeping(spec{Interval: time.Second}, spec{Interval: time.Hour})["a"]
				w.change("a", func(*buffer.Stream) (buffer.Stream, error) {
					return buffer.Stream{Consumers: Consumers(true), Spec: def.bytes()}, nil
				})
				copies.set(func(sinks.Object, int) *fault { return &fault{err: refusal(sinks.NotStored, "Down")} })
				w.put("a", "row-1")
				time.Sleep(time.Minute)
				state := buffer.Deleting
				if forced {
					state = buffer.Discarding
				}
				w.enter("a", state)
				time.Sleep(time.Minute)
				if _, there := w.m.Stream("a"); there == forced {
					t.Errorf("stream is there: %v, deleted by force: %v", there, forced)
				}
				copies.set(nil)
				time.Sleep(time.Minute)
				if _, there := w.m.Stream("a"); there || w.m.backupOf("a") != nil {
					t.Error("stream is not gone")
				}
				rows, _ := copies.rows()
				if want := map[bool]int{false: 1, true: 0}[forced]; rows["row-1"] != want {
					t.Errorf("the backup of a stream deleted by force (%v) has %v", forced, rows)
				}
			})
		})
	}
}

// Where the version says nothing of a backup that the buffer keeps rows for, they wait, and the main consumer goes on.
func TestBackupThatCannotBeOpened(t *testing.T) {
	streams := keeping(spec{Interval: time.Second}, spec{Fail: "no such backup"})
	inBackupWorld(t, streams, func(t *testing.T, w *world, copies *shop) {
		w.put("a", "row-1")
		time.Sleep(time.Minute)
		data, _ := w.shop().rows()
		wantRows(t, "the destination", data, "row-1")
		if st := w.status("a"); st.State != "active" || st.Backup.State != "failed" || !strings.Contains(st.Backup.Error, "no such backup") {
			t.Errorf("status %+v, backup %+v", st, *st.Backup)
		}
		w.apply(keeping(spec{Interval: time.Second}, spec{}))
		w.flush("a")
		rows, _ := copies.rows()
		wantRows(t, "the backup", rows, "row-1")
	})
}

// A backup that was turned on again before the former one had ended begins after it, also where a pause came between them, or
// the end of the process.
func TestPromisedBackupBegins(t *testing.T) {
	on := keeping(spec{Interval: time.Second}, spec{Interval: time.Second})
	inBackupWorld(t, map[string]spec{}, func(t *testing.T, w *world, copies *shop) {
		w.m.ours = func(buffer.Stream) bool { return false }
		w.declares = w.m.ours
		def := on["a"]
		w.change("a", func(*buffer.Stream) (buffer.Stream, error) {
			return buffer.Stream{Consumers: Consumers(false), Spec: def.bytes()}, nil
		})
		if st := w.status("a"); st.Backup != nil {
			t.Fatalf("backup %+v of a stream without a consumer for it", st.Backup)
		}
		w.restart()
		synctest.Wait()
		if st := w.status("a"); st.Backup == nil || st.Backup.State != "active" {
			t.Fatalf("backup after a restart: %+v", st.Backup)
		}
		w.put("a", "row-1")
		w.flush("a")
		rows, _ := copies.rows()
		wantRows(t, "the backup", rows, "row-1")

		// It ends, is promised again, and a change of state comes first when nothing of it is left.
		copies.set(func(sinks.Object, int) *fault { return &fault{err: refusal(sinks.NotStored, "Down")} })
		w.put("a", "row-2")
		time.Sleep(10 * time.Second)
		for _, consumers := range [][]uint8{Consumers(false), Consumers(true)} {
			w.change("a", func(now *buffer.Stream) (buffer.Stream, error) {
				next := *now
				next.Consumers = consumers
				return next, nil
			})
		}
		if st := w.status("a"); st.Backup == nil || st.Backup.State != "ending" {
			t.Fatalf("backup that was turned on again: %+v", st.Backup)
		}
		w.m.defining.Lock() // its end can be told by nobody but what comes next
		copies.set(nil)
		time.Sleep(5 * time.Minute)
		s := w.m.lookup("a")
		paused := s.definition()
		paused.State = buffer.Paused
		if _, err := w.m.define(s, paused); err != nil {
			t.Fatal(err)
		}
		w.m.defining.Unlock()
		if st := w.status("a"); st.Backup == nil || st.Backup.State != "paused" {
			t.Errorf("backup after a pause: %+v", st.Backup)
		}
		w.m.Resume("a")
		w.put("a", "row-3")
		w.flush("a")
		rows, _ = copies.rows()
		wantRows(t, "the backup", rows, "row-1", "row-2", "row-3")
		w.balanced("a", 3)
	})
}
