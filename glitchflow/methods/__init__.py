"""What a twin is measured against: everything that takes noise out of the strain, one signature for all.

In comes the train split (`Train`), then blocks of events (`Block`, never the truth); out comes what a method takes
from each event (`Removed`). Start with method.py, then table.py: a method is one function and one row there.
compare.py is the one loop over all of them, learnability.py judges by them whether a store can be learned from.
"""
