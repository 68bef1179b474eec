"""Errors of drivers and stores: whatever words and codes they have, one of our errors, in one line, without a password."""

import sqlite3
from typing import Any

import django.db
import MySQLdb
import psycopg
import pytest
from django.conf import settings
from hypothesis import example, given
from hypothesis import strategies as st

from apps.etl.store_errors import diagnose_store
from techmarket import diagnosis
from techmarket.batch_address import BatchAddress
from techmarket.commands import describe_error
from techmarket.diagnosis import diagnose
from techmarket.errors import EtlError
from tests.fuzz.inputs import SECRET, fuzzed, spliced, texts

KINDS = (
    MySQLdb.OperationalError,
    MySQLdb.ProgrammingError,
    sqlite3.OperationalError,
    sqlite3.DatabaseError,
    psycopg.OperationalError,
    psycopg.DataError,
)
ADDRESS = BatchAddress("s3", "bucket/prefix", access_key="AKIA", secret_key=SECRET, session_token=SECRET)
arguments = st.lists(st.one_of(texts, st.integers(0, 10_000), st.none(), st.binary(max_size=8), st.lists(texts, max_size=2)), max_size=3)


@pytest.fixture
def login() -> Any:
    """Databases with a password, which no message may show."""
    with pytest.MonkeyPatch.context() as patch:
        for alias in ("default", "orders_db"):
            patch.setitem(settings.DATABASES, alias, settings.DATABASES[alias] | {"HOST": "db", "USER": "u", "PASSWORD": SECRET})
        patch.setattr(diagnosis, "can_migrate", lambda alias: False)
        yield


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@fuzzed()
@given(values=arguments, alias=st.sampled_from(["default", "orders_db"]), wrapped=st.booleans())
@example(values=[[1], "x"], alias="orders_db", wrapped=True)
@example(values=[1045, "denied\n\x1b[31m"], alias="orders_db", wrapped=False)
def test_error_of_a_driver_is_one_of_ours(login: None, kind: type[Exception], values: list[Any], alias: str, wrapped: bool) -> None:
    cause = kind(*values)
    error: Exception = cause
    if wrapped:
        error = django.db.OperationalError("x")
        error.__cause__ = cause
    found = diagnose(error, alias)
    assert isinstance(found, EtlError) and "\n" not in str(found) and SECRET not in str(found)
    assert describe_error(found)[1]


WORDS = spliced(
    ["AWS Error ", ""],
    ["NO_SUCH_BUCKET", "NETWORK_CONNECTION", "ACCESS_DENIED", "UNKNOWN", ""],
    [" (HTTP status 403)", " (HTTP status 99999999999999999999)", ""],
    [" during PutObject operation: ", ""],
    [f"AKIA {SECRET}", "curlCode: 28, Timeout; Details: x", "curlCode: 99999, y", "Unable to parse ExceptionName: SlowDown", "\n"],
)


@fuzzed(2)
@given(words=st.one_of(WORDS, WORDS, texts), number=st.one_of(st.none(), st.integers(-5, 200)), scheme=st.sampled_from(["s3", "file"]))
@example(words="AWS Error X (HTTP status " + "9" * 5_000 + ") during Y operation: z", number=None, scheme="s3")
def test_error_of_a_store_is_one_of_ours_without_its_keys(words: str, number: int | None, scheme: str) -> None:
    error = OSError(words) if number is None else OSError(number, words)
    found = diagnose_store(error, BatchAddress(scheme, ADDRESS.path, secret_key=SECRET))
    assert isinstance(found, EtlError) and "\n" not in str(found) and SECRET not in str(found)
