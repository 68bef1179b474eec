"""`manage.py seed_metabase` against a fake of Metabase (tests/bi/metabase.py)."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.bi.metabase import FakeMetabase, serve
from tests.conftest import Cli

USER, PASSWORD = "bi@techmarket.example", "canary-7"
WAREHOUSE = "postgres://bi_reader:bi's@dwh-db:5432/dwh"
KPIS = 15


class Seed:
    """Runs the command in its own process."""

    def __init__(self, run_cli: Cli, url: str):
        self.run_cli = run_cli
        self.env = {"METABASE_URL": url, "METABASE_USER": USER, "METABASE_PASS": PASSWORD, "DWH_BI_URL": WAREHOUSE}

    def __call__(self, *arguments: str, **env: str) -> str:
        result = self.run_cli("seed_metabase", *arguments, env=self.env | env)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        return result.stdout

    def refuse(self, code: int, *arguments: str, **env: str) -> str:
        result = self.run_cli("seed_metabase", "--wait", "0", *arguments, env=self.env | env)
        assert (result.returncode, result.stdout) == (code, "") and result.stderr.count("\n") == 1, result.stderr
        assert PASSWORD not in result.stderr and "bi's" not in result.stderr
        return result.stderr


@pytest.fixture
def metabase() -> FakeMetabase:
    return FakeMetabase()


@pytest.fixture
def seed(metabase: FakeMetabase, run_cli: Cli) -> Iterator[Seed]:
    with serve(metabase) as url:
        yield Seed(run_cli, url)


def copy_state(metabase: FakeMetabase) -> Any:
    return copy.deepcopy((metabase.rows, metabase.dashcards, metabase.users))


def cards_by_name(metabase: FakeMetabase) -> dict[str, Any]:
    return {row["name"]: row for row in metabase.rows["card"].values()}


def test_new_metabase_is_set_up_and_second_seeding_changes_nothing(metabase: FakeMetabase, seed: Seed) -> None:
    metabase.starting = 2
    output = seed("--wait", "30")
    (board,) = metabase.rows["dashboard"].values()
    assert output == f"{KPIS + 4} created, 0 updated, 0 unchanged. {seed.env['METABASE_URL']}/dashboard/{board['id']}\n"
    assert metabase.users == {USER: PASSWORD} and not metabase.sessions, "the session was closed"
    (database,), (collection,) = metabase.rows["database"].values(), metabase.rows["collection"].values()
    assert database["engine"] == "postgres"
    assert database["details"].items() >= {"host": "dwh-db", "port": 5432, "dbname": "dwh", "user": "bi_reader", "ssl": False}.items()
    assert {row["collection_id"] for row in [board, *metabase.rows["card"].values()]} == {collection["id"]}
    assert board["name"] == "TechMarket KPI Dashboard"
    assert [(each["slug"], each["type"]) for each in board["parameters"]] == [
        ("start", "date/single"),
        ("end", "date/single"),
        ("region", "string/="),
    ]
    assert board["parameters"][2]["values_source_config"]["card_id"] == cards_by_name(metabase)["Regions"]["id"]
    dashcards = metabase.dashcards[board["id"]]
    filtered = {each["card_id"]: len(each["parameter_mappings"]) for each in dashcards}
    names = {row["id"]: name for name, row in cards_by_name(metabase).items()}
    assert {names[id]: count for id, count in filtered.items()} == dict.fromkeys(set(cards_by_name(metabase)) - {"Regions"}, 3) | {
        "Data as of": 0
    }
    assert len(dashcards) == KPIS and not find_overlaps(dashcards)

    before = copy_state(metabase)
    assert seed().startswith(f"0 created, 0 updated, {KPIS + 4} unchanged.")
    assert copy_state(metabase) == before


def find_overlaps(dashcards: list[dict[str, Any]]) -> list[tuple[int, int]]:
    taken = [(x, y) for each in dashcards for x in range(each["col"], each["col"] + each["size_x"])
             for y in range(each["row"], each["row"] + each["size_y"])]  # fmt: skip
    return [cell for cell in set(taken) if taken.count(cell) > 1]


def test_seeded_items_are_updated_in_place_and_changes_by_users_remain(metabase: FakeMetabase, seed: Seed) -> None:
    seed()
    board = next(iter(metabase.rows["dashboard"]))
    users_card = metabase.add("card", name="Theirs", collection_id=None, dataset_query={"database": 1, "native": {"template-tags": {}}})
    text = {"id": 900, "card_id": None, "row": 40, "col": 0, "size_x": 4, "size_y": 2, "visualization_settings": {"text": "hello"}}
    question = {"id": 901, "card_id": users_card, "row": 40, "col": 4, "size_x": 4, "size_y": 2, "created_at": "2026-01-31", "card": {}}
    metabase.dashcards[board] += [text, question]
    revenue = cards_by_name(metabase)["Net revenue, UAH"]
    revenue["name"] = "Our revenue"
    ids = {kind: set(rows) for kind, rows in metabase.rows.items()}

    # Another time zone changes the query of one question only, and not the dashboard.
    assert seed(SHOP_TIME_ZONE="Europe/Warsaw").startswith(f"0 created, 1 updated, {KPIS + 3} unchanged.")
    assert "AT TIME ZONE 'Europe/Warsaw'" in cards_by_name(metabase)["Data as of"]["dataset_query"]["native"]["query"]
    assert revenue["name"] == "Our revenue"

    # Another language changes all texts that the command wrote; cards that users added to the dashboard stay.
    placed = {each["card_id"]: each["id"] for each in metabase.dashcards[board]}
    seed("--language", "uk")
    assert "Чиста виручка, грн" in cards_by_name(metabase) and revenue["name"] == "Чиста виручка, грн"
    assert {kind: set(rows) for kind, rows in metabase.rows.items()} == ids
    assert {each["card_id"]: each["id"] for each in metabase.dashcards[board]} == placed, "the same positions, cards of users included"
    assert {"text": "hello"} in [each["visualization_settings"] for each in metabase.dashcards[board]]


def test_changed_address_of_the_warehouse_is_updated(metabase: FakeMetabase, seed: Seed) -> None:
    seed()
    (database,) = metabase.rows["database"].values()
    database["name"] = "Renamed by somebody"
    database["details"]["password"] = "expired"
    moved = "postgres://bi_reader:bi's@new-dwh:6432/dwh?sslmode=require"
    assert seed(DWH_BI_URL=moved).startswith(f"0 created, 1 updated, {KPIS + 3} unchanged.")
    assert database["name"] == "Renamed by somebody" and len(metabase.rows["database"]) == 1
    assert database["details"].items() >= {"host": "new-dwh", "port": 6432, "password": "bi's", "ssl": True, "ssl-mode": "require"}.items()


def test_interrupted_seeding_is_completed_by_the_next(metabase: FakeMetabase, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("pulled the plug")

    with monkeypatch.context() as broken:
        broken.setattr(metabase, "put_dashboard", fail)
        assert "pulled the plug" in seed.refuse(1)
    assert len(metabase.rows["dashboard"]) == 1
    assert seed().startswith(f"0 created, 1 updated, {KPIS + 3} unchanged.")
    assert len(metabase.rows["dashboard"]) == 1 and [len(dashcards) for dashcards in metabase.dashcards.values()] == [KPIS]


def test_clear_removes_only_seeded_items(metabase: FakeMetabase, seed: Seed) -> None:
    metabase.users, metabase.setup_token = {USER: PASSWORD}, None
    metabase.add("database", name="TechMarket warehouse", engine="postgres", details={"host": "elsewhere"})
    elsewhere = metabase.add("collection", name="TechMarket")
    metabase.add("dashboard", name="TechMarket KPI Dashboard", collection_id=elsewhere)
    before = copy_state(metabase)
    seed()
    assert seed("--clear") == f"{KPIS + 4} removed.\n"
    trash = [row["id"] for row in metabase.rows["collection"].values() if row["archived"]]
    assert len(trash) == 1 and metabase.rows["collection"].pop(trash[0])
    assert copy_state(metabase) == before
    assert seed("--clear") == "0 removed.\n"


def test_clear_keeps_items_that_users_depend_on(metabase: FakeMetabase, seed: Seed) -> None:
    seed()
    seeded_card = cards_by_name(metabase)["Orders"]
    database, collection = next(iter(metabase.rows["database"])), next(iter(metabase.rows["collection"]))
    copied = metabase.add("card", **{name: value for name, value in seeded_card.items() if name != "id"} | {"name": "Copy of Orders"})
    output = seed("--clear")
    assert output == f"{KPIS + 2} removed. Kept: the collection (other items in it: 1). Kept: the database (other items that use it: 1).\n"
    assert set(metabase.rows["card"]) == {copied} and not metabase.rows["collection"][collection]["archived"]
    assert set(metabase.rows["database"]) == {database} and not metabase.rows["dashboard"]


def test_clear_does_not_set_up_a_new_metabase(metabase: FakeMetabase, seed: Seed) -> None:
    assert "METABASE_USER, METABASE_PASS" in seed.refuse(4, "--clear") and not metabase.users


@pytest.mark.parametrize(
    ("env", "code", "message"),
    [
        ({"METABASE_URL": "http://127.0.0.1:9"}, 4, "http://127.0.0.1:9 does not answer (connection refused)."),
        ({"METABASE_URL": "ftp://metabase"}, 4, "METABASE_URL"),
        ({"METABASE_USER": ""}, 4, "METABASE_USER is not set"),
        ({"METABASE_USER": "nobody"}, 4, "valid email address"),
        ({"METABASE_PASS": "short"}, 4, "password is too common"),
        ({"DWH_BI_URL": ""}, 4, "DWH_BI_URL is not set"),
        ({"DWH_BI_URL": "postgres://bi_reader:canary@dwh-db:5432/dwh"}, 4, "DWH_BI_URL: "),
    ],
)
def test_error_is_one_line(seed: Seed, env: dict[str, str], code: int, message: str) -> None:
    output = seed.refuse(code, **env)
    assert message in output and "canary" not in output


def test_wrong_password_is_reported(metabase: FakeMetabase, seed: Seed) -> None:
    metabase.users, metabase.setup_token = {USER: "another-1"}, None
    assert "METABASE_USER, METABASE_PASS: " in (output := seed.refuse(4)) and "did not match stored password" in output


def change(name: str, value: Any) -> Callable[[FakeMetabase], None]:
    return lambda metabase: setattr(metabase, name, value)


@pytest.mark.parametrize(
    ("arrange", "code", "message"),
    [
        (change("version", "v0.49.3"), 4, "Metabase v0.49.3 is too old: seed_metabase needs v0.50 or newer."),
        (change("version", "v1.49.3"), 4, "too old"),
        (change("starting", 99), 4, "503"),
        (change("properties", lambda: ["something else"]), 4, "is not Metabase"),
        (change("answer", lambda sql: 1 / 0), 1, "data_as_of: division by zero. Run `manage.py migrate_all`. Then run"),
    ],
)
def test_unsuitable_metabase_is_refused(
    metabase: FakeMetabase, seed: Seed, arrange: Callable[[FakeMetabase], None], code: int, message: str
) -> None:
    arrange(metabase)
    assert message in seed.refuse(code)


def test_newer_metabase_is_accepted(metabase: FakeMetabase, seed: Seed) -> None:
    metabase.version = "v1.63.2"
    seed()
