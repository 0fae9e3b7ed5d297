package directput

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"hydrant/record"
)

// id is the RecordId that the store gives to a sequence.
func id(seq uint64) string {
	return record.ID{Directory: storeDirectory, Incarnation: 7, Seq: seq}.String()
}

func b64(data string) string { return base64.StdEncoding.EncodeToString([]byte(data)) }

// batchOf is a PutRecordBatch body for stream s.
func batchOf(records ...string) string {
	var b strings.Builder
	b.WriteString(`{"DeliveryStreamName":"s","Records":[`)
	for i, r := range records {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"Data":"` + b64(r) + `"}`)
	}
	return b.String() + "]}"
}

func TestPut(t *testing.T) {
	for _, adopt := range []bool{false, true} {
		s := newStore(t, "s")
		s.adopt = func(int) bool { return adopt }
		h := newHandler(t, s)
		f := func(op, body, want string, records ...string) {
			t.Helper()
			before := len(s.calls)
			w := post(t, h, op, body)
			if w.Code != 200 || w.Body.String() != want {
				t.Errorf("%s %s: got %d %s, want 200 %s", op, body, w.Code, w.Body, want)
				return
			}
			if len(s.calls) != before+1 || !slices.Equal(s.calls[before].records, records) || s.calls[before].stream != "s" {
				t.Errorf("%s %s: stored %+v, want %q", op, body, s.calls[before:], records)
			}
		}
		f("PutRecord", `{"DeliveryStreamName":"s","Record":{"Data":"aGVsbG8K"}}`, `{"RecordId":"`+id(1)+`","Encrypted":false}`, "hello\n")
		f("PutRecordBatch", `{"DeliveryStreamName":"s","Records":[{"Data":"YQ=="},{"Data":""},{"Data":"YWI="}]}`,
			`{"FailedPutCount":0,"Encrypted":false,"RequestResponses":[{"RecordId":"`+id(2)+`"},{"RecordId":"`+id(3)+`"},{"RecordId":"`+id(4)+`"}]}`, "a", "", "ab")
		// Order, white space, escapes, members that nobody knows, null for absent ones.
		f("PutRecord", " \r\n\t{ \"Record\" : { \"Data\" : \"YWJj\" } , \"DeliveryStreamName\" : \"s\" } \n", `{"RecordId":"`+id(5)+`","Encrypted":false}`, "abc")
		f("PutRecord", `{"\u0044eliveryStreamName":"\u0073","Record":{"D\u0061ta":"\/\/8\u003d"}}`, `{"RecordId":"`+id(6)+`","Encrypted":false}`, "\xff\xff")
		f("PutRecord", `{"Extra":{"a":[1,-2.5e+3,true,false,null,"x\"\\"],"b":{}},"Records":[],"DeliveryStreamName":"s","Record":{"Data":"YQ==","ExplicitHashKey":null,"data":7}}`,
			`{"RecordId":"`+id(7)+`","Encrypted":false}`, "a")
		f("PutRecordBatch", `{"Record":null,"deliverystreamname":"x","DeliveryStreamName":"s","Records":[{"Data":"YQ=="}]}`,
			`{"FailedPutCount":0,"Encrypted":false,"RequestResponses":[{"RecordId":"`+id(8)+`"}]}`, "a")
		f("PutRecord", `{"DeliveryStreamName":"s","Record":{"Data":""}}`, `{"RecordId":"`+id(9)+`","Encrypted":false}`, "")
		// The surplus bits of the last character are ignored, as Java's decoder does.
		f("PutRecord", `{"DeliveryStreamName":"s","Record":{"Data":"YR=="}}`, `{"RecordId":"`+id(10)+`","Encrypted":false}`, "a")
	}
}

// Where records are encrypted on disk every answer says so, and so do descriptions.
func TestEncrypted(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s, func(o *Options) { o.Encrypted = true })
	f := func(op, body, want string) {
		t.Helper()
		if w := post(t, h, op, body); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got %d %s, want %s", op, w.Code, w.Body, want)
		}
	}
	f("PutRecord", `{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}}`, `{"RecordId":"`+id(1)+`","Encrypted":true}`)
	f("PutRecordBatch", batchOf("a"), `{"FailedPutCount":0,"Encrypted":true,"RequestResponses":[{"RecordId":"`+id(2)+`"}]}`)
	f("DescribeDeliveryStream", `{"DeliveryStreamName":"s"}`, `"DeliveryStreamEncryptionConfiguration":{"KeyType":"AWS_OWNED_CMK","Status":"ENABLED"}`)
}

// TestLimits has the service's limits from both sides.
func TestLimits(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	f := func(name, op, body string, code int, answer string) {
		t.Helper()
		before := len(s.calls)
		w := post(t, h, op, body)
		if w.Code != code || answer != "" && w.Body.String() != answer {
			t.Errorf("%s: got %d %.200s, want %d %s", name, w.Code, w.Body, code, answer)
		}
		if (len(s.calls) > before) != (code == 200) {
			t.Errorf("%s: answered %d, stored %v", name, w.Code, len(s.calls) > before)
		}
	}
	single := func(n int) string {
		return `{"DeliveryStreamName":"s","Record":{"Data":"` + b64(strings.Repeat("x", n)) + `"}}`
	}
	repeat := func(n, size int) string { return batchOf(slices.Repeat([]string{strings.Repeat("x", size)}, n)...) }
	f("1,024,000 bytes", "PutRecord", single(1_024_000), 200, "")
	f("1,024,001 bytes", "PutRecord", single(1_024_001), 400,
		errorBody("ValidationException", "1 validation error detected: Value at 'record.data' failed to satisfy constraint: Member must have length less than or equal to 1024000"))
	f("one of 1,024,001 in a batch", "PutRecordBatch", batchOf("a", strings.Repeat("x", 1_024_001)), 400,
		errorBody("ValidationException", "1 validation error detected: Value at 'records.2.member.data' failed to satisfy constraint: Member must have length less than or equal to 1024000"))
	f("500 records", "PutRecordBatch", repeat(500, 10), 200, "")
	f("501 records", "PutRecordBatch", repeat(501, 10), 400,
		errorBody("ValidationException", "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length less than or equal to 500"))
	f("no records", "PutRecordBatch", batchOf(), 400,
		errorBody("ValidationException", "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"))
	fourMiB := slices.Repeat([]string{strings.Repeat("x", 1<<20-48_576)}, 4)
	fourMiB = append(fourMiB, strings.Repeat("y", 4<<20-4*(1<<20-48_576)))
	f("4 MiB", "PutRecordBatch", batchOf(fourMiB...), 200, "")
	f("4 MiB and a byte", "PutRecordBatch", batchOf(append(fourMiB, "z")...), 400, errorBody("InvalidArgumentException", "Records size exceeds 4 MB limit"))
	f("64,000 records and the last one wrong", "PutRecordBatch", `{"DeliveryStreamName":"s","Records":[`+strings.Repeat(`{},`, 64_000)+`{"Data":7}]}`, 400,
		errorBody("SerializationException", "records.64001.member.data at byte 192045 must be a string of base64."))
	name64 := strings.Repeat("n", 64)
	f("name of 64", "PutRecord", strings.Replace(single(1), `"s"`, `"`+name64+`"`, 1), 400,
		errorBody("ResourceNotFoundException", "Firehose "+name64+" under account 123456789012 not found."))
	f("name of 65", "PutRecord", strings.Replace(single(1), `"s"`, `"`+name64+`n"`, 1), 400,
		errorBody("ValidationException", "1 validation error detected: Value at 'deliveryStreamName' failed to satisfy constraint: Member must have length less than or equal to 64"))
}

func TestBadInput(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	f := func(op, body, code, message string) {
		t.Helper()
		w := post(t, h, op, body)
		if want := errorBody(code, message); w.Code != 400 || w.Body.String() != want {
			t.Errorf("%s %.100s:\n got %d %s\nwant 400 %s", op, body, w.Code, w.Body, want)
		}
		if len(s.calls) > 0 {
			t.Fatalf("%s %.100s: stored", op, body)
		}
	}
	valid := func(op, body string, faults ...string) {
		t.Helper()
		noun := "errors"
		if len(faults) == 1 {
			noun = "error"
		}
		f(op, body, "ValidationException", fmt.Sprintf("%d validation %s detected: Value at %s", len(faults), noun, strings.Join(faults, "; Value at ")))
	}
	serial := func(op, body, message string) {
		t.Helper()
		f(op, body, "SerializationException", message)
	}
	const isNull = " failed to satisfy constraint: Member must not be null"
	const pattern = " failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
	const short = " failed to satisfy constraint: Member must have length greater than or equal to 1"

	// Shapes come first: the stream "x" does not exist.
	valid("PutRecord", `{}`, "'deliveryStreamName'"+isNull, "'record'"+isNull)
	valid("PutRecord", `{"DeliveryStreamName":null,"Record":null}`, "'deliveryStreamName'"+isNull, "'record'"+isNull)
	valid("PutRecord", `{"DeliveryStreamName":"x","Record":{}}`, "'record.data'"+isNull)
	valid("PutRecord", `{"DeliveryStreamName":"x","Record":{"Data":null}}`, "'record.data'"+isNull)
	valid("PutRecord", `{"DeliveryStreamName":"x","Record":{"data":"YQ=="}}`, "'record.data'"+isNull)
	valid("PutRecord", `{"DeliveryStreamName":"","Record":{"Data":""}}`, "'deliveryStreamName'"+pattern, "'deliveryStreamName'"+short)
	valid("PutRecord", `{"DeliveryStreamName":"a b","Record":{"Data":""}}`, "'deliveryStreamName'"+pattern)
	valid("PutRecord", `{"DeliveryStreamName":"é","Record":{"Data":""}}`, "'deliveryStreamName'"+pattern)
	valid("PutRecordBatch", `{"DeliveryStreamName":"x"}`, "'records'"+isNull)
	valid("PutRecordBatch", `{"DeliveryStreamName":"x","Records":null}`, "'records'"+isNull)
	valid("PutRecordBatch", `{"DeliveryStreamName":"x","Records":[]}`, "'records'"+short)
	valid("PutRecordBatch", `{"DeliveryStreamName":"x","Records":[{"Data":"YQ=="},null,{},{"Data":"YQ=="},{"Data":null}]}`,
		"'records.2.member'"+isNull, "'records.3.member.data'"+isNull, "'records.5.member.data'"+isNull)
	valid("PutRecordBatch", `{"Record":{"Data":"YQ=="},"DeliveryStreamName":"x"}`, "'records'"+isNull)

	f("PutRecord", `{"DeliveryStreamName":"x","Record":{"Data":"YQ=="}}`, "ResourceNotFoundException", "Firehose x under account 123456789012 not found.")
	f("PutRecordBatch", `{"DeliveryStreamName":"x","Records":[{"Data":"YQ=="}]}`, "ResourceNotFoundException", "Firehose x under account 123456789012 not found.")

	// What is not JSON.
	serial("PutRecord", ``, "The request body is not JSON: at byte 0 the body ends where an object is expected.")
	serial("PutRecord", `null`, "The request body is not JSON: at byte 0 'n' stands where an object is expected.")
	serial("PutRecord", `[]`, "The request body is not JSON: at byte 0 '[' stands where an object is expected.")
	serial("PutRecord", `hello`, "The request body is not JSON: at byte 0 'h' stands where an object is expected.")
	serial("PutRecord", "\xef\xbb\xbf{}", "The request body is not JSON: at byte 0 '\\ufeff' stands where an object is expected.")
	serial("PutRecord", "{\"a\":\"\xff\"}", "The request body is not valid UTF-8.")
	serial("PutRecord", `{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}}x`, "The request body is not JSON: at byte 51 'x' stands where the end of the body is expected.")
	serial("PutRecord", "{}\x00", "The request body is not JSON: at byte 2 '\\x00' stands where the end of the body is expected.")
	serial("PutRecord", `{"a":1,}`, "The request body is not JSON: at byte 7 '}' stands where a member's name is expected.")
	serial("PutRecord", `{"a" 1}`, "The request body is not JSON: at byte 5 '1' stands where a colon is expected.")
	serial("PutRecord", `{"a":1 "b"}`, "The request body is not JSON: at byte 7 '\"' stands where a comma or } is expected.")
	serial("PutRecord", `{"a":[1 2]}`, "The request body is not JSON: at byte 8 '2' stands where a comma or ] is expected.")
	serial("PutRecord", `{"a":[1,]}`, "The request body is not JSON: at byte 8 ']' stands where a value is expected.")
	serial("PutRecord", `{"a":01}`, "The request body is not JSON: at byte 6 '1' stands where a comma or } is expected.")
	serial("PutRecord", `{"a":-}`, "The request body is not JSON: at byte 6 '}' stands where a digit is expected.")
	serial("PutRecord", `{"a":1.}`, "The request body is not JSON: at byte 7 '}' stands where a digit is expected.")
	serial("PutRecord", `{"a":1e}`, "The request body is not JSON: at byte 7 '}' stands where a digit is expected.")
	serial("PutRecord", `{"a":nul}`, "The request body is not JSON: at byte 5 'n' stands where a value is expected.")
	serial("PutRecord", `{"a":NaN}`, "The request body is not JSON: at byte 5 'N' stands where a value is expected.")
	serial("PutRecord", `{'a':1}`, "The request body is not JSON: at byte 1 '\\'' stands where a member's name is expected.")
	serial("PutRecord", `{"a":"\x"}`, "The request body is not JSON: at byte 7 'x' stands where an escape is expected.")
	serial("PutRecord", `{"a":"\u12g4"}`, "The request body is not JSON: at byte 10 'g' stands where a hexadecimal digit is expected.")
	serial("PutRecord", `{"a":"\ud800\u12"}`, "The request body is not JSON: at byte 16 '\"' stands where a hexadecimal digit is expected.")
	serial("PutRecord", "{\"a\":\"x\ny\"}", "The request body is not JSON: at byte 7 '\\n' stands where a character that needs no escape is expected.")
	serial("PutRecord", "{\"a\":\"\\n\ny\"}", "The request body is not JSON: at byte 8 '\\n' stands where a character that needs no escape is expected.")
	// Each place where a body may be cut off.
	whole := `{"DeliveryStreamName":"s","Records":[{"Data":"YWFh"},{"Data":"Y\u0057Fh"}],"X":[1,{"y":null}]}`
	for i := range len(whole) {
		w := post(t, h, "PutRecordBatch", whole[:i])
		if w.Code != 400 || !strings.Contains(w.Body.String(), `"SerializationException"`) {
			t.Errorf("cut after %d bytes: got %d %s", i, w.Code, w.Body)
		}
	}
	// Types.
	serial("PutRecord", `{"DeliveryStreamName":7}`, "deliveryStreamName at byte 22 must be a string.")
	serial("PutRecord", `{"Record":"YQ=="}`, "record at byte 10 must be an object.")
	serial("PutRecord", `{"Record":[{"Data":"YQ=="}]}`, "record at byte 10 must be an object.")
	serial("PutRecord", `{"Record":{"Data":[97]}}`, "record.data at byte 18 must be a string of base64.")
	serial("PutRecord", `{"Record":{"Data":{}}}`, "record.data at byte 18 must be a string of base64.")
	serial("PutRecordBatch", `{"Records":{"Data":"YQ=="}}`, "records at byte 11 must be an array.")
	serial("PutRecordBatch", `{"Records":["YQ=="]}`, "records.1.member at byte 12 must be an object.")
	serial("PutRecordBatch", `{"Records":[{"Data":"YQ=="},{"Data":true}]}`, "records.2.member.data at byte 36 must be a string of base64.")
	// Base64.
	for _, data := range []string{"YQ", "YQ=", "Y===", "====", "YQ==YQ==", "Y Q=", "YQ=a", "Y-Q_", "héé", `YQ=\n=`, `YWF\n`, `YWFh\r\n\r\n`, `YWFh\n\n\n\n`, strings.Repeat("A", 100) + "*AAA"} {
		serial("PutRecordBatch", `{"DeliveryStreamName":"s","Records":[{"Data":""},{"Data":"`+data+`"}]}`, "records.2.member.data at byte 57 is not base64.")
	}
	// Twice.
	serial("PutRecord", `{"DeliveryStreamName":"s","DeliveryStreamName":"s"}`, "deliveryStreamName is given a second time at byte 47.")
	serial("PutRecord", `{"Record":null,"Record":{"Data":"YQ=="}}`, "record is given a second time at byte 24.")
	serial("PutRecordBatch", `{"Records":[{"Data":"YQ==","Data":"YQ=="}]}`, "records.1.member.data is given a second time at byte 34.")
	// Depth.
	serial("PutRecord", `{"a":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`}`, "The request body is nested more than 1000 deep at byte 1005.")
	valid("PutRecord", `{"a":`+strings.Repeat("[", 900)+strings.Repeat("]", 900)+`}`, "'deliveryStreamName'"+isNull, "'record'"+isNull)
}

