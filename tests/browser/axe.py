"""Find accessibility violations on a page with axe-core."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# The impacts that fail a test; axe-core rates the others as minor or moderate.
FAILING_IMPACTS = ("serious", "critical")


def find_violations(page: Page) -> list[str]:
    """Return rule and element of each serious or critical violation, up to three elements per rule."""
    violations: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:300]}"
        for each in violations
        if each["impact"] in FAILING_IMPACTS
        for node in each["nodes"][:3]
    ]
