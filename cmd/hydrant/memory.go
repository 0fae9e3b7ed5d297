package main

import (
	"runtime"
	"runtime/debug"
)

// Shares of limits.memory, in sixteenths. The buffer and the delivery manager know their own; the encode
// workers' share is here because the command makes the encoders.
const (
	memoryShares = 16
	encodeShare  = 4
)

// minWorkerMemory is what an encode worker needs to make row groups of a useful size.
const minWorkerMemory = 48 << 20

// encodeWorkers is how many encoders work at once: one a core, fewer where memory is short.
func encodeWorkers(memory int64) int {
	byMemory := int(memory * encodeShare / memoryShares / minWorkerMemory)
	return max(min(runtime.NumCPU(), byMemory), 1)
}

// limitRuntime gives the Go runtime the process's memory limit, and each encode worker, which holds an OS
// thread of low priority, a processor of its own beside those that serve puts. GOMEMLIMIT and GOMAXPROCS
// of the environment have the last word.
func limitRuntime(memory int64, workers int, env func(string) (string, bool)) {
	if _, set := env("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(memory)
	}
	if _, set := env("GOMAXPROCS"); !set {
		runtime.GOMAXPROCS(runtime.NumCPU() + workers)
	}
}
