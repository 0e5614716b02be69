"""An earthquake that the sea floor's noise hides, uncovered by a twin of other days (docs/seafloor.md)."""

import os

from gwpy.timeseries import TimeSeriesDict
from matplotlib.figure import Figure

import glitchflow
from glitchflow.figures.colours import COLOURS

twin = glitchflow.open_twin("runs/seafloor", block=600, settle=300)
path = f"{os.environ['GLITCHFLOW_TEST_DATA']}/m08a/O-M08A_R-1015312208-7200.hdf5"
recorded = TimeSeriesDict.read(path, [twin.strain, *twin.witnesses])
noise = twin.estimate(recorded).crop(1015312809, 1015318800)  # 0 before and after
noise.override_unit("m")
strain = recorded[twin.strain].astype("float64").resample(1)
strain.t0 = round(strain.t0.value + 0.5)  # it begins between samples of its own rate
strain = strain.crop(*noise.span)
series = {"recorded": strain, "less what the witnesses say": strain - noise}
figure = Figure(figsize=(8, 4.2), layout="constrained")
panels = figure.subplots(2, 1, sharex=True, sharey=True)
for axis, colour, (name, one) in zip(panels, ("0.35", COLOURS[0]), series.items()):
    wave = one.bandpass(0.01, 0.02).crop(1015313100, 1015318500) * 1e6
    axis.plot((wave.times.value - 1015312209) / 60, wave.value, color=colour, lw=0.9)
    axis.set_title(name, loc="left", fontsize=11)
    axis.set_ylabel("10-20 mHz, μm", fontsize=10)
panels[1].set_xlabel("minutes from 2012-03-09 07:09:54 UTC; vertical of station M08A", fontsize=10)
figure.savefig("docs/gallery/earthquake.png", dpi=90)
