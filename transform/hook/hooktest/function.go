package hooktest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/aws/aws-lambda-go/events"
)

// item is a record as the functions know it.
type item struct {
	Type     string `json:"type"`     // heartbeat: Dropped
	Fail     string `json:"fail"`     // the function fails with these words
	Text     string `json:"text"`     // comes back in upper case
	Grow     int    `json:"grow"`     // by so many bytes
	Customer string `json:"customer"` // a partition key
}

type transformed struct {
	ID      string `json:"id"`
	Arrived int64  `json:"arrived"`
	Stream  string `json:"stream"`
	Region  string `json:"region"`
	Text    string `json:"text"`
	Filler  string `json:"filler"`
}

// Function is a transformation function for Firehose, as one writes it with AWS's own types.
func Function(_ context.Context, event events.KinesisFirehoseEvent) (events.KinesisFirehoseResponse, error) {
	response := events.KinesisFirehoseResponse{Records: make([]events.KinesisFirehoseResponseRecord, 0, len(event.Records))}
	for _, record := range event.Records {
		out := events.KinesisFirehoseResponseRecord{RecordID: record.RecordID}
		var in item
		switch err := json.Unmarshal(record.Data, &in); {
		case err != nil:
			out.Result, out.Data = events.KinesisFirehoseTransformedStateProcessingFailed, record.Data
		case in.Fail != "":
			return response, errors.New(in.Fail)
		case in.Type == "heartbeat":
			out.Result = events.KinesisFirehoseTransformedStateDropped
		default:
			data, err := json.Marshal(transformed{record.RecordID, record.ApproximateArrivalTimestamp.UnixMilli(), event.DeliveryStreamArn, event.Region,
				strings.ToUpper(in.Text), strings.Repeat("x", in.Grow)})
			if err != nil {
				return response, err
			}
			if in.Customer == "" {
				in.Customer = "none"
			}
			out.Result, out.Data = events.KinesisFirehoseTransformedStateOk, append(data, '\n')
			out.Metadata.PartitionKeys = map[string]string{"customer": in.Customer}
		}
		response.Records = append(response.Records, out)
	}
	return response, nil
}
