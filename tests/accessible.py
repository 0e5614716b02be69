"""What axe-core (https://github.com/dequelabs/axe-core, MPL 2.0) says of a page in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

# the rules of the Web Content Accessibility Guidelines 2.1, levels A and AA
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


def violations(page: Page) -> list[str]:
    """A line for each element that a rule is broken by; what is folded is opened before."""
    reason = "axe-playwright-python is not installed (extra `test`)"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=reason).Axe()
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    found = axe.run(page, options={"resultTypes": ["violations"], "runOnly": WCAG}).response["violations"]
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]]
