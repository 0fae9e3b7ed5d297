package prefix

// DefaultErrorOutputPrefix stands in where a configuration has no error output prefix. Requests to the
// Firehose API do not get it: there a prefix with expressions needs an explicit one.
const DefaultErrorOutputPrefix = "errors/!{firehose:error-output-type}/"

// ValidatePair checks a prefix, an error output prefix (empty: absent) and the rule that binds them: an
// error prefix is needed when the prefix has expressions. strict is for API requests, where the default
// does not stand in; without it an absent error prefix is always right. The first fault is returned.
func ValidatePair(prefix, errorOutputPrefix string, strict bool) error {
	return validatePair(prefix, errorOutputPrefix, Prefix, strict)
}

// ValidatePartitionedPair is ValidatePair for a stream with dynamic partitioning.
func ValidatePartitionedPair(prefix, errorOutputPrefix string, strict bool) error {
	return validatePair(prefix, errorOutputPrefix, PartitionedPrefix, strict)
}

func validatePair(prefix, errorOutputPrefix string, kind Kind, strict bool) error {
	p, err := Parse(prefix, kind)
	if err != nil {
		return err
	}
	if _, err := Parse(errorOutputPrefix, ErrorOutputPrefix); err != nil {
		return err
	}
	if strict && p.exprs && errorOutputPrefix == "" {
		return &Error{Kind: ErrorOutputPrefix, Message: "ErrorOutputPrefix cannot be null or empty when Prefix contains expressions"}
	}
	return nil
}

// ParsePair compiles the templates of data and error objects. An error output prefix that is absent
// (empty) is DefaultErrorOutputPrefix where the prefix has expressions; where it has none, error objects
// go under the prefix itself, by <prefix><error-output-type>/yyyy/MM/dd/HH/.
func ParsePair(prefix, errorOutputPrefix string) (data, errors *Template, err error) {
	return parsePair(prefix, errorOutputPrefix, Prefix)
}

// ParsePartitionedPair is ParsePair for a stream with dynamic partitioning, whose prefix may print partition keys.
func ParsePartitionedPair(prefix, errorOutputPrefix string) (data, errors *Template, err error) {
	return parsePair(prefix, errorOutputPrefix, PartitionedPrefix)
}

func parsePair(prefix, errorOutputPrefix string, kind Kind) (data, errors *Template, err error) {
	if data, err = Parse(prefix, kind); err != nil {
		return nil, nil, err
	}
	switch {
	case errorOutputPrefix != "":
	case data.exprs:
		errorOutputPrefix = DefaultErrorOutputPrefix
	default:
		errorOutputPrefix = prefix
	}
	if errors, err = Parse(errorOutputPrefix, ErrorOutputPrefix); err != nil {
		return nil, nil, err
	}
	return data, errors, nil
}
