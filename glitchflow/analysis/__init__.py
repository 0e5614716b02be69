"""What a scientist does with a store and a trained twin, a stage a file or a folder.

In comes an experiment, to the stage's own function, which opens what is there (opened.py) and hands its parts on; out
come predictions, scores, cleaned strain and a page, under `workdir`. Read opened.py first, then evaluate/evaluate.py.
"""
