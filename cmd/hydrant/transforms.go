package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"hydrant/config"
	"hydrant/transform"
	"hydrant/transform/deaggregate"
	"hydrant/transform/decompress"
	"hydrant/transform/delimiter"
	"hydrant/transform/flatten"
	"hydrant/transform/jq"
	"hydrant/transform/lookup"
	"hydrant/transform/redact"
	"hydrant/transform/remove"
	"hydrant/transform/rename"
	"hydrant/transform/set"
)

// chain makes a stream's transform list but for its functions, nil where nothing is left, and tells what is wrong with it.
func chain(list []config.Processor, log *slog.Logger) (*transform.Chain, []flaw) {
	return chainFrom(list, 0, log)
}

// chainFrom is chain for entries of which the first has that number in the stream's list.
func chainFrom(list []config.Processor, number int, log *slog.Logger) (*transform.Chain, []flaw) {
	var o transform.Options
	var flaws []flaw
	for i := range list {
		key, value, p, err := processor(&list[i], log)
		if err != nil {
			flaws = append(flaws, flaw{fmt.Sprintf("transform[%d].%s", number+i, key), value, err.Error(), ""})
			continue
		}
		if p == nil { // a function, or an entry that the decoder has found fault with
			continue
		}
		o.Stages = append(o.Stages, transform.Stage{Name: key, Processor: p})
	}
	if len(flaws) > 0 || len(o.Stages) == 0 {
		return nil, flaws
	}
	c, err := transform.New(o)
	if err != nil {
		return nil, []flaw{{"transform", "", err.Error(), ""}}
	}
	return c, nil
}

// processor makes one entry. value is what to show of it in a fault.
func processor(c *config.Processor, log *slog.Logger) (key, value string, p transform.Processor, err error) {
	switch {
	case c.Decompress != nil:
		o := decompress.Options{Format: decompress.Gzip}
		switch *c.Decompress {
		case config.DecompressLogs:
			o.Format = decompress.CloudWatchLogs
		case config.DecompressMessages:
			o.Format, o.Extract = decompress.CloudWatchLogs, true
		}
		key = "decompress"
		p, err = decompress.New(o)
	case c.Deaggregate != nil:
		var o deaggregate.Options
		if *c.Deaggregate != config.DeaggregateJSON {
			o.Delimiter = string(*c.Deaggregate)
		}
		key = "deaggregate"
		p, err = deaggregate.New(o)
	case c.AppendDelimiter != nil:
		key = "append_delimiter"
		p, err = delimiter.New(delimiter.Options{Text: *c.AppendDelimiter})
	case c.JQ != nil:
		key, value = "jq", *c.JQ
		p, err = jq.New(jq.Options{Expression: value})
	case c.Filter != nil:
		key, value = "filter", *c.Filter
		p, err = jq.NewFilter(jq.Options{Expression: value})
	case c.Rename != nil:
		var o rename.Options
		for _, x := range c.Rename {
			o.Pairs = append(o.Pairs, rename.Pair{From: x[0], To: x[1]})
		}
		key = "rename"
		p, err = rename.New(o)
	case c.Set != nil:
		var o set.Options
		for _, x := range c.Set {
			o.Pairs = append(o.Pairs, set.Pair{Path: x[0], Value: x[1]})
		}
		key = "set"
		p, err = set.New(o)
	case c.Remove != nil:
		key = "remove"
		p, err = remove.New(remove.Options{Paths: c.Remove})
	case c.Flatten != nil:
		key = "flatten"
		p, err = flatten.New(flatten.Options{Separator: c.Flatten.Separator})
	case c.Redact != nil:
		key = "redact"
		p, err = redact.New(redact.Options{Fields: c.Redact.Fields, With: c.Redact.With})
	case c.Lookup != nil:
		l := c.Lookup
		key = "lookup"
		p, err = lookup.New(lookup.Options{File: l.File, Key: l.Key, Into: l.Into, Refresh: time.Duration(l.Refresh), Log: log})
		if err != nil {
			for _, part := range []struct{ name, value string }{{"file", l.File}, {"key", l.Key}, {"into", l.Into}} {
				if rest, ok := strings.CutPrefix(err.Error(), part.name+": "); ok {
					key, value, err = key+"."+part.name, part.value, fmt.Errorf("%s", rest)
					break
				}
			}
		}
	}
	return key, value, p, err
}
