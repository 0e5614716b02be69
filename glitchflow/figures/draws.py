"""Real glitches beside drawn ones: mosaics of small Q-plots.

Shapes: E event, F frequency, T time.
"""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glitchflow.figures import drawn

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


@drawn
def side_by_side(families: Mapping[str, tuple[NDArray, NDArray]], across: int = 1) -> Figure:
    """Draw of each family real Q-plots (E, F, T) and drawn ones beside them, `across` families in a row."""
    rows = -(-len(families) // across)
    figure = Figure(figsize=(2 * across * INCHES, rows * (INCHES + 0.25)), layout="constrained")
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
            axis.imshow(mosaic(np.maximum(images, 0)), cmap=colours, norm=scale, interpolation="nearest")
            axis.set_title(f"{name}, {words}", loc="left", fontsize=9)
    return figure
