"""An earthquake before and after: `python tests/benchmarks/earthquake.py [--workdir runs/seafloor] [--figure FILE]`.

Takes the store that tests/benchmarks/seafloor.py makes, learns a robust Wiener filter from its train split, subtracts
from two hours of 2012-03-09 what it predicts, and draws the surface wave of the M6.6 earthquake at 10-20 mHz. Prints
how far the wave stands out of the noise, before and after. With --twin RUN, the working directory of a coherent twin of
the same days, what that leaves stands beneath. docs/seafloor.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.figure import Figure

from glitchflow.config import Loader, load
from glitchflow.data.store import open_store
from glitchflow.figures.colours import METHODS, RECORDED
from glitchflow.methods.compare import basis_of, fit_method
from glitchflow.score.power import in_band
from glitchflow.signal.recorded.recording import read_channel
from glitchflow.train import checkpoint

CONFIG = Path(__file__).parents[2] / "configs" / "seafloor.yaml"
START, SECONDS = 1015312209, 7198  # of the file, whole seconds
WAVE, QUIET = (2100, 2700), (3300, 6300)  # s from there: the surface wave, and noise without it
BAND = (0.01, 0.02)  # Hz


def draw(series: dict[str, np.ndarray], rate: float, path: Path) -> None:
    """Recorded and cleaned in the band, each over the rms of its own quiet time."""
    figure = Figure(figsize=(8, 0.4 + 1.9 * len(series)), layout="constrained")
    panels = figure.subplots(len(series), 1, sharex=True)
    colours = (RECORDED, METHODS["wiener"][0], METHODS["network"][0])
    for panel, (name, values), colour in zip(panels, series.items(), colours):
        minutes = np.arange(len(values)) / rate / 60
        panel.plot(minutes, values / noise(values, rate), color=colour, lw=0.9)
        panel.set_title(f"{name}: {peak(values, rate):.1f} × rms", loc="left", fontsize=11)
        panel.set_ylabel("× rms in quiet time", fontsize=10)
        panel.tick_params(labelsize=9)
    panels[-1].set_xlabel(
        "minutes from 2012-03-09 07:09:54 UTC; vertical ground motion, 10-20 mHz", fontsize=10
    )
    figure.savefig(path, dpi=110)


def cut(values: np.ndarray, rate: float, span: tuple[int, int]) -> np.ndarray:
    return values[round(span[0] * rate) : round(span[1] * rate)]


def noise(values: np.ndarray, rate: float) -> float:
    return float(cut(values, rate, QUIET).std())


def peak(values: np.ndarray, rate: float) -> float:
    """How far the surface wave stands out of quiet time."""
    return float(np.abs(cut(values, rate, WAVE)).max()) / noise(values, rate)


def removed(run: Path, series: np.ndarray) -> np.ndarray:
    """What a coherent twin takes out of the strain of series (C, N), all along."""
    twin = checkpoint.find(run / "train" / "checkpoints", "best").trained()
    everywhere = replace(twin, normalisation=replace(twin.normalisation, span=float(SECONDS)))
    return everywhere.predict(series[None], twin.normalisation.channels, 1)["removed"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/seafloor"))
    parser.add_argument("--figure", type=Path, default=Path("earthquake.png"))
    parser.add_argument("--twin", type=Path, help="the workdir of a coherent twin that was trained")
    arguments = parser.parse_args()
    experiment = load(str(CONFIG), [])
    rate = experiment.series.sample_rate
    strain, *witnesses = (read_channel(one, START, SECONDS, rate) for one in experiment.ingest.channels)
    dataset = open_store(arguments.workdir / "dataset.zarr")
    fit = fit_method(dataset, basis_of(dataset, Loader()), "wiener_robust", 16.0, experiment.evaluate)
    predicted = fit.fitted["wiener_robust"].wiener.predict(np.stack(witnesses)[None])[0]
    left = {"recorded": strain, "less what a robust Wiener filter says": strain - predicted}
    if arguments.twin:
        taken = removed(arguments.twin, np.stack([strain, *witnesses]))
        left["less what the coherent twin says"] = strain - taken
    series = {name: in_band(values, rate, BAND) for name, values in left.items()}
    for name, values in series.items():
        wave = np.abs(cut(values, rate, WAVE)).max()
        print(f"{name}: {1e6 * wave:.1f} um, {peak(values, rate):.1f} x rms")
    draw(series, rate, arguments.figure)


if __name__ == "__main__":
    main()
