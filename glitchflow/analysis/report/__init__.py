"""One self-contained HTML page of a run, from whatever is there so far. See `page.py`."""

from glitchflow.analysis.report.page import report as report
