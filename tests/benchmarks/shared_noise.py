"""What a coherent twin takes of shared noise: `python tests/benchmarks/shared_noise.py [--workdir DIR]`.

Makes 900 events of configs/coherent.yaml with four witnesses more, of which two share noise with the strain (broadband
in 12-50 Hz, lines at 60 and 180 Hz), trains a small twin for three epochs, and prints, as markdown, the ASD of quiet
test events after over before in bands and lines: of Wiener filters fitted to quiet train events and to the middle of
all, of the twin before any step and after, and of the truth; and the range at which a binary of neutron stars is
seen. What is there already is kept. Ends with status 1 where the trained twin is more than a tenth above the quiet
filter in any band. With `--run RUN --store STORE` a twin that is trained already is measured so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from gwpy.astro import sensemon_range
from gwpy.frequencyseries import FrequencySeries
from numpy.typing import NDArray

from glitchflow.data.store.dataset import Dataset, open_store
from glitchflow.score.shared import inspiral_range, shared
from glitchflow.score.statistics import Bootstrap
from glitchflow.signal.wiener import Wiener, cross_spectra, fit_wiener
from glitchflow.train import checkpoint
from glitchflow.twin.front import Front

CONFIG = Path(__file__).parents[2] / "configs" / "coherent.yaml"
SUBSYSTEM = {
    "name": "PEM",
    "count": 4,
    "rate": 512,
    "telling": 2,
    "hears": ["sine_gaussian", "ringdown"],
    "shared": 0.6,
    "band": [12, 50],
    "lines": [60, 180],
}
KEYS = {
    "generate": ("simulate.events=900", f"simulate.detector.subsystems={json.dumps([SUBSYSTEM])}"),
    "train": ("model.width=8", "train.workers=1", "train.epochs=3", "train.lr=2e-3", "train.warmup=20"),
}
BANDS = {
    "12-20 Hz": (12, 20),
    "20-35 Hz": (20, 35),
    "35-50 Hz": (35, 50),
    "60 Hz": (59, 61),
    "180 Hz": (179, 181),
    "62-178 Hz": (62, 178),
}
JUDGED, ABOUT, SEGMENT, BLOCK, TRAIN = 2.0, 3.0, 1.0, 20, 400  # s, s, s, events, events
TENTH = 1.1


def run(stage: str, home: Path) -> None:
    """One stage, as a user starts it."""
    command = [sys.executable, "-c", "from glitchflow.cli import main; main()", stage, str(CONFIG)]
    subprocess.run([*command, f"workdir={home}", *KEYS["generate"], *KEYS["train"]], check=True)


def wiener(series: NDArray, front: Front) -> Wiener:
    """Our filter of the strain by all other channels of series (E, R, N)."""
    blocks = [series[start : start + BLOCK] for start in range(0, len(series), BLOCK)]
    spectra = cross_spectra([(some[:, 0], some[:, 1:]) for some in blocks], round(SEGMENT * front.rate))
    return fit_wiener(spectra, front.rate, front.band)


def removed(dataset: Dataset, home: Path) -> tuple[Front, NDArray, dict[str, NDArray]]:
    """The front, quiet test events' strain (E, N), and what each removes of it, in the strain's unit."""
    twins = {
        name: checkpoint.find(home / "train" / "checkpoints", name).trained() for name in ("initial", "best")
    }
    front = twins["best"].normalisation
    assert isinstance(front, Front), "a coherent twin's"
    places = [dataset.recorded_channels.index(name) for name in front.channels]
    train, test = dataset.indices("train")[:TRAIN], dataset.indices("test")
    test, quiet = test[dataset.events("label", test) == 0], dataset.events("label", train) == 0
    seen, given = (dataset.events("series", some, places).astype(np.float64) for some in (train, test))
    centre, half = seen.shape[-1] // 2, round(ABOUT / 2 * front.rate)
    filters = {
        "Wiener, of quiet train events": wiener(seen[quiet], front),
        "Wiener, of 3 s about all events": wiener(seen[..., centre - half : centre + half], front),
    }
    found = {name: one.predict(given[:, 1:]) for name, one in filters.items()}
    for name, about in (("initial", "the twin before any step"), ("best", "the trained twin")):
        found[about] = twins[name].predict(given, front.channels, BLOCK)["removed"]
    found["all that is shared"] = dataset.events("shared_series", test).astype(np.float64)
    return front, given[:, 0], found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/shared_noise"))
    parser.add_argument("--run", type=Path, help="the working directory of a training that is there")
    parser.add_argument("--store", type=Path, help="and its dataset")
    given = parser.parse_args()
    home = given.run or given.workdir.resolve()
    if not given.run:
        run("generate", home)
        run("train", home)
    dataset = open_store(given.store or home / "dataset.zarr")
    front, strain, found = removed(dataset, home)

    def white(series: NDArray) -> NDArray:
        centre, half = series.shape[-1] // 2, round(JUDGED / 2 * front.rate)
        return front.strain(torch.from_numpy(series)).numpy()[:, centre - half : centre + half]

    before = white(strain)
    frequency = np.fft.rfftfreq(before.shape[1], 1 / front.rate)
    asd = np.interp(frequency, dataset["asd_frequency"][:], dataset["asd"][0])
    megaparsecs = sensemon_range(
        FrequencySeries(asd**2, frequencies=frequency, unit="strain2/Hz"), fmin=front.band[0]
    )
    print(f"{len(before)} quiet events of {JUDGED:g} s; range before {megaparsecs.value:.1f} Mpc\n")
    print(
        "| ASD after / before | " + " | ".join((*BANDS, "range")) + " |" + "\n|" + "---|" * (2 + len(BANDS))
    )
    ratios = {}
    for name, series in found.items():
        after = before - white(series)
        bands = shared(before, after, front.rate, BANDS, Bootstrap(1, 200))
        distance = inspiral_range(before, after, front.rate, front.band, asd, Bootstrap(1, 200))
        ratios[name] = np.array([one.value for one in bands.values()])
        cells = (f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in (*bands.values(), distance))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    return int((ratios["the trained twin"] > TENTH * ratios["Wiener, of quiet train events"]).any())


if __name__ == "__main__":
    sys.exit(main())
