package prefix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPartitionedPrefix(t *testing.T) {
	f := func(text string, values []string, want string, keys ...string) {
		t.Helper()
		p, err := Parse(text, PartitionedPrefix)
		if err != nil {
			t.Error(err)
			return
		}
		var got []string
		for _, k := range p.Keys() {
			got = append(got, k.String())
		}
		if !slices.Equal(got, keys) {
			t.Errorf("%q: keys %q, want %q", text, got, keys)
		}
		if route := p.Route(Values{Time: julyAfternoon, Keys: values}); route != want {
			t.Errorf("%q of %q: got %q, want %q", text, values, route, want)
		}
	}
	const q, l = "!{partitionKeyFromQuery:", "!{partitionKeyFromLambda:"
	f("c="+q+"customer}/", []string{"acme"}, "c=acme/", q+"customer}")
	f("c="+q+"customer}/dt=!{timestamp:yyyy}/x="+l+"customer}/"+q+"customer}", []string{"a", "b"}, "c=a/dt=2026/x=b/a", q+"customer}", l+"customer}")
	f(q+"a b.c-ü}", []string{"v"}, "v", q+"a b.c-ü}")
	f("plain/", nil, "plain/2026/07/13/14/")
	x := func(value, want string) {
		t.Helper()
		f("k="+q+"k}/", []string{value}, "k="+want+"/", q+"k}")
		if back := Unescape(want); back != value {
			t.Errorf("%q is read as %q, want %q", want, back, value)
		}
	}
	// What stays as it is.
	for _, same := range []string{"acme", "a/b", "2024/01/02", "São Paulo", "東京", "100%", "50%af", "50%A", "a.b", "...a", "a..", ".hidden/x", "!", "a!b", "{x}", "a:b*c?d", " ", "\ufffd", "a\u00a0b"} {
		x(same, same)
	}
	// What does not.
	x("..", "%2E%2E")
	x(".", "%2E")
	x("...", "%2E%2E%2E")
	x("../../etc", "%2E%2E/%2E%2E/etc")
	x("a/../b", "a/%2E%2E/b")
	x("a/.", "a/%2E")
	x("a//b", "a%2F/b")
	x("a/", "a%2F")
	x("/", "/%2F"[1:])
	x("a\x00b\n\x7f", "a%00b%0A%7F")
	x("a\\..\\b", "a%5C..%5Cb")
	x("\u0085", "%C2%85")
	x("\xff\xc3", "%FF%C3")
	x("a%2Fb", "a%252Fb")
	x("%25", "%2525")
	x("%%41", "%%2541")
	x("!{firehose:random-string}", "%21{firehose:random-string}")
	// Where it meets what stands around it.
	f(q+"k}/x", []string{"/etc"}, "%2Fetc/x", q+"k}")
	f("a/"+q+"k}/x", []string{"/etc"}, "a/%2Fetc/x", q+"k}")
	f("a"+q+"k}/x", []string{"/etc"}, "a/etc/x", q+"k}")
	f(q+"k}x", []string{"a/"}, "a/x", q+"k}")
	f(q+"k}", []string{"a/"}, "a/", q+"k}")
	f(q+"k}../x", []string{"a/"}, "a%2F../x", q+"k}")
	f("a/.."+q+"k}", []string{"/b"}, "a/..%2Fb", q+"k}")
	f("a/."+q+"k}", []string{"."}, "a/.%2E", q+"k}")
	f(q+"k}"+q+"j}", []string{".", "."}, "%2E%2E", q+"k}", q+"j}")
	f(q+"k}"+q+"j}", []string{"a/", "/b"}, "a%2F/b", q+"k}", q+"j}")
	f(q+"k}!{timestamp:'/'yyyy}", []string{"a/"}, "a%2F/2026", q+"k}")
	f(q+"k}{firehose:random-string}", []string{"a!"}, "a%21{firehose:random-string}", q+"k}")
	f("a!"+q+"k}", []string{"{firehose:random-string}"}, "a!%7Bfirehose:random-string}", q+"k}")
	f(q+"k}!{firehose:random-string}", []string{"a!"}, "a!!{firehose:random-string}", q+"k}")
}

