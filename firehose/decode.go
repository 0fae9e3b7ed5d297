package firehose

// decode reads a body and checks its shape.
func decode(s *shape, body []byte) (tree, int, error) {
	t, unknown, err := read(s, body)
	if err != nil {
		return nil, 0, err
	}
	var f Faults
	s.check(t, "", &f)
	return t, unknown, f.Err()
}

// DecodeCreate reads a CreateDeliveryStream. Errors are of type *Error, here and in all of these.
func DecodeCreate(body []byte) (*Create, error) {
	t, unknown, err := decode(createShape, body)
	if err != nil {
		return nil, err
	}
	c := &Create{Name: t.text("DeliveryStreamName"), Type: t.text("DeliveryStreamType"), Tags: tagsOf(t), Unknown: unknown, tree: t}
	if c.Type == "" {
		c.Type = DirectPut
	}
	if t.has("DeliveryStreamEncryptionConfigurationInput") {
		c.Encryption = keyOf(t)
	}
	return c, nil
}

// DecodeDelete reads a DeleteDeliveryStream.
func DecodeDelete(body []byte) (*Delete, error) {
	t, unknown, err := decode(deleteShape, body)
	if err != nil {
		return nil, err
	}
	return &Delete{Name: t.text("DeliveryStreamName"), AllowForceDelete: t.boolean("AllowForceDelete"), Unknown: unknown}, nil
}

// DecodeUpdate reads an UpdateDestination.
func DecodeUpdate(body []byte) (*Update, error) {
	t, unknown, err := decode(updateShape, body)
	if err != nil {
		return nil, err
	}
	return &Update{
		Name:           t.text("DeliveryStreamName"),
		CurrentVersion: t.text("CurrentDeliveryStreamVersionId"),
		DestinationID:  t.text("DestinationId"),
		Unknown:        unknown,
		tree:           t,
	}, nil
}

// DecodeAddTags reads a TagDeliveryStream.
func DecodeAddTags(body []byte) (*AddTags, error) {
	t, unknown, err := decode(tagShape, body)
	if err != nil {
		return nil, err
	}
	return &AddTags{Name: t.text("DeliveryStreamName"), Tags: tagsOf(t), Unknown: unknown}, nil
}

// DecodeRemoveTags reads an UntagDeliveryStream.
func DecodeRemoveTags(body []byte) (*RemoveTags, error) {
	t, unknown, err := decode(untagShape, body)
	if err != nil {
		return nil, err
	}
	r := &RemoveTags{Name: t.text("DeliveryStreamName"), Unknown: unknown}
	for _, k := range t.list("TagKeys") {
		r.Keys = append(r.Keys, k.(string))
	}
	return r, nil
}

// defaultTags and defaultStreams are how many are listed where the request does not say.
const (
	defaultTags    = 50
	defaultStreams = 10
)

// DecodeListTags reads a ListTagsForDeliveryStream.
func DecodeListTags(body []byte) (*ListTags, error) {
	t, unknown, err := decode(listTagsShape, body)
	if err != nil {
		return nil, err
	}
	t.fill("Limit", int64(defaultTags))
	return &ListTags{Name: t.text("DeliveryStreamName"), StartKey: t.text("ExclusiveStartTagKey"), Limit: int(t.integer("Limit")), Unknown: unknown}, nil
}

// DecodeStartEncryption reads a StartDeliveryStreamEncryption.
func DecodeStartEncryption(body []byte) (*StartEncryption, error) {
	t, unknown, err := decode(startEncryptionShape, body)
	if err != nil {
		return nil, err
	}
	return &StartEncryption{Name: t.text("DeliveryStreamName"), Key: *keyOf(t), Unknown: unknown}, nil
}

// DecodeStopEncryption reads a StopDeliveryStreamEncryption.
func DecodeStopEncryption(body []byte) (*StopEncryption, error) {
	t, unknown, err := decode(stopEncryptionShape, body)
	if err != nil {
		return nil, err
	}
	return &StopEncryption{Name: t.text("DeliveryStreamName"), Unknown: unknown}, nil
}

// DecodeDescribe reads a DescribeDeliveryStream.
func DecodeDescribe(body []byte) (*Describe, error) {
	t, unknown, err := decode(describeShape, body)
	if err != nil {
		return nil, err
	}
	return &Describe{Name: t.text("DeliveryStreamName"), Unknown: unknown}, nil
}

// DecodeList reads a ListDeliveryStreams.
func DecodeList(body []byte) (*List, error) {
	t, unknown, err := decode(listShape, body)
	if err != nil {
		return nil, err
	}
	t.fill("Limit", int64(defaultStreams))
	return &List{
		Type:    t.text("DeliveryStreamType"),
		Start:   t.text("ExclusiveStartDeliveryStreamName"),
		Limit:   int(t.integer("Limit")),
		Unknown: unknown,
	}, nil
}

func tagsOf(t tree) []Tag {
	var tags []Tag
	for _, e := range t.list("Tags") {
		e := e.(tree)
		tags = append(tags, Tag{Key: e.text("Key"), Value: e.text("Value")})
	}
	return tags
}

// keyOf is the key that a request asks for; the owned one where it names none.
func keyOf(t tree) *Key {
	in := t.sub("DeliveryStreamEncryptionConfigurationInput")
	if in == nil {
		return &Key{Type: OwnedKey}
	}
	return &Key{Type: in.text("KeyType"), ARN: in.text("KeyARN")}
}
