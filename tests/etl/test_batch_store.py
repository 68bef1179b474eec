"""The batch store: objects in a folder and in a bucket of a real S3 server, and what it says where one cannot be used."""

import errno
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from apps.etl.batch_store import BatchStore, connect
from apps.etl.store_errors import diagnose_store
from techmarket.batch_address import BatchAddress
from techmarket.errors import AccessDenied, BatchesLost, EtlError, Misconfigured, NoSpace, Transient, Unreachable
from tests.s3 import KEY, KEY_ID, S3, batch_env, s3_answering, s3_server
from tests.servers import free_port

MANY = 1_001  # objects: one more than an answer of S3 lists


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BatchStore:
    if request.param == "file":
        (tmp_path / "store").mkdir()
        return connect(BatchAddress("file", str(tmp_path / "store")))
    s3 = request.getfixturevalue("s3")
    return connect(s3.address(s3.create_bucket()))


def bucket_store(port: int, bucket: str = "no-bucket") -> BatchStore:
    return connect(BatchAddress("s3", f"{bucket}/batches", f"127.0.0.1:{port}", "eu-central-1", "http", KEY_ID, KEY))


def refusal(kind: type[EtlError], store: BatchStore) -> str:
    """Return what the check of an unusable store says: one line, with its place, and without a key."""
    with pytest.raises(kind) as caught:
        store.check("one/check")
    text = str(caught.value)
    assert text.startswith(f"batch store ({store.address.place})") and "\n" not in text
    assert KEY_ID not in text and KEY not in text
    return text.removeprefix(f"batch store ({store.address.place})")


# --- What it does ---


def test_object_is_named_by_its_content(store: BatchStore) -> None:
    first = store.write("run/claim", b"one")
    assert store.write("run/claim", b"one") == first != store.write("run/claim", b"two")
    assert first.startswith("run/claim/") and bytes(store.read(first)) == b"one"
    assert store.list_folders() == ["run"] and store.list_folders("run") == ["claim"]


def test_large_object_is_whole(store: BatchStore) -> None:
    body = os.urandom(25_000_000)  # S3 takes it in parts
    assert bytes(store.read(store.write("run/claim", body))) == body


def test_empty_object_is_read(store: BatchStore) -> None:
    assert bytes(store.read(store.write("run/claim", b""))) == b""


def test_folder_is_deleted_with_all_in_it(store: BatchStore) -> None:
    for number in range(3):
        store.write(f"run/claim {number}", b"x")
    untouched = store.write("other/claim", b"x")
    store.delete_folder("run/claim 1")
    assert sorted(store.list_folders("run")) == ["claim 0", "claim 2"]
    store.delete_folder("run")
    store.delete_folder("run")  # another process may have been first
    assert store.list_folders() == ["other"] and store.list_folders("run") == [] and bytes(store.read(untouched)) == b"x"


def test_folders_beyond_one_answer_are_listed(s3: S3) -> None:
    bucket = s3.create_bucket()
    client, store = s3.client(), connect(s3.address(bucket))
    for number in range(MANY):
        client.put_object(Bucket=bucket, Key=f"batches/{number}/claim/x", Body=b"x")
    assert len(store.list_folders()) == MANY


def test_folder_whose_name_is_no_utf8_is_passed_over(tmp_path: Path) -> None:
    """It is not ours, and no reason to fail a run that has been published."""
    store = connect(BatchAddress("file", str(tmp_path)))
    store.write("run/claim", b"x")
    for folder in (tmp_path, tmp_path / "run"):
        (folder / os.fsdecode(b"caf\xe9")).mkdir()
    assert (store.list_folders(), store.list_folders("run")) == (["run"], ["claim"]) and store.last_written("run")


def test_newest_object_dates_a_folder(store: BatchStore) -> None:
    before = time.time()
    store.write("run/claim", b"x")
    written = store.last_written("run")
    assert written and before - 5 < written.timestamp() < time.time() + 5 and store.last_written("none") is None


def test_check_leaves_no_object(store: BatchStore) -> None:
    store.check("run/check")
    assert store.list_folders("run") == [] and store.last_written("run") is None


def test_check_makes_the_folder_for_its_owner_alone(tmp_path: Path) -> None:
    connect(BatchAddress("file", str(tmp_path / "a" / "store"))).check("run/check")
    assert stat.S_IMODE((tmp_path / "a" / "store").stat().st_mode) == 0o700, "batches hold personal data"


def test_object_that_is_gone_is_named(store: BatchStore) -> None:
    name = store.write("run/claim", b"x")
    store.delete_folder("run/claim")
    with pytest.raises(BatchesLost, match=rf"batch store \(.*\) no longer has a batch of this run, {name}\. Start a new run\.$"):
        store.read(name)


# --- Where it cannot be used ---


def test_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """A disk that is not mounted would get what another one should hold."""
    store = connect(BatchAddress("file", str(tmp_path / "store")))
    with pytest.raises(AccessDenied, match=r"cannot be used: No such file or directory\. Give this user the right to the folder"):
        store.write("run/claim", b"x")
    with pytest.raises(Misconfigured, match="cannot be used: no such folder"):
        store.read("run/claim/x")
    assert not (tmp_path / "store").exists()


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    assert refusal(AccessDenied, connect(BatchAddress("file", str(tmp_path / "store")))).startswith(" cannot be used: File exists.")
    assert refusal(AccessDenied, connect(BatchAddress("file", f"{tmp_path}/store/a"))).startswith(" cannot be used: Not a directory.")


