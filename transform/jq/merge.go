package jq

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strconv"

	"github.com/itchyny/gojq"

	"hydrant/transform"
)

// merger writes a value that an expression made into the document that the expression was given. What is equal is left as
// it stands, so that the order of members, the text of numbers and white space survive.
type merger struct {
	d       *transform.Document
	size    int
	origins map[uintptr]transform.Ref // objects of the document by their maps; nil until needed
}

// errLarge ends the writing of a result.
var errLarge = fmt.Errorf("its result has more than %d bytes", transform.MaxData)

func (m *merger) spend(n int) error {
	if m.size += nodeBytes + n; m.size > transform.MaxData {
		return errLarge
	}
	return nil
}

// merge makes the value old, which is in the document, equal to v: it returns old itself, perhaps changed inside, or a new
// value.
func (m *merger) merge(old transform.Ref, v any, depth int) (transform.Ref, error) {
	d := m.d
	kind := d.Kind(old)
	switch v := v.(type) {
	case map[string]any:
		if kind == transform.Object {
			return old, m.mergeObject(old, v, depth)
		}
	case []any:
		if kind == transform.Array {
			return old, m.mergeArray(old, v, depth)
		}
	default:
		if equalScalar(d, old, v) {
			return old, m.spend(0)
		}
	}
	return m.build(v, depth)
}

func (m *merger) mergeObject(old transform.Ref, v map[string]any, depth int) error {
	d, found := m.d, 0
	if err := m.spend(0); err != nil {
		return err
	}
	for c := d.First(old); c != 0; {
		next := d.Next(c)
		x, ok := v[string(d.Name(c))]
		if !ok {
			d.Remove(c)
			c = next
			continue
		}
		found++
		r, err := m.merge(c, x, depth+1)
		if err != nil {
			return err
		}
		if r != c {
			d.Replace(c, r)
		}
		c = next
	}
	if found == len(v) {
		return nil
	}
	there := map[string]bool{}
	for c := d.First(old); c != 0; c = d.Next(c) {
		there[string(d.Name(c))] = true
	}
	for _, k := range slices.Sorted(maps.Keys(v)) {
		if there[k] {
			continue
		}
		r, err := m.build(v[k], depth+1)
		if err != nil {
			return err
		}
		d.Append(old, k, r)
	}
	return nil
}

func (m *merger) mergeArray(old transform.Ref, v []any, depth int) error {
	d, i := m.d, 0
	if err := m.spend(0); err != nil {
		return err
	}
	for c := d.First(old); c != 0; {
		next := d.Next(c)
		if i >= len(v) {
			d.Remove(c)
		} else {
			var r transform.Ref
			var err error
			if made, x := d.Made(c), v[i]; made != nil && !samePlace(made, x) {
				r, err = m.build(x, depth+1) // another element than stood here: its members have their own order
			} else {
				r, err = m.merge(c, x, depth+1)
			}
			if err != nil {
				return err
			}
			if r != c {
				d.Replace(c, r)
			}
		}
		c = next
		i++
	}
	for ; i < len(v); i++ {
		r, err := m.build(v[i], depth+1)
		if err != nil {
			return err
		}
		d.Push(old, r)
	}
	return nil
}

// samePlace tells whether x may be what became of made: it is that very object, or one that no object of the record is.
func samePlace(made, x any) bool {
	a, ok := made.(map[string]any)
	if !ok {
		return true
	}
	b, ok := x.(map[string]any)
	return !ok || reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() || len(a) == len(b) && sharesKeys(a, b)
}

func sharesKeys(a, b map[string]any) bool {
	for k := range a {
		if _, ok := b[k]; !ok {
			return false
		}
	}
	return true
}

// build makes a new value. The members of an object of the document keep their order, others are sorted.
func (m *merger) build(v any, depth int) (transform.Ref, error) {
	d := m.d
	if depth > maxDepth {
		return 0, errDeep
	}
	switch v := v.(type) {
	case map[string]any:
		if err := m.spend(0); err != nil {
			return 0, err
		}
		object := d.NewContainer(transform.Object)
		for _, k := range m.order(v) {
			if err := m.spend(len(k)); err != nil {
				return 0, err
			}
			r, err := m.build(v[k], depth+1)
			if err != nil {
				return 0, err
			}
			d.Append(object, k, r)
		}
		return object, nil
	case []any:
		if err := m.spend(0); err != nil {
			return 0, err
		}
		array := d.NewContainer(transform.Array)
		for _, x := range v {
			r, err := m.build(x, depth+1)
			if err != nil {
				return 0, err
			}
			d.Push(array, r)
		}
		return array, nil
	case string:
		if err := m.spend(len(v)); err != nil {
			return 0, err
		}
		return d.NewString(v), nil
	}
	kind, text := scalar(v)
	if err := m.spend(len(text)); err != nil {
		return 0, err
	}
	return d.NewScalar(kind, text), nil
}

// order is the order in which the members of v are written.
func (m *merger) order(v map[string]any) []string {
	keys := make([]string, 0, len(v))
	if m.origins == nil {
		m.origins = map[uintptr]transform.Ref{}
		for v, made := range m.d.AllMade() {
			if object, ok := made.(map[string]any); ok {
				m.origins[reflect.ValueOf(object).Pointer()] = v
			}
		}
	}
	if o := m.origins[reflect.ValueOf(v).Pointer()]; o != 0 {
		d := m.d
		for c := d.First(o); c != 0; c = d.Next(c) {
			name := string(d.Name(c))
			if _, ok := v[name]; ok {
				keys = append(keys, name)
			}
		}
		if len(keys) == len(v) {
			return keys
		}
		keys = keys[:0]
	}
	for k := range v {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// equalScalar tells whether a value of the document is v.
func equalScalar(d *transform.Document, old transform.Ref, v any) bool {
	kind := d.Kind(old)
	switch v := v.(type) {
	case nil:
		return kind == transform.Null
	case bool:
		return v && kind == transform.True || !v && kind == transform.False
	case string:
		return kind == transform.String && string(d.StringValue(old)) == v
	case json.Number:
		return kind == transform.Number && (string(d.Text(old)) == string(v) || gojq.Compare(json.Number(d.Text(old)), v) == 0)
	case float64:
		return kind == transform.Number && !math.IsNaN(v) && gojq.Compare(json.Number(d.Text(old)), v) == 0
	case int, *big.Int:
		return kind == transform.Number && gojq.Compare(json.Number(d.Text(old)), v) == 0
	}
	return false
}

// scalar is the JSON text of anything but texts, arrays and objects, as jq writes it.
func scalar(v any) (transform.Kind, string) {
	switch v := v.(type) {
	case nil:
		return transform.Null, "null"
	case bool:
		if v {
			return transform.True, "true"
		}
		return transform.False, "false"
	case int:
		return transform.Number, strconv.Itoa(v)
	case json.Number:
		return transform.Number, string(v)
	}
	text, err := gojq.Marshal(v)
	if err != nil {
		panic("bug: " + err.Error())
	}
	if string(text) == "null" { // not a number
		return transform.Null, "null"
	}
	return transform.Number, string(text)
}
