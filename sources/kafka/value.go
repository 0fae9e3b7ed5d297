package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
)

// Formats of values.
const (
	Raw           = "raw"
	ConfluentJSON = "confluent_json"
	ConfluentAvro = "confluent_avro"
)

// Value says how values are written.
type Value struct {
	Format   string // Raw, ConfluentJSON or ConfluentAvro; "" is Raw
	Registry Registry
}

// Registry is a schema registry; for ConfluentAvro.
type Registry struct {
	URL      string
	Username string
	Password func() (string, error) // asked for with each request; nil: none
	TLS      *TLS                   // nil: as the system has it
}

// tombstone is what a record without a value becomes where it is marked.
var tombstone = []byte(`{"_deleted":true}`)

// values makes data of values.
type values struct {
	format   string
	mark     bool
	registry *registry
}

func newValues(v Value, mark bool) (*values, error) {
	out := &values{format: v.Format, mark: mark}
	switch v.Format {
	case "":
		out.format = Raw
	case Raw, ConfluentJSON:
	case ConfluentAvro:
		var err error
		if out.registry, err = newRegistry(v.Registry); err != nil {
			return nil, fmt.Errorf("registry: %w", err)
		}
	default:
		return nil, fmt.Errorf("format: %q is none of raw, confluent_json and confluent_avro", v.Format)
	}
	return out, nil
}

func (v *values) close() {
	if v.registry != nil {
		v.registry.client.CloseIdleConnections()
	}
}

// frameSize is that of what stands before a value that was written with a schema registry: a zero and the id of the schema,
// four bytes, big endian.
const frameSize = 5

// decode makes data of a value. drop: nothing is to become of it. fault: it is not what the format says, and why; then data
// is the value as it came. An error is one of the registry, and asking again later may help.
func (v *values) decode(ctx context.Context, value []byte) (data []byte, fault string, drop bool, err error) {
	if value == nil {
		return tombstone, "", !v.mark, nil
	}
	if v.format == Raw {
		return value, "", false, nil
	}
	if len(value) < frameSize || value[0] != 0 {
		return value, "The value does not begin with the id of a schema, as " + v.format + " does.", false, nil
	}
	id, payload := binary.BigEndian.Uint32(value[1:]), value[frameSize:]
	if v.format == ConfluentJSON {
		return payload, "", false, nil
	}
	s, err := v.registry.schema(ctx, id)
	var none *noSchemaError
	switch {
	case errors.As(err, &none):
		return value, none.Error(), false, nil
	case err != nil:
		return nil, "", false, err
	}
	if data, err = s.json(payload); err != nil {
		return value, fmt.Sprintf("The value is not what schema %d says: %v.", id, err), false, nil
	}
	return data, "", false, nil
}

// client makes the client of a registry. The files of TLS are read for each connection.
func (g *Registry) client() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxConnsPerHost = 4, 4
	if g.TLS != nil {
		t.DialTLSContext = g.TLS.dial
	}
	return &http.Client{Transport: t, Timeout: askLimit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
