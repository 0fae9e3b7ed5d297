package controlplane

import (
	"errors"
	"fmt"

	"hydrant/buffer"
	"hydrant/firehose"
)

// Secrets keeps what no specification may hold: a stream's names an entry by its id. *buffer.Secrets is one. It must
// be safe for concurrent use.
type Secrets interface {
	// Put keeps a secret, durably, and returns its id, which is new.
	Put(secret []byte) (id string, err error)
	// Get returns the secret of an id; buffer.ErrNoSecret where there is none.
	Get(id string) ([]byte, error)
	// Keep forgets what is not used, durably.
	Keep(used func(id string) bool) error
}

// SecretsOf are what a specification names of what is kept; none where it names nothing, or is of the file.
func SecretsOf(spec []byte, kept Secrets) (firehose.Secrets, error) {
	if !Owns(buffer.Stream{Spec: spec}) {
		return firehose.Secrets{}, nil
	}
	stored, err := readSpec(spec)
	if err != nil || stored.secret == "" {
		return firehose.Secrets{}, err
	}
	if kept == nil {
		return firehose.Secrets{}, errLost
	}
	encoded, err := kept.Get(stored.secret)
	switch {
	case errors.Is(err, buffer.ErrNoSecret):
		return firehose.Secrets{}, errLost
	case err != nil:
		return firehose.Secrets{}, fmt.Errorf("read the secrets of a stream: %w", err)
	}
	return firehose.DecodeSecrets(encoded)
}

// errLost says that a specification names what is not kept: the file of secrets was lost or set aside.
var errLost = errors.New("its password or access key is not in the file of secrets of the data directory any more: give it again with UpdateDestination")

// keep makes secrets durable and returns the id for the specification; "" of none. It is called when nothing but the
// definition itself can fail any more, and p.keeping is held until that has its outcome.
func (p *Plane) keep(s firehose.Secrets) (id string, err error) {
	encoded, err := s.Encode()
	if err != nil || encoded == nil {
		return "", err
	}
	if p.o.Secrets == nil {
		return "", errors.New("there is no place for the secrets of a destination")
	}
	id, err = p.o.Secrets.Put(encoded)
	switch {
	case errors.Is(err, buffer.ErrSecretsFull):
		return "", &firehose.Error{Code: firehose.CodeLimitExceeded, Message: "There is no room for more passwords and access keys: " + err.Error() + "."}
	case err != nil:
		p.o.Log.Error("secrets of a destination cannot be kept", "err", err)
		return "", &firehose.Error{Code: firehose.CodeUnavailable, Message: "The data directory cannot be written at present. Nothing was changed."}
	}
	return id, nil
}

// forget drops the secrets that no version of any stream names. It is called when a definition is durable, with
// p.keeping held. One that failed may still be found after a crash, and with it what it names: a definition that
// succeeds afterwards rules that out. What cannot be dropped now is dropped later.
func (p *Plane) forget() {
	if p.o.Secrets == nil {
		return
	}
	used := map[string]bool{}
	for _, v := range p.o.Versions() {
		if !Owns(v) {
			continue
		}
		stored, err := readSpec(v.Spec)
		if err != nil {
			return // nobody knows what it names
		}
		used[stored.secret] = true
	}
	if err := p.o.Secrets.Keep(func(id string) bool { return used[id] }); err != nil {
		p.o.Log.Warn("secrets that nothing names any more stay for now", "err", err)
	}
}
