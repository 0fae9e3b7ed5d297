package config

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"strings"
)

// Processor is one step of a stream's transform list.
type Processor struct {
	_ oneOf

	// Expand records: `gzip`, `cloudwatch_logs`, or `{ cloudwatch_logs: { extract: messages } }`, which takes the messages
	// out of what CloudWatch Logs sends, each with a newline after it, and drops its control messages.
	Decompress *Decompress `key:"decompress"`
	// Take records apart: `json` for JSON objects one after another, or `{ delimited: BASE64 }` for pieces between
	// delimiters. At most 500, as in Firehose.
	Deaggregate *Deaggregate `key:"deaggregate"`
	// Text to put after each record that does not end with it.
	AppendDelimiter *string `key:"append_delimiter" pattern:"(?s)^.{1,64}$" expect:"1 to 64 characters"`
	// A jq expression that makes the record anew. No result drops it, several make a record each.
	JQ *string `key:"jq" pattern:"(?s)." expect:"a jq expression"`
	// A jq condition. Records that do not match are dropped.
	Filter *string `key:"filter" pattern:"(?s)." expect:"a jq condition"`
	// Members to rename or to move: old path to new path, in order.
	Rename Pairs `key:"rename"`
	// Members to set: path to value. What is JSON is set as JSON, any other text as a string.
	Set Pairs `key:"set"`
	// Paths of members to take out.
	Remove []string `key:"remove"`
	// Lift members of nested objects to the top.
	Flatten *Flatten `key:"flatten"`
	// Hide values of members, such as addresses.
	Redact *Redact `key:"redact"`
	// Add what a table in a file has for a value.
	Lookup *Lookup `key:"lookup"`
	// A function at a URL, by the contract that Amazon Data Firehose has with Lambda. See docs/functions.md. A stream may have
	// two functions, of either kind.
	HTTP *HTTPHook `key:"http"`
	// The same for a function in Lambda, or in a service that speaks Lambda's API.
	Lambda *LambdaHook `key:"lambda"`

	_ later `keys:"dedupe"`
}

// HTTPHook calls a function at a URL.
type HTTPHook struct {
	// Where batches are posted to: a server, Lambda's Runtime Interface Emulator, or a function URL. It is no place for a
	// secret: it is kept in data_dir.
	URL string `key:"url" required:"true" expect:"an http or https URL"`
	// Headers to send with each request, such as Authorization. The values are kept as secrets are, and with `_file` at
	// the end of its name a header's value is read from a file.
	Headers Headers `key:"headers"`
	// Time that one request may take, with its answer.
	Timeout Duration `key:"timeout" default:"60s" min:"1s" max:"15m"`
	// How often a batch is sent again that got no answer, or an error, before its records go to the error output.
	Retries Count `key:"retries" default:"3" min:"0" max:"300"`
	// Batches under way at a time; `limits.memory` may allow fewer.
	Concurrency Count `key:"concurrency" default:"4" min:"1" max:"256"`
	// How records are gathered into batches.
	Buffer HTTPHookBuffer `key:"buffer"`
}

// HTTPHookBuffer is the size of batches.
type HTTPHookBuffer struct {
	// Bytes of records that make a batch, before base64.
	Size Bytes `key:"size" default:"1MiB" min:"205KiB" max:"3MiB"`
	// Time that records wait for a batch. It is at least 10s, but not longer than the stream's own buffer.interval.
	Interval Duration `key:"interval" default:"1s" min:"0s" max:"900s"`
}

// LambdaHook calls a function in Lambda.
type LambdaHook struct {
	// Name or ARN of the function, with a version or an alias after a colon, if any.
	Function string `key:"function" required:"true"`
	// Time that one request may take, with its answer.
	Timeout Duration `key:"timeout" default:"60s" min:"1s" max:"15m"`
	// How often a batch is sent again that got no answer, or an error, before its records go to the error output.
	Retries Count `key:"retries" default:"3" min:"0" max:"300"`
	// Batches under way at a time; `limits.memory` may allow fewer.
	Concurrency Count `key:"concurrency" default:"4" min:"1" max:"256"`
	// How records are gathered into batches.
	Buffer LambdaHookBuffer `key:"buffer"`
}

// LambdaHookBuffer is the size of batches.
type LambdaHookBuffer struct {
	// Bytes of records that make a batch, before base64.
	Size Bytes `key:"size" default:"1MiB" min:"205KiB" max:"3MiB"`
	// Time that records wait for a batch. It is at least 10s, but not longer than the stream's own buffer.interval.
	Interval Duration `key:"interval" default:"60s" min:"0s" max:"900s"`
}

// MaxHooks is the most functions of a stream.
const MaxHooks = 2

