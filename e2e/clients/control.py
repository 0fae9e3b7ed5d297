"""Leads a delivery stream through its life with boto3: control.py ENDPOINT STREAM FORM BUCKET FILE, where FORM is
S3 or ExtendedS3. Puts the lines of FILE, and deletes the stream, which delivers them. Prints what is wrong."""
import sys
import time

import boto3
from botocore.config import Config

endpoint, stream, form, bucket, path = sys.argv[1:]
firehose = boto3.client(
    "firehose", endpoint_url=endpoint, region_name="us-east-1",
    aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
    config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 5}))


def describe():
    return firehose.describe_delivery_stream(DeliveryStreamName=stream)["DeliveryStreamDescription"]


def until(what, condition):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise SystemExit("not within 30 s: " + what)


def refused(code, call, **arguments):
    try:
        answer = call(**arguments)
    except firehose.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == code, e.response
    else:
        raise SystemExit(f"{code} was expected: {answer}")


destination = {
    "RoleARN": "arn:aws:iam::000000000000:role/firehose", "BucketARN": "arn:aws:s3:::" + bucket,
    "Prefix": stream + "/", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 900},
}
created = firehose.create_delivery_stream(DeliveryStreamName=stream, Tags=[{"Key": "by", "Value": "boto3"}], **{form + "DestinationConfiguration": destination})
assert created["DeliveryStreamARN"].endswith(":deliverystream/" + stream), created
until("ACTIVE", lambda: describe()["DeliveryStreamStatus"] == "ACTIVE")
refused("ResourceInUseException", firehose.create_delivery_stream, DeliveryStreamName=stream, **{form + "DestinationConfiguration": destination})

with open(path, "rb") as f:
    lines = f.read().splitlines(keepends=True)
half = len(lines) // 2
answer = firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": line} for line in lines[:half]])
assert answer["FailedPutCount"] == 0, answer

d = describe()
assert d["VersionId"] == "1" and "LastUpdateTimestamp" not in d, d
for key in "S3DestinationDescription", "ExtendedS3DestinationDescription":
    got = d["Destinations"][0][key]
    for member, value in destination.items():
        assert got[member] == value, (key, member, got)
    assert got["CompressionFormat"] == "UNCOMPRESSED" and got["EncryptionConfiguration"] == {"NoEncryptionConfig": "NoEncryption"}, got
destination_id = d["Destinations"][0]["DestinationId"]


def update(version, **members):
    firehose.update_destination(DeliveryStreamName=stream, CurrentDeliveryStreamVersionId=version, DestinationId=destination_id,
                                **{form + "DestinationUpdate": members})


update("1", Prefix=stream + "/")
assert describe()["VersionId"] == "1", describe()
update("1", Prefix=stream + "/new/", CompressionFormat="GZIP")
d = describe()
assert d["VersionId"] == "2" and d["LastUpdateTimestamp"] >= d["CreateTimestamp"], d
assert d["Destinations"][0]["ExtendedS3DestinationDescription"]["Prefix"] == stream + "/new/", d
refused("ConcurrentModificationException", update, version="1", Prefix="x/")
answer = firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": line} for line in lines[half:]])
assert answer["FailedPutCount"] == 0, answer

firehose.tag_delivery_stream(DeliveryStreamName=stream, Tags=[{"Key": "team", "Value": "web"}, {"Key": "temporary"}])
firehose.untag_delivery_stream(DeliveryStreamName=stream, TagKeys=["temporary"])
tags = firehose.list_tags_for_delivery_stream(DeliveryStreamName=stream)
assert tags["Tags"] == [{"Key": "by", "Value": "boto3"}, {"Key": "team", "Value": "web"}] and not tags["HasMoreTags"], tags
assert stream in firehose.list_delivery_streams(Limit=100)["DeliveryStreamNames"]
refused("InvalidKMSResourceException", firehose.start_delivery_stream_encryption, DeliveryStreamName=stream)
refused("InvalidArgumentException", firehose.delete_delivery_stream, DeliveryStreamName="declared")

firehose.delete_delivery_stream(DeliveryStreamName=stream)


def gone():
    try:
        assert describe()["DeliveryStreamStatus"] == "DELETING"
    except firehose.exceptions.ResourceNotFoundException:
        return True
    return False


until("gone", gone)
