"""What boto3 makes of answers: wire.py ENDPOINT STREAM, where STREAM takes 2 records a second."""
import datetime
import sys
import time

import boto3
from botocore.config import Config

endpoint, stream = sys.argv[1:]


def client(mode, attempts):
    return boto3.client(
        "firehose", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
        config=Config(connect_timeout=5, read_timeout=30, retries={"mode": mode, "max_attempts": attempts}))


once, standard = client("standard", 1), client("standard", 10)


def refused(kind, status, call, **arguments):
    try:
        answer = call(**arguments)
    except getattr(once.exceptions, kind, once.exceptions.ClientError) as e:
        meta = e.response["ResponseMetadata"]
        assert e.response["Error"]["Code"] == kind and e.response["Error"]["Message"], e.response
        assert meta["HTTPStatusCode"] == status and len(meta["RequestId"]) == 36 and meta["RetryAttempts"] == 0, meta
        return e.response
    raise SystemExit(f"{kind} was expected: {answer}")


record = {"Data": b"row\n"}
description = once.describe_delivery_stream(DeliveryStreamName=stream)
assert len(description["ResponseMetadata"]["RequestId"]) == 36, description
created = description["DeliveryStreamDescription"]["CreateTimestamp"]
age = datetime.datetime.now(datetime.timezone.utc) - created
assert datetime.timedelta(0) <= age < datetime.timedelta(hours=1), created

refused("ResourceNotFoundException", 400, once.put_record, DeliveryStreamName="nobody", Record=record)
refused("ResourceNotFoundException", 400, once.describe_delivery_stream, DeliveryStreamName="nobody")
refused("InvalidArgumentException", 400, once.delete_delivery_stream, DeliveryStreamName=stream)
refused("ValidationException", 400, once.put_record_batch, DeliveryStreamName=stream, Records=[record] * 501)
refused("ResourceInUseException", 400, once.create_delivery_stream, DeliveryStreamName=stream, ExtendedS3DestinationConfiguration={
    "RoleARN": "arn:aws:iam::000000000000:role/firehose", "BucketARN": "arn:aws:s3:::lake"})

# Over the rate records are refused: those of a batch one by one, a single one with an answer of its own, which a retry
# brings in.
answer = once.put_record_batch(DeliveryStreamName=stream, Records=[record] * 30)
entries = answer["RequestResponses"]
assert len(entries) == 30 and answer["FailedPutCount"] == sum("ErrorCode" in e for e in entries) >= 20, answer
for e in entries:
    stored = "RecordId" in e and "ErrorCode" not in e
    assert stored or e == {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}, e
for _ in range(50):
    try:
        once.put_record(DeliveryStreamName=stream, Record=record)
    except once.exceptions.ServiceUnavailableException as e:
        assert e.response["Error"]["Message"] == "Slow down." and e.response["ResponseMetadata"]["HTTPStatusCode"] == 503, e.response
        break
else:
    raise SystemExit("nothing was refused")
for _ in range(10):
    once.put_record_batch(DeliveryStreamName=stream, Records=[record] * 30)
    if standard.put_record(DeliveryStreamName=stream, Record=record)["ResponseMetadata"]["RetryAttempts"] > 0:
        break
else:
    raise SystemExit("no call was repeated")
