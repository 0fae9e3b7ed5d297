package parts

import "testing"

// Moto starts moto's imitation of AWS and returns its base URL. Of it the Glue catalog is used: databases, tables
// and their versions. It takes any credentials.
func Moto(t testing.TB) (endpoint string) {
	t.Helper()
	const how = "install Python's moto, as in pip install 'moto[server]==5.2.1', so that moto_server is in PATH"
	s := &S3Server{Name: "moto", ready: "/moto-api/data.json"}
	port := s.place(t)
	s.args = []string{needProgram(t, "moto_server", how), "-H", "127.0.0.1", "-p", port}
	s.start(t)
	return s.Endpoint
}
