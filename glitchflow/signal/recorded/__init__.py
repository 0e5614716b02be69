"""Recorded events.

In: the section `ingest`: files of channels, and times. Out: triggers (`triggers.py`), and a `Recipe` whose events are
cut from the files around them (`events.py`, over `frames.py`). Start with `events.py`.
"""
