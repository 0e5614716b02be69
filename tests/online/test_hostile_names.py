"""Names from files in the live page: no element and no attribute comes of them that is not the template's."""

from collections import Counter
from html.parser import HTMLParser

import pytest

from glitchflow.online.monitor import Monitor

WICKED = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script></style></svg></title><b>",
    "a$\\frac{$b {{ 7*7 }} {0}",
    "line\nend\r\x1b[2J",
    "x" * 300,
    "\u202etxt.exe\u2066",
    "<!--",
]


class Elements(HTMLParser):
    """Counts the elements of a page, with the names of their attributes."""

    def __init__(self, page: str):
        super().__init__()
        self.found: Counter = Counter()
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found[tag, *sorted(name for name, _ in attributes)] += 1

    def handle_comment(self, data):
        self.found["comment"] += 1


def elements(page: str) -> Counter:
    return Elements(page).found


@pytest.mark.parametrize("name", WICKED)
def test_the_live_page(name):
    def page(strain: str, row: str) -> str:
        monitor = Monitor(strain)
        monitor.now = ((row, row),)
        return monitor.page().decode()

    assert elements(page(name, name)) == elements(page("X:STRAIN", "row"))
