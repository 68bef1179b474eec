"""The log: whatever a line's texts are, it stays one line, no escape reaches a terminal, and no secret or part of one is in it."""

import base64
import html
import json
import logging
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from structlog.stdlib import ProcessorFormatter

from techmarket.logs import MASKED, Mask, build_logging
from tests.fuzz.inputs import fuzzed, json_values, texts

FORMATS = ("console", "json")
LEVELS = ("INFO", "ERROR")
# Of passwords as generators make them, with all that a URL, a repr and JSON spell in another way.
secrets = st.text(st.sampled_from("abcXYZ0189+/=%&'\"\\<>@:# ~.Їґ"), min_size=10, max_size=40).filter(lambda text: len(set(text)) > 5)


def format_line(log_format: str, event: str, secret: str = "", error: BaseException | None = None, **values: Any) -> str:
    """Return the line as the handler writes it: of a library's logger, or of structlog with values."""
    config = build_logging(log_format, (), [secret] if secret else [])["formatters"]["line"]
    formatter = ProcessorFormatter(foreign_pre_chain=config["foreign_pre_chain"], processors=config["processors"])
    message: Any = {"event": event} | values if values else event
    record = logging.LogRecord("django.request", logging.ERROR, __file__, 1, message, (), (type(error), error, None) if error else None)
    if values:
        record._logger, record._name = logging.getLogger("apps"), "error"  # type: ignore[attr-defined]  # as structlog marks its own
        record._from_structlog = True  # type: ignore[attr-defined]
    return formatter.format(record)


@pytest.mark.parametrize("log_format", FORMATS)
@fuzzed()
@given(event=texts, value=json_values, name=texts)
@example(event="lost\r\n2026-01-31T02:00:00Z [info] all is well", value="\x1b[31m\x9b2J", name="a\nb")
@example(event="\ud800\u2028\u202e", value={"\x1b": ["\x1b"]}, name="\u2028")
def test_line_stays_one_line_without_escapes(log_format: str, event: str, value: Any, name: str) -> None:
    for line in (format_line(log_format, event), format_line(log_format, event, **{name or "x": value})):
        assert line.isprintable(), ascii(line)
        line.encode()


@pytest.mark.parametrize("log_format", FORMATS)
@fuzzed()
@given(text=texts)
@example(text="\n2026-01-31T02:00:00Z [info     ] all is well")
def test_lines_of_a_traceback_cannot_be_taken_for_others(log_format: str, text: str) -> None:
    line = format_line(log_format, "failed", error=ValueError(text))
    first, *others = line.split("\n")
    assert first.isprintable() and all(other.isprintable() and other.startswith("    ") for other in others)
    assert log_format == "console" or not others


def pair_surrogates(value: Any) -> Any:
    """Return the value as JSON reads it, where two halves beside each other are one letter."""
    return json.loads(json.dumps(value))


@fuzzed()
@given(event=texts, value=json_values)
def test_json_line_has_the_texts_as_they_were(event: str, value: Any) -> None:
    line = json.loads(format_line("json", event, x=value))
    mask = Mask(())
    assert [line["event"], line["x"]] == pair_surrogates([mask.mask_text(event), mask.mask_value("x", value)])


SPELLINGS = {
    "raw": lambda secret: secret,
    "percent-encoded": lambda secret: quote(secret, safe=""),
    "percent-encoded in lower case": lambda secret: "".join(
        quote(letter, safe="").lower() if quote(letter, safe="") != letter else letter for letter in secret
    ),
    "percent-encoded but /": quote,
    "in a form": quote_plus,
    "repr": lambda secret: repr(secret)[1:-1],
    "repr of bytes": lambda secret: repr(secret.encode())[2:-1],
    "JSON": lambda secret: json.dumps(secret)[1:-1],
    "JSON in Unicode": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "HTML": html.escape,
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
}


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("spelling", list(SPELLINGS))
@fuzzed(0.5)
@given(secret=secrets, around=st.text(st.sampled_from("ab :,(){}"), max_size=20), size=st.sampled_from([0, 5_990, 49_990]))
def test_secret_is_masked_however_it_is_spelled(log_format: str, spelling: str, secret: str, around: str, size: int) -> None:
    secret = secret.strip()  # as settings are
    assume(len(secret) > 8)
    spelled = SPELLINGS[spelling](secret)
    event = f"{around}{' ' * size}<{spelled}>{around}"
    for line in (format_line(log_format, event, secret), format_line(log_format, "x", secret, **{f"k{spelled}": [event]})):
        assert spelled not in line and json.dumps(spelled)[1:-1] not in line and MASKED in line


@fuzzed()
@given(secret=secrets)
def test_basic_authorization_is_masked(secret: str) -> None:
    word = base64.b64encode(f"admin:{secret}".encode()).decode()
    assert word not in format_line("json", f"sent Authorization: Basic {word} to x")
