"""GW150914 at Hanford: gwpy's Q-transform, GlitchFlow's, and the largest difference between them."""

import os

import numpy as np
from gwpy.timeseries import TimeSeries

from glitchflow import QTransform
from glitchflow.figures.qplots import qplot_row

# GWOSC's file, in the directory where configs/gw150914.yaml looks for it
path = f"{os.environ['GLITCHFLOW_TEST_DATA']}/H-H1_LOSC_4_V2-1126259446-32.hdf5"
strain = TimeSeries.read(path, format="hdf5.gwosc").crop(1126259447, 1126259477)
strain.t0 = 0  # the peak is at 15.42 s then
grid = {"frange": (20, 500), "tres": 0.001, "fres": 200, "outseg": (15.2, 15.6), "logf": True}
ours = QTransform(30, 4096, q=8, **grid)(strain.value[None, None])
theirs = strain.q_transform(qrange=(8, 8), **grid)
energy, reference = ours.energy[0, 0].numpy(), np.asarray(theirs.value).T
worst = abs(energy - reference).max() / reference.max()
figure = qplot_row(
    {"gwpy": reference, "GlitchFlow": energy},
    ours.frequencies.numpy(),
    ours.times.numpy() - 15.42,
    f"GW150914, H1: largest difference {worst:.0e} of the loudest pixel",
)
figure.savefig("docs/gallery/qtransform.png", dpi=90)
