"""Puts with several keys through boto3: access.py ENDPOINT CA, where CA is a file of certificates, - for plain HTTP.
Prints a line for each case: its name, and ok or the code of the error."""
import datetime
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

endpoint, ca = sys.argv[1:]


Real = datetime.datetime


class Late(datetime.datetime):
    """A clock that is an hour behind."""

    @classmethod
    def utcnow(cls):
        return Real.utcnow() - datetime.timedelta(hours=1)


def case(name, key, secret, call, verify=None, token=None):
    client = boto3.client(
        "firehose", endpoint_url=endpoint, region_name="eu-central-1", verify=verify or (None if ca == "-" else ca),
        aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token,
        config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 0}))
    try:
        call(client)
        print(name, "ok")
    except ClientError as e:
        print(name, e.response["Error"]["Code"])
        if name == "late":
            assert "Signature expired" in e.response["Error"]["Message"], e


def put(stream):
    return lambda c: c.put_record(DeliveryStreamName=stream, Record={"Data": b"x\n"})


case("right", "AKIDPUT", "put-secret", put("clicks"))
case("wrong_secret", "AKIDPUT", "other", put("clicks"))
case("wrong_stream", "AKIDPUT", "put-secret", put("views"))
case("wrong_action", "AKIDPUT", "put-secret", lambda c: c.delete_delivery_stream(DeliveryStreamName="clicks"))
case("unknown_key", "AKIDOTHER", "put-secret", put("clicks"))
case("session_token", "AKIDPUT", "put-secret", put("clicks"), token="not-given-out")
case("list", "AKIDREAD", "read-secret", lambda c: print(*c.list_delivery_streams()["DeliveryStreamNames"]))
datetime.datetime = Late  # which the signer asks
case("late", "AKIDPUT", "put-secret", put("clicks"))
