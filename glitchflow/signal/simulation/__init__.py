"""Synthetic events.

In: the sections `simulate`, `series`, `derived` and a seed. Out: a `Recipe`, whose `event(index)` depends on these and
the index alone, with the truth of what witnesses explain; or, by the section `stretch`, hours of the same detector
without a seam. Start with `recipe.py`, then `detector.py` and `stretch.py`.
"""
