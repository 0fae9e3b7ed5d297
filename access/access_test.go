package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		glob, name string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"a", "a", true}, {"a", "ab", false}, {"ab", "a", false},
		{"*", "", true}, {"*", "anything", true}, {"**", "x", true}, {"a*", "a", true}, {"a*", "ba", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a*c", "abc", true}, {"a*c", "abcb", false}, {"a*b*c", "axbxbxc", true},
		{"*aab", "aaaab", true}, {"?", "a", true}, {"?", "", false}, {"a?c", "abc", true}, {"a?c", "ac", false}, {"*?", "a", true},
		{"a.b", "axb", false}, {"clicks*", "clicks-eu", true}, {"Clicks", "clicks", false},
	} {
		if got := match(c.glob, c.name); got != c.want {
			t.Errorf("%q fits %q: %v", c.glob, c.name, got)
		}
	}
	// No pattern takes longer than the product of the lengths.
	begin := time.Now()
	if match(strings.Repeat("*a", 32)+"b", strings.Repeat("a", 64)) || time.Since(begin) > time.Second {
		t.Errorf("took %s", time.Since(begin))
	}
}

func bearer(token string) *http.Request {
	return &http.Request{Method: "POST", RemoteAddr: "192.0.2.1:99", Header: http.Header{"Authorization": {"Bearer " + token}}}
}

