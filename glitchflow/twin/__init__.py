"""What a kind of twin is: which arrays of a store its networks take, and what is made of what they give back.

In: a dataset's arrays and a network of `model/`. Out: losses, scores, predictions, an exported program.
Training, inference, attribution and export ask the kind and know no model's name.
estimate.py turns generated energies into what is removed from the strain, for cleaning and injections alike.
Read first: kind.py (what is asked of a kind), then image.py (the first one), kinds.py (which model is of which kind).
"""
