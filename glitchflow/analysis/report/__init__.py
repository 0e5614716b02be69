"""One self-contained HTML page of a run, from whatever is there so far: `report.html`.

In comes what the stages have written (run.py gathers it), out comes the page. Start with page.py, then sections.py:
a section is a function that gives its template's values, and a row there.
"""

from glitchflow.analysis.report.page import report as report
