"""Texts from outside stay texts, whoever wrote them: in pages, in the log, in a terminal, in exports and in headers."""

import csv
import io
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.db.models import CharField, Field, Model, TextField, Value
from django.db.models.functions import Cast, Concat
from django.test import Client
from django.urls import get_resolver, reverse
from openpyxl import load_workbook
from structlog.stdlib import ProcessorFormatter

from apps.audit.chain import record
from apps.audit.models import Deed, Entry
from apps.demo import shop
from apps.orchestration import api
from apps.orchestration.models import Run
from apps.sources.catalog.models import Category, Product
from apps.sources.orders.models import Customer, Employee, Order, OrderItem, Region
from techmarket.logs import build_logging
from tests.console.test_every_address import fill, walk
from tests.console.test_rejects import create_reject
from tests.fuzz.test_spreadsheets import is_formula
from tests.security.crawl import list_addresses
from tests.security.deeds import PASSWORD, log_in

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.once,  # what spells a text is no database's doing
    pytest.mark.filterwarnings("ignore:Pagination may yield inconsistent results"),  # of Django's autocompletion
    pytest.mark.filterwarnings("ignore:DateTimeField .* received a naive datetime:RuntimeWarning"),  # of Django's filters of dates
]
MARK = "qz'\"><svg/onload=qz>"  # ends an attribute, an element and a text of a script; what Django escapes is not in it
REACHED = re.compile(r"qz'\"|<svg/onload", re.IGNORECASE)
ESCAPES = "a\r\n2026-01-31T02:00:00Z [info     ] all is well\x1b[2J\x9b31m\u2028\u202e"
SOURCES = (Region, Category, Product, Customer, Employee, Order, OrderItem)
OWN_APPS = ("auth", "audit", "orchestration", "dwh", "auth_db", "catalog_db", "orders_db", "payments_db", "django_celery_beat")


@pytest.fixture
def root(transactional_db: None, schedules: None) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_superuser("root", password=PASSWORD))
    return client


# --- Pages ---


def list_text_columns(model: type[Model]) -> list["Field[Any, Any]"]:
    """Return the columns in which any text may stand."""
    found = [field for field in model._meta.concrete_fields if isinstance(field, CharField | TextField)]
    return [field for field in found if not (field.choices or field.primary_key or field.is_relation)]


def mark_texts() -> int:
    """Write the mark into every text column of every table of ours, where its constraints allow it. Return the number of columns."""
    done = 0
    for model in (model for app in OWN_APPS for model in apps.get_app_config(app).get_models()):
        for field in list_text_columns(model):
            size = field.max_length or 100
            text: Any = Concat(Value(MARK), Cast("pk", CharField())) if size > len(MARK) + 12 else Value(MARK[:size])
            try:
                with transaction.atomic(using=settings_alias(model)):
                    done += bool(model._default_manager.using(settings_alias(model)).update(**{field.name: text}))
            except DatabaseError:  # a trigger of the audit log, a constraint
                continue
    return done


def is_page(address: str) -> bool:
    """Return True for a page, a search or a filter of a page: the other addresses of the crawl list the same rows."""
    query = address.partition("?")[2]
    return not query or query.startswith("q=") or "&q=" in query


def settings_alias(model: type[Model]) -> str:
    return model._default_manager.db


def test_no_page_shows_a_text_as_markup(root: Client) -> None:
    shop.generate(20, 7)
    assert api.run("full").state == "succeeded"
    create_reject(row_id=MARK[:30], params={"column": MARK}, raw={MARK: MARK})
    record(Deed.RUN_CANCELLED, Run.objects.first(), before={MARK: MARK}, after={"x": [MARK]}, reason=MARK)
    columns = mark_texts()
    root.force_login(User.objects.get())
    texts = {}
    for address in dict.fromkeys(each for each in list_addresses(MARK) if is_page(each)):
        answer = root.get(address)
        body = b"".join(answer)
        if answer["Content-Type"].startswith("text/html"):
            texts[address] = body.decode()
    shown = [address for address, text in texts.items() if "svg/onload" in text]
    print(f"{columns} columns, {len(texts)} pages, the mark on {len(shown)}")
    assert columns > 60 and len(texts) > 300 and len(shown) > 100
    assert not [address for address, text in texts.items() if REACHED.search(text)]


# --- Headers ---


def test_every_answer_tells_the_browser_what_it_may_do(root: Client) -> None:
    for client in (root, Client(raise_request_exception=False)):
        for route in sorted(set(walk(get_resolver().url_patterns))):
            answer = client.get(fill(route, "1"), {"q": ESCAPES}) if "logout" not in route else client.post(fill(route, "1"))
            b"".join(answer)  # which closes the file of an export
            policy = answer.get("Content-Security-Policy", "")
            assert "frame-ancestors 'none'" in policy and answer["X-Content-Type-Options"] == "nosniff", route
            assert answer.get("X-Frame-Options", "DENY") in ("DENY", "SAMEORIGIN"), route
            assert str(answer.headers).isascii() and re.fullmatch(r"|.*filename=\"[a-z0-9_.-]+\"", answer.get("Content-Disposition", "")), (
                route
            )
        client.force_login(User.objects.get())


