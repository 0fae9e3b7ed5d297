package hook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"hydrant/record"
	"hydrant/transform"
)

// fixed is a carrier whose function always answers the same.
type fixed []byte

func (f fixed) Invoke(_ context.Context, _, dst []byte) ([]byte, error) {
	return append(dst, f...), nil
}
func (f fixed) Function() string { return "fixed" }

// TestDecodeInPlace: as the standard library's decoder, for every length, and without a byte behind the text changed.
func TestDecodeInPlace(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 600 {
		want := make([]byte, n)
		for i := range want {
			want[i] = byte(rng.Uint32())
		}
		text := base64.StdEncoding.AppendEncode(nil, want)
		size := len(text)
		text = append(text, strings.Repeat("#", 64)...)
		got, ok := decode(text[:size])
		if !ok || !bytes.Equal(text[:got], want) || string(text[size:]) != strings.Repeat("#", 64) {
			t.Fatalf("%d bytes: %v, %x, behind them %q", n, ok, text[:got], text[size:])
		}
		for range 3 {
			if size == 0 {
				break
			}
			text = base64.StdEncoding.AppendEncode(text[:0], want)
			at, c := rng.IntN(size), "!\n\r= _-\x00\xff"[rng.IntN(9)]
			text[at] = c
			whole := string(text)
			back, err := base64.StdEncoding.Strict().DecodeString(whole)
			lenient, lerr := base64.StdEncoding.DecodeString(whole)
			got, ok := decode(text)
			switch {
			case strings.ContainsAny(whole, "\r\n"):
				if ok {
					t.Fatalf("%q is taken", whole)
				}
			case ok != (lerr == nil) || ok && !bytes.Equal(text[:got], lenient):
				t.Fatalf("%q: %v; the library: %x, %v (strict: %x, %v)", whole, ok, lenient, lerr, back, err)
			}
		}
	}
}

// oracle says what an answer is by encoding/json: a word for each of n rows, or of the error that all have.
func oracle(answer []byte, ids []string, keys []string) []string {
	all := func(code string) []string {
		words := make([]string, len(ids))
		for i := range words {
			words[i] = code
		}
		return words
	}
	if !utf8.Valid(answer) || !json.Valid(answer) {
		return all(CodeJSONProcessing)
	}
	object := func(text json.RawMessage) (m map[string]json.RawMessage, ok bool) {
		return m, bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) && json.Unmarshal(text, &m) == nil
	}
	null := func(text json.RawMessage) bool { return text == nil || string(text) == "null" }
	top, ok := object(answer)
	if !ok {
		return all(CodeJSONMapping)
	}
	words := all(CodeMissingID)
	if null(top["records"]) {
		return words
	}
	var records []json.RawMessage
	if json.Unmarshal(top["records"], &records) != nil {
		return all(CodeJSONMapping)
	}
	seen := map[int]bool{}
	for _, text := range records {
		r, ok := object(text)
		if !ok {
			return all(CodeJSONMapping)
		}
		var id, result, data *string
		for name, to := range map[string]**string{"recordId": &id, "result": &result, "data": &data} {
			if !null(r[name]) && json.Unmarshal(r[name], to) != nil {
				return all(CodeJSONMapping)
			}
		}
		values := map[string]string{}
		if len(keys) > 0 && !null(r["metadata"]) {
			m, ok := object(r["metadata"])
			if !ok {
				return all(CodeJSONMapping)
			}
			if !null(m["partitionKeys"]) {
				p, ok := object(m["partitionKeys"])
				if !ok {
					return all(CodeJSONMapping)
				}
				for _, k := range keys {
					switch v := p[k]; {
					case null(v):
					case v[0] == '{' || v[0] == '[':
						return all(CodeJSONMapping)
					case v[0] == '"':
						var s string
						json.Unmarshal(v, &s)
						values[k] = s
					default:
						values[k] = string(v)
					}
				}
			}
		}
		i := -1
		for k := range ids {
			if id != nil && ids[k] == *id {
				i = k
			}
		}
		switch {
		case i < 0:
			continue
		case seen[i]:
			words[i] = CodeDuplicatedID
			continue
		}
		seen[i] = true
		switch {
		case result == nil || *result != "Ok" && *result != "Dropped" && *result != "ProcessingFailed":
			return all(CodeFunctionError)
		case *result != "Ok":
			words[i] = map[string]string{"Dropped": "Dropped", "ProcessingFailed": CodeFailedStatus}[*result]
		case data == nil:
			words[i] = CodeReturnFormat
		default:
			decoded, err := base64.StdEncoding.DecodeString(*data)
			if err != nil || strings.ContainsAny(*data, "\r\n") {
				return all(CodeFunctionError)
			}
			words[i] = fmt.Sprintf("%q", decoded)
			for _, k := range keys {
				if values[k] == "" {
					words[i] = codeExtraction
				}
			}
			if words[i] != codeExtraction && len(keys) > 0 {
				words[i] += fmt.Sprint(values)
			}
		}
	}
	return words
}

