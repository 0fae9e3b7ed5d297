package firehose

import (
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"
)

// ARN of a delivery stream.
func ARN(s Settings, stream string) string {
	partition := "aws"
	switch {
	case strings.HasPrefix(s.Region, "cn-"):
		partition = "aws-cn"
	case strings.HasPrefix(s.Region, "us-gov-"):
		partition = "aws-us-gov"
	}
	return "arn:" + partition + ":firehose:" + s.Region + ":" + s.AccountID + ":deliverystream/" + stream
}

// description is the wire shape.
type description struct {
	DeliveryStreamName                    string
	DeliveryStreamARN                     string
	DeliveryStreamStatus                  string
	FailureDescription                    *Failure               `json:",omitempty"`
	DeliveryStreamEncryptionConfiguration *encryptionDescription `json:",omitempty"`
	DeliveryStreamType                    string
	VersionID                             string     `json:"VersionId"`
	CreateTimestamp                       *Timestamp `json:",omitempty"`
	LastUpdateTimestamp                   *Timestamp `json:",omitempty"`
	Source                                tree       `json:",omitempty"`
	Destinations                          []tree
	HasMoreDestinations                   bool
}

type encryptionDescription struct {
	KeyARN  string `json:",omitempty"`
	KeyType string `json:",omitempty"`
	Status  string
}

// Timestamp is a time as the protocol writes it: seconds since 1970 with milliseconds.
type Timestamp time.Time

// NewTimestamp is nil, which a member leaves out, for no time.
func NewTimestamp(t time.Time) *Timestamp {
	if t.IsZero() {
		return nil
	}
	return (*Timestamp)(&t)
}

// MarshalJSON writes a number.
func (t *Timestamp) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(time.Time(*t).UnixMilli())/1e3, 'f', -1, 64), nil
}

// Describe is the answer to DescribeDeliveryStream: {"DeliveryStreamDescription": ...}.
func (d *Document) Describe(s Settings, state State) ([]byte, error) {
	out := description{
		DeliveryStreamName:                    state.Name,
		DeliveryStreamARN:                     ARN(s, state.Name),
		DeliveryStreamStatus:                  state.Status,
		FailureDescription:                    state.Failure,
		DeliveryStreamEncryptionConfiguration: state.Encryption.describe(),
		DeliveryStreamType:                    d.Type(),
		VersionID:                             strconv.FormatUint(state.Version, 10),
		CreateTimestamp:                       NewTimestamp(state.Created),
		LastUpdateTimestamp:                   NewTimestamp(state.Updated),
		Destinations:                          []tree{d.describe()},
	}
	if out.DeliveryStreamStatus == "" {
		out.DeliveryStreamStatus = "ACTIVE"
	}
	if d.from != nil {
		out.DeliveryStreamEncryptionConfiguration = nil // there is none for it
		source := maps.Clone(d.from)
		if !state.Created.IsZero() {
			source["DeliveryStartTimestamp"] = NewTimestamp(state.Created)
		}
		out.Source = tree{"KinesisStreamSourceDescription": source}
	}
	if d.hint > 0 {
		out.Source = tree{"DirectPutSourceDescription": tree{"ThroughputHintInMBs": d.hint}}
	}
	return json.Marshal(struct{ DeliveryStreamDescription description }{out})
}

func (e EncryptionState) describe() *encryptionDescription {
	switch e.Status {
	case "", "DISABLED":
		return &encryptionDescription{Status: "DISABLED"}
	}
	return &encryptionDescription{KeyARN: e.Key.ARN, KeyType: e.Key.Type, Status: e.Status}
}

// describe is the destination. A destination of S3 stands in both forms, whichever created it.
func (d *Document) describe() tree {
	out := tree{"DestinationId": DestinationID, d.kind.description: described(d.conf)}
	if d.kind == extendedS3 {
		plain := tree{}
		for _, m := range s3Config.members {
			if v, ok := d.conf[m.name]; ok {
				plain[m.name] = v
			}
		}
		out[plainS3Description] = plain
	}
	return out
}

// described renames the members of a configuration to those of a description.
func described(conf tree) tree {
	out := make(tree, len(conf))
	for name, v := range conf {
		switch name {
		case backupMember:
			name = "S3BackupDescription"
		case intermediateMember:
			name = plainS3Description
		}
		out[name] = v
	}
	return out
}
