"""Scattered light as recorded, what a coherent twin takes out of it, and what is left (after `make demo`)."""

from gwpy.timeseries import TimeSeries

import glitchflow
from glitchflow import QTransform
from glitchflow.figures.qplots import qplot_row

twin = glitchflow.open_twin("runs/quickstart")
dataset = glitchflow.open_store("runs/quickstart/dataset.zarr")
light = [e for e in dataset.indices("test") if dataset.labels[dataset["label"][e]] == "scattered_light"]
event = max(light, key=lambda event: dataset["snr"][event])
made, start = dataset.config.series, dataset["gps"][event]
recorded = {
    name: TimeSeries(values, t0=start, sample_rate=made.sample_rate)
    for name, values in zip(dataset.recorded_channels, dataset["series"][event])
}
strain = recorded[twin.strain]
cleaned = twin.clean(strain, recorded)
middle, grid = made.duration / 2, {"q": 12, "frange": (10, 200), "shape": (96, 192), "logf": True}
transform = QTransform(made.duration, made.sample_rate, outseg=(middle - 1, middle + 1), **grid)
parts, images = {"recorded": strain, "removed": strain - cleaned, "left": cleaned}, {}
for name, part in parts.items():  # each through the recorded strain's whitening, in its units
    images[name] = transform(strain.value[None, None], part.value[None]).companion[0]
figure = qplot_row(images, transform.frequencies.numpy(), transform.times.numpy() - middle)
figure.savefig("docs/gallery/scattered.png", dpi=90)
