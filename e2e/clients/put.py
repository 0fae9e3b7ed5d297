"""Puts the lines of a file as records with boto3: put.py ENDPOINT STREAM FILE. Prints the record ids, one a line."""
import sys

import boto3
from botocore.config import Config

endpoint, stream, path = sys.argv[1:]
firehose = boto3.client(
    "firehose", endpoint_url=endpoint, region_name="us-east-1",
    aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
    config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 12}))

description = firehose.describe_delivery_stream(DeliveryStreamName=stream)["DeliveryStreamDescription"]
assert description["DeliveryStreamStatus"] == "ACTIVE", description
assert stream in firehose.list_delivery_streams(Limit=100)["DeliveryStreamNames"]

with open(path, "rb") as f:
    lines = f.read().splitlines()


def batches():
    batch, size = [], 0
    for line in lines:
        if len(batch) == 500 or size + len(line) > 4 << 20:
            yield batch
            batch, size = [], 0
        batch.append({"Data": line})
        size += len(line)
    if batch:
        yield batch


for records in batches():
    if len(records) == 1:
        print(firehose.put_record(DeliveryStreamName=stream, Record=records[0])["RecordId"])
        continue
    answer = firehose.put_record_batch(DeliveryStreamName=stream, Records=records)
    assert answer["FailedPutCount"] == 0, answer
    for entry in answer["RequestResponses"]:
        print(entry["RecordId"])
