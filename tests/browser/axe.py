"""Accessibility faults that axe-core finds on a page."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# axe-core reports minor findings too; these keep somebody from using the page.
GRAVE = ("serious", "critical")


def faults(page: Page) -> list[str]:
    """Return each serious or critical fault as its rule and the element's HTML, at most three elements a rule."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:300]}" for each in found if each["impact"] in GRAVE for node in each["nodes"][:3]
    ]
