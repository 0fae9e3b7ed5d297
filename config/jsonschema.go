package config

import _ "embed"

//go:embed hydrant.schema.json
var jsonSchema []byte

// JSONSchema is the JSON Schema (2020-12) of the configuration file, for editors. It is made from the
// structs of this package and is looser than Decode: what needs more than one key, it does not check.
func JSONSchema() []byte { return jsonSchema }