// errors of two kinds at once may be told by either. Those that make the whole batch fail:
var whole = map[string]bool{CodeJSONProcessing: true, CodeJSONMapping: true, CodeFunctionError: true}

func FuzzAnswer(f *testing.F) {
	rows := []record.Row{{Seq: 1}, {Seq: 2}, {Seq: 3, Sub: 1}}
	var ids []string
	for _, row := range rows {
		ids = append(ids, string(AppendID(nil, [16]byte{}, 0, row)))
	}
	r := strings.NewReplacer("#1", ids[0], "#2", ids[1], "#3", ids[2])
	for _, s := range []string{
		`{"records":[{"recordId":"#1","result":"Ok","data":"YQ=="},{"recordId":"#2","result":"Dropped"},{"recordId":"#3","result":"ProcessingFailed","data":"YQ=="}]}`,
		`{"records":[{"recordId":"#3","result":"Ok","data":"","metadata":{"partitionKeys":{"k":"v\u00e9\ud83d\ude00\ud83d","x":{}}}},{"recordId":"#3"}]}`,
		`{"records":[{"recordId":"#1","result":"Ok","data":"\u002f+8\/AAAA","metadata":{"partitionKeys":{"k":1.5e-3}}}],"x":[1,{"a":[]},null,true,false,"\"\\\b\f\n\r\t"]}`,
		`{"records":null,"records":[]}`, `[]`, `null`, ``, `{"records":[{"recordId":5}]}`, strings.Repeat(`[`, 10_001), `{"x":` + strings.Repeat(`[`, 9_999) + strings.Repeat(`]`, 9_999) + `}`,
		`{"x":` + strings.Repeat(`[`, 10_000) + strings.Repeat(`]`, 10_000) + `}`,
	} {
		f.Add([]byte(r.Replace(s)), true)
		f.Add([]byte(r.Replace(s)), false)
	}
	zero := 0
	f.Fuzz(func(t *testing.T, answer []byte, partitioned bool) {
		if len(answer) > MaxAnswer {
			return
		}
		var keys []string
		if partitioned {
			keys = []string{"k"}
		}
		v, err := New(Options{Carrier: fixed(answer), Retries: &zero, PartitionKeys: keys})
		if err != nil {
			t.Fatal(err)
		}
		want := oracle(answer, ids, keys)
		i := 0
		err = v.Invoke(context.Background(), rows, func(o *Outcome) error {
			var got string
			switch o.Outcome {
			case transform.Ok:
				got = fmt.Sprintf("%q", o.Row.Data)
				if partitioned {
					got += fmt.Sprint(maps.Clone(o.Partitions))
				}
			case transform.Dropped:
				got = "Dropped"
			default:
				got = o.Failure.Code
			}
			if got != want[i] && !(whole[got] && whole[want[i]]) {
				t.Errorf("row %d: %s, not %s\n%q", i, got, want[i], answer)
			}
			i++
			return nil
		})
		if err != nil || i != len(rows) {
			t.Errorf("%v after %d outcomes", err, i)
		}
	})
}

// TestPartitionsAreShared between neighbours that have the same, and only between those.
func TestPartitionsAreShared(t *testing.T) {
	rows := make([]record.Row, 4)
	var elements []string
	for i, k := range []string{"a", "a", "b", "a"} {
		rows[i].Seq = uint64(i + 1)
		elements = append(elements, fmt.Sprintf(`{"recordId":"%s","result":"Ok","data":"","metadata":{"partitionKeys":{"k":%q}}}`, AppendID(nil, [16]byte{}, 0, rows[i]), k))
	}
	v, err := New(Options{Carrier: fixed(`{"records":[` + strings.Join(elements, ",") + `]}`), PartitionKeys: []string{"k"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = v.Invoke(context.Background(), rows, func(o *Outcome) error {
		got = append(got, o.Partitions["k"])
		return nil
	})
	if err != nil || strings.Join(got, "") != "aaba" {
		t.Errorf("%v, %v", got, err)
	}
}
