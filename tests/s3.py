"""An S3 server for tests: moto's, over HTTP on this machine, and one that answers every request alike."""

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import boto3
from botocore.config import Config

from techmarket.batch_address import BatchAddress
from tests.servers import free_port

REGION = "eu-central-1"
KEY_ID, KEY = "AKIATOPSECRETKEYID", "topsecret-s3-key"
STARTUP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class S3:
    """A running server. A test takes a bucket of its own."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self, service: str = "s3", key_id: str = KEY_ID, key: str = KEY) -> Any:
        return boto3.client(
            service,
            endpoint_url=f"http://{self.endpoint}",
            region_name=REGION,
            aws_access_key_id=key_id,
            aws_secret_access_key=key,
            config=Config(retries={"max_attempts": 0}),
        )

    def create_bucket(self, name: str = "") -> str:
        name = name or f"bucket-{uuid4().hex}"
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def address(self, bucket: str, prefix: str = "batches", key_id: str = KEY_ID, key: str = KEY) -> BatchAddress:
        return BatchAddress("s3", f"{bucket}/{prefix}", self.endpoint, REGION, "http", key_id, key)

    def env(self, bucket: str, key_id: str = KEY_ID, key: str = KEY) -> dict[str, str]:
        return batch_env(self.port, bucket, key_id, key)

    def objects(self, bucket: str) -> list[str]:
        """Return the names of all objects but the empty ones by which S3 clients mark folders."""
        found = self.client().list_objects_v2(Bucket=bucket).get("Contents", [])
        return sorted(each["Key"] for each in found if not each["Key"].endswith("/"))

    def create_user(self, *actions: str) -> tuple[str, str]:
        """Return the key of a new user who may take these actions."""
        iam, name = self.client("iam"), f"user-{uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        self.allow(name, *actions)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]

    def allow(self, name: str, *actions: str) -> None:
        statement = {"Effect": "Allow", "Action": [*actions], "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client("iam").put_user_policy(UserName=name, PolicyName="some", PolicyDocument=document)

    def check_keys(self, after: str = "0") -> None:
        """Let the server check keys and rights from now on, or ("inf") no more."""
        url = f"http://{self.endpoint}/moto-api/reset-auth"
        request = urllib.request.Request(url, data=after.encode(), method="POST", headers={"Content-Type": "text/plain"})
        urllib.request.urlopen(request, timeout=30).close()


def batch_env(port: int, bucket: str, key_id: str = KEY_ID, key: str = KEY) -> dict[str, str]:
    url = f"s3://{bucket}/batches?endpoint_override=127.0.0.1:{port}&scheme=http&region={REGION}"
    return {"ETL_BATCH_URL": url, "AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": key}


@contextmanager
def s3_server(port: int = 0) -> Iterator[S3]:
    """Run moto's server as a process of its own."""
    port = port or free_port()
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + STARTUP_TIMEOUT_S
        while not is_open(port):
            assert process.poll() is None and time.monotonic() < deadline, "moto's server does not start"
            time.sleep(0.05)
        yield S3(port)
    finally:
        process.kill()
        process.wait()


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def s3_answering(status: str, code: str = "", port: int = 0) -> Iterator[int]:
    """Answer every request with this status and S3's error code. Yields the port. The server's words name the key, as some servers do."""
    body = f"<Error><Code>{code}</Code><Message>Not with {KEY_ID}.</Message></Error>" if code else ""
    answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen(20)
        thread = threading.Thread(target=answer_all, args=(server, answer, body), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def answer_all(server: socket.socket, answer: str, body: str) -> None:
    with suppress(OSError):
        while True:
            with server.accept()[0] as connection:
                request = connection.recv(65_536)
                connection.sendall((answer + ("" if request.startswith(b"HEAD") else body)).encode())
