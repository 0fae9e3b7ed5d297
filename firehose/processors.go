package firehose

import (
	"encoding/base64"
	"slices"
	"strconv"
)

// applies lists the parameters of each type of processor. Those of AppendDelimiterToRecord are taken and
// dropped, whatever they are.
var applies = map[string][]string{
	lambda:        {"LambdaArn", "NumberOfRetries", "RoleArn", "BufferSizeInMBs", "BufferIntervalInSeconds"},
	extraction:    {"MetadataExtractionQuery", "JsonParsingEngine"},
	deaggregation: {"SubRecordType", "Delimiter"},
	decompression: {"CompressionFormat"},
	logProcessing: {"DataMessageExtraction"},
}

// processing checks the processors, and with them the keys that a prefix takes from them.
func (d *Document) processing() error {
	c := d.conf.sub(processingMember)
	if c == nil {
		return nil
	}
	processors := c.list("Processors")
	if slices.Contains(processors, nil) {
		return &Error{Code: CodeInternal, Message: "A processor is null."}
	}
	if c.boolean("Enabled") && (len(processors) < 1 || len(processors) > maxProcessors) {
		return invalid("A maximum of %d and a minimum of 1 processor needs to be supplied when processing is enabled.", maxProcessors)
	}
	count := map[string]int{}
	for _, p := range processors {
		count[p.(tree).text("Type")]++
	}
	for _, p := range processors {
		p := p.(tree)
		kind := p.text("Type")
		if count[kind] > 1 {
			return invalid("Cannot have more than 1 %s processor.", kind)
		}
		if err := d.processor(kind, p, count); err != nil {
			return err
		}
	}
	return nil
}

func (d *Document) processor(kind string, p tree, count map[string]int) error {
	given := map[string]string{}
	for _, q := range p.list("Parameters") {
		name := q.(tree).text("ParameterName")
		switch _, twice := given[name]; {
		case twice:
			return invalid("Parameter %s is given twice for the %s processor.", name, kind)
		case !slices.Contains(applies[kind], name):
			return invalid("Parameter %s is not one of the %s processor.", name, kind)
		}
		given[name] = q.(tree).text("ParameterValue")
	}
	switch kind {
	case lambda:
		return checkLambda(given)
	case deaggregation:
		if !d.partitions() {
			return invalid("RecordDeAggregationProcessor can only be present when Dynamic Partitioning is enabled.")
		}
		return checkDeaggregation(given)
	case extraction:
		if !d.partitions() {
			return invalid("MetadataExtractionProcessor can only be present when Dynamic Partitioning is enabled.")
		}
		if given["JsonParsingEngine"] != parsingEngine {
			return invalid("MetaDataExtraction JSON Parsing Engine has to be one of JQ-1.6")
		}
		if given["MetadataExtractionQuery"] == "" {
			return invalid("MetadataExtractionQuery is required when the MetadataExtraction processor is used.")
		}
	case decompression:
		if given["CompressionFormat"] != compressionGZIP {
			return invalid("CompressionFormat has to be GZIP")
		}
	case logProcessing:
		if v := given["DataMessageExtraction"]; v != "true" && v != "false" {
			return invalid("Invalid parameter value for DataMessageExtraction. Allowed values are True and False.")
		}
		if count[decompression] == 0 {
			return invalid("CloudWatchLogProcessingProcessor can only be enabled with DecompressionProcessor")
		}
	case appendDelimiter:
		if d.kind != extendedS3 {
			return invalid("AppendDelimiterToRecordProcessor can only be present with an S3 destination.")
		}
	}
	return nil
}

func checkLambda(given map[string]string) error {
	if given["LambdaArn"] == "" {
		return invalid("LambdaArn is required when Lambda processor is used.")
	}
	if v, ok := given["NumberOfRetries"]; ok && !within(v, 0, 300, true) {
		return invalid("Number of retries for lambda must be between 0 and 300.")
	}
	size, sized := given["BufferSizeInMBs"]
	interval, timed := given["BufferIntervalInSeconds"]
	switch {
	case sized != timed:
		return invalid("Both BufferSizeInMBs and BufferIntervalInSeconds are required to configure buffering for lambda processor.")
	case sized && !within(size, 0.2, 3, false):
		return invalid("BufferSizeInMBs for lambda processor must be between 0.2 and 3.")
	case timed && !within(interval, 0, 900, true):
		return invalid("BufferIntervalInSeconds for lambda processor must be between 0 and 900.")
	}
	return nil
}

// within tells whether text is a number from min to max.
func within(text string, min, max float64, whole bool) bool {
	n, err := strconv.ParseFloat(text, 64)
	if whole {
		var i int64
		i, err = strconv.ParseInt(text, 10, 32)
		n = float64(i)
	}
	return err == nil && n >= min && n <= max
}

func checkDeaggregation(given map[string]string) error {
	switch delimiter := given["Delimiter"]; given["SubRecordType"] {
	case subRecordJSON:
	case subRecordDelimit:
		if delimiter == "" {
			return invalid("Delimiter should be present for DELIMITED")
		}
		if _, err := base64.StdEncoding.DecodeString(delimiter); err != nil {
			return invalid("Delimiter has to be in base64.")
		}
	default:
		return invalid("SubRecordType has to be one of JSON, DELIMITED")
	}
	return nil
}

// partitioning checks that the prefix shows every key, and only keys that something gives.
func (d *Document) partitioning() error {
	if !d.partitions() {
		return nil
	}
	fromQuery, fromLambda := d.partitionKeys()
	if len(fromQuery)+len(fromLambda) == 0 {
		return invalid("S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled")
	}
	query := d.query()
	_, hasLambda := d.enabled(lambda)
	switch {
	case len(fromLambda) > 0 && !hasLambda:
		return invalid("S3 Prefix takes %s from a Lambda processor, and there is none.", fromLambda[0])
	case len(fromQuery) > 0 && query == "":
		return invalid("S3 Prefix takes %s from a MetadataExtraction processor, and there is none.", fromQuery[0])
	}
	keys, ok := queryKeys(query)
	if !ok {
		return nil // only jq itself can say
	}
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
		if !slices.Contains(fromQuery, k.name) {
			return invalid("MetaDataExtraction JQ Query can't contain keys that are not present in the S3 Prefix expression")
		}
	}
	for _, k := range fromQuery {
		if !slices.Contains(names, k) {
			return invalid("S3 Prefix takes %s from the MetaDataExtraction JQ Query, which has no such key.", k)
		}
	}
	return nil
}
