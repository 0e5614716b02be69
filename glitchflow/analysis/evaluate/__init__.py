"""Scores of a trained network beside every other method: `evaluation/`.

In come a dataset and its predictions, out come metrics.json, a row per event, and figures. Start with evaluate.py;
veto_scores.py is what vetoes are worth, injections.py what cleaning does to signals.
"""
