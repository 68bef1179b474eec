"""Turn what pyarrow's file systems raise into one of our errors: the thing, the cause, the next step, and no key."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from techmarket.batch_address import BatchAddress
from techmarket.errors import AccessDenied, EtlError, Misconfigured, NoSpace, Transient, Unreachable
from techmarket.messages import Message, message

# pyarrow has but words: AWS Error NO_SUCH_BUCKET during PutObject operation: ...
AWS_ERROR = re.compile(
    r"AWS Error (?P<code>\w+)(?: \(HTTP status (?P<status>[0-9]{1,9})\))? during (?P<operation>\w+) operation: (?P<words>.*)", re.DOTALL
)
UNKNOWN_CODE = re.compile(r"Unable to parse ExceptionName: (\w+)")  # of a code that the SDK has no name for
CURL = re.compile(r"curlCode: (\d+), (?P<kind>[^;]*)(?:; Details: (?P<details>.*))?", re.DOTALL)
TLS_CODES = {35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91}  # of libcurl
TOO_MANY_REQUESTS, INSUFFICIENT_STORAGE, SERVER_ERRORS = 429, 507, 500

Diagnosis = tuple[type[EtlError], str]
BAD_KEY, CLOCK, REGION = (AccessDenied, "store.bad_key"), (Misconfigured, "store.clock"), (Misconfigured, "store.other_region")
BUSY, FULL = (Transient, "store.busy"), (NoSpace, "store.full")
DENIED, NO_BUCKET = (AccessDenied, "store.denied"), (Misconfigured, "store.no_bucket")
OTHER, UNREACHABLE = (Misconfigured, "store.other"), (Unreachable, "store.unreachable")
NO_ENCRYPTION, UNWRITABLE = (Misconfigured, "store.no_encryption"), (AccessDenied, "store.unwritable")
# By the code, in the SDK's spelling or in that of S3, in lower case without underscores.
CODES: dict[str, Diagnosis] = {
    "nosuchbucket": NO_BUCKET,
    "accessdenied": DENIED,
    **dict.fromkeys(
        ("invalidaccesskeyid", "signaturedoesnotmatch", "invalidsignature", "expiredtoken", "invalidtoken", "invalidclienttokenid"), BAD_KEY
    ),
    **dict.fromkeys(("requesttimetooskewed", "requestexpired"), CLOCK),
    **dict.fromkeys(("permanentredirect", "authorizationheadermalformed"), REGION),
    **dict.fromkeys(("slowdown", "internalfailure", "internalerror", "serviceunavailable", "throttling", "requesttimeout"), BUSY),
    **dict.fromkeys(("insufficientstorage", "quotaexceeded", "xminiostoragefull"), FULL),
}
ERRNOS: dict[int, Diagnosis] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST), UNWRITABLE),
}


@contextmanager
def store_diagnosed(address: BatchAddress) -> Iterator[None]:
    """Turn whatever a file system raises inside into one of our errors."""
    try:
        yield
    except OSError as error:
        raise diagnose_store(error, address) from error


def diagnose_store(error: OSError, address: BatchAddress) -> EtlError:
    (kind, code), detail = find_local(error) if address.is_folder else find_remote(str(error))
    return kind(store_message(code, address, detail))


def store_message(code: str, address: BatchAddress, detail: str = "") -> Message:
    return message(code, place=store_place(address), detail=detail)


def store_place(address: BatchAddress) -> Message:
    """Return how a message names the store: without options and keys."""
    return message("store.place", where=address.place)


def find_local(error: OSError) -> tuple[Diagnosis, str]:
    number = error.errno or 0
    return ERRNOS.get(number, OTHER), os.strerror(number) if number else "unknown error"


def find_remote(text: str) -> tuple[Diagnosis, str]:
    """Return the diagnosis and what to show of it: codes, and libcurl's words. The server's own words may hold the key's id."""
    found = AWS_ERROR.search(text)
    if found is None:
        return (DENIED, "DeleteObjects") if "when deleting objects" in text else (OTHER, "unknown error")
    if found["code"] == "NETWORK_CONNECTION":
        return find_connection(found["words"])
    unknown = UNKNOWN_CODE.search(found["words"])
    code, status = unknown[1] if unknown else found["code"], int(found["status"] or 0)
    shown = f"HTTP status {status}" if code == "UNKNOWN" else code
    return find_code(code, status), f"{shown} ({found['operation']})"


def find_code(code: str, status: int) -> Diagnosis:
    """An answer to HEAD has a status and no code."""
    by_code = CODES.get(code.lower().replace("_", ""))
    if by_code:
        return by_code
    if status == INSUFFICIENT_STORAGE:
        return FULL
    if status >= SERVER_ERRORS or status == TOO_MANY_REQUESTS:
        return BUSY
    return REGION if status in (301, 307) else OTHER


def find_connection(words: str) -> tuple[Diagnosis, str]:
    found = CURL.search(words)
    if found is None:
        return UNREACHABLE, "no connection"
    detail = " ".join((found["details"] or found["kind"]).split()).rstrip(".")
    return NO_ENCRYPTION if int(found[1]) in TLS_CODES else UNREACHABLE, detail
