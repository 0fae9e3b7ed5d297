package main

import (
	"fmt"

	"hydrant/buffer"
	"hydrant/config"
	"hydrant/controlplane"
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