// takeSecrets gives h those that the present configuration has for the same URL.
func (h *HTTPHook) takeSecrets(stream string, present *Stream) error {
	if theirs := present.Hook(h); theirs != nil {
		h.Headers = theirs.Headers
	} else if len(h.Headers) > 0 {
		return fmt.Errorf("stream %q has records for a function at another URL, and its headers are no longer in the configuration: put the function back until they are delivered", stream)
	}
	return nil
}

// Hook is the stream's function at the same URL as h, or nil.
func (s *Stream) Hook(h *HTTPHook) *HTTPHook {
	for i := range s.Transform {
		if theirs := s.Transform[i].HTTP; theirs != nil && theirs.URL == h.URL {
			return theirs
		}
	}
	return nil
}

// hooks checks the functions of a stream.
func (d *decoder) hooks(s *Stream, path string) {
	n := 0
	for i := range s.Transform {
		at, p := index(child(path, "transform"), i), &s.Transform[i]
		if p.HTTP != nil {
			d.httpURL(p.HTTP.URL, at+".http.url", giveHeader)
			for _, x := range p.HTTP.Headers {
				switch strings.ToLower(x.Name) {
				case "connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade":
					d.faultAt(at+".http.headers."+x.Name, "", "is a header of the connection, which sets it by itself", "take it out")
				}
			}
		}
		if p.HTTP == nil && p.Lambda == nil {
			continue
		}
		if n++; n > MaxHooks {
			d.faultAt(at, "", fmt.Sprintf("is function number %d", n), fmt.Sprintf("a stream has at most %d", MaxHooks))
		}
	}
}

// Flatten options.
type Flatten struct {
	// Text between the names of a lifted member.
	Separator string `key:"separator" default:"_" pattern:"^.{1,16}$" expect:"1 to 16 characters"`
}

// Redact options.
type Redact struct {
	// Paths of the values; `[]` after a name stands for each element of an array.
	Fields []string `key:"fields" required:"true"`
	// What stands in their place: the SHA-256 in hex, `***`, or nothing.
	With string `key:"with" required:"true" enum:"sha256|mask|remove"`
}

// Lookup options.
type Lookup struct {
	// The table, up to 64 MiB: .csv with a header, or .ndjson or .jsonl. The first column or member is the key; the
	// others are the value, an object where there are several. A relative path starts at the working directory of the process.
	File string `key:"file" required:"true"`
	// Path of the value to look up.
	Key string `key:"key" required:"true"`
	// Path of the member that gets what is found. A record without a match stays as it is.
	Into string `key:"into" required:"true"`
	// How often the file is looked at. One that has changed is read again; one that cannot be read leaves the table in
	// force.
	Refresh Duration `key:"refresh" default:"5m" min:"1s" max:"24h" zero:"never"`
}

// Test is a record with what the stream's transform list must make of it. `hydrant test` runs it; the daemon does not.
type Test struct {
	// Shown where the test fails.
	Name string `key:"name" default:""`
	// The record, as text; a newline at its end is cut off.
	Input string `key:"input" default:""`
	// The record in base64, instead of `input`.
	InputBase64 string `key:"input_base64" default:"" pattern:"^[A-Za-z0-9+/\\s]*=*\\s*$" expect:"base64"`
	// What comes out: `dropped`, `failed`, `{ failed: CODE }`, `{ ok: RECORD }`, `{ text: RECORD }`, or a list of
	// these. With `ok` JSON is compared by its values; `text` is compared byte for byte.
	Want Wants `key:"want" required:"true"`
}

// Decompress is how records were compressed.
type Decompress string

// Values of Decompress.
const (
	DecompressGzip     Decompress = "gzip"
	DecompressLogs     Decompress = "cloudwatch_logs"
	DecompressMessages Decompress = "cloudwatch_logs: { extract: messages }"
)

func (p *Decompress) decode(d *decoder, n *node, path string) {
	const want = "write gzip, cloudwatch_logs or { cloudwatch_logs: { extract: messages } }"
	switch n.kind {
	case scalar:
		if v := Decompress(n.text); v == DecompressGzip || v == DecompressLogs {
			*p = v
			return
		}
	case mapping:
		if len(n.entries) == 1 && n.entries[0].key == "cloudwatch_logs" {
			inner := n.entries[0].value
			if inner.kind == null || inner.kind == mapping && len(inner.entries) == 0 {
				*p = DecompressLogs
				return
			}
			if inner.kind == mapping && len(inner.entries) == 1 && inner.entries[0].key == "extract" && inner.entries[0].value.text == "messages" {
				*p = DecompressMessages
				return
			}
		}
	}
	d.fault(n, path, "is no known compression", want)
}

func (p Decompress) encode() any {
	if p == DecompressMessages {
		return object{{"cloudwatch_logs", object{{"extract", "messages"}}}}
	}
	return string(p)
}

// Deaggregate is how several records stand in one: DeaggregateJSON, or a delimiter in base64.
type Deaggregate string

