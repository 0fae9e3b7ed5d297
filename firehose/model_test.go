package firehose

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/firehose"
)

// requests by operation, with the SDK's input.
var requests = map[string]struct {
	shape *shape
	input any
}{
	"CreateDeliveryStream":          {createShape, sdk.CreateDeliveryStreamInput{}},
	"DeleteDeliveryStream":          {deleteShape, sdk.DeleteDeliveryStreamInput{}},
	"UpdateDestination":             {updateShape, sdk.UpdateDestinationInput{}},
	"TagDeliveryStream":             {tagShape, sdk.TagDeliveryStreamInput{}},
	"UntagDeliveryStream":           {untagShape, sdk.UntagDeliveryStreamInput{}},
	"ListTagsForDeliveryStream":     {listTagsShape, sdk.ListTagsForDeliveryStreamInput{}},
	"StartDeliveryStreamEncryption": {startEncryptionShape, sdk.StartDeliveryStreamEncryptionInput{}},
	"StopDeliveryStreamEncryption":  {stopEncryptionShape, sdk.StopDeliveryStreamEncryptionInput{}},
	"DescribeDeliveryStream":        {describeShape, sdk.DescribeDeliveryStreamInput{}},
	"ListDeliveryStreams":           {listShape, sdk.ListDeliveryStreamsInput{}},
}

