package parts

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Telegraf is a running Telegraf with its input for Firehose's HTTP endpoint delivery, which writes what it gets to a file.
type Telegraf struct {
	URL string // of the endpoint
	out string
}

// StartTelegraf runs one that wants an access key, until the test ends.
func StartTelegraf(t testing.TB, accessKey string) *Telegraf {
	t.Helper()
	program := needServer(t, "telegraf")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	g := &Telegraf{URL: "http://" + address + "/telegraf", out: filepath.Join(dir, "out")}
	conf := filepath.Join(dir, "telegraf.conf")
	text := fmt.Sprintf(`[agent]
  flush_interval = "200ms"
  omit_hostname = true
  metric_buffer_limit = 1000000
[[inputs.firehose]]
  service_address = %q
  paths = ["/telegraf"]
  access_key = %q
  data_format = "json"
[[outputs.file]]
  files = [%q]
  data_format = "json"
`, address, accessKey, g.out)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config", conf)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return g
		}
		if time.Now().After(deadline) {
			t.Fatal("Telegraf does not listen after 30 s")
		}
	}
}

// Values are those of a field in what it has written so far.
func (g *Telegraf) Values(t testing.TB, field string) (values []float64) {
	t.Helper()
	f, err := os.Open(g.out)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var m struct{ Fields map[string]float64 }
		if json.Unmarshal(lines.Bytes(), &m) == nil { // the last line may not be whole yet
			values = append(values, m.Fields[field])
		}
	}
	return values
}
