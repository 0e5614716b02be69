"""Every family of the simulated detector: the strain, and the witness or derived channel that is loudest then."""

import numpy as np

import glitchflow
from glitchflow import QTransform
from glitchflow.figures.qplots import colour_scale, qplot_grid
from glitchflow.signal.simulation.recipe import build_recipe

experiment = glitchflow.load("configs/synthetic.yaml", ["simulate.detector.snr=[25,40]"])
series = experiment.series
recipe = build_recipe(experiment.simulate, series, experiment.derived, experiment.seed)
transform = QTransform(
    series.duration, series.sample_rate, q=12, frange=(10, 200), shape=(48, 48), outseg=(7, 9), logf=True
)
first = {}
for index in range(60):
    event = recipe.event(index)
    first.setdefault(recipe.labels[event.label], event)
pairs = []
for family in recipe.labels[:8]:
    energy = transform(first[family].series[None]).energy[0].numpy()
    pairs.append((energy[0], energy[1:][energy[1:].max((1, 2)).argmax()]))
images = np.array(pairs).reshape(4, 4, 48, 48)  # two families a row
axes = transform.frequencies.numpy(), transform.times.numpy() - series.duration / 2
rows = [", ".join(recipe.labels[place : place + 2]) for place in (0, 2, 4, 6)]
columns = ["strain", "loudest witness"] * 2
figure = qplot_grid(images, *axes, columns, rows, colour_scale(images, 100))
figure.savefig("docs/gallery/families.png", dpi=64)
