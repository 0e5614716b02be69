"""The Q-transform: series in, Q-plots out, with gwpy's numbers. Read `transform.py` first."""

from glitchflow.signal.qtransform.engine import build_engine, read_asd, whitened
from glitchflow.signal.qtransform.parts import Seen, look
from glitchflow.signal.qtransform.qplot import Coefficients, Peak, QPlot
from glitchflow.signal.qtransform.transform import QTransform

__all__ = [
    "Coefficients",
    "Peak",
    "QPlot",
    "QTransform",
    "Seen",
    "build_engine",
    "look",
    "read_asd",
    "whitened",
]
