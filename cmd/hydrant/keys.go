package main

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"hydrant/buffer"
	"hydrant/config"
)

// readKeys reads the key files that a configuration names. key is nil where new files are not to be encrypted.
func readKeys(c config.AtRest, log *slog.Logger) (key *buffer.Key, previous []*buffer.Key, err error) {
	read := func(path, file string) (*buffer.Key, error) {
		k, exposed, err := buffer.ReadKeyFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if exposed {
			log.Warn("a key file can be read by others than its owner; chmod 600 changes that", "file", file, "key", k)
		}
		return k, nil
	}
	if c.KeyFile != "" {
		if key, err = read("encryption.key_file", c.KeyFile); err != nil {
			return nil, nil, err
		}
	}
	for i, file := range c.PreviousKeyFiles {
		k, err := read(fmt.Sprintf("encryption.previous_key_files[%d]", i), file)
		if err != nil {
			return nil, nil, err
		}
		previous = append(previous, k)
	}
	return key, previous, nil
}

// keyFlags say where the keys of encrypted files are.
type keyFlags struct {
	config string
	files  []string
}

func (k *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&k.config, "config", "c", "", "configuration `FILE` whose encryption keys open what is encrypted")
	cmd.MarkFlagFilename("config", "yaml", "yml")
	cmd.Flags().StringArrayVar(&k.files, "key-file", nil, "key `FILE` to open what is encrypted; may be given more than once")
	cmd.MarkFlagFilename("key-file")
}

// keys that the flags name.
func (k *keyFlags) keys(c *cli) (keys []*buffer.Key, err error) {
	at := config.AtRest{PreviousKeyFiles: k.files}
	if k.config != "" {
		f, err := config.Load(k.config, c.env)
		if err != nil {
			return nil, err
		}
		at.KeyFile = f.Config.Encryption.KeyFile
		at.PreviousKeyFiles = append(f.Config.Encryption.PreviousKeyFiles, k.files...)
	}
	key, keys, err := readKeys(at, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if key != nil {
		keys = append(keys, key)
	}
	return keys, nil
}