// DeaggregateJSON are JSON objects one after another. It is no base64.
const DeaggregateJSON Deaggregate = "{json}"

func (p *Deaggregate) decode(d *decoder, n *node, path string) {
	const want = "write json or { delimited: BASE64 }"
	switch n.kind {
	case scalar:
		if n.text == "json" {
			*p = DeaggregateJSON
			return
		}
	case mapping:
		if len(n.entries) == 1 && n.entries[0].key == "delimited" {
			value, at := n.entries[0].value, child(path, "delimited")
			d.at(at, value)
			if !d.wantScalar(value, at, "base64") {
				return
			}
			if b, err := base64.StdEncoding.Strict().DecodeString(value.text); err != nil || len(b) == 0 {
				d.fault(value, at, "is not base64", "a newline is Cg==, #### is IyMjIw==")
				return
			}
			*p = Deaggregate(value.text)
			return
		}
	}
	d.fault(n, path, "is no known way of taking records apart", want)
}

func (p Deaggregate) encode() any {
	if p == DeaggregateJSON {
		return "json"
	}
	return object{{"delimited", string(p)}}
}

// Pairs are keys and values in the order of the file.
type Pairs [][2]string

func (p *Pairs) decode(d *decoder, n *node, path string) {
	*p = nil
	if n.kind != mapping {
		d.fault(n, path, fmt.Sprintf("wants a mapping of texts, not %s", n.kind), "")
		return
	}
	if len(n.entries) == 0 {
		d.fault(n, path, "is empty", "")
	}
	for _, e := range n.entries {
		at := child(path, e.key)
		d.at(at, e.value)
		text := e.value.text
		if e.value.kind == null { // a scalar of YAML that has no text of its own
			text = "null"
		} else if !d.wantScalar(e.value, at, "a text") {
			continue
		}
		*p = append(*p, [2]string{e.key, text})
	}
}

func (p Pairs) encode() any {
	if p == nil {
		return nil
	}
	out := object{}
	for _, x := range p {
		out = append(out, member{x[0], x[1]})
	}
	return out
}

// Wants are the results of a test: what is expected, and of which text or code.
type Wants [][2]string

// Kinds of expected results.
const (
	WantOk      = "ok"
	WantText    = "text"
	WantDropped = "dropped"
	WantFailed  = "failed"
)

func (w *Wants) decode(d *decoder, n *node, path string) {
	*w = nil
	if n.kind != list {
		w.one(d, n, path)
		return
	}
	for i, item := range n.items {
		p := index(path, i)
		d.at(p, item)
		w.one(d, item, p)
	}
	if len(n.items) == 0 {
		d.fault(n, path, "is empty", "a record of which nothing is left is dropped")
	}
}

func (w *Wants) one(d *decoder, n *node, path string) {
	switch n.kind {
	case scalar:
		if n.text == WantDropped || n.text == WantFailed || n.text == WantOk {
			*w = append(*w, [2]string{n.text, ""})
			return
		}
	case mapping:
		if len(n.entries) == 1 {
			e := n.entries[0]
			if e.key == WantOk || e.key == WantText || e.key == WantFailed {
				if d.wantScalar(e.value, child(path, e.key), "a text") {
					*w = append(*w, [2]string{e.key, e.value.text})
				}
				return
			}
		}
	}
	d.fault(n, path, "is no result", "write ok, dropped, failed, { ok: RECORD }, { text: RECORD } or { failed: CODE }")
}

func (w Wants) encode() any { panic("bug: tests have no place in a spec") }

// Data is the record of the test.
func (t *Test) Data() ([]byte, error) {
	if t.InputBase64 != "" {
		return base64.StdEncoding.DecodeString(strings.Join(strings.Fields(t.InputBase64), ""))
	}
	return []byte(strings.TrimSuffix(t.Input, "\n")), nil
}

// transform makes paths of files absolute and looks at the functions and the tests.
func (d *decoder) transform(s *Stream, path string) {
	d.hooks(s, path)
	for i := range s.Transform {
		if l := s.Transform[i].Lookup; l != nil && l.File != "" {
			at := index(child(path, "transform"), i) + ".lookup.file"
			abs, err := filepath.Abs(l.File)
			if err != nil {
				d.faultAt(at, l.File, "cannot be made absolute: "+err.Error(), "write an absolute path")
				continue
			}
			l.File = abs
		}
	}
	for i := range s.Tests {
		t, at := &s.Tests[i], index(child(path, "tests"), i)
		if t.Input != "" && t.InputBase64 != "" {
			d.faultAt(child(at, "input_base64"), "", "stands instead of input, and both are given", "keep one")
		}
		if _, err := t.Data(); err != nil {
			d.faultAt(child(at, "input_base64"), t.InputBase64, "is not base64", "")
		}
	}
}
