"""Real glitches beside drawn ones: mosaics of small Q-plots.

Shapes: E event, F frequency, T time.
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glitchflow.figures import drawn
from glitchflow.figures.qplots import energy_bar, pixel_edges

SIDE = 5  # Q-plots along each edge of a mosaic
GAP = 3  # pixels between them
COLOURS = 16  # few, so that a page of them stays small
LOUD = 25.0  # energy that is brightest
INCHES = 2.6  # of a mosaic's edge


def mosaic(images: NDArray) -> NDArray[np.float32]:
    """Lay out the first `SIDE` x `SIDE` images (E, F, T) in rows, lowest frequency last; NaN between and where none
    is left."""
    rows, columns = images.shape[1:]
    tiles = np.full((SIDE, SIDE, rows + GAP, columns + GAP), np.nan, np.float32)
    for place, image in enumerate(images[: SIDE**2]):
        tiles[place // SIDE, place % SIDE, :rows, :columns] = image[::-1]
    return tiles.transpose(0, 2, 1, 3).reshape(SIDE * (rows + GAP), -1)[:-GAP, :-GAP]


def scale_of_one(axis: Axes, images: NDArray, frequency: NDArray, time: NDArray) -> None:
    """Say at the edges of a mosaic of images (E, F, T) what one of them spans: frequency (F,) in Hz, time (T,) in s."""
    rows, columns = images.shape[1:]
    last = (min(len(images), SIDE**2) - 1) // SIDE
    bottom = last * (rows + GAP) + rows - 0.5
    low, high = pixel_edges(frequency)[[0, -1]]
    first, stop = pixel_edges(time)[[0, -1]]
    axis.set_yticks([bottom - rows, bottom], [f"{high:.0f} Hz", f"{low:.0f}"])
    axis.set_xticks([-0.5, columns - 0.5], ["0", f"{stop - first:.3g} s"])
    axis.tick_params(labelsize=7, length=2, pad=1)
    axis.spines[:].set_visible(False)


@drawn
def side_by_side(
    families: Mapping[str, tuple[NDArray, NDArray]], frequency: NDArray, time: NDArray, across: int = 1
) -> Figure:
    """Draw of each family real Q-plots (E, F, T) and drawn ones beside them, `across` families in a row.

    frequency: (F,) in Hz; time: (T,) in s.
    """
    rows = -(-len(families) // across)
    figure = Figure(figsize=(2 * across * (INCHES + 0.35) + 0.9, rows * (INCHES + 0.4)), layout="constrained")
    axes = figure.subplots(rows, 2 * across, squeeze=False)
    colours = matplotlib.colormaps["viridis"].resampled(COLOURS)
    scale = Normalize(0.0, LOUD)  # not the square root: noise would be most of what is seen
    for axis in axes.flat:
        axis.axis("off")
    for place, (name, sides) in enumerate(families.items()):
        row, column = divmod(place, across)
        for axis, images, words in zip(
            axes[row, 2 * column : 2 * column + 2], sides, ("real", "drawn"), strict=True
        ):
            axis.axis("on")
            shown = axis.imshow(
                mosaic(np.maximum(images, 0)), cmap=colours, norm=scale, interpolation="nearest"
            )
            axis.set_title(f"{name}, {words}", loc="left", fontsize=9)
            scale_of_one(axis, images, frequency, time)
    loudest = max(images.max(initial=0) for sides in families.values() for images in sides)
    energy_bar(figure, shown, axes, loudest, shrink=1 / rows)
    return figure
