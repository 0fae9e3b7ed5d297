package controlplane

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"hydrant/buffer"
	"hydrant/firehose"
)

// MaxTags is the number of tags that a stream may have.
const MaxTags = 50

func (p *Plane) tag(_ context.Context, c *Call) (answer []byte, unknown int, err error) {
	r, err := firehose.DecodeAddTags(c.Body)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Allow(r.Name); err != nil {
		return nil, r.Unknown, err
	}
	err = p.change(c, r.Name, func(now *buffer.Stream) (err error) {
		now.Tags, err = mergeTags(now.Tags, r.Tags)
		return err
	})
	return []byte(done), r.Unknown, err
}

func (p *Plane) untag(_ context.Context, c *Call) (answer []byte, unknown int, err error) {
	r, err := firehose.DecodeRemoveTags(c.Body)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Allow(r.Name); err != nil {
		return nil, r.Unknown, err
	}
	err = p.change(c, r.Name, func(now *buffer.Stream) error {
		now.Tags = maps.Clone(now.Tags)
		for _, key := range r.Keys {
			if !strings.HasPrefix(key, systemTags) {
				delete(now.Tags, key)
			}
		}
		return nil
	})
	return []byte(done), r.Unknown, err
}

// mergeTags returns tags with those that are added; the last of a repeated key holds.
func mergeTags(tags map[string]string, add []firehose.Tag) (map[string]string, error) {
	out := maps.Clone(tags)
	if out == nil {
		out = map[string]string{}
	}
	for _, t := range add {
		if strings.HasPrefix(t.Key, systemTags) {
			return nil, invalid("Tag key %q begins with %q, which is reserved.", t.Key, systemTags)
		}
		out[t.Key] = t.Value
	}
	if n := len(visible(out)); n > MaxTags {
		return nil, &firehose.Error{Code: firehose.CodeLimitExceeded, Message: "A Firehose can have at most 50 tags; remove some before you add others."}
	}
	return out, nil
}

// visible are the keys of the tags that callers see, ascending.
func visible(tags map[string]string) (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		if !strings.HasPrefix(key, systemTags) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (p *Plane) listTags(_ context.Context, c *Call) (answer []byte, unknown int, err error) {
	r, err := firehose.DecodeListTags(c.Body)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Allow(r.Name); err != nil {
		return nil, r.Unknown, err
	}
	p.settle(r.Name)
	s, ok := p.o.Streams.Definition(r.Name)
	if !ok {
		return nil, r.Unknown, p.notFound(r.Name)
	}
	keys := visible(s.Tags)
	if r.StartKey != "" {
		i, found := slices.BinarySearch(keys, r.StartKey)
		if found {
			i++
		}
		keys = keys[i:]
	}
	out := struct {
		Tags        []firehose.Tag
		HasMoreTags bool
	}{[]firehose.Tag{}, len(keys) > r.Limit}
	for _, key := range keys[:min(r.Limit, len(keys))] {
		out.Tags = append(out.Tags, firehose.Tag{Key: key, Value: s.Tags[key]})
	}
	answer, err = json.Marshal(out)
	return answer, r.Unknown, err
}

// settle waits until a stream that is being created is there, or is not to be.
func (p *Plane) settle(name string) {
	if c := p.beingCreated(name); c != nil {
		<-c.done
	}
}

// change alters a stream of ours that takes records, but for its specification. alter gets a copy whose maps
// are shared: it replaces them.
func (p *Plane) change(c *Call, name string, alter func(now *buffer.Stream) error) error {
	p.settle(name)
	_, err := p.o.Streams.Change(name, func(now *buffer.Stream) (buffer.Stream, error) {
		switch {
		case now == nil:
			return buffer.Stream{}, p.notFound(name)
		case now.State >= buffer.Deleting:
			return buffer.Stream{}, inUse("%s: Firehose %s under account %s is in %s status", c.Operation, name, p.settings().AccountID, status(now.State))
		case !Owns(*now):
			return buffer.Stream{}, notOurs(c.Operation, name)
		}
		next := *now
		err := alter(&next)
		return next, err
	})
	if err != nil {
		return p.failed(c, err)
	}
	return nil
}
