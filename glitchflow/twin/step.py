"""One step of a coherent twin along the time line: recorded samples come in, what is removed comes out.

    the last seconds + block --front--> a crop that ends with it --network, fit--> y, w' --guard.py, whitening
    undone--> of the block that ended `settle` earlier, in the strain's unit, and of a moment after it, which gives way
    to the next crop

A block is always taken from the crop that ends `settle` after it: what comes out depends on the samples of that crop
and of the one before, and not on where a run began, or for how long it has run; but for bands that were made louder
over the last minute, which are passed through: they depend on `Stepper.past` blocks. A state that is kept goes on bit
by bit.

Where the strain is not known y is told all the same, of the witnesses that are.

Shapes: R recorded channel (the strain first), A template, C input, N sample of a crop, n of a block, f of a fade,
B band and K block that guard.py remembers, G group of inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from glitchflow.errors import InputError
from glitchflow.signal.types import Array, Flags
from glitchflow.twin import absent, guard
from glitchflow.twin.coherent import PIECE, generate
from glitchflow.twin.crops import CROP, MARGIN
from glitchflow.twin.front import Front
from glitchflow.twin.kind import Trained

Band = tuple[float, float]  # Hz
# s for a band from 10 Hz, as in front.py
LEAD = 0.5  # of known strain before a block: the whitening's past, and as much again for the network to see
FADE = 0.0625  # over which one crop's prediction gives way to the next one's, and treatment begins and ends


@dataclass(frozen=True)
class Stepper:
    """Holds a twin, the samples of a block, and of the time that passes until it is said what is removed of one."""

    trained: Trained
    block: int
    settle: int
    louder: float = guard.LOUDER  # share of its power by which a band may be made louder
    groups: Tensor | None = None  # (G, C) of 0 and 1, whose parts of y are told too
    lot: int = 1  # crops that the network sees side by side, where blocks are at hand

    @property
    def front(self) -> Front:
        """How the twin prepares recorded channels."""
        assert isinstance(self.trained.normalisation, Front), "a coherent twin's"
        return self.trained.normalisation

    @property
    def crop(self) -> int:
        """Count the samples that the network sees at once, N."""
        return round(CROP * self.front.unit)

    @property
    def reach(self) -> int:
        """Count the samples that a state keeps: a crop, and what its whitening and its band edges need before it."""
        return self.crop + round(MARGIN * self.front.unit)

    @property
    def warm(self) -> int:
        """Count the blocks that come in before a step knows as much as it keeps of samples."""
        return -(-self.reach // self.block) + 1

    @property
    def remembered(self) -> int:
        """Count the blocks whose power guard.py remembers."""
        return math.ceil(guard.MEMORY * self.front.unit / self.block)

    @property
    def past(self) -> int:
        """Count the blocks before one that it may depend on."""
        return self.warm + self.remembered

    @property
    def told(self) -> int:
        """Count the series that a step tells, 2 + G: y, w', and the parts of y."""
        return 2 + (0 if self.groups is None else len(self.groups))

    @property
    def fade(self) -> int:
        """Count the samples f that two crops share: those after a block that are known when it comes out."""
        return min(round(FADE * self.front.unit), self.settle, self.block)


@dataclass(frozen=True)
class State:
    """Holds what the next step depends on."""

    end: int  # number of the sample that comes next, counted from GPS 0 at the twin's rate
    recent: Array  # (R, reach) the last samples, NaN where there were none
    said: Array  # (2 + G, f) y, w' and parts of y after the last block, as its crop had them
    heard: (
        Array  # (K, 2, B) power of the last blocks, before and after: see `guard.powers`; 0 without treatment
    )


@dataclass(frozen=True)
class Step:
    """Holds what is known of a block, in the strain's unit; zeros where nothing is said."""

    start: int  # number of its first sample, counted from GPS 0 at the twin's rate
    estimate: Array  # (n,) y, from witnesses alone, also where the strain is not known
    removed: Array  # (n,) w' = y + q
    white: Array  # (n,) w', or y where nothing is treated, on the white scale: how loud it is
    treated: bool  # whether the strain is known for long enough, and to the end of the crop
    silent: tuple[str, ...]  # witnesses that have gaps in the crop, and say nothing in it
    passed: tuple[
        tuple[float, float], ...
    ] = ()  # Hz, bands that nothing is removed of, as it made them louder
    alone: bool = False  # whether witnesses alone heard what is loud in the estimate
    parts: Array | None = None  # (G, n) what each group of inputs puts into y, where there are any


