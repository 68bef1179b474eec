"""The address of the batch store, ETL_BATCH_URL: a folder, or a bucket of S3 or of a server that speaks its protocol.

Read without pyarrow, which the web process does not import. No key is part of an address, nor of a message that shows one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from techmarket.options import decode

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
# The options of the address, named as pyarrow names them.
OPTIONS = {
    "endpoint_override": re.compile(r"[A-Za-z0-9.-]+(:[1-9][0-9]{0,4})?|\[[0-9A-Fa-f:.]+\](:[1-9][0-9]{0,4})?"),
    "region": re.compile(r"[A-Za-z0-9-]+"),
    "scheme": re.compile(r"https?"),
}
EXPECTED = {"endpoint_override": "a host and its port, as 10.0.0.5:9000", "region": "a region, as eu-central-1", "scheme": "http or https"}


@dataclass(frozen=True)
class BatchAddress:
    """`path` is an absolute folder, or a bucket and a prefix. Without keys the S3 client looks for them as AWS's programs do."""

    scheme: str
    path: str
    endpoint_override: str = ""
    region: str = ""
    transport: str = "https"
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """How messages show it."""
        return f"{self.scheme}://{self.path}"

    @property
    def is_folder(self) -> bool:
        return self.scheme == "file"

    @property
    def bucket(self) -> str:
        return self.path.partition("/")[0]


def parse_batch_address(url: str, aws: Mapping[str, str]) -> BatchAddress:
    """Return the address with the keys and the region of `aws`, by variable. Raises ValueError with the cause, which shows no secret."""
    try:
        address = urlsplit(url)
    except ValueError:  # whose words may show a key
        raise ValueError("the address cannot be read") from None
    if address.scheme not in ("file", "s3"):
        raise ValueError("the address must begin with file:/// or s3://")
    if address.fragment:
        raise ValueError("a # in a path is written as %23")
    return parse_folder(address) if address.scheme == "file" else parse_bucket(address, aws)


def parse_folder(address: SplitResult) -> BatchAddress:
    if address.netloc or address.query or not address.path.startswith("/"):
        raise ValueError("the address of a folder has three slashes, then its absolute path, and nothing after it")
    folder = "/" + decode_path(address.path)
    if folder == "/" or has_odd_parts(folder[1:]):
        raise ValueError("the address names no folder by its absolute path")
    return BatchAddress("file", folder)


def parse_bucket(address: SplitResult, aws: Mapping[str, str]) -> BatchAddress:
    if "@" in address.netloc + address.path:
        raise ValueError("the address holds a key; those are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not BUCKET.fullmatch(address.netloc):
        raise ValueError("the address names no bucket after its two slashes")
    path = f"{address.netloc}/{decode_path(address.path)}".rstrip("/")
    if has_odd_parts(path):
        raise ValueError("a part of the prefix is empty or made of dots")
    options = parse_options(address.query)
    access_key, secret_key = aws["AWS_ACCESS_KEY_ID"], aws["AWS_SECRET_ACCESS_KEY"]
    if bool(access_key) != bool(secret_key):
        raise ValueError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are given together, or neither")
    if aws["AWS_SESSION_TOKEN"] and not access_key:
        raise ValueError("AWS_SESSION_TOKEN belongs to a temporary key; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are missing")
    return BatchAddress(
        "s3",
        path,
        options.get("endpoint_override", ""),
        options.get("region") or aws["AWS_REGION"],
        options.get("scheme", "https"),
        access_key,
        secret_key,
        aws["AWS_SESSION_TOKEN"],
    )


def decode_path(path: str) -> str:
    try:
        return decode(path).strip("/")
    except ValueError as error:
        raise ValueError(f"the path {error}") from None


def parse_options(query: str) -> dict[str, str]:
    """Return what stands after the question mark. The value of another option may be a key, so none is shown."""
    options: dict[str, str] = {}
    for pair in query.split("&") if query else []:
        name, _, text = pair.partition("=")
        if name not in OPTIONS or name in options:
            raise ValueError(f"after the ? stand {', '.join(OPTIONS)}, each once, and nothing else")
        options[name] = text
        if not OPTIONS[name].fullmatch(text):
            raise ValueError(f"the option {name} is not {EXPECTED[name]}")
    return options


def has_odd_parts(path: str) -> bool:
    """Return True for a path that another spelling would name, too."""
    return any(part in ("", ".", "..") for part in path.split("/"))
