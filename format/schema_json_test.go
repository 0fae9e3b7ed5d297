package format

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseJSONSchema(t *testing.T) {
	f := func(properties, want string, more ...string) {
		t.Helper()
		s, err := ParseJSONSchema([]byte(`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","required":["a"],"properties":{` + properties + `}` + strings.Join(more, "") + `}`))
		if err != nil {
			t.Errorf("%s: %v", properties, err)
			return
		}
		if got := s.String(); got != want {
			t.Errorf("%s: %s, want %s", properties, got, want)
		}
	}
	f(`"z":{"type":"string"},"a":{"type":"integer"},"M":{"type":"number"},"k":{"type":"boolean"}`, "z string, a bigint, M double, k boolean")
	f(`"a":{"type":"string","format":"date-time"},"b":{"type":"string","format":"date"},"c":{"type":"string","format":"uuid"}`, "a timestamp, b date, c string")
	f(`"a":{"type":"integer","format":"int32"},"b":{"type":"integer","format":"int64"},"c":{"type":"number","format":"float"}`, "a int, b bigint, c float")
	f(`"a":{"type":["string","null"]},"b":{"type":["null","integer","number"]},"c":{"enum":["x","y",null]}`, "a string, b double, c string")
	f(`"a":{"type":"array","items":{"type":"array","items":{"type":"string"}}}`, "a array<array<string>>")
	f(`"a":{"type":"object","properties":{"b":{"properties":{"c":{"type":"boolean"}},"additionalProperties":false}}}`, "a struct<b:struct<c:boolean>>")
	f(`"a":{"type":"object","additionalProperties":{"type":"integer","minimum":0}}`, "a map<string,bigint>")
	f(`"a b":{"type":"string","description":"x","x-order":3}`, "`a b` string")
	f(`"a":{"anyOf":[{"type":"string"},{"type":"null"}],"default":null},"b":{"allOf":[{"$ref":"#/$defs/p~1q"}]},"c":{"$ref":"#/$defs/p~1q"}`,
		"a string, b struct<n:bigint>, c struct<n:bigint>", `,"$defs":{"p/q":{"type":"object","properties":{"n":{"type":"integer"}}}}`)
	s, err := ParseJSONSchema([]byte(`{"$ref":"#/definitions/R","definitions":{"R":{"type":"object","properties":{"a":{"type":"string"}}}}}`))
	if err != nil || s.String() != "a string" {
		t.Errorf("a root that is a reference: %v, %v", s, err)
	}
}

