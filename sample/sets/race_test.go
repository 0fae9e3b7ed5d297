//go:build race

package sets_test

func init() { slow = true }
