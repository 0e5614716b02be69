"""What a Wiener filter is fitted to decides what it adds: `python tests/benchmarks/wiener_spans.py --store DATASET`.

Fits our multichannel Wiener filter to the middle of the same train events of a simulated dataset with series, by the
seconds about each that it sees and by the length of its segments, and scores each on the same test events: `residual`,
with 64 s of quiet time beside each glitch, `left`, and the noise that it adds, in the 2 s about each event, whitened as
the coherent twin does. Prints a markdown table.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow.data.store.dataset import Dataset, open_store
from glitchflow.signal.types import Indices
from glitchflow.signal.wiener import cross_spectra, fit_wiener
from glitchflow.twin.front import Front, build_front

TRAIN, TEST, BLOCK = 400, 300, 32  # events
QUIET = 64.0  # s beside each glitch
JUDGED = 2.0  # s
FITTED = (
    (3.0, 512),
    (7.0, 512),
    (16.0, 512),
    (16.0, 128),
    (3.0, 128),
)  # s about an event, samples of a segment


def chosen(dataset: Dataset, split: str, count: int) -> Indices:
    """The first events of a split that are quiet or of a witnessed family."""
    events, labels = dataset.indices(split), dataset.labels
    wanted = [0, *(labels.index(name) for name in dataset.witnessed_labels)]
    return events[np.isin(dataset.events("label", events), wanted)][:count]


def recorded(dataset: Dataset, events: Indices) -> NDArray:
    places = list(range(len(dataset.recorded_channels)))
    return dataset.events("series", events, places).astype(np.float64)


def middle(samples: int, seconds: float, rate: float) -> slice:
    half = round(seconds * rate / 2)
    return slice(max(0, samples // 2 - half), samples // 2 + half)


def row(dataset: Dataset, front: Front, span: float, segment: int) -> tuple[float, float, float]:
    """Residual, left, and the noise that a filter adds which was fitted to `span` s about each train event."""
    train, test = chosen(dataset, "train", TRAIN), chosen(dataset, "test", TEST)
    seen, given = recorded(dataset, train), recorded(dataset, test)
    rate, part = front.rate, middle(seen.shape[-1], span, front.rate)
    blocks = (seen[start : start + BLOCK, :, part] for start in range(0, len(seen), BLOCK))
    fitted = fit_wiener(cross_spectra([(b[:, 0], b[:, 1:]) for b in blocks], segment), rate, front.band)

    def white(series: NDArray) -> NDArray:
        judged = middle(series.shape[-1], JUDGED, rate)
        return front.strain(torch.from_numpy(series)).numpy()[:, judged]

    truth = white(dataset.events("witnessed_series", test).astype(np.float64))
    strain, removed = white(given[:, 0]), white(fitted.predict(given[:, 1:]))
    wrong, power = np.square(truth - removed).sum(1), np.square(truth).sum(1)
    glitch, quiet = power >= 1, dataset.events("label", test) == 0
    beside = QUIET * glitch.sum() / (JUDGED * quiet.sum())
    total = power[glitch].sum()
    added = np.sqrt(np.square(removed[quiet]).sum() / np.square(strain[quiet]).sum())
    return (
        float((wrong[glitch].sum() + beside * wrong[quiet].sum()) / total),
        float(wrong[glitch].sum() / total),
        float(added),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", required=True, help="a dataset of configs/synthetic.yaml, with series")
    dataset = open_store(parser.parse_args().store)
    front = build_front(dataset, dataset.channels)
    print("| fitted to | residual | left | noise added |\n|---|---|---|---|")
    for span, segment in FITTED:
        residual, left, added = row(dataset, front, span, segment)
        about = f"{span:g} s, segments of {segment / front.rate:g} s"
        print(f"| {about} | {residual:.2f} | {left:.2f} | {added:.1%} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
