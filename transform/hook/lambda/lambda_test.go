package lambda

import (
	"testing"

	"hydrant/transform/hook"
	"hydrant/transform/hook/hooktest"
)

func keys(id, secret, token string) func() (string, string, string, error) {
	return func() (string, string, string, error) { return id, secret, token, nil }
}

func open(t testing.TB, endpoint string) *Carrier {
	t.Helper()
	c, err := New(Options{FunctionName: "arn:aws:lambda:eu-west-1:123456789012:function:clean", Endpoint: endpoint, Keys: keys("AKIDEXAMPLE", "secret", "")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestFunctions(t *testing.T) {
	hooktest.Run(t, func(t testing.TB, server string) hook.Carrier { return open(t, server) })
}
