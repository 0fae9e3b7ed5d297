package hooktest

import (
	"bufio"
	"context"
	"embed"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-lambda-go/lambda"

	"hydrant/transform/hook"
)

// Path of the one function that AWS's Runtime Interface Emulator serves.
const Path = "/2015-03-31/functions/function/invocations"

// Serve serves a function in Go, of which aws-lambda-go makes a handler, as the emulator does: errors are told by the body
// alone. Under any other name than "function" they are told as Lambda's API does. It returns the server's URL.
func Serve(t testing.TB, function any, see func(*http.Request)) string {
	t.Helper()
	// A handler takes one request at a time, as a sandbox of Lambda does; others are made when there are more.
	sandboxes := sync.Pool{New: func() any { return lambda.NewHandler(function) }}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", func(w http.ResponseWriter, r *http.Request) {
		if see != nil {
			see(r)
		}
		request, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		handler := sandboxes.Get().(lambda.Handler)
		defer sandboxes.Put(handler) // its answer is its own until then
		answer, err := handler.Invoke(r.Context(), request)
		said := ""
		switch {
		case err != nil:
			said = fmt.Sprintf(`{"errorMessage":%q,"errorType":"errorString"}`, err)
		case len(answer) > hook.MaxAnswer:
			said = fmt.Sprintf(`{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size (%d bytes) exceeded maximum allowed payload size (%d bytes)."}`, len(answer), hook.MaxAnswer)
		}
		if said != "" {
			answer = []byte(said)
			if r.PathValue("name") != "function" {
				w.Header().Set("X-Amz-Function-Error", "Unhandled")
			}
		}
		w.Write(answer)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

//go:embed node/*.mjs
var scripts embed.FS

// Node serves the same function written in JavaScript, by a process of its own. It returns the server's URL.
func Node(t testing.TB) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skipf("node 20 or newer is not installed: %v", err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, scripts); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), node, filepath.Join(dir, "node", "server.mjs"))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server in node: %v", err)
		}
	})
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the server in node gave no port: %v", err)
	}
	return "http://127.0.0.1:" + strings.TrimSpace(port)
}
