package http

import (
	"testing"

	"hydrant/transform/hook"
	"hydrant/transform/hook/hooktest"
)

func open(t testing.TB, url string) *Carrier {
	t.Helper()
	c, err := New(Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFunctions(t *testing.T) {
	hooktest.Run(t, func(t testing.TB, server string) hook.Carrier { return open(t, server+hooktest.Path) })
}
