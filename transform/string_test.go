package transform

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendString(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(AppendString(nil, in)); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
	}
	f("", `""`)
	f("plain", `"plain"`)
	f("a\"b\\c", `"a\"b\\c"`)
	f("\n\r\t\x00\x1f\x7f", "\"\\n\\r\\t\\u0000\\u001f\x7f\"")
	f("grüße €", `"grüße €"`)
	f("\xff", "\"\ufffd\"")
	f("a\xe2\x82z", "\"a\ufffd\ufffdz\"")
	f("\ufffd", "\"\ufffd\"")
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a", "\"\\\x00\n", "\xff\xfe", "é\xc3", "\u2028"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q becomes %s: %v", s, got, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && back != want {
			t.Fatalf("%q comes back as %q", s, back)
		}
	})
}