// Every member that an SDK can send is in the tables, with the SDK's type and words, and no other.
func TestTablesHaveTheMembersOfTheSDK(t *testing.T) {
	seen := 0
	var compare func(path string, s *shape, of reflect.Type)
	compare = func(path string, s *shape, of reflect.Type) {
		for of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		seen++
		wantKind := map[kind]reflect.Kind{
			structure: reflect.Struct, opaque: reflect.Struct, list: reflect.Slice, mapping: reflect.Map, text: reflect.String,
			secret: reflect.String, integer: reflect.Int32, number: reflect.Float64, boolean: reflect.Bool,
		}[s.kind]
		if of.Kind() != wantKind {
			t.Errorf("%s: %v in the table, %v in the SDK", path, wantKind, of)
			return
		}
		switch s.kind {
		case structure:
			var ours, theirs []string
			for _, m := range s.members {
				ours = append(ours, m.name)
			}
			for i := range of.NumField() {
				f := of.Field(i)
				if !f.IsExported() {
					continue
				}
				theirs = append(theirs, f.Name)
				if m := s.member(f.Name); m != nil {
					compare(path+"."+f.Name, m, f.Type)
				}
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			if !slices.Equal(ours, theirs) {
				t.Errorf("%s: members\n%v in the table\n%v in the SDK", path, ours, theirs)
			}
		case list, mapping:
			compare(path+"[]", s.elem, of.Elem())
		case text:
			values, isEnum := of.MethodByName("Values")
			if isEnum != (s.enum != nil) {
				t.Errorf("%s: an enum: %v in the SDK, %v in the table", path, isEnum, s.enum)
			}
			if isEnum {
				var theirs []string
				list := values.Func.Call([]reflect.Value{reflect.Zero(of)})[0]
				for i := range list.Len() {
					theirs = append(theirs, list.Index(i).String())
				}
				ours := slices.Sorted(slices.Values(s.enum))
				if slices.Sort(theirs); !slices.Equal(ours, theirs) {
					t.Errorf("%s: words %v in the table, %v in the SDK", path, ours, theirs)
				}
			}
		}
	}
	for op, r := range requests {
		compare(op, r.shape, reflect.TypeOf(r.input))
	}
	if seen < 400 {
		t.Errorf("compared %d members: the test no longer sees the tables", seen)
	}
}

// modelScript prints the shapes that the requests need, from the model that the AWS SDK for Python carries
// (botocore, Apache 2.0).
const modelScript = `
import gzip, json, os, botocore
base = os.path.join(os.path.dirname(botocore.__file__), 'data/firehose/2015-08-04/service-2.json')
m = json.load(open(base) if os.path.exists(base) else gzip.open(base + '.gz'))
out = {'inputs': {}, 'shapes': {}}
def need(name):
    if name in out['shapes']: return
    s = m['shapes'][name]
    o = out['shapes'][name] = {k: s[k] for k in ('type', 'min', 'max', 'pattern', 'required') if s.get(k) is not None}
    refs = {k: v for k, v in s.get('members', {}).items()} | {'[' + k + ']': s[k] for k in ('member', 'key', 'value') if k in s}
    if refs: o['members'] = {k: v['shape'] for k, v in refs.items()}
    for v in refs.values(): need(v['shape'])
for op, o in m['operations'].items():
    if not op.startswith('PutRecord'):
        out['inputs'][op] = o['input']['shape']
        need(o['input']['shape'])
print(json.dumps(out, indent=0, sort_keys=True))
`

var updateModel = flag.Bool("update-model", false, "write testdata/model.json anew, from the botocore of the python3 in PATH")

// Limits, patterns and what is required are those of the API's model, as another SDK carries it.
func TestTablesHaveTheConstraintsOfTheModel(t *testing.T) {
	const file = "testdata/model.json"
	if *updateModel {
		out, err := exec.CommandContext(t.Context(), "python3", "-c", modelScript).Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, out, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	type constraints struct {
		Type     string
		Min, Max *float64
		Pattern  string
		Required []string
		Members  map[string]string
	}
	var model struct {
		Inputs map[string]string
		Shapes map[string]constraints
	}
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &model)
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	number := func(n *int64) string {
		if n == nil {
			return "none"
		}
		return fmt.Sprint(*n)
	}
	var compare func(path string, s *shape, name string)
	compare = func(path string, s *shape, name string) {
		if s.kind == opaque {
			return
		}
		theirs, ok := model.Shapes[name]
		if !ok {
			t.Errorf("%s: the model has no shape %q", path, name)
			return
		}
		seen++
		bound := func(what string, ours *int64, theirs *float64) {
			want := "none"
			if theirs != nil {
				want = fmt.Sprint(int64(*theirs))
			}
			// No length is less than 0.
			if got := number(ours); got != want && !(what == "min" && ours == nil && want == "0" && (s.kind == text || s.kind == secret)) {
				t.Errorf("%s: %s %s in the table, %s in the model", path, what, got, want)
			}
		}
		bound("min", s.min, theirs.Min)
		bound("max", s.max, theirs.Max)
		ours := ".*"
		if s.pattern != nil {
			ours = s.pattern.text
		}
		want := theirs.Pattern
		switch {
		case want == "" || s.enum != nil:
			want = ".*"
		case strings.HasSuffix(path, ".FileExtension"):
			want = `^(|\.[0-9a-z!\-_.*'()]+)$` // which the service prints
		}
		if s.kind != structure && ours != want {
			t.Errorf("%s: pattern %s in the table, %s in the model", path, ours, want)
		}
		switch s.kind {
		case structure:
			var required []string
			for _, m := range s.members {
				if m.required {
					required = append(required, m.name)
				}
				compare(path+"."+m.name, m.shape, theirs.Members[m.name])
			}
			slices.Sort(required)
			slices.Sort(theirs.Required)
			if !slices.Equal(required, theirs.Required) {
				t.Errorf("%s: required %v in the table, %v in the model", path, required, theirs.Required)
			}
		case list:
			compare(path+"[]", s.elem, theirs.Members["[member]"])
		case mapping:
			compare(path+"[]", s.elem, theirs.Members["[value]"])
			compare(path+"[key]", s.keys, theirs.Members["[key]"])
		}
	}
	for op, r := range requests {
		compare(op, r.shape, model.Inputs[op])
	}
	if seen < 350 {
		t.Errorf("compared %d members: the test no longer sees the model", seen)
	}
}
