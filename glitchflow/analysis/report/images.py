"""Q-plots small enough to be many in one page: few levels, deflated, in base64; the page's script draws them.

A figure of an event holds its images on one colour scale, with the edges of its axes in Hz and in s from its GPS time.

Shapes: F frequency, T time.
"""

import base64
import zlib
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis import event_figure as draw
from glitchflow.analysis.report.run import Run
from glitchflow.data.view import axes
from glitchflow.figures import qplots as plots

PIXELS = 64  # along each axis at most: finer Q-plots are averaged
LEVELS = 127  # of the square root of the energy, from 0 to the loudest in the image


def viridis() -> str:
    """Return the colour table: 256 x RGB bytes, in base64."""
    table = matplotlib.colormaps["viridis"](np.arange(256), bytes=True)[:, :3]
    return base64.b64encode(np.ascontiguousarray(table).tobytes()).decode()


def response(run: Run, event: int, untrained: bool = False) -> dict[str, Any]:
    """Make an event's figure: recorded, and where there are predictions generated and residual."""
    images = draw.response(run.dataset, run.predictions, event, untrained)
    return figure(run, event, images, images["recorded"])


def channels(run: Run, event: int) -> dict[str, Any]:
    """Make an event's figure: the strain and its witnesses."""
    energy = np.maximum(np.asarray(run.dataset["qplot"][event]), 0)
    return figure(run, event, dict(zip(run.dataset.channels, energy)), energy[0])


def figure(run: Run, event: int, images: dict[str, NDArray], strain: NDArray) -> dict[str, Any]:
    """Pack images (F, T) of one event on the colour scale of its strain (F, T)."""
    frequency, time = axes(run.dataset, event)
    return {
        "frequency": _axis(frequency),
        "time": _axis(time),
        "top": round(draw.loud(strain), 2),
        "images": [{"name": name, **quantise(image)} for name, image in images.items()],
    }


def _axis(values: NDArray) -> dict[str, Any]:
    edges = plots.pixel_edges(values)
    return {"low": float(edges[0]), "high": float(edges[-1]), "logarithmic": plots.is_logarithmic(values)}


def quantise(image: NDArray) -> dict[str, Any]:
    """Pack energies (F, T) as at most PIXELS x PIXELS levels: energy = peak (level / LEVELS)^2, lowest frequency
    first."""
    small = coarsen(coarsen(np.maximum(image, 0).astype(np.float64)).T).T
    peak = max(float(small.max()), 1e-6)
    level = np.rint(LEVELS * np.sqrt(small / peak)).astype(np.uint8)
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(level).tobytes(), 9)).decode()
    return {"shape": list(level.shape), "peak": round(peak, 6), "data": data}


def coarsen(image: NDArray) -> NDArray:
    """Average neighbouring rows of (F, T), so that at most PIXELS are left."""
    rows, left = len(image), min(len(image), PIXELS)
    starts = np.arange(left) * rows // left
    return np.add.reduceat(image, starts, axis=0) / np.diff(np.append(starts, rows))[:, None]
