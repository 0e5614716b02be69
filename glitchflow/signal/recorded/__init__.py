"""Recorded events.

In: the section `ingest`: files of channels, and times. Out: triggers (`triggers.py`), and a `Recipe` whose events are
cut from the files around them (`events.py`). `frames.py` finds the files, `samples.py` reads one, `recording.py` reads
what lies together once. Start with `events.py`.
"""
