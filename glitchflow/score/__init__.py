"""Scores: pure functions of energies, series and times; no files, no pictures.

In comes what methods made of a block of events (`made.py`), out go columns, numbers per event, and from those scores of
families with intervals. `table.py` has a row a score and is read first; `subtraction.py`, `skill.py`, `shared.py`,
`volume_time.py`, `metrics.py` and `clusters.py` define them, `statistics.py` their intervals, `segments.py` and
`deadtime.py` what vetoes cost, `coincidence.py` and `significance.py` what a scan tests.
"""
