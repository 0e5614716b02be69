"""A cluster or a machine seen from outside, before and while it runs stages.

In: an experiment, or none. Out: what would make a run fail (`doctor.py` gathers with `probe.py`, `checks.py` judges),
what a dataset and a training will cost (`plan.py`, `pace.py`), and stages as jobs of a running Ray cluster
(`submit.py`). Start with `doctor.py`.
"""
