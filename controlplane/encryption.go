package controlplane

import (
	"context"
	"hydrant/buffer"
	"hydrant/firehose"
)

// mayEncrypt tells whether a stream can have encryption at rest: where the data directory is encrypted, all of
// it is, with the daemon's own key. What the caller names is recorded and described.
func (p *Plane) mayEncrypt(k firehose.Key) error {
	if err := k.Check(p.settings()); err != nil {
		return err
	}
	if !p.o.Encrypted {
		return &firehose.Error{Code: firehose.CodeInvalidKMS, Detail: "NotFoundException",
			Message: "There is no key for encryption at rest: the configuration has no encryption.key_file."}
	}
	return nil
}

func (p *Plane) startEncryption(_ context.Context, c *Call) (answer []byte, unknown int, err error) {
	r, err := firehose.DecodeStartEncryption(c.Body)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Allow(r.Name); err != nil {
		return nil, r.Unknown, err
	}
	err = p.change(c, r.Name, func(now *buffer.Stream) error {
		if stored, err := readSpec(now.Spec); err == nil {
			if err := stored.document.MayEncrypt(); err != nil {
				return err
			}
		}
		now.Tags = withKey(now.Tags, &r.Key)
		return p.mayEncrypt(r.Key)
	})
	return []byte(done), r.Unknown, err
}

func (p *Plane) stopEncryption(_ context.Context, c *Call) (answer []byte, unknown int, err error) {
	r, err := firehose.DecodeStopEncryption(c.Body)
	if err != nil {
		return nil, 0, err
	}
	if err := c.Allow(r.Name); err != nil {
		return nil, r.Unknown, err
	}
	err = p.change(c, r.Name, func(now *buffer.Stream) error {
		now.Tags = withKey(now.Tags, nil)
		return nil
	})
	return []byte(done), r.Unknown, err
}
