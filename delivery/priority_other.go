//go:build !linux

package delivery

// lowerPriority does nothing where priority belongs to the whole process.
func lowerPriority(int) {}