func TestAppendErrors(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	f := func(err error, code int, answer, retryAfter string) {
		t.Helper()
		s.refuse = err
		for op, body := range map[string]string{"PutRecord": `{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}}`, "PutRecordBatch": batchOf("a", "b")} {
			w := post(t, h, op, body)
			if w.Code != code || w.Body.String() != answer || w.Header().Get("Retry-After") != retryAfter {
				t.Errorf("%v: got %d %s, Retry-After %q, want %d %s, %q", err, w.Code, w.Body, w.Header().Get("Retry-After"), code, answer, retryAfter)
			}
		}
	}
	f(&record.Refusal{Reason: "memory"}, 503, errorBody("ServiceUnavailableException", "Slow down."), "1")
	f(fmt.Errorf("append: %w", &record.Refusal{Reason: "disk", Message: "The disk is full."}), 503, errorBody("ServiceUnavailableException", "Slow down. The disk is full."), "1")
	f(&record.NotFound{Stream: "s"}, 400, errorBody("ResourceNotFoundException", "Firehose s under account 123456789012 not found."), "")
	f(&record.NotFound{Stream: "s", Inactive: true}, 400, errorBody("ResourceNotFoundException", "Firehose s is not active in 123456789012 account. It was deleted or taken out of the configuration, and only what it holds is still delivered."), "")
	f(&record.Sourced{Stream: "s", Source: "kinesis"}, 400, errorBody("InvalidArgumentException", "This operation is not permitted on KinesisStreamAsSource delivery stream type."), "")
	f(&record.Sourced{Stream: "s", Source: "kafka"}, 400, errorBody("InvalidArgumentException", "This operation is not permitted on MSKAsSource delivery stream type."), "")
	f(errors.New("secret detail"), 500, errorBody("InternalFailure", "The call failed. Its records may or may not have been stored."), "")
	if len(s.calls) != 0 {
		t.Error("a refused call was stored")
	}
}