def stepper(trained: Trained, block: float, settle: float, where: str) -> Stepper:
    """Prepare steps of `block` s that come out `settle` s after their end. where: the section that says so.

    Raises `InputError` for what is no whole number of samples, or leaves too little of a crop before a block.
    """
    front = trained.normalisation
    assert isinstance(front, Front), "a coherent twin's"
    rate, seen, lead = front.rate, CROP * front.slower, LEAD * front.slower
    for name, value in (("block", block), ("settle", settle)):
        if abs(value * rate - round(value * rate)) > 1e-6:
            raise InputError(f"{where}.{name} = {value:g}: must be a whole number of samples at {rate:g} Hz")
    if round(block * rate) < 1 or block + settle + lead > seen:
        raise InputError(
            f"{where}.block = {block:g}, {where}.settle = {settle:g}: the twin sees {seen:g} s at once, of which they"
            f" may take {seen - lead:g}"
        )
    return Stepper(trained, round(block * rate), round(settle * rate))


def begin(steps: Stepper, end: int) -> State:
    """Begin before sample number `end`, with nothing known: on the grid where (end - settle) % block is 0."""
    channels = len(steps.front.channels)
    recent, said = np.full((channels, steps.reach), np.nan), np.zeros((steps.told, steps.fade))
    return State(end, recent, said, np.zeros((0, 2, guard.BANDS)))


def step(steps: Stepper, state: State, samples: Array) -> tuple[State, Step]:
    """Take the next recorded samples (R, n) float64, NaN where there are none; say what is removed of a block before.

    A gap in the strain is passed through, from the block whose crop meets it until `LEAD` s after it, with the estimate
    of witnesses alone; a gap in a witness silences that witness while a crop meets it.
    """
    state, (said,) = several(steps, state, [samples])
    return state, said


def several(steps: Stepper, state: State, blocks: Sequence[Array]) -> tuple[State, list[Step]]:
    """Take the next blocks of samples (R, n) each, and say what `step` says of one after the other.

    The network is shown `lot` crops at once: what it makes of one depends, in its last bits, on how many those are, but
    not on which.
    """
    recent, crops = state.recent, []
    for samples in blocks:
        recent = np.concatenate([recent, samples], axis=1)[:, -steps.reach :]
        crops.append(_crop(steps, recent))
    white = iter(_predict(steps, [one.known for one in crops if one.heard]))
    said = []
    for one in crops:
        state, what = _say(steps, state, one, next(white) if one.heard else None)
        said.append(what)
    return replace(state, recent=recent), said


def run(steps: Stepper, end: int, blocks: Iterator[Array]) -> Iterator[Step]:
    """Take blocks of samples (R, n) from sample number `end` on, with nothing known before; say what `step` says."""
    state = begin(steps, end)
    while some := list(islice(blocks, steps.lot)):
        state, said = several(steps, state, some)
        yield from said


@dataclass(frozen=True)
class _Crop:
    """Holds the samples (R, N') since the last gap in the strain; where that is too short, since there was anything,
    with 0 for the strain. Witnesses that have a gap are 0."""

    known: Array
    gaps: Flags  # (R,) of witnesses
    treated: bool
    heard: bool  # whether there is anything to ask the network about


def _crop(steps: Stepper, recent: Array) -> _Crop:
    """What there is of the last samples (R, reach)."""
    there, lead = (
        np.isfinite(recent),
        steps.reach - steps.settle - steps.block - round(LEAD * steps.front.unit),
    )
    first = _since(np.asarray(there[0]))
    treated = first <= lead
    if not treated:
        first = _since(np.asarray(there.any(axis=0)))
    known = recent[:, first:].copy()
    gaps = np.asarray(~there[:, first:].all(axis=1))
    if not treated:  # y does not depend on the strain
        known[0], gaps[0] = 0, False
    known[gaps] = 0
    return _Crop(known, gaps, treated, treated or (first <= lead and not bool(gaps[1:].all())))


def _since(there: Flags) -> int:
    """The place (of N) from which on all is there."""
    missing = np.flatnonzero(~there)
    return int(missing[-1]) + 1 if missing.size else 0