def test_full_disk_is_named() -> None:
    error = diagnose_store(OSError(errno.ENOSPC, "write failed"), BatchAddress("file", "/srv/batches"))
    expected = (
        "batch store (file:///srv/batches) is full: No space left on device; nothing was published. Free space there, then run it again."
    )
    assert isinstance(error, NoSpace) and str(error) == expected


def test_bucket_that_is_not_there(s3: S3) -> None:
    store = bucket_store(s3.port)
    assert refusal(Misconfigured, store) == ": there is no such bucket. Create it, or correct ETL_BATCH_URL."
    with pytest.raises(Misconfigured, match="there is no such bucket"):
        store.read("run/claim/x")  # S3 answers as for an object that is gone


def test_server_that_refuses_connections() -> None:
    start = time.monotonic()
    text = refusal(Unreachable, bucket_store(free_port()))
    assert "does not answer: Failed to connect to 127.0.0.1" in text and text.endswith(". Start it, or correct ETL_BATCH_URL.")
    assert time.monotonic() - start < 10


def test_host_that_is_unknown() -> None:
    store = connect(BatchAddress("s3", "bucket/batches", "nohost.invalid:9000", "eu-central-1", "http", KEY_ID, KEY))
    assert "does not answer: Could not resolve host: nohost.invalid" in refusal(Unreachable, store)


def test_silent_server_is_given_up() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        start = time.monotonic()
        assert "does not answer: Operation too slow" in refusal(Unreachable, bucket_store(server.getsockname()[1]))
        assert 6 < time.monotonic() - start < 60, "two attempts of ten seconds; the machine may be busy"


def test_plain_server_is_no_encrypted_one(s3: S3) -> None:
    store = connect(BatchAddress("s3", "bucket/batches", s3.endpoint, "eu-central-1", "https", KEY_ID, KEY))
    text = refusal(Misconfigured, store)
    assert text.startswith(": no encrypted connection: ") and text.endswith(". Correct the server or ETL_BATCH_URL.")


@pytest.fixture(scope="module")
def strict() -> Iterator[S3]:
    """A server that checks keys and rights."""
    with s3_server() as server:
        yield server


def test_keys_and_rights(strict: S3) -> None:
    bucket = strict.create_bucket()
    allowed, reader = strict.create_user("s3:*"), strict.create_user("s3:GetObject", "s3:ListBucket")
    strict.check_keys()
    connect(strict.address(bucket, "batches", *allowed)).check("run/check")
    for key in (("AKIAUNKNOWN", KEY), (allowed[0], "another")):
        text = refusal(AccessDenied, connect(strict.address(bucket, "batches", *key)))
        assert text.startswith(" refuses the key: ") and text.endswith(". Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    assert refusal(AccessDenied, connect(strict.address(bucket, "batches", *reader))).startswith(
        " denies access: ACCESS_DENIED (PutObject)."
    )


@pytest.mark.parametrize(
    ("status", "code", "kind", "text"),
    [
        ("503 Slow Down", "SlowDown", Transient, " cannot answer now: SLOW_DOWN (PutObject). Run it again."),
        ("500 Error", "InternalError", Transient, " cannot answer now: INTERNAL_FAILURE (PutObject). Run it again."),
        ("502 Bad Gateway", "", Transient, " cannot answer now: HTTP status 502 (PutObject). Run it again."),
        ("429 Too Many", "TooManyRequests", Transient, " cannot answer now: TooManyRequests (PutObject). Run it again."),
        ("403 Forbidden", "ExpiredToken", AccessDenied, " refuses the key: ExpiredToken (PutObject). Correct AWS_ACCESS_KEY_ID and "),
        (
            "403 Forbidden",
            "RequestTimeTooSkewed",
            Misconfigured,
            " refuses the time of this machine: REQUEST_TIME_TOO_SKEWED (PutObject). ",
        ),
        (
            "301 Moved",
            "PermanentRedirect",
            Misconfigured,
            ": the bucket is in another region. Correct AWS_REGION, or ?region= in ETL_BATCH",
        ),
        ("400 Bad", "AuthorizationHeaderMalformed", Misconfigured, ": the bucket is in another region. Correct AWS_REGION, or ?region="),
        (
            "507 Full",
            "XMinioStorageFull",
            NoSpace,
            " is full: XMinioStorageFull (PutObject); nothing was published. Free space there, then",
        ),
        (
            "418 Teapot",
            "ShortAndStout",
            Misconfigured,
            " refuses this: ShortAndStout (PutObject). Check the store, or correct ETL_BATCH_URL.",
        ),
    ],
)
def test_error_of_the_server(status: str, code: str, kind: type[EtlError], text: str) -> None:
    with s3_answering(status, code) as port:
        assert refusal(kind, bucket_store(port)).startswith(text)


def test_answer_without_a_code_is_read_by_its_status() -> None:
    """An answer to HEAD has none: with this one a read begins."""
    with (
        s3_answering("503 Slow Down", "SlowDown") as port,
        pytest.raises(Transient, match=r"cannot answer now: HTTP status 503 \(HeadObject\)"),
    ):
        bucket_store(port).read("run/claim/x")


def test_no_key_is_shown_by_the_address() -> None:
    env: Any = batch_env(1, "bucket")
    address = BatchAddress(
        "s3", "bucket/batches", "127.0.0.1:1", "", "http", env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], str(uuid4())
    )
    assert KEY not in repr(connect(address)) and address.session_token not in repr(address) and address.place == "s3://bucket/batches"
