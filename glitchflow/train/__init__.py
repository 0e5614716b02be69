"""Training: a dataset and the sections `seed loader model train` -> checkpoints and metrics, on any number of workers.

In: a store that is open, and a `Training` (setup.py), which goes to the workers as it is. Out: `train/`, or what a
sweep, a scaling measurement or an export makes of the same loop and checkpoints.
Read first: loop.py (a step from data to checkpoint), then fit.py (how Ray Train runs it) and checkpoint.py.
"""
