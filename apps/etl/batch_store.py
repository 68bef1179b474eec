"""The batch store: batches as objects in a folder or a bucket, where ETL_BATCH_URL names one.

It knows nothing of runs. A name is a path below the store's root: folders, which whoever writes them names, and the SHA-256 of the bytes.
"""

import errno
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.etl.store_errors import store_diagnosed, store_message, store_place
from techmarket.batch_address import BatchAddress
from techmarket.errors import BatchDamaged, BatchesLost, Misconfigured
from techmarket.messages import message

# A silent server costs a read 6 s and a write 20 s (libcurl waits 7 s longer there), then the task's own attempts follow.
CONNECT_TIMEOUT_S = 3
REQUEST_TIMEOUT_S = 3  # without a byte
REQUEST_ATTEMPTS = 2
PROBE = b"TechMarket"  # written, read and deleted before a run


@dataclass(frozen=True)
class BatchStore:
    """One folder or bucket, with pyarrow's file system. Its methods raise EtlErrors."""

    address: BatchAddress
    files: Any

    def write(self, folder: str, body: bytes) -> str:
        """Write an object below `folder` and return its name, which its content decides: written again, it is the same object."""
        name = f"{folder}/{hashlib.sha256(body).hexdigest()}"
        with store_diagnosed(self.address):
            if self.address.is_folder:
                self.create_folder(folder)
            with self.files.open_output_stream(self.path(name)) as stream:
                stream.write(body)
        return name

    def create_folder(self, folder: str) -> None:
        """Create a folder below the root. The root must be there: else a disk that is not mounted would be taken for an empty one."""
        if not Path(self.address.path).is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.files.create_dir(self.path(folder))

    def read(self, name: str) -> Any:
        """Return the bytes of an object, as a pyarrow buffer. Raises BatchesLost where it is gone."""
        with store_diagnosed(self.address):
            try:
                with self.files.open_input_file(self.path(name)) as file:
                    return file.read_buffer()
            except FileNotFoundError:
                self.require_root()
                raise BatchesLost(message("batch.gone", place=store_place(self.address), object=name)) from None

    def require_root(self) -> None:
        """Raise Misconfigured where the bucket, or the folder, is not there."""
        root = self.address.path if self.address.is_folder else self.address.bucket
        if self.files.get_file_info(root).type.name == "NotFound":
            code, detail = ("store.unwritable", "no such folder") if self.address.is_folder else ("store.no_bucket", "")
            raise Misconfigured(store_message(code, self.address, detail))

    def list_folders(self, folder: str = "") -> list[str]:
        """Return the names of the folders in a folder, but of those that are no UTF-8, and so not ours; none where it is not there."""
        from pyarrow import fs

        with store_diagnosed(self.address):
            found = self.files.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        return [name for each in found if each.type == fs.FileType.Directory and (name := name_of(each))]

    def last_written(self, folder: str) -> datetime | None:
        """Return when the newest object anywhere below a folder was written, by the store's clock; None without objects."""
        from pyarrow import fs

        with store_diagnosed(self.address):
            found = self.files.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True, recursive=True))
        return max((each.mtime for each in found if each.type == fs.FileType.File and each.size), default=None)

    def delete_folder(self, folder: str) -> None:
        """Delete a folder and all that is in it, if another process has not."""
        with store_diagnosed(self.address), suppress(FileNotFoundError):
            self.files.delete_dir(self.path(folder))

    def delete(self, name: str) -> None:
        """Delete an object, if another process has not."""
        with store_diagnosed(self.address), suppress(FileNotFoundError):
            self.files.delete_file(self.path(name))

    def check(self, folder: str) -> None:
        """Write, read, list and delete an object, as runs do. Raises Misconfigured, Unreachable or Transient with the next step.

        A folder is created, for its owner alone, since batches hold personal data.
        """
        with store_diagnosed(self.address):
            if self.address.is_folder:
                Path(self.address.path).mkdir(mode=0o700, parents=True, exist_ok=True)
        if bytes(self.read(self.write(folder, PROBE))) != PROBE:
            raise BatchDamaged
        self.delete_folder(folder)

    def path(self, name: str) -> str:
        return f"{self.address.path}/{name}".rstrip("/")


def name_of(found: Any) -> str:
    """Return the name of a file or folder that pyarrow has found; empty where it is no UTF-8."""
    with suppress(UnicodeDecodeError):
        return str(found.base_name)
    return ""


def batch_store() -> BatchStore | None:
    """Return the store, or None where batches are in the control database."""
    return connect(settings.BATCH_STORE) if settings.BATCH_STORE else None


@cache
def connect(address: BatchAddress) -> BatchStore:
    """Return the store; nothing is asked yet. Called in the process that uses it: an S3 client does not survive a fork."""
    from pyarrow import fs  # 20 ms, that only a process with a store takes

    if address.is_folder:
        return BatchStore(address, fs.LocalFileSystem())
    options = {
        "access_key": address.access_key,
        "secret_key": address.secret_key,
        "session_token": address.session_token,
        "region": address.region,
        "endpoint_override": address.endpoint_override,
    }
    files = fs.S3FileSystem(
        **{name: value for name, value in options.items() if value},
        scheme=address.transport,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=REQUEST_ATTEMPTS),
        background_writes=False,
        allow_delayed_open=True,  # an object up to 10 MB is one request instead of three
    )
    return BatchStore(address, files)
