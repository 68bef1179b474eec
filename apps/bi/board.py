"""Questions and their dashboard as Metabase wants them (API of v0.50 to v0.56, which later ones still take)."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from django.utils.translation import gettext_lazy

from apps.bi.questions import END, REGION, START, WORDS, Question

Document = dict[str, Any]
NAME = "TechMarket KPI Dashboard"
FILTERS = {START: gettext_lazy("From"), END: gettext_lazy("To, included"), REGION: gettext_lazy("Region")}
KEPT = (
    "id", "card_id", "action_id", "dashboard_tab_id", "col", "row", "size_x", "size_y", "parameter_mappings", "visualization_settings",
)  # fmt: skip
# Where each question stands on the 24 columns of a dashboard: column, row, width, height.
PLACES = {
    "data_as_of": (0, 0, 4, 3),
    "revenue": (4, 0, 4, 3),
    "orders": (8, 0, 4, 3),
    "average_order": (12, 0, 4, 3),
    "margin_percent": (16, 0, 4, 3),
    "paid_percent": (20, 0, 4, 3),
    "by_month": (0, 3, 24, 8),
    "by_region": (0, 11, 12, 7),
    "by_method": (12, 11, 12, 7),
    "by_product": (0, 18, 12, 8),
    "by_category": (12, 18, 12, 8),
    "by_manager": (0, 26, 24, 7),
}


def card(question: Question, database: int) -> Document:
    tags = {name: tag(name) for name in FILTERS} if question.filtered else {}
    return {
        "name": str(question.name),
        "display": question.display,
        "dataset_query": {"type": "native", "database": database, "native": {"query": question.sql, "template-tags": tags}},
        "visualization_settings": look(question),
        "parameters": [
            {"id": tag["id"], "type": "date/single" if tag["type"] == "date" else "category", "target": target(name)}
            | {"name": tag["display-name"], "slug": name}
            for name, tag in tags.items()
        ],
    }


def tag(name: str) -> Document:
    kind = "text" if name == REGION else "date"
    return {"id": identity(f"tag/{name}"), "name": name, "display-name": str(FILTERS[name]), "type": kind}


def identity(name: str) -> str:
    """Always the same for the same thing."""
    return str(uuid5(NAMESPACE_URL, f"techmarket/metabase/{name}"))


def target(name: str) -> list[Any]:
    return ["variable", ["template-tag", name]]


def look(question: Question) -> Document:
    titles = {f'["name","{column}"]': {"column_title": str(WORDS[column])} for column in question.columns if column in WORDS}
    drawn = {"graph.dimensions": list(question.columns[:1]), "graph.metrics": list(question.drawn)} if question.drawn else {}
    return {"column_settings": titles} | drawn | dict(question.settings)


def parameters(regions: int) -> list[Document]:
    """The dashboard's three filters. The regions to choose from are what the question `regions` answers."""
    days = [
        {"id": identity(name), "name": str(FILTERS[name]), "slug": name, "type": "date/single", "sectionId": "date"}
        for name in (START, END)
    ]
    source = {"card_id": regions, "value_field": ["field", "region", {"base-type": "type/Text"}]}
    region = {
        "id": identity(REGION),
        "name": str(FILTERS[REGION]),
        "slug": REGION,
        "type": "string/=",
        "sectionId": "string",
        "isMultiSelect": False,
        "values_query_type": "list",
        "values_source_type": "card",
        "values_source_config": source,
    }
    return [*days, region]


def dashcards(questions: Iterable[Question], ids: Mapping[str, int], board: Document) -> list[Document]:
    """What stands on the dashboard: ours where it belongs, and what people have put there beside it, as it is.

    A card that is new there has a negative id. Where people have made tabs, what has none is on the first.
    """
    present, tabs = board.get("dashcards") or [], board.get("tabs") or []
    ours = {ids[question.slug]: question for question in questions if question.slug in PLACES}
    stands = {each["card_id"]: each for each in present}
    mine = []
    for number, (id, question) in enumerate(ours.items(), 1):
        was = stands.get(id, {"id": -number, "dashboard_tab_id": tabs[0]["id"] if tabs else None})
        col, row, width, height = PLACES[question.slug]
        mappings = [{"parameter_id": identity(name), "card_id": id, "target": target(name)} for name in FILTERS]
        place = {"card_id": id, "col": col, "row": row, "size_x": width, "size_y": height, "dashboard_tab_id": was["dashboard_tab_id"]}
        mine.append(place | {"id": was["id"], "parameter_mappings": mappings if question.filtered else []})
    return mine + [kept(each) for each in present if each["card_id"] not in ours]


def kept(dashcard: Document) -> Document:
    """A card of the dashboard, as the API takes it back."""
    return {name: dashcard[name] for name in KEPT if name in dashcard} | {
        "series": [{"id": each["id"]} for each in dashcard.get("series") or []]
    }
