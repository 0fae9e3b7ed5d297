package parts

import (
	"path/filepath"
	"testing"
)

// DynamoDB starts dynalite, an imitation of DynamoDB that keeps its tables in memory, and returns its base URL. It
// evaluates conditions as the service does, and takes any credentials.
func DynamoDB(t testing.TB) (endpoint string) {
	t.Helper()
	need(t, filepath.Join(NodeModules(t), "dynalite"), makeTools)
	s := &S3Server{Name: "dynalite", ready: "/"}
	port := s.place(t)
	s.args = []string{"node", need(t, filepath.Join(Cache(t), "node", "dynalite.mjs"), makeTools), port}
	s.start(t)
	return s.Endpoint
}
