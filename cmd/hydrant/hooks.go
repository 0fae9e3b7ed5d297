package main

import (
	"fmt"
	"strings"
	"time"

	"hydrant/config"
	"hydrant/delivery"
	"hydrant/firehose"
	"hydrant/transform"
	"hydrant/transform/hook"
	"hydrant/transform/hook/http"
	"hydrant/transform/hook/lambda"
)

// transforms makes a stream's transform list: processors, then functions with the processors behind each.
func (p *parts) transforms(now *settings, inFile, stream string, list []config.Processor) (first *transform.Chain, hooks []delivery.Hook, flaws []flaw) {
	from := 0
	for i := 0; i <= len(list); i++ {
		if i < len(list) && list[i].HTTP == nil && list[i].Lambda == nil {
			continue
		}
		c, more := chainFrom(list[from:i], from, p.log)
		flaws = append(flaws, more...)
		if n := len(hooks); n == 0 {
			first = c
		} else {
			hooks[n-1].Then = c
		}
		if i < len(list) {
			h, more := p.hook(now, inFile, stream, i, &list[i])
			hooks, flaws = append(hooks, h), append(flaws, more...)
		}
		from = i + 1
	}
	return first, hooks, flaws
}

// hook makes one function of a stream.
func (p *parts) hook(now *settings, inFile, stream string, number int, c *config.Processor) (h delivery.Hook, flaws []flaw) {
	h.Logger = p.log.With("stream", stream)
	h.DeliveryStreamARN = firehose.ARN(firehose.Settings{AccountID: now.aws.AccountID, Region: now.aws.Region}, stream)
	h.Region = now.aws.Region
	path := fmt.Sprintf("transform[%d].", number)
	var retries int
	var err error
	if f := c.HTTP; f != nil {
		path += "http"
		retries = int(f.Retries)
		h.Timeout, h.Concurrency = time.Duration(f.Timeout), int(f.Concurrency)
		h.Size, h.Interval = int(f.Buffer.Size), time.Duration(f.Buffer.Interval)
		var carrier *http.Carrier
		carrier, err = http.New(http.Options{
			URL:         f.URL,
			Secrets:     func() ([][2]string, error) { return p.hookHeaders(inFile, f) },
			Concurrency: h.Concurrency,
		})
		if err == nil {
			h.Carrier, h.Close = carrier, carrier.Close
		}
	} else {
		f := c.Lambda
		path += "lambda"
		retries = int(f.Retries)
		h.Timeout, h.Concurrency = time.Duration(f.Timeout), int(f.Concurrency)
		h.Size, h.Interval = int(f.Buffer.Size), time.Duration(f.Buffer.Interval)
		region := now.aws.Region
		if strings.HasPrefix(f.Function, "arn:") {
			region = "" // that of the ARN
		}
		var carrier *lambda.Carrier
		carrier, err = lambda.New(lambda.Options{
			FunctionName: f.Function, Region: region, Endpoint: now.aws.Endpoints.Lambda, AccountID: now.aws.AccountID, Concurrency: h.Concurrency,
		})
		if err == nil {
			h.Carrier, h.Close = carrier, carrier.Close
		}
	}
	h.Retries = &retries
	if err != nil {
		key, problem, found := strings.Cut(err.Error(), ": ")
		if !found || strings.ContainsAny(key, " \"") {
			return h, []flaw{{path, "", err.Error(), ""}}
		}
		return h, []flaw{{path + "." + key, "", problem, ""}}
	}
	if room := p.hookMemory; hook.Charge(h.Size) > room {
		flaws = append(flaws, flaw{path + ".buffer.size", config.Bytes(h.Size).String(),
			fmt.Sprintf("takes up to %d MiB for a batch with its request and answer, and all functions together have %d MiB, a sixteenth of limits.memory", (hook.Charge(h.Size)+1<<20-1)>>20, room>>20),
			"lower it, or raise limits.memory"})
	}
	return h, flaws
}

// hookHeaders reads the headers of a function: for a stream of the file those that the configuration in force has for the
// same URL.
func (p *parts) hookHeaders(inFile string, h *config.HTTPHook) (out [][2]string, err error) {
	if s := p.now.Load().present[inFile]; s != nil && inFile != "" {
		if theirs := s.Hook(h); theirs != nil {
			h = theirs
		}
	}
	for _, x := range h.Headers {
		value, err := x.Value.Value()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", x.Name, err)
		}
		out = append(out, [2]string{x.Name, value})
	}
	return out, nil
}
