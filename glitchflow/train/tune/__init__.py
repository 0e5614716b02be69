"""Sweeps: an experiment and a search space -> trials, each a training run of its own, and the best one's settings.

In: the experiment and its section `tune`. Out: `tune/` with trials, their table and figure, and best.yaml.
Read first: sweep.py (the stage), then driver.py (what runs inside Ray Tune) and search_space.py.
"""
