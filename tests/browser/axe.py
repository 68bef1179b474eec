"""What axe-core finds on a page."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# Which rules count. The others are for whoever writes content.
GRAVE = ("serious", "critical")


def faults(page: Page) -> list[str]:
    """Of grave impact: rule, and the first element that it is of."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:300]}" for each in found if each["impact"] in GRAVE for node in each["nodes"][:3]
    ]
