"""Cleaned strain and veto segments over the original time span: `clean/`.

In come a dataset, its predictions and the recorded files, out come files of cleaned strain and of vetoes. Start with
clean.py; veto_segments.py turns generated energies into data-quality flags.
"""
