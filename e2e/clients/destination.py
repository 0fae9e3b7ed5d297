"""Leads a delivery stream that cannot deliver through its life with boto3: destination.py ENDPOINT STREAM FORM
CONFIGURATION UPDATE FILE, where FORM is Redshift or HttpEndpoint, and CONFIGURATION and UPDATE are what the stream is
created with and becomes, in JSON. Puts the lines of FILE, which wait, and deletes the stream by force."""
import json
import sys
import time

import boto3
from botocore.config import Config

endpoint, stream, form, configuration, change, path = sys.argv[1:]
configuration, change = json.loads(configuration), json.loads(change)
firehose = boto3.client(
    "firehose", endpoint_url=endpoint, region_name="us-east-1",
    aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
    config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 5}))
SECRETS = "Password", "AccessKey"


def describe():
    return firehose.describe_delivery_stream(DeliveryStreamName=stream)["DeliveryStreamDescription"]


def refused(code, call, **arguments):
    try:
        answer = call(**arguments)
    except firehose.exceptions.ClientError as e:
        assert e.response["Error"]["Code"] == code, e.response
        return e.response["Error"]["Message"]
    raise SystemExit(f"{code} was expected: {answer}")


def shown(wanted, got):
    """Everything that was asked for is described, but for what is secret."""
    for member, value in wanted.items():
        if member in SECRETS:
            assert member not in got, got
        elif isinstance(value, dict):
            shown(value, got[{"S3Configuration": "S3DestinationDescription", "S3Update": "S3DestinationDescription"}.get(member, member)])
        else:
            assert got[member] == value, (member, got)


def put(some):
    answer = firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": line} for line in some])
    assert answer["FailedPutCount"] == 0, answer


created = firehose.create_delivery_stream(DeliveryStreamName=stream, Tags=[{"Key": "by", "Value": "boto3"}], **{form + "DestinationConfiguration": configuration})
assert created["DeliveryStreamARN"].endswith(":deliverystream/" + stream), created
refused("ResourceInUseException", firehose.create_delivery_stream, DeliveryStreamName=stream, **{form + "DestinationConfiguration": configuration})
with open(path, "rb") as f:
    lines = f.read().splitlines(keepends=True)
half = len(lines) // 2
put(lines[:half])

d = describe()
assert d["DeliveryStreamStatus"] == "ACTIVE" and d["VersionId"] == "1" and "LastUpdateTimestamp" not in d, d
destination = d["Destinations"][0]
assert set(destination) == {"DestinationId", form + "DestinationDescription"}, destination
shown(configuration, destination[form + "DestinationDescription"])


def update(version, members):
    firehose.update_destination(DeliveryStreamName=stream, CurrentDeliveryStreamVersionId=version, DestinationId=destination["DestinationId"],
                                **{form + "DestinationUpdate": members})


update("1", {"RetryOptions": configuration["RetryOptions"]})
assert describe()["VersionId"] == "1", describe()
update("1", change)
d = describe()
assert d["VersionId"] == "2" and d["LastUpdateTimestamp"] >= d["CreateTimestamp"], d
shown(change, d["Destinations"][0][form + "DestinationDescription"])
refused("ConcurrentModificationException", update, version="1", members=change)
put(lines[half:])

firehose.tag_delivery_stream(DeliveryStreamName=stream, Tags=[{"Key": "team", "Value": "web"}, {"Key": "temporary"}])
firehose.untag_delivery_stream(DeliveryStreamName=stream, TagKeys=["temporary"])
tags = firehose.list_tags_for_delivery_stream(DeliveryStreamName=stream)
assert tags["Tags"] == [{"Key": "by", "Value": "boto3"}, {"Key": "team", "Value": "web"}] and not tags["HasMoreTags"], tags
assert stream in firehose.list_delivery_streams(Limit=100)["DeliveryStreamNames"]

firehose.delete_delivery_stream(DeliveryStreamName=stream)
assert describe()["DeliveryStreamStatus"] == "DELETING", describe()
firehose.delete_delivery_stream(DeliveryStreamName=stream, AllowForceDelete=True)
for _ in range(300):
    try:
        assert describe()["DeliveryStreamStatus"] == "DELETING"
    except firehose.exceptions.ResourceNotFoundException:
        break
    time.sleep(0.1)
else:
    raise SystemExit("not gone within 30 s")
