package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// registry asks a schema registry for schemas, each once: what an id means never changes. Safe for concurrent use.
type registry struct {
	o      Registry
	base   string
	client *http.Client

	mu      sync.Mutex
	schemas map[uint32]*asked
}

// asked is a schema that is known, or asked for.
type asked struct {
	done   chan struct{} // closed when what follows is set
	schema *avroSchema
	err    error
	until  time.Time // an error is remembered so long
}

// Bounds of what a registry may answer.
const (
	maxSchema     = 8 << 20
	maxReferences = 200 // schemas that one refers to, with those that they refer to
	// noSchemaFor is how long an id that the registry does not know is not asked for again.
	noSchemaFor = 30 * time.Second
)

// noSchemaError says that there is no such schema, or none that can be used, so that its records fail.
type noSchemaError struct {
	id  uint32
	why string
}

func (e *noSchemaError) Error() string { return fmt.Sprintf("Schema %d %s.", e.id, e.why) }

func newRegistry(o Registry) (*registry, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("url: write it like http://registry:8081")
	}
	return &registry{o: o, base: strings.TrimRight(o.URL, "/"), client: o.client(), schemas: map[uint32]*asked{}}, nil
}

// schema returns the schema of an id. *noSchemaError is final for a while, other errors are the registry's.
func (g *registry) schema(ctx context.Context, id uint32) (*avroSchema, error) {
	for {
		g.mu.Lock()
		a := g.schemas[id]
		mine := a == nil || a.over()
		if mine {
			a = &asked{done: make(chan struct{})}
			g.schemas[id] = a
		}
		g.mu.Unlock()
		if mine {
			a.schema, a.err = g.ask(ctx, id)
			if e := (*noSchemaError)(nil); errors.As(a.err, &e) {
				a.until = time.Now().Add(noSchemaFor)
			}
			close(a.done)
			return a.schema, a.err
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if a.err == nil || !a.over() {
			return a.schema, a.err
		}
	}
}

// over tells that an answer was an error and is not remembered any longer.
func (a *asked) over() bool {
	select {
	case <-a.done:
		return a.err != nil && !time.Now().Before(a.until)
	default:
		return false
	}
}

// answer of the registry.
type answer struct {
	Schema     string      `json:"schema"`
	SchemaType string      `json:"schemaType"` // "" is AVRO
	References []reference `json:"references"`
}

type reference struct {
	Name    string `json:"name"`
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

func (g *registry) ask(ctx context.Context, id uint32) (*avroSchema, error) {
	a, err := g.get(ctx, "/schemas/ids/"+strconv.FormatUint(uint64(id), 10))
	var status *statusError
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		return nil, &noSchemaError{id, "is not known to the schema registry"}
	}
	if err != nil {
		return nil, err
	}
	if a.SchemaType != "" && a.SchemaType != "AVRO" {
		return nil, &noSchemaError{id, "is of type " + strconv.Quote(a.SchemaType) + " and not AVRO"}
	}
	var parts []string
	if err := g.references(ctx, a.References, map[string]bool{}, &parts); err != nil {
		if errors.As(err, &status) && status.code == http.StatusNotFound {
			return nil, &noSchemaError{id, "refers to one that the schema registry does not know"}
		}
		return nil, err
	}
	s, err := parseAvro(append(parts, a.Schema))
	if err != nil {
		return nil, &noSchemaError{id, "cannot be used: " + err.Error()}
	}
	return s, nil
}

// references appends the schemas that are referred to, each after those that it refers to.
func (g *registry) references(ctx context.Context, list []reference, seen map[string]bool, out *[]string) error {
	for _, r := range list {
		path := "/subjects/" + url.PathEscape(r.Subject) + "/versions/" + strconv.Itoa(r.Version)
		if seen[path] {
			continue
		}
		if seen[path] = true; len(seen) > maxReferences {
			return fmt.Errorf("a schema refers to more than %d others", maxReferences)
		}
		a, err := g.get(ctx, path)
		if err != nil {
			return err
		}
		if err := g.references(ctx, a.References, seen, out); err != nil {
			return err
		}
		*out = append(*out, a.Schema)
	}
	return nil
}

// statusError is an answer that is none of success.
type statusError struct {
	path string
	code int
}

func (e *statusError) Error() string {
	said := ""
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		said = ": correct username and password"
	}
	return fmt.Sprintf("the schema registry answered %s with status %d%s", e.path, e.code, said)
}

func (g *registry) get(ctx context.Context, path string) (a answer, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.base+path, nil)
	if err != nil {
		return a, fmt.Errorf("ask the schema registry for %s: %w", path, err)
	}
	req.Header.Set("Accept", "application/vnd.schemaregistry.v1+json, application/json")
	if g.o.Username != "" {
		password := ""
		if g.o.Password != nil {
			if password, err = g.o.Password(); err != nil {
				return a, fmt.Errorf("password of the schema registry: %w", err)
			}
		}
		req.SetBasicAuth(g.o.Username, password)
	}
	resp, err := g.client.Do(req)
	if err != nil {
		return a, fmt.Errorf("ask the schema registry: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxSchema+1))
	switch {
	case err != nil:
		return a, fmt.Errorf("ask the schema registry for %s: %w", path, err)
	case resp.StatusCode != http.StatusOK:
		return a, &statusError{path, resp.StatusCode}
	case len(body) > maxSchema:
		return a, fmt.Errorf("the schema registry answered %s with more than %d bytes", path, maxSchema)
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("the schema registry answered %s with something else than JSON: %w", path, err)
	}
	return a, nil
}
