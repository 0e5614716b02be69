"""What a posterior twin's draws leave of what was there, and how sure they are of it, beside draws that know less.

    glitchflow sample CONFIG sample.draws=64
    python tests/benchmarks/posterior.py CONFIG [section.key=value ...]

A row a family: what the coherent twin's y leaves, the mean of 8 and of 16 draws, the best of 8, 32 and 64, and how
many samples lie in the intervals of 50 and 90 %. Then the same of draws of the family's next event (`another`), and of
noise of its mean spectrum and loudness (`Gaussian`). Last, what draws of scattered light are by the templates.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.analysis.drawn import twin_of
from glitchflow.analysis.given import GIVEN, front_of
from glitchflow.config import load
from glitchflow.data.store import Dataset, open_store
from glitchflow.score.draws import of_mean_spectrum
from glitchflow.score.posterior import EVEN, coverage, left_by_best, left_by_mean, light
from glitchflow.score.statistics import Bootstrap, Interval, bootstrap_ratio
from glitchflow.signal.types import Indices
from glitchflow.twin import posterior
from glitchflow.twin.kind import Trained

INTERVAL = Bootstrap(1, 1000)
AT_ONCE = 64  # events that are read at once
NEAR = 1 / 16  # s, by whose power a sample is not silent
SCATTERED = "scattered_light"
COLUMNS = (
    "family | events | y | draws of | mean of 8 | mean of 16 | best of 8 | of 32 | of 64 | in 50 % | in 90 %"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*")
    words = parser.parse_args()
    experiment = load(words.config, words.overrides)
    dataset, samples = open_store(experiment.dataset), open_store(experiment.samples)
    if samples.attributes["series_are"] != GIVEN:
        parser.error(f"{samples.path}: not drawn by a posterior twin")
    trained = twin_of(samples).trained()
    draws, events, label = (samples[name][:] for name in ("series", "event", "label"))
    print(f"| {COLUMNS} |\n{'|---' * (COLUMNS.count('|') + 1)}|")
    for k in np.unique(label).tolist():
        mine = label == k
        truth = known(trained, dataset, events[mine])
        if np.square(truth[:, 0]).sum(1).max() >= 1:  # else no witness sees this family
            family(dataset.labels[k], truth, draws[mine].astype(np.float64), front_of(trained).rate)
    for k in np.unique(label).tolist():
        if dataset.labels[k] == SCATTERED:
            mine = label == k
            count = front_of(trained).templates
            templates = known(trained, dataset, events[mine])[:, 2 : 2 + count]
            found = light(draws[mine].astype(np.float64), templates, INTERVAL)
            print(
                f"\n{SCATTERED}: {spread(found.outside)} of the draws' power is no template's; phases are"
                f" {found.distance:.3f} from uniform ones (chance {found.chance:.2f})"
            )


def family(name: str, truth: NDArray, draws: NDArray, rate: float) -> None:
    """Print the rows of one family, of truth (E, 2 + A + C, n) and draws (E, D, n)."""
    w, y, rng = truth[:, 0], truth[:, 1], np.random.default_rng(1)
    alone = spread(bootstrap_ratio(np.square(w - y).sum(1), np.square(w).sum(1), *INTERVAL))
    noise = of_mean_spectrum(w, draws[..., 0].size, rng).reshape(draws.shape)
    sides = {
        "twin": draws,
        "another": np.roll(draws, 1, axis=0),
        "Gaussian": noise * np.linalg.norm(w, axis=1)[:, None, None],
    }
    for side, some in sides.items():
        known, near = some.shape[1], round(NEAR * rate)
        cells = [
            spread(left(w, some, count, INTERVAL)) if known >= count else "–"
            for left, counts in ((left_by_mean, (8, 16)), (left_by_best, (8, 32, 64)))
            for count in counts
        ]
        cells += [
            percent(coverage(w, some, share, near, INTERVAL)) if known >= EVEN - 1 else "–"
            for share in (0.5, 0.9)
        ]
        print(f"| {name} | {len(w)} | {alone} | {side} | {' | '.join(cells)} |", flush=True)


def known(trained: Trained, dataset: Dataset, events: Indices) -> NDArray:
    """w, y, templates and inputs (E, 2 + A + C, n) of events."""
    front = front_of(trained)
    source = posterior.through(front, trained.network, posterior.reads(dataset, front, (), 0))
    parts = [np.empty((0, *source.shape))]
    with torch.no_grad():
        for first in range(0, len(events), AT_ONCE):
            some = events[first : first + AT_ONCE]
            parts.append(posterior.seen(source, dataset, some).numpy())
    return np.concatenate(parts)


def spread(found: Interval) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def percent(found: Interval) -> str:
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f}) %"


if __name__ == "__main__":
    main()
