package parts

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
)

// Names of imitations of Kinesis Data Streams that others wrote.
const (
	Kinesalite   = "kinesalite"    // an older API, and quick
	KinesisLocal = "kinesis-local" // a newer API, and slow
)

// Kinesis starts one of them, which keeps its streams in memory and takes any credentials, and returns its base URL.
func Kinesis(t testing.TB, name string) (endpoint string) {
	t.Helper()
	need(t, filepath.Join(NodeModules(t), name), makeTools)
	s := &S3Server{Name: name, ready: "/"}
	port := s.place(t)
	s.args = []string{"node", need(t, filepath.Join(Cache(t), "node", name+".mjs"), makeTools), port}
	if name == KinesisLocal {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, tls, _ := net.SplitHostPort(l.Addr().String())
		_ = l.Close()
		s.args, s.ready = append(s.args, tls), "/healthcheck"
	}
	s.start(t)
	return s.Endpoint
}

// PackedRecord is one that Pack packs.
type PackedRecord struct {
	PartitionKey    string `json:"partitionKey"`
	ExplicitHashKey string `json:"explicitHashKey,omitempty"`
	Data            string `json:"data"`
}

// Pack packs records into one as the Kinesis Producer Library does, by a program that others wrote.
func Pack(t testing.TB, records []PackedRecord) []byte {
	t.Helper()
	need(t, filepath.Join(NodeModules(t), "aws-kinesis-agg"), makeTools)
	in, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", need(t, filepath.Join(Cache(t), "node", "aggregate.mjs"), makeTools))
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("pack records: %v\n%s", err, &stderr)
	}
	packed, err := base64.StdEncoding.DecodeString(string(out))
	if err != nil {
		t.Fatal(err)
	}
	return packed
}