func TestProtocol(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	const ok = `{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}}`
	f := func(op string, code int, answer string, headers ...string) {
		t.Helper()
		w := post(t, h, op, ok, headers...)
		if w.Code != code || answer != "" && w.Body.String() != answer {
			t.Errorf("%s %q: got %d %s, want %d %s", op, headers, w.Code, w.Body, code, answer)
		}
	}
	f("PutRecord", 200, "", "Content-Type", "application/x-amz-json-1.1; charset=UTF-8")
	f("PutRecord", 200, "", "Content-Type", "application/json")
	f("PutRecord", 200, "", "Content-Encoding", "identity")
	wrong := errorBody("SerializationException", "The Content-Type must be application/x-amz-json-1.1.")
	f("PutRecord", 415, wrong, "Content-Type", "")
	f("PutRecord", 415, wrong, "Content-Type", "text/plain")
	f("PutRecord", 415, wrong, "Content-Type", "application/x-amz-json-1.0")
	f("PutRecord", 415, wrong, "Content-Type", "application/x-amz-cbor-1.1")
	f("PutRecord", 415, wrong, "Content-Type", "application/json; charset=latin1")
	f("PutRecord", 415, errorBody("SerializationException", "A Content-Encoding of the request is not supported."), "Content-Encoding", "gzip")
	f("PutRecord", 415, errorBody("SerializationException", "A Content-Encoding of the request is not supported."), "Content-Encoding", "aws-chunked")
	f("PutRecords", 400, errorBody("UnknownOperationException", "Firehose has no such operation."))
	f("putRecord", 400, errorBody("UnknownOperationException", "Firehose has no such operation."))
	f("PutRecord", 400, errorBody("UnknownOperationException", "The header X-Amz-Target must begin with Firehose_20150804."), "X-Amz-Target", "Kinesis_20131202.PutRecord")
	f("", 400, errorBody("UnknownOperationException", "The header X-Amz-Target, Firehose_20150804.<operation>, is missing."), "X-Amz-Target", "")
	for _, op := range controlOperations {
		f(op, 400, errorBody("InvalidArgumentException", op+" is not supported here: streams are declared in the configuration file."))
	}
	if got, want := len(s.calls), 3; got != want {
		t.Errorf("stored %d calls, want %d", got, want)
	}
	srv := server(t, h)
	for _, c := range []struct {
		method, path string
		code         int
		allow        string
	}{{"GET", "/", 405, "POST"}, {"PUT", "/", 405, "POST"}, {"POST", "/x", 404, ""}, {"GET", "/x", 404, ""}} {
		r, err := http.NewRequest(c.method, srv.URL+c.path, strings.NewReader(ok))
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, res.Body)
		res.Body.Close()
		if want := errorBody("UnknownOperationException", "Calls go to POST /."); res.StatusCode != c.code || body != want || res.Header.Get("Allow") != c.allow {
			t.Errorf("%s %s: got %d %s, Allow %q", c.method, c.path, res.StatusCode, body, res.Header.Get("Allow"))
		}
	}
}

