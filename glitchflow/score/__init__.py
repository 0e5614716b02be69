"""Scores: pure functions of energies, series and times; no files, no pictures.

In come arrays of the store and what methods made of them (`sample.py`), out go numbers with intervals over events.
`table.py` has a row a score and is read first; `metrics.py` and `clusters.py` define them, `statistics.py` their
intervals, `segments.py` and `deadtime.py` what vetoes cost, `coincidence.py` and `significance.py` what a scan tests.
"""
