"""Every picture of the project, drawn by matplotlib from plain values.

In come energies with their axes, or tables as `metrics.json` holds them; out comes a Figure that belongs to the caller.
Start with qplots.py (images) and curves.py (everything else, and the colours); the other files are one stage's each.
"""
