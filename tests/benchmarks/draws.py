"""How a generative twin's draws compare with real glitches, beside two generators that know nothing.

    glitchflow generate CONFIG; glitchflow train CONFIG; glitchflow sample CONFIG sample.count=3000
    python tests/benchmarks/draws.py CONFIG [section.key=value ...] [--figure FILE]

A row a family: the median match with the nearest training event over that of the test and validation events, and the
share of draws beyond their 99th percentile, as docs/generative.md tells; `half` are one half of those events beside the
other. For datasets with the truth (`store.transients`): matches in noise say nothing.
"""

from __future__ import annotations

import argparse
import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.analysis.sample import engine_of, find_twin, images
from glitchflow.config import load
from glitchflow.data.store import Dataset, open_store
from glitchflow.score.draws import Nearness, nearness, of_mean_spectrum, remembered
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.twin.white import White, read

MOST = 600  # of draws and events of a family that are compared
SHOWN = 5  # of each side of a row of the figure, which has two rows a family
LOUD = 25  # energy that is white


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--figure", default="", help="real beside drawn, as Q-plots")
    words = parser.parse_args()
    experiment = load(words.config, words.overrides)
    dataset, found = open_store(experiment.dataset), find_twin(experiment)
    samples = open_store(experiment.sample.path or f"{experiment.workdir}/samples.zarr")
    families = [k for k, count in enumerate(found.normalisation.counts) if count]
    print(
        "| family | learned, others, draws | rms | twin | half | Gaussian | remembered |\n|---|---|---|---|---|---|---|"
    )
    for k in families:
        print(row(dataset, samples, found.normalisation, k))
    if words.figure:
        draw(dataset, samples, found, families, words.figure)


def events_of(dataset: Dataset, white: White, k: int, splits: tuple[str, ...]) -> NDArray:
    """The first white glitches (E, n) of a family in some splits."""
    some = np.sort(np.concatenate([dataset.indices(split) for split in splits]))
    some = some[dataset["label"][:][some] == k][:MOST]
    return torch.cat([*read(white, dataset, some)]).numpy()


def row(dataset: Dataset, samples: Dataset, white: White, k: int) -> str:
    """One family's line of the table."""
    learned = events_of(dataset, white, k, ("train",))
    others = events_of(dataset, white, k, ("validation", "test"))
    mine = np.flatnonzero(samples["label"][:] == k)[:MOST]
    drawn, rng = samples["series"][:][mine].astype(np.float64), np.random.default_rng(k)
    size = samples["size"][:][mine].mean()
    compared = [
        nearness(drawn, learned, others),
        nearness(others[::2], learned, others[1::2]),
        nearness(of_mean_spectrum(learned, len(drawn), rng), learned, others),
        nearness(remembered(learned, len(drawn), rng), learned, others),
    ]
    counts = f"{len(learned)}, {len(others)}, {len(drawn)}"
    return f"| {white.labels[k]} | {counts} | {size:.2f} | {' | '.join(map(told, compared))} |"


def told(found: Nearness) -> str:
    ratio, beyond = dataclasses.astuple(found)
    return f"{ratio:.2f}, {beyond:.1%}"


def draw(dataset: Dataset, samples: Dataset, found: Checkpoint, families: list[int], path: str) -> None:
    """Five by two real glitches beside five by two drawn ones of each family, in noise."""
    white, engine, rng = found.normalisation, engine_of(found), np.random.default_rng(0)
    figure, axes = plt.subplots(2 * len(families), 2 * SHOWN, figsize=(12, 2 * len(families)))
    for axis in axes.flat:
        axis.axis("off")
    for place, k in enumerate(families):
        real = events_of(dataset, white, k, ("validation", "test"))[: 2 * SHOWN]
        shown = images(engine, (real + rng.standard_normal(real.shape)).astype(np.float32))
        drawn = samples["qplot"][:][np.flatnonzero(samples["label"][:] == k)[: 2 * SHOWN]]
        for side, some in enumerate((shown, drawn)):
            for i, image in enumerate(some):
                axis = axes[2 * place + i // SHOWN, side * SHOWN + i % SHOWN]
                axis.imshow(image, origin="lower", aspect="auto", vmin=0, vmax=LOUD)
        axes[2 * place, 0].set_title(f"{white.labels[k]}, real", loc="left", fontsize=8)
        axes[2 * place, SHOWN].set_title(f"{white.labels[k]}, drawn", loc="left", fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    main()
