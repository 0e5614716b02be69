"""Synthetic events.

In: the sections `simulate`, `series`, `derived` and a seed. Out: a `Recipe`, whose `event(index)` depends on these and
the index alone, with the truth of what witnesses explain. Start with `recipe.py`, then `detector.py`.
"""