def _say(steps: Stepper, state: State, crop: _Crop, white: Array | None) -> tuple[State, Step]:
    """What is said of a block by its crop, of which a network said `white` (3 + G, N), and the state after it, but for
    the samples."""
    end, samples = state.end + steps.block, crop.known.shape[1]
    new = np.zeros((steps.told, steps.block + steps.fade))
    power = np.zeros((2, guard.BANDS))  # nothing is known of a block that is not treated
    passed: tuple[Band, ...] = ()
    loud, alone, stop = np.zeros(steps.block), False, steps.crop - steps.settle
    if white is not None and crop.treated:
        power = _power(steps, white)
    heard = np.concatenate([state.heard, power[None]])[-steps.remembered :]
    if white is not None:
        if crop.treated:
            y, taken = white[1:3, stop - steps.block : stop]
            alone = absent.alone(y, taken, round(PIECE * steps.front.unit))
            passed = _pass(steps, heard, white)
        else:
            white[2] = 0  # a fit to no strain
        loud = white[2 if crop.treated else 1, stop - steps.block : stop].copy()
        there = slice(samples - steps.settle - steps.block, samples - steps.settle + steps.fade)
        new = _unit(steps, white[1:], samples)[:, there]
    ramp = np.sin(np.pi / 2 * (np.arange(steps.fade) + 0.5) / max(1, steps.fade)) ** 2
    out = new[:, : steps.block].copy()
    out[:, : steps.fade] = ramp * out[:, : steps.fade] + (1 - ramp) * state.said
    silent = tuple(name for name, gap in zip(steps.front.channels, crop.gaps.tolist()) if gap)
    parts = None if steps.groups is None else out[2:]
    start = end - steps.settle - steps.block
    said = Step(start, out[0], out[1], loud, crop.treated, silent, passed, alone, parts)
    return replace(state, end=end, said=new[:, steps.block :], heard=heard), said


@torch.inference_mode()
def _predict(steps: Stepper, known: Sequence[Array]) -> Iterator[Array]:
    """The strain, y, w' and parts of y (3 + G, N), white, of each crop that ends with samples (R, N') without gaps."""
    front, network = steps.front, steps.trained.network
    weight = next(network.parameters())
    groups = None if steps.groups is None else steps.groups.to(weight)
    for first in range(0, len(known), steps.lot):
        some = known[first : first + steps.lot]
        crops = torch.zeros(steps.lot, 1 + front.seen, steps.crop, dtype=weight.dtype)
        for crop, samples in zip(crops, some):
            there = min(steps.crop, samples.shape[1])
            prepared = front.prepare(torch.from_numpy(samples)[None])[0]
            crop[:, steps.crop - there :] = prepared[:, samples.shape[1] - there :]
        found = generate(network, front, crops.to(weight), groups)
        white = torch.stack([crops[:, 0].to(weight), found["estimate"], found["removed"]], dim=1)
        if "parts" in found:
            white = torch.cat([white, found["parts"]], dim=1)
        yield from white[: len(some)].double().cpu().numpy()


def _power(steps: Stepper, white: Array) -> Array:
    """Return the power of a block of the crop (3 + G, N) in each band, before and after: (2, B)."""
    stop = steps.crop - steps.settle
    strain, _, removed = white[:3, stop - steps.block : stop]
    return guard.powers(strain, removed, steps.front.rate, guard.edges(steps.front.band))


def _pass(steps: Stepper, heard: Array, white: Array) -> tuple[Band, ...]:
    """Take the bands that were made louder out of the w' of a crop (3 + G, N), and say which."""
    rate, limits = steps.front.rate, guard.edges(steps.front.band)
    bands = guard.louder(heard, steps.remembered, steps.louder)
    if bands.any():
        white[2] = guard.without(white[2], rate, limits, bands)
    return tuple(zip(limits[:-1][bands].tolist(), limits[1:][bands].tolist()))


def _unit(steps: Stepper, white: Array, samples: int) -> Array:
    """White series (2 + G, N) of a crop in the strain's unit: the last of so many samples (2 + G, N'), zeros before."""
    there = min(steps.crop, samples)
    whole = np.zeros((len(white), samples))
    whole[:, samples - there :] = steps.front.undo(white)[:, steps.crop - there :]
    return whole
