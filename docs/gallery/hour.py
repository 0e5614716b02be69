"""An hour of a simulated observatory: the loudest sample of each second of strain and witness, and what it is."""

import numpy as np
from gwpy.timeseries import TimeSeries
from matplotlib.figure import Figure

import glitchflow
from glitchflow.figures.colours import COLOURS
from glitchflow.signal.simulation.stretch import draw_stretch, make_spans

experiment = glitchflow.load("configs/stretch.yaml")
maker = draw_stretch(experiment.simulate.detector, experiment.stretch, 512, experiment.seed)
(hour,) = make_spans(maker, [start := 1_400_000_000, start + 3600])
figure = Figure(figsize=(8, 5.4), layout="constrained")
panels = figure.subplots(2, 1, sharex=True)
for axis, name, subsystem in zip(panels, ("SIM:STRAIN", "SIM:PEM_1"), ("", "PEM")):
    place = maker.names.index(name)
    recorded = np.nan_to_num(hour.channels[place])  # faults are NaN
    white = TimeSeries(recorded, sample_rate=maker.rates[place]).whiten(8, 4, highpass=10).value
    loudest = abs(white).reshape(3600, -1).max(1)
    axis.plot(np.arange(3600) / 60, loudest, color="0.7", lw=0.6)
    for colour, family in zip(COLOURS, sorted({row.family for row in hour.rows})):
        rows = [row for row in hour.rows if row.family == family and row.subsystem in ("", subsystem)]
        at = [row.gps - start for row in rows]
        axis.plot(np.array(at) / 60, loudest[np.int64(at)], ".", color=colour, ms=5, label=family)
    axis.set(yscale="log", ylabel=f"{name}\nloudest sample / σ")
panels[1].set_xlabel("minutes from GPS 1400000000")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
figure.savefig("docs/gallery/hour.png", dpi=90)
