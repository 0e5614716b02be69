"""What a network removes at one time, what it would without each witness, and what other methods would.

Shapes: C channel, W witness, N sample, F frequency, T time, V variant left out.
"""

from collections.abc import Mapping

import numpy as np

from glitchflow.analysis.attribute import EVERYTHING, find_variants, quiet_parts
from glitchflow.analysis.event.window import Window
from glitchflow.config import Evaluate
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.methods.compare import Basis, fit_method
from glitchflow.methods.method import Block
from glitchflow.methods.treat import take
from glitchflow.score.mask import removal_mask
from glitchflow.signal.types import Array
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.twin.estimate import estimator_of, shown_of
from glitchflow.twin.kind import Trained

METHODS = ("linear", "wiener", "wiener_robust")  # that are quickly fitted, and see what the network does


def say_of(
    window: Window,
    network: Trained,
    threshold: float,
    replaced: Mapping[int, Array],
    strain: Array | None = None,
) -> Array:
    """Ask a network what it removes from a window (N,), in the strain's unit, some of its witnesses (by place) silent.

    threshold: clean.threshold, from which on energies are taken out. strain: another one (N,) in the window's.
    """
    names, strain = window.dataset.channels, window.series[0] if strain is None else strain
    if network.kind.array == "series":
        series = np.concatenate([strain[None], window.series[1:]])
        return network.predict(series[None], names, 1, replaced)["removed"][0]
    energy = network.predict(window.energies[None].astype(np.float32), names, 1, replaced)["qplot"]
    mask = removal_mask(energy, threshold)
    shown = shown_of(window.dataset, np.array([window.event or 0]))
    return estimator_of(window.dataset).tapered(strain[None], mask, shown)[0]


def left_out(
    window: Window, network: Checkpoint, ready: Trained, basis: Basis, settings: Evaluate, threshold: float
) -> dict[str, Array]:
    """Ask again without each witness, each group (`evaluate.groups`; else each with what is derived from it), and all:
    by name. Those without which nothing changes are left out."""
    quiet = quiet_parts(window.dataset, basis, network)
    whole = say_of(window, ready, threshold, {})
    variants = find_variants(settings.groups, basis.channels[1:], window.dataset.config.derived)
    found = {
        name: say_of(window, ready, threshold, {place: quiet[place] for place in places})
        for name, places in variants.items()
    }
    return {name: one for name, one in found.items() if name == EVERYTHING or not np.array_equal(one, whole)}


def others(window: Window, basis: Basis, settings: Evaluate, threshold: float) -> dict[str, Array | str]:
    """What other methods remove (N,), fitted to the train split that the network learned from; or why one is not."""
    found: dict[str, Array | str] = {}
    block, estimator = _block(window, basis), estimator_of(window.dataset)
    for name in METHODS:
        try:
            fit = fit_method(window.dataset, basis, name, threshold, settings)
        except InputError as error:
            found[name] = str(error)
            continue
        series = take(fit, estimator, block)[name].series
        assert series is not None, "there is an estimator"
        found[name] = series[0]
    return found


def _block(window: Window, basis: Basis) -> Block:
    places = [window.dataset.channels.index(name) for name in basis.channels[1:]]
    event = np.array([window.event or 0])
    return Block(
        events=event,
        gps=np.array([window.gps]),
        energies=window.energies[None, places],
        strain=window.series[:1],
        witnesses=window.series[None, places],
        valid=window.valid[None, places],
        rate=window.rate,
        shown=shown_of(window.dataset, event),
        seen=window.seen,
    )


def truth_of(dataset: Dataset, event: int | None) -> Array | None:
    """Read the witnessed part (N,) of the strain of a simulated event; None where nobody knows it."""
    if event is None or "witnessed_series" not in dataset:
        return None
    names = [name for name in ("witnessed_series", "shared_series") if name in dataset]
    return np.sum([dataset.events(name, np.array([event]))[0].astype(np.float64) for name in names], axis=0)


def loudest(window: Window) -> list[tuple[float, float, float]]:
    """Find the loudest pixel of each channel: energy, s from the middle, Hz."""
    frequency, time = window.axes
    found = []
    for image in window.energies:
        row, column = np.unravel_index(image.argmax(), image.shape)
        found.append((float(image[row, column]), float(time[column]), float(frequency[row])))
    return found
