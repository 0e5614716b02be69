"""One page about one time: what was recorded, what the twin says of it, and which witnesses carry that.

window.py  the channels about a time, from recorded files or out of a store
said.py    what the network removes there, without each witness too, and what other methods would
survive.py what is kept of signals there
page.py    the page: start there
"""

from glitchflow.analysis.event.page import event as event