func TestIdentity(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	put := func(body string, headers ...string) (stored, string) {
		t.Helper()
		before := len(s.calls)
		w := post(t, h, "PutRecord", body, headers...)
		if w.Code != 200 {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		if len(s.calls) == before {
			return stored{}, w.Body.String()
		}
		return s.calls[before], w.Body.String()
	}
	const a, b = `{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}}`, `{"DeliveryStreamName":"s","Record":{"Data":"Yg=="}}`
	const auth = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260713/us-east-1/firehose/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"
	none, _ := put(a)
	if none.call.Invocation != [16]byte{} || none.call.Attempt != 0 || none.call.KeyHash != [8]byte{} || none.call.BodyHash == [16]byte{} {
		t.Errorf("without headers: %+v", none.call)
	}
	first, answer := put(a, "amz-sdk-invocation-id", "00112233-4455-6677-8899-aabbccddeeff", "amz-sdk-request", "attempt=1; max=3", "Authorization", auth)
	if first.call.Invocation != [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff} || first.call.Attempt != 1 || first.call.KeyHash == [8]byte{} || first.call.BodyHash != none.call.BodyHash {
		t.Errorf("with headers: %+v", first.call)
	}
	again, answer2 := put(a, "amz-sdk-invocation-id", "00112233-4455-6677-8899-aabbccddeeff", "amz-sdk-request", "ttl=20260713T140509Z; attempt=2; max=3", "Authorization", auth)
	if again.records != nil || answer2 != answer {
		t.Errorf("a retry was stored again, or answered %s instead of %s", answer2, answer)
	}
	other, _ := put(b, "amz-sdk-invocation-id", "not a uuid", "amz-sdk-request", "attempt=300", "Authorization", strings.Replace(auth, "AKIDEXAMPLE", "AKIDOTHER", 1))
	if other.call.Invocation == [16]byte{} || other.call.Attempt != 255 || other.call.KeyHash == first.call.KeyHash || other.call.BodyHash == first.call.BodyHash {
		t.Errorf("others: %+v", other.call)
	}
	odd, _ := put(b, "amz-sdk-invocation-id", "00000000-0000-0000-0000-000000000000", "amz-sdk-request", "attempt=x", "Authorization", "Bearer x")
	if odd.call.Invocation == [16]byte{} || odd.call.Attempt != 0 || odd.call.KeyHash != [8]byte{} {
		t.Errorf("odd: %+v", odd.call)
	}
}

// TestFluentBit has requests as Fluent Bit's kinesis_firehose output makes them: no charset, no
// x-amz-content-sha256, records that end in a newline, whole lines packed into one record, or gzip in it.
func TestFluentBit(t *testing.T) {
	s := newStore(t, "s")
	h := newHandler(t, s)
	gz := "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xcb\x48\xcd\xc9\xc9\xe7\x02\x00\x20\x30\x3a\x36\x06\x00\x00\x00"
	records := []string{"{\"log\":\"a\",\"n\":1}\n", "{\"log\":\"b\"}\n{\"log\":\"c\"}\n\n", gz}
	w := post(t, h, "PutRecordBatch", batchOf(records...),
		"User-Agent", "aws-fluent-bit-plugin", "X-Amz-Date", "20260713T140509Z",
		"Authorization", "AWS4-HMAC-SHA256 Credential=AKID/20260713/us-east-1/firehose/aws4_request, SignedHeaders=content-length;content-type;host;user-agent;x-amz-date;x-amz-target, Signature=00")
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"FailedPutCount":0`) {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	if len(s.calls) != 1 || !slices.Equal(s.calls[0].records, records) {
		t.Errorf("stored %+v", s.calls)
	}
	if s.calls[0].call.Invocation != [16]byte{} {
		t.Error("a call without an invocation id has one")
	}
}

// TestClientGone: a client that hangs up ends the Append, and nothing is answered.
func TestClientGone(t *testing.T) {
	s := newStore(t, "s")
	entered, left := make(chan struct{}), make(chan error, 1)
	s.before = func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		left <- ctx.Err()
		return ctx.Err()
	}
	h := newHandler(t, s)
	srv := server(t, h)
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "POST", srv.URL, bytes.NewReader([]byte(batchOf("a"))))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Amz-Target", targetPrefix+"PutRecordBatch")
	go func() { <-entered; cancel() }()
	if _, err := srv.Client().Do(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("Append ended with %v", err)
	}
	eventually(t, "the call is counted as canceled", func() bool { return counted(t, h, "hydrant_put_refused_total", "PutRecordBatch", "canceled") == 1 })
}