# --- Log and terminal ---


@pytest.fixture
def lines() -> Iterator[dict[str, io.StringIO]]:
    """What the log would have in each format."""
    streams, handlers = {name: io.StringIO() for name in ("console", "json")}, []
    for name, stream in streams.items():
        line = build_logging(name, (), ())["formatters"]["line"]
        handler = logging.StreamHandler(stream)
        handler.setFormatter(ProcessorFormatter(foreign_pre_chain=line["foreign_pre_chain"], processors=line["processors"]))
        handlers.append(handler)
        logging.getLogger().addHandler(handler)
    level = logging.getLogger("apps").level
    logging.getLogger("apps").setLevel("INFO")
    yield streams
    logging.getLogger("apps").setLevel(level)
    for handler in handlers:
        logging.getLogger().removeHandler(handler)


def test_no_text_of_a_request_begins_a_line_of_the_log(root: Client, lines: dict[str, io.StringIO]) -> None:
    shop.generate(5, 7)
    settings.TRUSTED_PROXIES, before = [], settings.TRUSTED_PROXIES
    headers = {"User-Agent": ESCAPES, "X-Request-ID": ESCAPES, "X-Forwarded-For": ESCAPES, "Referer": ESCAPES}
    try:
        log_in(Client(headers=headers), ESCAPES, "x")
        root.get("/admin/%0d%0a2026-01-31%1b[2J%c2%9b/", headers=headers)
        root.get("/admin/orders_db/order/", {"id__gt": ESCAPES, ESCAPES: "1"}, headers=headers)
        root.post(reverse("admin:orchestration_run_start"), {"mode": "incremental", "reason": ESCAPES})
        Client().get("/admin/", headers={"Host": "evil\x1b[2J"})
    finally:
        settings.TRUSTED_PROXIES = before
    for name, stream in lines.items():
        written = stream.getvalue().removesuffix("\n").split("\n")
        assert len(written) >= 3 and all(line.isprintable() for line in written), name
        assert not [line for line in written if not line.startswith(("2026", "{", "20", "    "))]
        assert not [line for line in written if re.match(r"\S+ \[info +\] all is well", line)]


COMMANDS = (
    "rejects",
    "rejects --json",
    "audit",
    "audit --json",
    "kpis --balances",
    "reconcile",
    "report --out FOLDER/report.html",
    "schedules",
    "run_etl --mode full",
)


def test_no_value_of_a_source_reaches_a_terminal_as_an_escape(root: Client, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shop.generate(20, 7)
    for model in SOURCES:
        for field in list_text_columns(model):
            size = field.max_length or 100
            text: Any = Concat(Value("\x1b[2J\x9b"), Cast("pk", CharField())) if size > 15 else Value("\x1b[2J"[:size])
            with transaction.atomic(using=model._default_manager.db):
                try:
                    model._default_manager.update(**{field.name: text})
                except DatabaseError:
                    continue
    record(Deed.RUN_STARTED, reason=ESCAPES)
    capsys.readouterr()
    for command in COMMANDS:
        with suppress(SystemExit):
            call_command(*command.replace("FOLDER", str(tmp_path)).split())
        shown = capsys.readouterr()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e]", shown.out + shown.err), (command, ascii(shown.out[:3_000]))


# --- Exports ---

FORMULAS = ("=1+1", "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "＝1+1", "＋1", "－1", "＠x", " =1+1", '"=1+1', "'\"=1", "x;=1+1", "\u200b=1")


def list_exports() -> list[str]:
    return [fill(route, "1") for route in sorted(set(walk(get_resolver().url_patterns))) if re.search("/(csv|xlsx)/$", route)]


def test_no_export_has_a_formula(root: Client) -> None:
    """Every export of the admin, whatever a person gave as a reason or a source as a value."""
    for text in FORMULAS:
        create_reject(row_id=text, params={"column": text}, rule=text, table=text, raw={text: text})
        record(Deed.RUN_CANCELLED, before={text: text}, after={"x": text}, reason=text)
    log_in(Client(), FORMULAS[0], "x")
    exports = list_exports()
    assert len(exports) >= 8 and "/admin/audit/entry/csv/" in exports and Entry.objects.filter(reason__startswith="=").exists()
    for address in exports:
        body = b"".join(root.get(address))
        if address.endswith("/csv/"):
            for separator in (",", ";", "\t"):
                rows = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), delimiter=separator)
                assert not [cell for row in rows for cell in row if is_formula(cell) and not re.fullmatch(r"-?[0-9.]+", cell)], address
        else:
            sheet: Any = load_workbook(io.BytesIO(body)).active
            assert not [cell.value for row in sheet.iter_rows() for cell in row if cell.data_type == "f" or cell.hyperlink], address
