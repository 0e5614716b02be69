"""What a twin expects of the strain from the witnesses, and the veto that follows from it (after `make demo`)."""

import numpy as np

import glitchflow
from glitchflow.figures.colours import COLOURS
from glitchflow.figures.qplots import qplot_row
from glitchflow.score.clusters import cluster_columns, pixel_areas

experiment = glitchflow.load("configs/quickstart.yaml")
dataset = glitchflow.open_store(experiment.dataset)
predictions = glitchflow.open_store(experiment.predictions)
witnessed = [e for e in dataset.indices("test") if dataset.labels[dataset["label"][e]] == "sine_gaussian"]
event = max(witnessed, key=lambda event: dataset["snr"][event])
frequency, time = dataset["frequency"][:], dataset["time"][:]
strain, expected = dataset["qplot"][event, 0], predictions["qplot"][event]
evaluate, areas = experiment.evaluate, pixel_areas(frequency, time)
columns = cluster_columns(expected[None], np.array([evaluate.veto]), areas, evaluate.area)[0] > 0
start, stop = time[columns][[0, -1]] + np.array([-1, 1]) * experiment.veto.padding
figure = qplot_row({"strain": strain, "expected from the witnesses": expected}, frequency, time)
for axis in figure.axes[:2]:
    axis.axvspan(start, stop, fill=False, edgecolor=COLOURS[1], lw=2)
figure.suptitle(f"framed: vetoed, where clusters of at least {evaluate.veto:g} are expected", fontsize=10)
figure.savefig("docs/gallery/veto.png", dpi=90)
