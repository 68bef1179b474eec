"""Metabase: whatever one of its answers is, the command sets everything up or refuses, and no password is in its words."""

import json
from io import BytesIO
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.bi import client
from apps.bi.client import Metabase, understood
from apps.bi.seeding import clear, seed
from techmarket.errors import EtlError
from tests.bi.metabase import ApiError, FakeMetabase
from tests.fuzz.inputs import SECRET, fuzzed, json_values

USER, PASSWORD = "bi@techmarket.example", f"{SECRET}-1"
WAREHOUSE = {"HOST": "dwh", "PORT": "", "NAME": "dwh", "USER": "bi_reader", "PASSWORD": f"{SECRET}-2", "OPTIONS": {}}
REQUESTS = 12  # of a conversation, the first of which differ from each other
STATUSES = (200, 400, 401, 500)


class Conversation:
    """Answers as the fake does, but for one request."""

    def __init__(self, odd: int, status: int, body: bytes):
        self.odd, self.status, self.body = odd, status, body
        self.fake, self.number = FakeMetabase(), 0

    def open(self, request: Request, timeout: float) -> Any:
        self.number += 1
        sent = request.data if isinstance(request.data, bytes) else b""
        if self.number == self.odd:
            return answer(request, self.status, self.body.replace(b"REPEATED", sent))
        try:
            path = request.full_url.removeprefix("http://metabase")
            return answer(
                request,
                200,
                self.fake.handle(request.get_method(), path, request.get_header("X-metabase-session"), json.loads(sent or b"null")),
            )
        except ApiError as error:
            return answer(request, error.status, error.body)


def answer(request: Request, status: int, body: Any) -> BytesIO:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    if status >= 400:
        raise HTTPError(request.full_url, status, "", {}, BytesIO(raw))  # type: ignore[arg-type]
    return BytesIO(raw)


answers = st.one_of(
    json_values.map(lambda value: json.dumps(value).encode()),
    json_values.map(lambda value: json.dumps({"data": value, "id": value, "errors": value, "message": None}).encode()),
    json_values.map(lambda value: json.dumps([{"id": 1, "details": value, "description": value}]).encode()),
    st.binary(max_size=40),
    st.sampled_from([b"REPEATED", b'{"errors": {"password": "REPEATED"}}', b'{"version": {"tag": "v0.' + b"9" * 5_000 + b'"}}']),
)


@fuzzed(0.5)
@given(odd=st.integers(1, REQUESTS), status=st.sampled_from(STATUSES), body=answers, removes=st.booleans())
@example(odd=2, status=400, body=b"REPEATED", removes=False)
@example(odd=4, status=400, body=b"REPEATED", removes=False)
@example(odd=1, status=200, body=b"[" * 100_000, removes=False)
@example(odd=2, status=500, body=b'{"errors": ["x"]}', removes=True)
def test_any_answer_is_understood_or_refused(odd: int, status: int, body: bytes, removes: bool) -> None:
    conversation = Conversation(odd, status, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "open_url", conversation.open)
        metabase = Metabase("http://metabase")
        try:
            with understood(metabase):
                metabase.log_in(USER, PASSWORD, set_up=True)
            with understood(metabase):
                clear(metabase) if removes else seed(metabase, WAREHOUSE)
        except EtlError as error:
            assert SECRET not in str(error) and "\n" not in str(error)
