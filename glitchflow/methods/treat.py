"""From what methods expect to what they take out of a block of events: w', the series, made the same way for all.

    energies or a mask --exact inverse, tapered beyond the window--> w'     an image method
    w' as it is                                                            a method of series
    strain - w' --the strain's own whitening, plane and units--> what is left, as series and energies

Shapes: E event, M method, W witness, F frequency, T time, N sample, n sample of the window that is shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from glitchflow.data.store import Dataset
from glitchflow.data.view import read_series
from glitchflow.errors import RunError
from glitchflow.methods.method import Block, Fit, Removed, Truth
from glitchflow.score import metrics
from glitchflow.score.made import Made
from glitchflow.score.mask import removal_mask
from glitchflow.score.power import in_band
from glitchflow.signal.qtransform import Seen, look
from glitchflow.signal.recorded.recording import Recording, cut
from glitchflow.signal.types import Array, Energies, Indices
from glitchflow.twin.estimate import Estimator, shown_of

TRUTH = ("witnessed", "witnessed_series", "shared_series")


def read_block(
    dataset: Dataset,
    events: Indices,
    witnesses: list[str],
    estimator: Estimator | None,
    frames: Recording | None = None,
) -> tuple[Block, Energies]:
    """Read some ascending events with all that methods may ask for, their truth too, and the strain's energies
    (E, F, T). frames: the truth where the store has none, see `Fit`."""
    optional = [name for name in ("valid", *TRUTH) if name in dataset]
    read = {name: dataset.events(name, events) for name in ("gps", "label", *optional)}
    channels = [dataset.channels[0], *witnesses]
    places = [dataset.channels.index(name) for name in channels]
    energy = np.maximum(dataset.events("qplot", events, places), 0)
    every = np.ones((len(events), len(dataset.channels)), bool)
    values = None if estimator is None else read_series(dataset, events, channels)
    seen = None if estimator is None or values is None else look(estimator.engine, values[:, 0])
    truth = None
    if frames is not None and seen is not None:
        truth = recorded_truth(frames, events, seen, read["label"])
    elif "witnessed" in read:
        series, shared = (
            read[name].astype(np.float64) if name in read else None
            for name in ("witnessed_series", "shared_series")
        )
        truth = Truth(np.maximum(read["witnessed"], 0), series, read["label"], shared)
    block = Block(
        events=events,
        gps=read["gps"],
        energies=energy[:, 1:],
        strain=None if values is None else values[:, 0],
        witnesses=None if values is None else values[:, 1:],
        valid=read.get("valid", every)[:, places[1:]],
        rate=dataset.config.series.sample_rate,
        shown=shown_of(dataset, events),
        seen=seen,
        truth=truth,
    )
    return block, energy[:, 0]


def recorded_truth(frames: Recording, events: Indices, seen: Seen, label: Indices) -> Truth:
    """Cut the truth about some events from its frames. Raises `RunError` where they have no samples of one."""
    found = [cut(frames, event) for event in events.tolist()]
    for reason in (reason for _, gaps in found for reason in gaps.values()):
        raise RunError(f"evaluate.truth: {reason.removeprefix('ingest.channels ')}")
    transients, shared = np.stack([values for values, _ in found], axis=1)
    return Truth(seen.energies(seen.whiten(transients[:, None]))[:, 0], transients, label, shared)


def alone(block: Block, place: int, strain: Array) -> Block:
    """Take one event of a block, with another strain (N,) in it."""
    one, truth, seen = slice(place, place + 1), block.truth, block.seen
    if truth is not None:
        series, shared = (None if part is None else part[one] for part in (truth.series, truth.shared))
        truth = Truth(truth.energies[one], series, truth.label[one], shared)
    return replace(
        block,
        events=block.events[one],
        gps=block.gps[one],
        energies=block.energies[one],
        strain=strain[None],
        witnesses=None if block.witnesses is None else block.witnesses[one],
        valid=block.valid[one],
        shown=block.shown[one],
        seen=None if seen is None else look(seen.engine, strain[None]),
        truth=truth,
    )


@dataclass(frozen=True)
class Taken:
    """Holds what a method takes out of a block."""

    generated: Energies | None  # (E, F, T)
    mask: Energies | None  # (E, F, T); None of a method of series
    series: Array | None  # (E, N) w' in the strain's unit; None where the store kept no series


def ask(fit: Fit, block: Block) -> dict[str, Taken]:
    """Ask every method what it takes out of a block, without the series of those that have a mask."""
    blind = replace(block, truth=None)
    found = {}
    for name, method in fit.methods.items():
        removed = fit.fitted[name].removed(block if method.truth else blind)
        found[name] = Taken(removed.generated, _mask(removed, fit.floor[:, None]), removed.series)
    return found


def take(fit: Fit, estimator: Estimator | None, block: Block) -> dict[str, Taken]:
    """Ask every method, and bring its mask into the strain where there is one."""
    found = ask(fit, block)
    masks = {name: one.mask for name, one in found.items() if one.mask is not None}
    if estimator is None or block.strain is None or not masks:
        return found
    stacked = np.stack(list(masks.values()), axis=1)
    series = estimator.tapered_by_each(block.strain, stacked, block.shown)
    return found | {name: replace(found[name], series=series[:, m]) for m, name in enumerate(masks)}


def _mask(removed: Removed, noise: Array) -> Energies | None:
    """The share of the amplitude that an image method takes; None of a method of series."""
    if removed.mask is not None or removed.series is not None:
        return removed.mask
    assert removed.generated is not None, "a method says at least one thing"
    return removal_mask(removed.generated, 0.0, noise)


def make(
    fit: Fit, estimator: Estimator | None, block: Block, recorded: Energies
) -> Iterator[tuple[str, Made]]:
    """Yield what each method makes of a block whose strain has energies (E, F, T), by method."""
    taken = take(fit, estimator, block)
    if estimator is None or block.seen is None:
        yield from _by_energies(fit, taken, block, recorded)
        return
    series = [
        one.series for one in taken.values() if one.series is not None
    ]  # of all of them: the strain is known
    known = _truth(block)
    parts = np.stack([*known, *series], axis=1)
    white, strain = block.seen.whiten(parts), block.seen.white
    left = block.seen.energies(strain[:, None] - white)
    window = _window(block)
    shown = [np.take_along_axis(values, window[:, None], axis=2) for values in (strain[:, None], white)]
    first = len(known)  # 1 or 2 where the truth leads
    power = None if first else _powers(block, series, fit.band)
    for place, (name, one) in enumerate(taken.items(), first):
        generated = one.generated
        if one.mask is None:  # its own energy, and the noise that it says nothing of
            own = block.seen.energies(white[:, [place]])[:, 0]
            generated = own + fit.floor.astype(np.float32)[:, None]
        yield (
            name,
            Made(
                recorded=recorded,
                generated=generated,
                cleaned=left[:, place],
                wanted=left[:, 0] if first else None,
                witnessed=block.truth.energies if first and block.truth else None,
                strain=shown[0][:, 0],
                truth=shown[1][:, 0] if first else None,
                transients=shown[1][:, 1] if first > 1 else None,
                removed=shown[1][:, place],
                floor=fit.floor,
                seeing=fit.methods[name].seeing,
                power=None if power is None else power[:, [0, 1 + place]],
            ),
        )


def expect(fit: Fit, block: Block) -> Iterator[tuple[str, Energies]]:
    """Yield the energies (E, F, T) that each method which expects any expects of a block, as `make` has them."""
    for name, one in ask(fit, block).items():
        if one.generated is not None:
            yield name, one.generated
        elif one.series is not None and one.mask is None and block.seen is not None:
            white = block.seen.whiten(one.series[:, None])
            yield name, block.seen.energies(white)[:, 0] + fit.floor.astype(np.float32)[:, None]


def _truth(block: Block) -> list[Array]:
    """The witnessed series (E, N), and its transients alone where there is more in it; none where nobody knows."""
    if block.truth is None or block.truth.series is None:
        return []
    transients, shared = block.truth.series, block.truth.shared
    return [transients] if shared is None else [transients + shared, transients]


def _by_energies(
    fit: Fit, taken: dict[str, Taken], block: Block, recorded: Energies
) -> Iterator[tuple[str, Made]]:
    """What each method makes of a store without series: R = T r / max(G, r), R* = T r / (W + r)."""
    witnessed = None if block.truth is None else block.truth.energies
    wanted = None if witnessed is None else metrics.wanted(recorded, witnessed, fit.floor[:, None])
    for name, one in taken.items():
        assert one.mask is not None, "methods of series need series"
        left = recorded * np.square(1 - one.mask)
        seeing = fit.methods[name].seeing
        yield (
            name,
            Made(recorded, one.generated, left, wanted, witnessed, None, None, None, fit.floor, seeing),
        )


def _powers(block: Block, removed: Sequence[Array], band: tuple[float, float]) -> Array:
    """Power (E, 1 + M) of the strain in a band over the window, as recorded and less what each method took of it."""
    assert block.strain is not None, "what has a transform has series"
    series = block.strain[:, None] - np.stack([np.zeros_like(block.strain), *removed], axis=1)
    found = in_band(series, block.rate, band)
    return np.square(np.take_along_axis(found, _window(block)[:, None], axis=2)).sum(axis=2)


def _window(block: Block) -> Indices:
    """Samples (E, n) of each event's series that its Q-plot shows."""
    starts = np.array([np.ceil(one.start * block.rate - 1e-6) for one in block.shown], np.int64)
    length = min(int((one.stop - one.start) * block.rate + 1e-6) for one in block.shown)
    return starts[:, None] + np.arange(length)
