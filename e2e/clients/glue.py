"""Creates tables in a catalog and delivery streams that convert by them, with boto3: glue.py STEP FIREHOSE GLUE ...

    create FIREHOSE GLUE STREAM BUCKET   a database, a table, a stream by it, and what is refused on the way
    put    FIREHOSE GLUE STREAM FILE     the lines of FILE
    widen  FIREHOSE GLUE                 the table gets another column
    follow FIREHOSE GLUE STREAM          checks that the stream is in version 2 with its table described
    update FIREHOSE GLUE STREAM          the stream goes on by version 1 of the table

Prints what is wrong."""
import sys

import boto3
from botocore.config import Config

step, firehose_url, glue_url, *rest = sys.argv[1:]


def client(service, url):
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
                        config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 3}))


firehose, glue = client("firehose", firehose_url), client("glue", glue_url)


def table(*more):
    columns = [("id", "bigint"), ("at", "timestamp"), ("price", "decimal(10,2)"), ("user", "struct<name:string,tags:array<string>>"), *more]
    return {"Name": "clicks", "TableType": "EXTERNAL_TABLE", "PartitionKeys": [{"Name": "dt", "Type": "string"}],
            "StorageDescriptor": {"Columns": [{"Name": n, "Type": t} for n, t in columns], "Location": "s3://lake/clicks/"}}


def conversion(name="clicks", **schema):
    return {"SchemaConfiguration": {"RoleARN": "arn:aws:iam::000000000000:role/firehose", "DatabaseName": "web", "TableName": name, **schema},
            "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
            "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {"Compression": "SNAPPY"}}}}


def describe(stream):
    return firehose.describe_delivery_stream(DeliveryStreamName=stream)["DeliveryStreamDescription"]


if step == "create":
    stream, bucket = rest
    glue.create_database(DatabaseInput={"Name": "web"})

    def create(**conversion_arguments):
        return firehose.create_delivery_stream(DeliveryStreamName=stream, ExtendedS3DestinationConfiguration={
            "RoleARN": "arn:aws:iam::000000000000:role/firehose", "BucketARN": "arn:aws:s3:::" + bucket, "Prefix": "clicks/",
            "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/", "BufferingHints": {"SizeInMBs": 128, "IntervalInSeconds": 900},
            "DataFormatConversionConfiguration": conversion(**conversion_arguments)})

    try:
        create()
        raise SystemExit("a stream was created by a table that is not there")
    except firehose.exceptions.InvalidArgumentException as e:
        message = e.response["Error"]["Message"]
        assert "web.clicks" in message and "EntityNotFoundException" in message, message
    glue.create_table(DatabaseName="web", TableInput=table())
    try:
        create(VersionId="9")
        raise SystemExit("a stream was created by a version that is not there")
    except firehose.exceptions.InvalidArgumentException as e:
        assert "web.clicks" in e.response["Error"]["Message"], e.response
    create()
    d = describe(stream)
    got = d["Destinations"][0]["ExtendedS3DestinationDescription"]["DataFormatConversionConfiguration"]
    assert d["DeliveryStreamStatus"] == "ACTIVE" and d["VersionId"] == "1", d
    assert got["Enabled"] and got["SchemaConfiguration"]["TableName"] == "clicks" and got["SchemaConfiguration"]["DatabaseName"] == "web", got
elif step == "put":
    stream, path = rest
    with open(path, "rb") as f:
        answer = firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": line} for line in f])
    assert answer["FailedPutCount"] == 0, answer
elif step == "widen":
    glue.update_table(DatabaseName="web", TableInput=table(("country", "varchar(2)")))
elif step == "follow":
    d = describe(rest[0])
    got = d["Destinations"][0]["ExtendedS3DestinationDescription"]["DataFormatConversionConfiguration"]
    assert d["VersionId"] == "2" and got["SchemaConfiguration"].get("VersionId", "LATEST") == "LATEST", d
elif step == "update":
    d = describe(rest[0])
    firehose.update_destination(DeliveryStreamName=rest[0], CurrentDeliveryStreamVersionId=d["VersionId"], DestinationId=d["Destinations"][0]["DestinationId"],
                                ExtendedS3DestinationUpdate={"DataFormatConversionConfiguration": conversion(VersionId="1")})
    d = describe(rest[0])
    got = d["Destinations"][0]["ExtendedS3DestinationDescription"]["DataFormatConversionConfiguration"]
    assert d["VersionId"] == "3" and got["SchemaConfiguration"]["VersionId"] == "1", d
else:
    raise SystemExit("no step " + step)
