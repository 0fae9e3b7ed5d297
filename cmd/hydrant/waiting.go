package main

import (
	"fmt"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
	"hydrant/firehose"
)

// reveal gives a stream that was made over the API, as the data directory holds it, its password or access key.
func (p *parts) reveal(v buffer.Stream, s *config.Stream) error {
	secrets, err := controlplane.SecretsOf(v.Spec, p.secrets)
	if err != nil {
		return fmt.Errorf("stream %q: %w", v.Name, err)
	}
	secrets.Into(s)
	return nil
}

// notYet is the problem of what a stream may be configured to do and no version does so far.
const notYet = "is not supported yet"

// postponed is what is wrong with a stream, or nil; a *firehose.NotDeliverable where a later version has only to be
// waited for.
func postponed(s *config.Stream, flaws []flaw) error {
	for _, f := range flaws {
		if f.problem != notYet || s.Destination.HTTP == nil {
			return joined(flaws)
		}
	}
	if len(flaws) == 0 {
		return nil
	}
	return &firehose.NotDeliverable{Member: flaws[0].path, Reason: "delivery to HTTP endpoints is yet to come.", Waits: true}
}
