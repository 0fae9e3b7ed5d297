package config

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// jsonValid checks value against the part of JSON Schema that the generated document uses, by the book and
// not by the generator, and fails the test on any other keyword.
func jsonValid(t *testing.T, root, schema map[string]any, value any) error {
	t.Helper()
	for keyword, want := range schema {
		if err := jsonKeyword(t, root, schema, keyword, want, value); err != nil {
			return err
		}
	}
	return nil
}

func jsonKeyword(t *testing.T, root, schema map[string]any, keyword string, want, value any) error {
	t.Helper()
	object, isObject := value.(map[string]any)
	array, isArray := value.([]any)
	text, isText := value.(string)
	number, isNumber := jsonNumber(value)
	switch keyword {
	case "$schema", "$defs", "title", "description", "default":
	case "$ref":
		target := root
		for _, part := range strings.Split(strings.TrimPrefix(want.(string), "#/"), "/") {
			target = target[part].(map[string]any)
		}
		return jsonValid(t, root, target, value)
	case "type":
		types, isList := want.([]any)
		if !isList {
			types = []any{want}
		}
		if !slices.ContainsFunc(types, func(name any) bool {
			switch name {
			case "object":
				return isObject
			case "array":
				return isArray
			case "string":
				return isText
			case "boolean":
				_, is := value.(bool)
				return is
			case "integer":
				return isNumber && number == math.Trunc(number)
			case "null":
				return value == nil
			}
			t.Fatalf("type %v", name)
			return false
		}) {
			return fmt.Errorf("%v is no %v", value, want)
		}
	case "enum":
		if !slices.Contains(want.([]any), value) {
			return fmt.Errorf("%v is not of %v", value, want)
		}
	case "const":
		if want != value {
			return fmt.Errorf("%v is not %v", value, want)
		}
	case "pattern":
		if isText && !regexp.MustCompile(want.(string)).MatchString(text) {
			return fmt.Errorf("%q does not match %v", text, want)
		}
	case "minLength":
		if isText && float64(utf8.RuneCountInString(text)) < want.(float64) {
			return fmt.Errorf("%q is too short", text)
		}
	case "maximum":
		if isNumber && number > want.(float64) {
			return fmt.Errorf("%v is above %v", number, want)
		}
	case "minItems":
		if isArray && float64(len(array)) < want.(float64) {
			return fmt.Errorf("%d items are too few", len(array))
		}
	case "items":
		for i, item := range array {
			if err := jsonValid(t, root, want.(map[string]any), item); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
	case "properties":
		for key, v := range object {
			if s, ok := want.(map[string]any)[key]; ok {
				if err := jsonValid(t, root, s.(map[string]any), v); err != nil {
					return fmt.Errorf("%s: %w", key, err)
				}
			}
		}
	case "additionalProperties":
		known, _ := schema["properties"].(map[string]any)
		for key, v := range object {
			if _, ok := known[key]; ok {
				continue
			}
			if want == false {
				return fmt.Errorf("%s is not known", key)
			}
			if err := jsonValid(t, root, want.(map[string]any), v); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	case "required":
		for _, key := range want.([]any) {
			if _, ok := object[key.(string)]; isObject && !ok {
				return fmt.Errorf("%s is missing", key)
			}
		}
	case "minProperties":
		if isObject && float64(len(object)) < want.(float64) {
			return fmt.Errorf("%d members are too few", len(object))
		}
	case "maxProperties":
		if isObject && float64(len(object)) > want.(float64) {
			return fmt.Errorf("%d members are too many", len(object))
		}
	case "anyOf":
		var last error
		for _, s := range want.([]any) {
			if last = jsonValid(t, root, s.(map[string]any), value); last == nil {
				return nil
			}
		}
		return last
	default:
		t.Fatalf("keyword %s", keyword)
	}
	return nil
}

func jsonNumber(v any) (float64, bool) {
	switch n := v.(type) {
	case uint64:
		return float64(n), true
	case int64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// What Decode takes, editors do not mark; and what is most often wrong, they do.
func TestJSONSchema(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(JSONSchema(), &schema); err != nil {
		t.Fatal(err)
	}
	check := func(text string) error {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		return jsonValid(t, schema, schema, v)
	}
	quoted := strings.NewReplacer("account_id: 012345678901", `account_id: "012345678901"`, "7: seven", `"7": seven`)
	stream := func(lines string) string {
		return "streams:\n  - name: s\n    destination: { file: { path: /l } }\n" + lines
	}
	for _, text := range []string{
		smallest, quoted.Replace(everything), "streams: []\n", guarded + smallest, "api: { listen: ':1', auth: none }\nadmin: { auth: none }\n" + smallest,
		stream("    buffer: { size: \"${SIZE}\", interval: 1h30m }\n"), stream("    buffer: { file_size: 0 }\n    format: { text: }\n"), stream("    format: { text: { compression: gzip } }\nstop: { drain: 0 }\n"),
		"streams: [ { name: s, destination: { s3: { bucket: lake, path_style: auto, credentials: { access_key_id: a, secret_access_key_file: f } } } } ]\n",
	} {
		if err := check(text); err != nil {
			t.Errorf("the schema refuses: %v\n%s", err, text)
		}
	}
	for _, text := range []string{
		"data_dir: x\n", "watch: 1\n" + smallest, "streams:\n  - destination: { file: { path: /l } }\n", "streams: [ { name: s } ]\n", "streams: [ { name: s, destination: {} } ]\n",
		"streams: [ { name: s, destination: { file: { path: /l }, s3: { bucket: lake } } } ]\n", "streams: [ { name: a/b, destination: { file: { path: /l } } } ]\n",
		stream("    buffer: { size: 5MB }\n"), stream("    buffer: { interval: 5 }\n"), stream("    format: { text: { compression: lz4 } }\n"), stream("    format: { parquet: {} }\n"),
		stream("    format: { parquet: { schema: [] } }\n"), stream("    format: text\n"), "streams: [ { name: s, destination: { s3: { bucket: lake, encryption: { kms: a, sse: b } } } } ]\n",
		"limits: { memory: 1 }\n" + smallest,
		"api: { auth: nobody }\n" + smallest, "api: { auth: {} }\n" + smallest, "admin: { auth: { access_keys: [] } }\n" + smallest, "api: { auth: { tokens: [ { token: t, user: u } ] } }\n" + smallest,
	} {
		if check(text) == nil {
			t.Errorf("the schema takes\n%s", text)
		}
		if _, err := Decode("f", []byte(text), noEnv); err == nil {
			t.Errorf("Decode takes\n%s", text)
		}
	}
}