func TestAuthorization(t *testing.T) {
	grant := func(streams string, actions ...Action) Grant {
		return Grant{Streams: strings.Fields(streams), Actions: actions}
	}
	g, err := New(Options{Identity: func() (string, string) { return "123456789012", "eu-west-1" }, Credentials: Credentials{Tokens: []Token{
		{Name: "producer", Value: text("p"), Grant: grant("clicks* views", Put)},
		{Name: "reader", Value: text("r"), Grant: grant("clicks", Read)},
		{Name: "admin", Value: text("a"), Grant: grant("*", Admin)},
		{Name: "none", Value: text("n")},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		token, operation, stream string
		want                     bool
	}{
		{"p", "PutRecord", "clicks", true}, {"p", "PutRecordBatch", "clicks-eu", true}, {"p", "PutRecord", "views", true},
		{"p", "PutRecord", "view", false}, {"p", "DescribeDeliveryStream", "clicks", false}, {"p", "DeleteDeliveryStream", "clicks", false},
		{"p", "ListDeliveryStreams", "", false}, {"p", "NoSuchOperation", "clicks", false},
		{"r", "DescribeDeliveryStream", "clicks", true}, {"r", "ListTagsForDeliveryStream", "clicks", true}, {"r", "ListDeliveryStreams", "", true},
		{"r", "ShowStatus", "", true}, {"r", "DescribeDeliveryStream", "views", false}, {"r", "PutRecord", "clicks", false}, {"r", "FlushStream", "clicks", false},
		{"a", "CreateDeliveryStream", "x", true}, {"a", "DeleteDeliveryStream", "x", true}, {"a", "UpdateDestination", "x", true},
		{"a", "TagDeliveryStream", "x", true}, {"a", "UntagDeliveryStream", "x", true}, {"a", "StartDeliveryStreamEncryption", "x", true},
		{"a", "StopDeliveryStreamEncryption", "x", true}, {"a", "FlushStream", "x", true}, {"a", "PauseStream", "x", true}, {"a", "ResumeStream", "x", true},
		{"a", "PutRecord", "x", false}, {"a", "DescribeDeliveryStream", "x", false},
		{"n", "PutRecord", "x", false},
	} {
		who, err := g.Begin(bearer(c.token))
		if err != nil {
			t.Fatal(err)
		}
		if err := who.Authorize(c.operation, c.stream); (err == nil) != c.want {
			t.Errorf("%s, %s of %q: %v", who.Name(), c.operation, c.stream, err)
		}
	}
	who, _ := g.Begin(bearer("p"))
	const because = " because no grant of this key allows the "
	for _, c := range []struct{ operation, stream, want string }{
		{"DeleteDeliveryStream", "clicks", "User: arn:aws:iam::123456789012:user/producer is not authorized to perform: firehose:DeleteDeliveryStream on resource: arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks" + because + "firehose:DeleteDeliveryStream action (it needs admin)"},
		{"PutRecord", "x", "User: arn:aws:iam::123456789012:user/producer is not authorized to perform: firehose:PutRecord on resource: arn:aws:firehose:eu-west-1:123456789012:deliverystream/x" + because + "firehose:PutRecord action (it needs put)"},
		{"ListDeliveryStreams", "", "User: arn:aws:iam::123456789012:user/producer is not authorized to perform: firehose:ListDeliveryStreams on resource: arn:aws:firehose:eu-west-1:123456789012:deliverystream/*" + because + "firehose:ListDeliveryStreams action (it needs read)"},
		{"FlushStream", "clicks", "User: arn:aws:iam::123456789012:user/producer is not authorized to perform: hydrant:FlushStream on resource: arn:aws:firehose:eu-west-1:123456789012:deliverystream/clicks" + because + "hydrant:FlushStream action (it needs admin)"},
	} {
		if m := refusedAs(t, who.Authorize(c.operation, c.stream), codeDenied, reasonDenied); m != c.want {
			t.Errorf("got  %s\nwant %s", m, c.want)
		}
	}
	who, _ = g.Begin(bearer("r"))
	if !who.Sees("clicks") || who.Sees("views") {
		t.Error("the reader does not see what it may read")
	}
	if s := (&Error{Reason: reasonDenied}).HTTPStatus(); s != http.StatusForbidden {
		t.Error(s)
	}
	if s := (&Error{Reason: reasonToken}).HTTPStatus(); s != http.StatusUnauthorized {
		t.Error(s)
	}
}

// Nobody is asked where nobody is to be, and nobody gets in where there are no keys.
func TestOpenAndShut(t *testing.T) {
	open, err := New(Options{Credentials: Credentials{Open: true}})
	if err != nil {
		t.Fatal(err)
	}
	who, err := open.Begin(bearer("whatever"))
	if err != nil || who.Name() != "anonymous" || who.Tag() != [32]byte{} || who.Confirm([32]byte{}) != nil || who.Authorize("DeleteDeliveryStream", "s") != nil || !who.Sees("s") || !open.Open() {
		t.Errorf("%v, %v", who, err)
	}
	shut, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = shut.Begin(bearer("whatever"))
	refusedAs(t, err, codeUnrecognized, reasonToken)
	_, err = shut.Begin(sign(t, calls["root"], time.Now()))
	refusedAs(t, err, codeUnrecognized, reasonKey)
	_, err = shut.Begin(calls["root"].request(t))
	refusedAs(t, err, codeMissing, reasonMissing)
}

func TestCredentialsThatCannotBe(t *testing.T) {
	broken := func() (string, error) { return "", errors.New("open f: no such file") }
	key := func(id string) AccessKey { return AccessKey{ID: id, Secret: text("s")} }
	g := guarded(t)
	for want, c := range map[string]Credentials{
		"access: keys or tokens are given, and nobody is to be asked for them": {Open: true, AccessKeys: []AccessKey{key("A")}},
		`access: the access key id "A" is empty or given twice`:                {AccessKeys: []AccessKey{key("A"), key("A")}},
		`access: the access key id "" is empty or given twice`:                 {AccessKeys: []AccessKey{key("")}},
		"access: the secret of access key A is missing":                        {AccessKeys: []AccessKey{{ID: "A"}}},
		"access: the secret of access key A is empty":                          {AccessKeys: []AccessKey{{ID: "A", Secret: text("")}}},
		"access: the session token of access key A: open f: no such file":      {AccessKeys: []AccessKey{{ID: "A", Secret: text("s"), SessionToken: broken}}},
		"access: the token t: open f: no such file":                            {Tokens: []Token{{Name: "t", Value: broken}}},
		"access: the tokens t and u are the same":                              {Tokens: []Token{{Name: "t", Value: text("x")}, {Name: "u", Value: text("x")}}},
	} {
		if err := g.Use(c); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := verify(g, sign(t, calls["root"], time.Now())); err != nil {
		t.Errorf("after credentials that cannot be: %v", err)
	}
	if err := g.Use(Credentials{AccessKeys: []AccessKey{key("OTHER")}}); err != nil {
		t.Fatal(err)
	}
	_, err := verify(g, sign(t, calls["root"], time.Now()))
	refusedAs(t, err, codeUnrecognized, reasonKey)
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(time.Minute)
		g, err := New(Options{Credentials: Credentials{
			AccessKeys: []AccessKey{{ID: testKey, Secret: text(testSecret), Expires: at, Grant: everything}},
			Tokens:     []Token{{Name: "t", Value: text("t"), Expires: at, Grant: everything}}}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Nanosecond)
		for _, r := range []*http.Request{bearer("t"), sign(t, calls["root"], time.Now())} {
			if _, err := g.Begin(r); err != nil {
				t.Errorf("a moment before: %v", err)
			}
		}
		time.Sleep(time.Nanosecond)
		for _, r := range []*http.Request{bearer("t"), sign(t, calls["root"], time.Now())} {
			_, err := g.Begin(r)
			refusedAs(t, err, codeExpired, reasonExpired)
		}
	})
}

// A secret that changes in its file is used a second later; a file that is gone for a while turns nobody away.
func TestChangingSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now atomic.Pointer[string]
		var log bytes.Buffer
		set := func(s string) { now.Store(&s) }
		set(testSecret)
		get := func() (string, error) {
			if s := *now.Load(); s != "gone" {
				return s, nil
			}
			return "", errors.New("no such file")
		}
		g, err := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Credentials: Credentials{
			AccessKeys: []AccessKey{{ID: testKey, Secret: get, Grant: everything}}, Tokens: []Token{{Name: "t", Value: get, Grant: everything}}}})
		if err != nil {
			t.Fatal(err)
		}
		works := func(want bool) {
			t.Helper()
			if _, err := verify(g, sign(t, calls["root"], time.Now())); (err == nil) != want {
				t.Errorf("signature: %v", err)
			}
			if _, err := g.Begin(bearer(testSecret)); (err == nil) != want {
				t.Errorf("token: %v", err)
			}
		}
		works(true)
		set("gone")
		time.Sleep(time.Hour)
		works(true)
		time.Sleep(time.Hour)
		works(true)
		set("")
		time.Sleep(time.Hour)
		works(true)
		set("another")
		works(true) // for less than a second
		time.Sleep(valueLife)
		works(false)
		set(testSecret)
		time.Sleep(valueLife)
		works(true)
		if n := strings.Count(log.String(), "cannot be read again"); n != 4 { // each of two, for each of two reasons
			t.Errorf("%d complaints in\n%s", n, log.String())
		}
		if strings.Contains(log.String(), testSecret) || strings.Contains(log.String(), "another") {
			t.Errorf("the log holds a secret:\n%s", log.String())
		}
	})
}

