package main

import "testing"

func TestAPIConnections(t *testing.T) {
	for _, c := range []struct {
		memory int64
		files  uint64
		want   int
	}{
		{512 << 20, 0, 2048},
		{512 << 20, 4096, 2048},
		{512 << 20, 4094, 2047},
		{512 << 20, 1024, 512},
		{128 << 20, 1 << 20, 512},
		{1 << 20, 1 << 20, 64}, // never less
		{512 << 20, 16, 64},    // either way
		{1 << 40, 0, 64 << 10}, // never more
		{1 << 40, 1 << 63, 64 << 10},
	} {
		if got := apiConnections(c.memory, c.files); got != c.want {
			t.Errorf("%d bytes and %d files: %d connections, want %d", c.memory, c.files, got, c.want)
		}
	}
}
