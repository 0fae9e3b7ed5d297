package main

// Shares of connections. One that waits for a request takes about 40 KiB with TLS, as measured with 500 of them.
// Bodies are not among it: the buffer admits them.
const (
	connectionBytes  = 64 << 10
	connectionShare  = 4  // sixteenths of limits.memory, if as many were open
	minConnections   = 64 // whatever the limits
	maxConnections   = 64 << 10
	adminConnections = 128 // scrapes, probes, and people
)

// apiConnections is how many connections the API's listeners have at most under limits.memory, where a process may
// open so many files; 0: no limit is known. Half of them stay for the data directory and destinations, which must not
// fail because clients come.
func apiConnections(memory int64, files uint64) int {
	n := memory * connectionShare / memoryShares / connectionBytes
	if files > 0 {
		n = min(n, int64(min(files/2, maxConnections)))
	}
	return int(max(min(n, maxConnections), minConnections))
}
