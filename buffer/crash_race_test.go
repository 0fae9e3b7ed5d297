//go:build race

package buffer

// slowdown is how many times longer a test takes than without the race detector.
const slowdown = 8
