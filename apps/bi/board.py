"""Builds the documents of Metabase's API: cards and their dashboard (v0.50 to v0.56; later versions still accept them)."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from django.utils.translation import gettext_lazy

from apps.bi.questions import COLUMN_TITLES, END, REGION, START, Question

Document = dict[str, Any]
NAME = "TechMarket KPI Dashboard"
FILTER_LABELS = {START: gettext_lazy("From"), END: gettext_lazy("To (inclusive)"), REGION: gettext_lazy("Region")}
# Fields of a dashboard card that the API accepts back; it refuses the others that it returns.
WRITABLE_FIELDS = (
    "id", "card_id", "action_id", "dashboard_tab_id", "col", "row", "size_x", "size_y", "parameter_mappings", "visualization_settings",
)  # fmt: skip
# By question: column, row, width and height on the dashboard, which is 24 columns wide.
LAYOUT = {
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
    "outstanding": (0, 33, 6, 4),
    "overpaid": (0, 37, 6, 4),
    "balances": (6, 33, 18, 8),
}


def build_card(question: Question, database: int) -> Document:
    tags = {name: build_tag(name) for name in FILTER_LABELS} if question.filtered else {}
    return {
        "name": str(question.name),
        "display": question.display,
        "dataset_query": {"type": "native", "database": database, "native": {"query": question.sql, "template-tags": tags}},
        "visualization_settings": build_visualization(question),
        "parameters": [
            {"id": tag["id"], "type": "date/single" if tag["type"] == "date" else "category", "target": build_target(name)}
            | {"name": tag["display-name"], "slug": name}
            for name, tag in tags.items()
        ],
    }


def build_tag(name: str) -> Document:
    kind = "text" if name == REGION else "date"
    return {"id": stable_id(f"tag/{name}"), "name": name, "display-name": str(FILTER_LABELS[name]), "type": kind}


def stable_id(name: str) -> str:
    """Return an id that is the same in every call for the same name."""
    return str(uuid5(NAMESPACE_URL, f"techmarket/metabase/{name}"))


def build_target(name: str) -> list[Any]:
    return ["variable", ["template-tag", name]]


def build_visualization(question: Question) -> Document:
    titles = {
        f'["name","{column}"]': {"column_title": str(COLUMN_TITLES[column])} for column in question.columns if column in COLUMN_TITLES
    }
    axes = {"graph.dimensions": list(question.columns[:1]), "graph.metrics": list(question.series)} if question.series else {}
    return {"column_settings": titles} | axes | dict(question.settings)


def build_parameters(region_card: int) -> list[Document]:
    """Return the dashboard's three filters. `region_card`: id of the card that lists the regions to choose from."""
    days = [
        {"id": stable_id(name), "name": str(FILTER_LABELS[name]), "slug": name, "type": "date/single", "sectionId": "date"}
        for name in (START, END)
    ]
    source = {"card_id": region_card, "value_field": ["field", "region", {"base-type": "type/Text"}]}
    region = {
        "id": stable_id(REGION),
        "name": str(FILTER_LABELS[REGION]),
        "slug": REGION,
        "type": "string/=",
        "sectionId": "string",
        "isMultiSelect": False,
        "values_query_type": "list",
        "values_source_type": "card",
        "values_source_config": source,
    }
    return [*days, region]


def build_dashcards(questions: Iterable[Question], card_ids: Mapping[str, int], dashboard: Document) -> list[Document]:
    """Return our cards at their places, followed by the cards that people added, unchanged.

    A new card has a negative id. On a dashboard with tabs it goes to the first one.
    """
    present, tabs = dashboard.get("dashcards") or [], dashboard.get("tabs") or []
    ours = {card_ids[question.slug]: question for question in questions if question.slug in LAYOUT}
    present_by_card = {dashcard["card_id"]: dashcard for dashcard in present}
    placed = []
    for number, (card_id, question) in enumerate(ours.items(), 1):
        previous = present_by_card.get(card_id, {"id": -number, "dashboard_tab_id": tabs[0]["id"] if tabs else None})
        col, row, width, height = LAYOUT[question.slug]
        mappings = [{"parameter_id": stable_id(name), "card_id": card_id, "target": build_target(name)} for name in FILTER_LABELS]
        position = {"col": col, "row": row, "size_x": width, "size_y": height, "dashboard_tab_id": previous["dashboard_tab_id"]}
        placed.append({"card_id": card_id, "id": previous["id"]} | position | {"parameter_mappings": mappings if question.filtered else []})
    return placed + [keep_writable(dashcard) for dashcard in present if dashcard["card_id"] not in ours]


def keep_writable(dashcard: Document) -> Document:
    """Return a card of the dashboard as the API accepts it back."""
    return {name: dashcard[name] for name in WRITABLE_FIELDS if name in dashcard} | {
        "series": [{"id": card["id"]} for card in dashcard.get("series") or []]
    }
