"""The address of the batch store as it is read from the settings. What is refused stands in tests/refusals."""

import pytest

from techmarket.batch_address import BatchAddress, parse_batch_address

AWS = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"), "")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("file:///srv/batches", BatchAddress("file", "/srv/batches")),
        ("file:///srv/my%20batches/", BatchAddress("file", "/srv/my batches")),
        ("s3://bucket", BatchAddress("s3", "bucket")),
        ("s3://my.bucket/a/b/", BatchAddress("s3", "my.bucket/a/b")),
        ("S3://bucket/a%23b", BatchAddress("s3", "bucket/a#b")),
        ("s3://bucket?region=us-east-1", BatchAddress("s3", "bucket", region="us-east-1")),
        (
            "s3://bucket/a?endpoint_override=[::1]:9000&scheme=http",
            BatchAddress("s3", "bucket/a", endpoint_override="[::1]:9000", transport="http"),
        ),
    ],
)
def test_address(url: str, address: BatchAddress) -> None:
    assert parse_batch_address(url, AWS) == address


def test_region_of_the_address_goes_first() -> None:
    aws = AWS | {"AWS_REGION": "eu-central-1"}
    assert parse_batch_address("s3://bucket", aws).region == "eu-central-1"
    assert parse_batch_address("s3://bucket?region=us-east-1", aws).region == "us-east-1"


def test_keys_are_read_and_not_shown() -> None:
    aws = {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "topsecret", "AWS_SESSION_TOKEN": "tokensecret", "AWS_REGION": ""}
    address = parse_batch_address("s3://bucket/a", aws)
    assert (address.access_key, address.secret_key, address.session_token) == ("AKIAX", "topsecret", "tokensecret")
    assert address.place == "s3://bucket/a" and not any(secret in repr(address) for secret in ("AKIAX", "topsecret", "tokensecret"))
