"""Time series and Q-plots."""

from glitchflow.signal.qtransform import Peak, QPlot, QTransform

__all__ = ["Peak", "QPlot", "QTransform"]
