"""Glitches that a generative twin drew, as Q-plots of 2 s from 10 to 200 Hz (docs/generative.md)."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import glitchflow
from glitchflow.figures.draws import LOUD, mosaic, scale_of_one

draws = glitchflow.open_store("runs/generative/samples.zarr")
label, energy = draws["label"][:], draws["qplot"][:]
frequency, time = draws["frequency"][:], draws["time"][:]
families = [name for number, name in enumerate(draws.labels) if (label == number).any()]
colours = matplotlib.colormaps["viridis"].resampled(16)  # few, so that the file is small
rows = -(-len(families) // 4)
figure = Figure(figsize=(8, 2.2 * rows), layout="constrained")
axes = figure.subplots(rows, 4, squeeze=False)
for axis in axes.flat:
    axis.axis("off")  # where no family is left
for axis, family in zip(axes.flat, families):
    images = energy[label == draws.labels.index(family)]
    axis.axis("on")
    shown = axis.imshow(
        mosaic(np.maximum(images, 0)), cmap=colours, vmin=0, vmax=LOUD, interpolation="nearest"
    )
    axis.set_title(family, loc="left", fontsize=10)
    scale_of_one(axis, images, frequency, time)
figure.colorbar(shown, ax=axes, extend="max", label="normalised energy")
figure.savefig("docs/gallery/drawn.png", dpi=90)
