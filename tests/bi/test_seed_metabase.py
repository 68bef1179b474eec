"""manage.py seed_metabase against a stand-in for Metabase (tests/bi/metabase.py)."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.bi.metabase import State, serving
from tests.conftest import Cli

USER, PASSWORD = "bi@techmarket.example", "canary-7"
WAREHOUSE = "postgres://bi_reader:bi's@dwh-db:5432/dwh"
KPIS = 12


class Seed:
    """The command, in a process of its own."""

    def __init__(self, run_cli: Cli, url: str):
        self.run_cli = run_cli
        self.env = {"METABASE_URL": url, "METABASE_USER": USER, "METABASE_PASS": PASSWORD, "DWH_BI_URL": WAREHOUSE}

    def __call__(self, *words: str, **env: str) -> str:
        result = self.run_cli("seed_metabase", *words, env=self.env | env)
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        return result.stdout

    def refused(self, code: int, *words: str, **env: str) -> str:
        result = self.run_cli("seed_metabase", "--wait", "0", *words, env=self.env | env)
        assert (result.returncode, result.stdout) == (code, "") and result.stderr.count("\n") == 1, result.stderr
        assert PASSWORD not in result.stderr and "bi's" not in result.stderr
        return result.stderr


@pytest.fixture
def metabase() -> State:
    return State()


@pytest.fixture
def seed(metabase: State, run_cli: Cli) -> Iterator[Seed]:
    with serving(metabase) as url:
        yield Seed(run_cli, url)


def seen(metabase: State) -> Any:
    return copy.deepcopy((metabase.rows, metabase.dashcards, metabase.users))


def cards(metabase: State) -> dict[str, Any]:
    return {row["name"]: row for row in metabase.rows["card"].values()}


def test_new_metabase_is_set_up_and_twice_changes_nothing(metabase: State, seed: Seed) -> None:
    metabase.starting = 2
    said = seed("--wait", "30")
    (board,) = metabase.rows["dashboard"].values()
    assert said == f"{KPIS + 4} created, 0 updated, 0 unchanged. {seed.env['METABASE_URL']}/dashboard/{board['id']}\n"
    assert metabase.users == {USER: PASSWORD} and not metabase.sessions, "it has logged out"
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
    assert board["parameters"][2]["values_source_config"]["card_id"] == cards(metabase)["Regions"]["id"]
    stands = metabase.dashcards[board["id"]]
    filtered = {each["card_id"]: len(each["parameter_mappings"]) for each in stands}
    names = {row["id"]: name for name, row in cards(metabase).items()}
    assert {names[id]: count for id, count in filtered.items()} == dict.fromkeys(set(cards(metabase)) - {"Regions"}, 3) | {"Data as of": 0}
    assert len(stands) == KPIS and not overlapping(stands)

    before = seen(metabase)
    assert seed().startswith(f"0 created, 0 updated, {KPIS + 4} unchanged.")
    assert seen(metabase) == before


def overlapping(stands: list[dict[str, Any]]) -> list[tuple[int, int]]:
    taken = [(x, y) for each in stands for x in range(each["col"], each["col"] + each["size_x"])
             for y in range(each["row"], each["row"] + each["size_y"])]  # fmt: skip
    return [cell for cell in set(taken) if taken.count(cell) > 1]


def test_what_we_change_is_changed_in_place_and_what_people_change_stays(metabase: State, seed: Seed) -> None:
    seed()
    board = next(iter(metabase.rows["dashboard"]))
    theirs = metabase.add("card", name="Theirs", collection_id=None, dataset_query={"database": 1, "native": {"template-tags": {}}})
    text = {"id": 900, "card_id": None, "row": 40, "col": 0, "size_x": 4, "size_y": 2, "visualization_settings": {"text": "hello"}}
    question = {"id": 901, "card_id": theirs, "row": 40, "col": 4, "size_x": 4, "size_y": 2, "created_at": "2026-01-31", "card": {}}
    metabase.dashcards[board] += [text, question]
    revenue = cards(metabase)["Net revenue, UAH"]
    revenue["name"] = "Our revenue"
    ids = {kind: set(rows) for kind, rows in metabase.rows.items()}

    # Another time zone is another query, and its question alone changes; the dashboard is made of the same.
    assert seed(SHOP_TIME_ZONE="Europe/Warsaw").startswith(f"0 created, 1 updated, {KPIS + 3} unchanged.")
    assert "AT TIME ZONE 'Europe/Warsaw'" in cards(metabase)["Data as of"]["dataset_query"]["native"]["query"]
    assert revenue["name"] == "Our revenue"

    # Other words: everything of ours with words in it, and what people put on the dashboard stays on it.
    placed = {each["card_id"]: each["id"] for each in metabase.dashcards[board]}
    seed("--language", "uk")
    assert "Чиста виручка, грн" in cards(metabase) and revenue["name"] == "Чиста виручка, грн"
    assert {kind: set(rows) for kind, rows in metabase.rows.items()} == ids
    assert {each["card_id"]: each["id"] for each in metabase.dashcards[board]} == placed, "the same places, theirs among them"
    assert {"text": "hello"} in [each["visualization_settings"] for each in metabase.dashcards[board]]


def test_another_address_or_password_of_the_warehouse(metabase: State, seed: Seed) -> None:
    seed()
    (database,) = metabase.rows["database"].values()
    database["name"] = "Renamed by somebody"
    database["details"]["password"] = "expired"
    moved = "postgres://bi_reader:bi's@new-dwh:6432/dwh?sslmode=require"
    assert seed(DWH_BI_URL=moved).startswith(f"0 created, 1 updated, {KPIS + 3} unchanged.")
    assert database["name"] == "Renamed by somebody" and len(metabase.rows["database"]) == 1
    assert database["details"].items() >= {"host": "new-dwh", "port": 6432, "password": "bi's", "ssl": True, "ssl-mode": "require"}.items()


def test_a_seeding_that_was_cut_short_is_gone_on_with(metabase: State, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*words: Any) -> None:
        raise RuntimeError("pulled the plug")

    with monkeypatch.context() as broken:
        broken.setattr(metabase, "put_dashboard", breaks)
        assert "pulled the plug" in seed.refused(1)
    assert len(metabase.rows["dashboard"]) == 1
    assert seed().startswith(f"0 created, 1 updated, {KPIS + 3} unchanged.")
    assert len(metabase.rows["dashboard"]) == 1 and [len(stands) for stands in metabase.dashcards.values()] == [KPIS]


def test_clear_removes_only_what_it_made(metabase: State, seed: Seed) -> None:
    metabase.users, metabase.setup_token = {USER: PASSWORD}, None
    metabase.add("database", name="TechMarket warehouse", engine="postgres", details={"host": "elsewhere"})
    elsewhere = metabase.add("collection", name="TechMarket")
    metabase.add("dashboard", name="TechMarket KPI Dashboard", collection_id=elsewhere)
    before = seen(metabase)
    seed()
    assert seed("--clear") == f"{KPIS + 4} removed.\n"
    trash = [row["id"] for row in metabase.rows["collection"].values() if row["archived"]]
    assert len(trash) == 1 and metabase.rows["collection"].pop(trash[0])
    assert seen(metabase) == before
    assert seed("--clear") == "0 removed.\n"


def test_clear_leaves_what_people_have_made_of_ours(metabase: State, seed: Seed) -> None:
    seed()
    ours = cards(metabase)["Orders"]
    database, collection = next(iter(metabase.rows["database"])), next(iter(metabase.rows["collection"]))
    copied = metabase.add("card", **{name: value for name, value in ours.items() if name != "id"} | {"name": "Copy of Orders"})
    said = seed("--clear")
    assert said == f"{KPIS + 2} removed. Kept: the collection (other items in it: 1). Kept: the database (other items that use it: 1).\n"
    assert set(metabase.rows["card"]) == {copied} and not metabase.rows["collection"][collection]["archived"]
    assert set(metabase.rows["database"]) == {database} and not metabase.rows["dashboard"]


def test_clear_does_not_set_a_new_metabase_up(metabase: State, seed: Seed) -> None:
    assert "METABASE_USER, METABASE_PASS" in seed.refused(4, "--clear") and not metabase.users


@pytest.mark.parametrize(
    ("env", "code", "words"),
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
def test_what_is_wrong_is_one_line(seed: Seed, env: dict[str, str], code: int, words: str) -> None:
    said = seed.refused(code, **env)
    assert words in said and "canary" not in said


def test_wrong_password(metabase: State, seed: Seed) -> None:
    metabase.users, metabase.setup_token = {USER: "another-1"}, None
    assert "METABASE_USER, METABASE_PASS: " in (said := seed.refused(4)) and "did not match stored password" in said


def change(name: str, value: Any) -> Callable[[State], None]:
    return lambda metabase: setattr(metabase, name, value)


@pytest.mark.parametrize(
    ("arrange", "code", "words"),
    [
        (change("version", "v0.49.3"), 4, "Metabase v0.49.3 is too old: seed_metabase needs v0.50 or newer."),
        (change("version", "v1.49.3"), 4, "too old"),
        (change("starting", 99), 4, "503"),
        (change("properties", lambda: ["something else"]), 4, "is not Metabase"),
        (change("answer", lambda sql: 1 / 0), 1, "Metabase cannot answer the question data_as_of: division by zero."),
    ],
)
def test_metabase_that_will_not_do(metabase: State, seed: Seed, arrange: Callable[[State], None], code: int, words: str) -> None:
    arrange(metabase)
    assert words in seed.refused(code)


def test_newer_metabase_will_do(metabase: State, seed: Seed) -> None:
    metabase.version = "v1.63.2"
    seed()