func TestParseJSONSchemaErrors(t *testing.T) {
	f := func(in string, want ...string) {
		t.Helper()
		s, err := ParseJSONSchema([]byte(in))
		var got []string
		if err != nil {
			got = strings.Split(err.Error(), "\n")
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", in, s, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	one := func(schema string, want ...string) {
		t.Helper()
		f(`{"type":"object","properties":{"a":`+schema+`}}`, want...)
	}
	const text = `; write { "type": "string" } to keep its JSON text in a string column`
	f("", "line 1, character 1: the document ends too early")
	f("{\n \"a\": ]", "line 2, character 7: is not JSON: invalid character ']' looking for beginning of value")
	f("{} x", "line 1, character 4: text after the end of the document")
	f("{\"a\":\"\xff\"}", "line 1, character 1: the document is not valid UTF-8")
	f("[]", "#: is not a schema; write an object that gives a type")
	f("true", "#: is not a schema; write an object that gives a type")
	f(`{"type":"string"}`, `#: the root is not an object with properties; give it "type": "object" and "properties"`)
	f(`{"type":"object"}`, `#: the root is not an object with properties; give it "type": "object" and "properties"`)
	f(`{"type":"object","properties":{}}`, "#/properties: has no property"+text)
	f(`{"type":"object","properties":{"a":{"type":"string"},"A":{"type":"string"},"":{"type":"string"}}}`,
		`#/properties/A: the name was already given to "a" (case does not count); rename it`, "#/properties/: the name is empty or has control characters; rename it")
	one(`{}`, `#/properties/a: gives no type; add "type"`)
	one(`true`, "#/properties/a: is not a schema; write an object that gives a type")
	one(`{"type":"text"}`, "#/properties/a/type: is not a type of JSON Schema; write object, array, string, integer, number, boolean or null")
	one(`{"type":["string","integer"]}`, "#/properties/a/type: is both string and integer: a column has one type"+text)
	one(`{"type":"null"}`, "#/properties/a/type: is null alone"+text)
	one(`{"type":"object"}`, "#/properties/a: an object needs properties, or additionalProperties with a schema"+text)
	one(`{"type":"object","properties":{"b":{"type":"string"}},"additionalProperties":{"type":"string"}}`,
		"#/properties/a/additionalProperties: a struct has no other members than those it names; take it out, or take out properties to make a map")
	one(`{"type":"object","patternProperties":{}}`, "#/properties/a/patternProperties: the keyword is not supported; take it out, or write { \"type\": \"string\" } to keep its JSON text in a string column")
	one(`{"type":"array"}`, "#/properties/a: an array needs items that are one schema"+text)
	one(`{"type":"array","items":[{"type":"string"}]}`, "#/properties/a/items: an array needs items that are one schema"+text)
	one(`{"type":"array","prefixItems":[]}`, "#/properties/a/prefixItems: the keyword is not supported; take it out, or write { \"type\": \"string\" } to keep its JSON text in a string column")
	one(`{"oneOf":[{"type":"string"},{"type":"integer"}]}`, "#/properties/a/oneOf: has more than one alternative that is not null: a column has one type"+text)
	one(`{"oneOf":[{"type":"null"}]}`, "#/properties/a/oneOf: has no alternative that is not null"+text)
	one(`{"anyOf":{}}`, "#/properties/a/anyOf: is not a list of schemas")
	one(`{"$ref":"other.json"}`, `#/properties/a/$ref: the reference "other.json" leaves the document; only references such as #/$defs/name are followed`)
	one(`{"$ref":"#/$defs/x"}`, `#/properties/a/$ref: there is no "#/$defs/x" in the document`)
	one(`{"$ref":"#/$defs/x","properties":{}}`, "#/properties/a/$ref: stands beside another keyword that decides about the type; write one of them")
	one(`{"$ref":"#/properties/a"}`, `#/properties/a/$ref: "#/properties/a" contains itself: such a column has no end`+text)
	f(`{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"string"},"next":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/n"}]}}}}}`,
		`#/$defs/n/properties/next/anyOf/1/$ref: "#/$defs/n" contains itself: such a column has no end`+text)
}

func TestJSONSchemaLimits(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(`{"type":"object","properties":{"a":` + strings.Repeat(`{"type":"array","items":`, n-1) + `{"type":"string"}` + strings.Repeat("}", n-1) + `}}`)
	}
	if s, err := ParseJSONSchema(nested(MaxSchemaDepth)); err != nil || s.Leaves() != 1 {
		t.Errorf("%d deep: %v", MaxSchemaDepth, err)
	}
	if _, err := ParseJSONSchema(nested(MaxSchemaDepth + 1)); err == nil || !strings.Contains(err.Error(), "nested more than 100 deep") {
		t.Errorf("%d deep: %v", MaxSchemaDepth+1, err)
	}
	wide := func(n int) []byte {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"c%d":{"type":"string"}`, i)
		}
		return []byte(`{"type":"object","properties":{` + b.String()[1:] + `}}`)
	}
	if s, err := ParseJSONSchema(wide(MaxLeaves)); err != nil || s.Leaves() != MaxLeaves {
		t.Errorf("%d columns: %v", MaxLeaves, err)
	}
	if _, err := ParseJSONSchema(wide(MaxLeaves + 1)); err == nil || !strings.Contains(err.Error(), "more than 10000 columns") {
		t.Errorf("%d columns: %v", MaxLeaves+1, err)
	}
	// References that double at each level end soon, in columns and in time.
	var defs strings.Builder
	for i := range 90 {
		fmt.Fprintf(&defs, `"d%d":{"type":"object","properties":{"a":{"$ref":"#/$defs/d%d"},"b":{"$ref":"#/$defs/d%[2]d"}}},`, i, i+1)
	}
	_, err := ParseJSONSchema([]byte(`{"$ref":"#/$defs/d0","$defs":{` + defs.String() + `"d90":{"type":"string"}}}`))
	if err == nil || !strings.Contains(err.Error(), "more than 10000 columns") {
		t.Errorf("doubling references: %v", err)
	}
}

// FuzzJSONSchema: what is taken is a schema that its own text means again.
func FuzzJSONSchema(f *testing.F) {
	f.Add([]byte(`{"type":"object","properties":{"a":{"type":["string","null"],"format":"date"},"b":{"type":"array","items":{"$ref":"#/$defs/c"}}},"$defs":{"c":{"type":"object","additionalProperties":{"type":"integer"}}}}`))
	f.Add([]byte(`{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"n":{"anyOf":[{"type":"null"},{"$ref":"#/$defs/n"}]}}}}}`))
	f.Add([]byte(`{"$ref":"#"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := ParseJSONSchema(in)
		if err != nil {
			if _, ok := errors.AsType[*ImportError](err); !ok {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := ParseDDL(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q is read as %v, %v", s, again, err)
		}
	})
}