func TestPartitionedPrefixRefuses(t *testing.T) {
	f := func(kind Kind, text, message string) {
		t.Helper()
		_, err := Parse(text, kind)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Message != message {
			t.Errorf("%q: got %v, want %q", text, err, message)
		}
	}
	f(PartitionedPrefix, "!{partitionKeyFromQuery:}", "Invalid expression usage")
	f(PartitionedPrefix, "!{partitionKeyFromQuery}", "Invalid expression usage")
	f(PartitionedPrefix, "!{partitionKeyFromQuery:a", "Invalid expression usage")
	f(PartitionedPrefix, "!{partitionkeyfromquery:a}", "Namespace to the left of colon (partitionkeyfromquery) is an invalid keyword!")
	f(PartitionedPrefix, "!{firehose:error-output-type}", "Prefix must not contain any occurrence of !{firehose:error-output-type}")
	f(PartitionedPrefix, "!{timestamp:yyyyC}", "Invalid conversion character used in the value of the expression in Prefix")
	f(ErrorOutputPrefix, "!{firehose:error-output-type}!{partitionKeyFromLambda:a}", "Dynamic Partitioning Namespaces can't be part of an error prefix expression")
	f(PartitionedPrefix, strings.Repeat("x", 512)+"!{partitionKeyFromQuery:a}", "Length of evaluated prefix cannot be greater than 512")
	if _, err := Parse(strings.Repeat("x", 511)+"!{partitionKeyFromQuery:a}", PartitionedPrefix); err != nil {
		t.Error(err)
	}
	many := func(n int) (text string) {
		for i := range n {
			text += fmt.Sprintf("!{partitionKeyFromQuery:k%d}", i)
		}
		return text
	}
	if _, err := Parse(many(50)+many(50), PartitionedPrefix); err != nil {
		t.Error(err)
	}
	f(PartitionedPrefix, many(51), "Prefix cannot have more than 50 partition keys")

	if err := ValidatePartitionedPair("!{partitionKeyFromQuery:a}/", "", true); err == nil || !strings.HasPrefix(err.Error(), "ErrorOutputPrefix cannot be null") {
		t.Error(err)
	}
	if err := ValidatePartitionedPair("!{partitionKeyFromQuery:a}/", "e/!{firehose:error-output-type}/", true); err != nil {
		t.Error(err)
	}
	data, errs, err := ParsePartitionedPair("!{partitionKeyFromQuery:a}/", "")
	if err != nil || data.HasTime() || errs.Route(Values{ErrorOutputType: "late"}) != "errors/late/" {
		t.Errorf("got %v, %v, %v", data, errs, err)
	}
}

func TestFinish(t *testing.T) {
	p, err := Parse("!{firehose:random-string}/!{partitionKeyFromQuery:k}!{firehose:random-string}", PartitionedPrefix)
	if err != nil {
		t.Fatal(err)
	}
	f := func(value, want string) {
		t.Helper()
		v := Values{Time: julyAfternoon, Keys: []string{value}}
		got, err := p.Finish(p.Route(v), &counting{})
		if e, ok := errors.AsType[*Error](err); got != want || ok != (want == "") || err != nil && e.Message != "Length of evaluated prefix cannot be greater than 512" {
			t.Errorf("%q: got %q, %v, want %q", value, got, err, want)
		}
		if again, _ := p.Eval(v, &counting{}); again != got {
			t.Errorf("%q: Eval gives %q, Finish %q", value, again, got)
		}
	}
	f("v", "00010203040/v060708090a0")
	f("!{firehose:random-string}", "00010203040/%21{firehose:random-string}060708090a0")
	long := strings.Repeat("é", 512-2*RandomLength-1)
	f(long, "00010203040/"+long+"060708090a0")
	f(long+"x", "")
}

// FuzzValue: whatever the value and what stands around it, the value can be read back from the key, and no
// component of the key is a way up, empty where the template has none, or a new expression.
func FuzzValue(f *testing.F) {
	f.Add("k=", "a/b", "/x/")
	f.Add("", "../..", "")
	f.Add("..", "/", "..")
	f.Add("!", "{firehose:random-string}!", "{")
	f.Add("a", "%2", "F/")
	f.Add("%2", "F%\x00%25", ".")
	f.Fuzz(func(t *testing.T, before, value, after string) {
		if value == "" || strings.Contains(before+after, "!{") || strings.HasSuffix(before, "!") && strings.HasPrefix(after, "{") {
			return
		}
		p, err := Parse(before+"!{partitionKeyFromQuery:k}"+after, PartitionedPrefix)
		if err != nil {
			return
		}
		route := p.Route(Values{Keys: []string{value}})
		if !strings.HasPrefix(route, before) || !strings.HasSuffix(route, after) {
			t.Fatalf("%q %q %q: the template's own text is changed: %q", before, value, after, route)
		}
		printed := route[len(before) : len(route)-len(after)]
		if back := Unescape(printed); back != value {
			t.Fatalf("%q %q %q: %q is read as %q", before, value, after, printed, back)
		}
		if strings.ContainsFunc(printed, func(r rune) bool { return r < ' ' || r >= 0x7F && r < 0xA0 || r == '\\' }) || !utf8.ValidString(printed) {
			t.Fatalf("%q is not safe", printed)
		}
		if strings.Contains(route, "!{") {
			t.Fatalf("%q has an expression", route)
		}
		own := map[string]int{} // of the template with a harmless value
		for c := range strings.SplitSeq(before+"v"+after, "/") {
			own[c]++
		}
		for c := range strings.SplitSeq(route, "/") {
			if c == "." || c == ".." || c == "" && c != after[strings.LastIndexByte(after, '/')+1:] {
				if own[c]--; own[c] < 0 {
					t.Fatalf("%q %q %q: %q has the component %q", before, value, after, route, c)
				}
			}
		}
	})
}
