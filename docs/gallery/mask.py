"""A signal that meets a glitch: what the perfect mask leaves of both, and what subtracting a series leaves."""

from dataclasses import replace

import numpy as np
from scipy.signal import chirp

from glitchflow import QTransform
from glitchflow.figures.qplots import qplot_row

rate, seconds = 512, 16
time = np.arange(rate * seconds) / rate - seconds / 2
noise = np.random.default_rng(1).standard_normal(len(time))
glitch = 5 * np.exp(-((time / 0.12) ** 2)) * np.sin(2 * np.pi * 60 * time)
sweep = 1.8 * chirp(time + 0.5, 35, 1, 110, "hyperbolic") * np.cos(np.pi * time)
both = noise + glitch + np.where(abs(time) < 0.5, sweep, 0)
grid = {"q": 12, "frange": (10, 200), "outseg": (7.2, 8.8), "shape": (64, 128), "logf": True}
transform = QTransform(seconds, rate, whiten=False, **grid)
quiet, loud, given = (transform.coefficients(one[None, None]) for one in (noise, glitch, both))
kept = [  # turned down where the glitch is loud
    values * ((n.abs() ** 2).mean(-1, True) / g.abs() ** 2).clamp(max=1).sqrt()
    for n, g, values in zip(quiet.values, loud.values, given.values)
]
masked = transform.inverse(replace(given, values=tuple(kept)))[0, 0].numpy()
series = {"recorded": both, "masked": masked, "subtracted, all but 3 %": both - 0.97 * glitch}
images = {name: transform(one[None, None]).energy[0, 0] for name, one in series.items()}
figure = qplot_row(images, transform.frequencies.numpy(), transform.times.numpy() - 8, maximum=60)
figure.savefig("docs/gallery/mask.png", dpi=90)