// Each refusal counts, and of each reason one a minute is written down.
func TestRejections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := NewRejections(slog.New(slog.NewTextHandler(&log, nil)))
		g, err := New(Options{Rejected: r, Credentials: Credentials{Tokens: []Token{{Name: "t", Value: text("t")}}}})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			g.Begin(bearer("a-secret-mistyped"))
		}
		g.Begin(&http.Request{Header: http.Header{"Authorization": {"AWS4-HMAC-SHA256 Credential=AKID\u0085\n/20000101/r/firehose/aws4_request, SignedHeaders=host, Signature=" + strings.Repeat("0", 64)}, "X-Amz-Date": {"20000101T000000Z"}}, URL: calls["root"].request(t).URL})
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("%d lines:\n%s", n, log.String())
		}
		time.Sleep(rejectionPause)
		g.Begin(bearer("a-secret-mistyped"))
		if !strings.Contains(log.String(), "remote=192.0.2.1:99 more_since_last_line=99") || strings.Contains(log.String(), "mistyped") || !strings.Contains(log.String(), "key=AKID??") {
			t.Errorf("log:\n%s", log.String())
		}
		if n := testutil.ToFloat64(r.WithLabelValues(reasonToken)); n != 101 {
			t.Errorf("%v counted", n)
		}
		if n := testutil.CollectAndCount(r); n != len(reasons()) {
			t.Errorf("%d series, want one for each reason", n)
		}
	})
}

// On a loopback listener that asks for no key a request must name a loopback host, and elsewhere it need not.
func TestHosts(t *testing.T) {
	g, err := New(Options{Credentials: Credentials{Open: true}})
	if err != nil {
		t.Fatal(err)
	}
	request := func(host string, loopback bool) *http.Request {
		r := calls["root"].request(t)
		r.Host = host
		if loopback {
			r = r.WithContext(LoopbackOnly(r.Context()))
		}
		return r
	}
	_, err = g.Begin(request("evil.example", true))
	if m := refusedAs(t, err, codeDenied, reasonHost); m != "The host 'evil.example' is not a loopback address: ask for 127.0.0.1 or localhost, or configure auth." {
		t.Error(m)
	}
	for _, r := range []*http.Request{request("localhost:4573", true), request("hydrant:4573", false)} {
		if _, err := g.Begin(r); err != nil {
			t.Error(err)
		}
	}
	if err := g.Use(Credentials{Tokens: []Token{{Name: "t", Value: text("t"), Grant: everything}}}); err != nil {
		t.Fatal(err)
	}
	r := request("evil.example", true)
	r.Header.Set("Authorization", "Bearer t")
	if _, err := g.Begin(r); err != nil {
		t.Errorf("with a key: %v", err)
	}
}

func TestAudit(t *testing.T) {
	var log bytes.Buffer
	Audit{}.Record(context.Background(), Event{})
	Audit{slog.New(slog.NewTextHandler(&log, nil))}.Record(context.Background(), Event{"AKID", "DeleteDeliveryStream", "clicks", "ok", "id", "192.0.2.1:99"})
	if want := "level=INFO msg=\"administrative call\" key=AKID action=DeleteDeliveryStream stream=clicks outcome=ok request_id=id remote=192.0.2.1:99\n"; !strings.HasSuffix(log.String(), want) {
		t.Errorf("got %s", log.String())
	}
	for operation, want := range map[string]bool{"DeleteDeliveryStream": true, "FlushStream": true, "PutRecord": false, "ListDeliveryStreams": false, "": false} {
		if got := IsAdministrative(operation); got != want {
			t.Errorf("%s: %v", operation, got)
		}
	}
}

func TestQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"": "''", "a\nb": "'a?b'", "\xff": "'?'", strings.Repeat("x", 128): "'" + strings.Repeat("x", 128) + "'", strings.Repeat("x", 129): "'" + strings.Repeat("x", 128) + "...'",
	} {
		if got := quoted(in); got != want {
			t.Errorf("%q: %s", in, got)
		}
	}
	if got := fmt.Sprint(&Error{Code: "C", Message: "m"}); got != "C: m" {
		t.Error(got)
	}
}
