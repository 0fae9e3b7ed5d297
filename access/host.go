package access

import "context"

type loopbackKey struct{}

// LoopbackOnly marks the context of all requests of a loopback listener. There a request must name a loopback host
// while nobody is asked for a key. It keeps web pages away: one whose own name resolves to 127.0.0.1 could otherwise
// send requests and read the answers, from the browser of whoever looks at it.
func LoopbackOnly(ctx context.Context) context.Context {
	return context.WithValue(ctx, loopbackKey{}, true)
}

func overLoopback(ctx context.Context) bool { return ctx.Value(loopbackKey{}) != nil }

func errHost(host string) *Error {
	return &Error{Code: codeDenied, Reason: reasonHost,
		Message: "The host " + quoted(host) + " is not a loopback address: ask for 127.0.0.1 or localhost, or configure auth."}
}
