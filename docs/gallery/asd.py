"""The sea floor's spectrum before and after, on a day that its twin did not learn from (docs/seafloor.md)."""

import os

from gwpy.timeseries import TimeSeriesDict

import glitchflow
from glitchflow.figures.curves import empty_axes, look

twin = glitchflow.open_twin("runs/seafloor", block=600, settle=300)
path = f"{os.environ['GLITCHFLOW_TEST_DATA']}/m08a/O-M08A_R-1014811215-43200.hdf5"
recorded = TimeSeriesDict.read(path, [twin.strain, *twin.witnesses])
noise = twin.estimate(recorded).crop(1014813000, 1014852000)  # 0 before and after
noise.override_unit("m")
strain = recorded[twin.strain].astype("float64").resample(1).crop(*noise.span)
figure, axis = empty_axes("frequency [Hz]", "vertical displacement [m/√Hz]", 7.2)
series = {"less what the witnesses say": strain - noise, "recorded": strain, "what the witnesses say": noise}
for number, (name, one) in enumerate(series.items()):
    asd = one.asd(500, 250, method="median").crop(0.003, 0.4)
    axis.loglog(asd.frequencies.value, asd.value, label=name, **look(name, number))
axis.axvspan(0.005, 0.2, color="#f0f0f0", zorder=0)
axis.set_title("shaded: the twin's band", loc="right", fontsize=10)
axis.set_ylim(1e-7, 3e-4)
axis.legend(frameon=False, fontsize=10, handlelength=3)
figure.savefig("docs/gallery/asd.png", dpi=90)
