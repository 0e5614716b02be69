"""How a generative twin's draws compare with real glitches, beside two generators that know nothing.

    glitchflow generate CONFIG; glitchflow train CONFIG; glitchflow sample CONFIG sample.count=3000
    python tests/benchmarks/draws.py CONFIG [section.key=value ...] [--figure FILE] [--figure-only]

Three tables with a row a family, each of the twin, one half of the real events beside the other, noise with their mean
spectrum, and training events moved in time; docs/generative.md says what the numbers are. For datasets with the truth
(`store.transients`): matches in noise say nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.drawn import beside, events_of, real_images, real_series, white_of
from glitchflow.analysis.sample import find_twin
from glitchflow.config import load
from glitchflow.data.store import Dataset, open_store
from glitchflow.figures.draws import SIDE, side_by_side
from glitchflow.score.draws import nearness, of_mean_spectrum, remembered
from glitchflow.score.draws_classifier import told_apart
from glitchflow.score.draws_shapes import distances, shapes
from glitchflow.score.statistics import Bootstrap, Interval
from glitchflow.train.checkpoint import Checkpoint

MOST = 600  # of draws and events of a family that are compared
INTERVAL = Bootstrap(1, 1000)
OTHERS = ("validation", "test")
SHAPES = ("peak_frequency", "duration", "bandwidth", "snr")


@dataclass(frozen=True)
class Family:
    """What is compared of one family: white series (E, n) without noise, Q-plots (E, F, T) in noise, and SNRs (E,)."""

    name: str
    learned: NDArray
    others: NDArray
    drawn: NDArray
    size: NDArray  # of the draws, before they were scaled
    real: NDArray  # Q-plots of others and learned, the others first
    norm: NDArray  # their SNRs
    sides: dict[str, tuple[NDArray, NDArray]]  # by generator: Q-plots, and SNRs before scaling
    axes: tuple[NDArray, NDArray]  # of all Q-plots: Hz, s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--figure", default="", help="real beside drawn, as Q-plots")
    parser.add_argument("--figure-only", action="store_true", help="no tables")
    words = parser.parse_args()
    experiment = load(words.config, words.overrides)
    dataset, found = open_store(experiment.dataset), find_twin(experiment)
    samples = open_store(experiment.samples)
    if words.figure:
        axes = dataset["frequency"][:], dataset["time"][:]
        side_by_side(beside(dataset, samples, SIDE**2), *axes, across=2).savefig(words.figure, dpi=96)
    if not words.figure_only:
        counts = white_of(found).counts
        families = [family_of(found, dataset, samples, k) for k, count in enumerate(counts) if count]
        for columns, compare in (
            ("learned, others, draws | rms | twin | half | Gaussian | remembered", of_nearness),
            ("of each side | twin | half | Gaussian | remembered", of_classifier),
            (
                "real, draws | peak frequency | duration | bandwidth | SNR | Gaussian, worst | remembered, worst",
                of_shapes,
            ),
        ):
            print(f"\n| family | {columns} |\n{'|---' * (columns.count('|') + 2)}|")
            for family in families:
                print(f"| {family.name} | {' | '.join(compare(family))} |", flush=True)


def family_of(found: Checkpoint, dataset: Dataset, samples: Dataset, k: int) -> Family:
    """Everything that is compared of one family."""
    white, rng = white_of(found), np.random.default_rng(k)
    learned, others = (
        real_series(white, dataset, events_of(dataset, k, splits, MOST)) for splits in (("train",), OTHERS)
    )
    mine = np.flatnonzero(samples["label"][:] == k)[:MOST]
    series = samples["series"][:][mine].astype(np.float64)
    size, asked = samples["size"][:][mine], samples["snr"][:][mine]
    norm = np.linalg.norm(np.concatenate([others, learned]), axis=1)
    gaussian = of_mean_spectrum(learned, MOST, rng) * rng.choice(norm, MOST)[:, None]
    known = remembered(learned, MOST, rng)
    real = real_images(found, np.concatenate([others, learned])[:MOST], k)
    norm = norm[: len(real)]
    sides = {
        "twin": (samples["qplot"][:][mine], size * asked),
        "half": (real[1::2], norm[1::2]),
        "Gaussian": (real_images(found, gaussian, 100 + k), np.linalg.norm(gaussian, axis=1)),
        "remembered": (real_images(found, known, 200 + k), np.linalg.norm(known, axis=1)),
    }
    axes = samples["frequency"][:], samples["time"][:]
    return Family(white.labels[k], learned, others, series, size, real, norm, sides, axes)


def of_nearness(family: Family) -> list[str]:
    """The median match over that of other events, and the share remembered."""
    learned, others, rng = family.learned, family.others, np.random.default_rng(len(family.drawn))
    compared = [
        nearness(family.drawn, learned, others, INTERVAL),
        nearness(others[::2], learned, others[1::2], INTERVAL),
        nearness(of_mean_spectrum(learned, len(family.drawn), rng), learned, others, INTERVAL),
        nearness(remembered(learned, len(family.drawn), rng), learned, others, INTERVAL),
    ]
    counts = f"{len(learned)}, {len(others)}, {len(family.drawn)}"
    low, high = np.quantile(family.size, (0.1, 0.9))
    cells = [f"{spread(one.ratio)}; {percent(one.remembered)}" for one in compared]
    return [counts, f"{family.size.mean():.2f} ({low:.2f} to {high:.2f})", *cells]


def of_classifier(family: Family) -> list[str]:
    """How often real and other are told apart."""
    cells, counts = [], []
    for name, (images, _) in family.sides.items():
        real = family.real[::2] if name == "half" else family.real
        counts.append(min(len(real), len(images)))
        cells.append(spread(told_apart(real, images, 1, INTERVAL)))
    return [", ".join(map(str, counts)), *cells]


def of_shapes(family: Family) -> list[str]:
    """The distances of the twin's and of the half's, with what chance makes; of the others' the largest."""
    columns = {
        name: shapes(images, *family.axes) | {"snr": snr} for name, (images, snr) in family.sides.items()
    }
    real = shapes(family.real, *family.axes) | {"snr": family.norm}
    halves = {name: values[::2] for name, values in real.items()}
    found = {name: distances(halves if name == "half" else real, one) for name, one in columns.items()}
    cells = [f"{len(real['snr'])}, {len(family.drawn)}"]
    for name in SHAPES:
        twin, half = found["twin"][name], found["half"][name]
        cells.append(f"{twin.value:.2f} ({twin.chance:.2f}); {half.value:.2f} ({half.chance:.2f})")
    largest = [max(found[name][shape].value for shape in SHAPES[:3]) for name in ("Gaussian", "remembered")]
    return [*cells, *(f"{value:.2f}" for value in largest)]


def spread(found: Interval) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def percent(found: Interval) -> str:
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f}) %"


if __name__ == "__main__":
    main()
