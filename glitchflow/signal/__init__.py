"""Time series and Q-plots."""

from glitchflow.signal.qplot import Coefficients, Peak, QPlot
from glitchflow.signal.qtransform import QTransform

__all__ = ["Coefficients", "Peak", "QPlot", "QTransform"]
