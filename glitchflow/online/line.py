"""What is made of one second after the other: the twin's blocks, and seconds of cleaned strain.

    seconds as they were recorded --resampled as soon as the filters' future is known--> blocks at the twin's rate
    --step.py--> y, w' --at the strain's own rate, as `clean` brings them there--> cleaned seconds

All is pure: (memory, second) -> (memory, cleaned seconds). A sample of a witness of 16 Hz is known 0.7 s later: its
resampling filter is ten samples long on either side.

Shapes: R recorded channel (the strain first), n sample of a second, N sample at the twin's rate.
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from igwn_segments import segment, segmentlist
from numpy.typing import NDArray

from glitchflow.analysis.clean.files import Stretch
from glitchflow.analysis.clean.line import along, reach, usable, weight_of
from glitchflow.online.source import Second
from glitchflow.score.chance import SLOT, Chance, slots
from glitchflow.signal.recorded.row import HALF, Row
from glitchflow.signal.recorded.samples import Samples
from glitchflow.signal.types import Array
from glitchflow.twin.step import State, Step, Stepper, begin, several

PAST = 2  # s before a sample that its resampling takes samples of: 10 of the slowest channel's, 8 Hz
SLOWEST = 8.0  # Hz, as in recording.py: slower ones are trends
STATE_RATE = SLOT  # Hz of the state channel
SCIENCE, CLEANED, PASSED, NOTHING = 1, 2, 4, 8  # its bits


@dataclass(frozen=True)
class Line:
    """Holds a twin, and the channel and bits that say when the detector is in science mode."""

    steps: Stepper
    state: str = ""  # empty: always
    bits: int = 1
    chance: Chance | None = None  # of a glitch, by how loud it is; None where nobody calibrated it
    range: tuple[Array, Array] | None = (
        None  # (R,) level of each channel that is trusted; None where nobody knows
    )

    @property
    def strain(self) -> str:
        """Return the channel that is cleaned."""
        return self.steps.front.channels[0]


@dataclass(frozen=True)
class Memory:
    """Holds all that the next seconds depend on."""

    second: int  # the GPS second that is taken next
    written: int  # the GPS second that comes out next
    recent: tuple[Second, ...]  # as far as they are still needed
    rates: Mapping[str, float]  # Hz of each channel that was found so far
    odd: Mapping[str, float]  # Hz of those that had another one in the last second
    kind: str  # type of the strain's samples
    place: int  # number of the sample that is resampled next, counted from GPS 0 at the twin's rate
    known: Array  # (R, N) samples before it that are no block yet
    state: State
    said: tuple[Step, ...]  # as far as they are still needed


@dataclass(frozen=True)
class Cleaned:
    """Holds a second that comes out."""

    gps: int
    recorded: NDArray  # (n,) the strain as it came; NaN where it did not
    clean: NDArray  # (n,) in the strain's own type; NaN where it was
    noise: NDArray  # (n,) the estimate, of witnesses alone, at all times
    state: NDArray[np.uint32]  # (16,) see the bits above
    loud: Array  # (16,) SNR of what is removed in each sixteenth of a second, or of the estimate
    p: Array  # (16,) probability of a glitch in the strain then; NaN where nobody calibrated it
    silent: tuple[str, ...]  # witnesses that were not heard
    passed: tuple[tuple[float, float], ...]  # Hz, bands that would have become louder
    alone: bool = False  # whether witnesses alone heard a burst


def start(line: Line, second: Second) -> Memory:
    """Begin with a second that holds strain, nothing being known of the time before it."""
    strain, steps = second.found[line.strain], line.steps
    after = math.ceil((second.gps * steps.front.rate - steps.settle) / steps.block)
    place = after * steps.block + steps.settle
    return Memory(
        second=second.gps,
        written=second.gps,
        recent=(),
        rates={line.strain: strain.rate},
        odd={},
        kind=str(strain.values.dtype),
        place=place,
        known=np.zeros((len(steps.front.channels), 0)),
        state=begin(steps, place),
        said=(),
    )


def advance(line: Line, memory: Memory, second: Second) -> tuple[Memory, list[Cleaned]]:
    """Take the next second; give the cleaned ones that can be given now.

    Of a channel that is too slow there is nothing, nor of one at another rate than before; a witness that has the same
    other rate twice in a row goes on with that one, as one that was missing.
    """
    others = {name: one for name, one in second.found.items() if name != line.state}
    rated = {name: one.rate for name, one in others.items() if one.rate >= SLOWEST}
    odd = {name: rate for name, rate in rated.items() if memory.rates.get(name, rate) != rate}
    changed = {name for name, rate in odd.items() if memory.odd.get(name) == rate and name != line.strain}
    fitting = {line.state, *(name for name in rated if name not in odd), *changed}
    rates = {**memory.rates, **{name: rate for name, rate in rated.items() if name in fitting}}
    recent = (*(_only(one, one.found.keys() - changed) for one in memory.recent), _only(second, fitting))
    memory = replace(memory, second=second.gps + 1, recent=recent, rates=rates, odd=odd)
    memory = _heard(line, _resampled(line, memory))
    found = []
    while _stop(line, memory) >= memory.written + 1 + reach(line.steps):
        found.append(_cleaned(line, memory))
        memory = replace(memory, written=memory.written + 1)
    return _trimmed(line, memory), found


def _only(second: Second, names: Set[str]) -> Second:
    """A second with the channels of these names alone."""
    return replace(second, found={name: one for name, one in second.found.items() if name in names})


def _resampled(line: Line, memory: Memory) -> Memory:
    """With the samples at the twin's rate that no later second changes."""
    channels, rate = line.steps.front.channels, line.steps.front.rate
    rates = [memory.rates[name] for name in channels if name in memory.rates]
    ahead = max(((HALF + 1) / min(one, rate) for one in rates if one != rate), default=0)
    stop = math.floor((memory.second - ahead) * rate)
    if stop <= memory.place:
        return memory
    first = math.floor(memory.place / rate) - PAST
    inside = [one for one in memory.recent if one.gps >= first]
    fresh = np.full((len(channels), stop - memory.place), np.nan)
    for c, name in enumerate(channels):
        if any(name in one.found for one in inside):
            row = Row.empty(first, memory.second, memory.rates[name])
            for one in inside:
                if name in one.found:
                    row.put(one.found[name])
            fresh[c] = row.resampled(memory.place, stop, rate)
    return replace(memory, place=stop, known=np.concatenate([memory.known, fresh], axis=1))


def _heard(line: Line, memory: Memory) -> Memory:
    """With what the twin says of all blocks that are there."""
    steps, known = line.steps, memory.known
    ends = range(steps.block, known.shape[1] + 1, steps.block)
    if not ends:
        return memory
    blocks = [usable(known[:, end - steps.block : end], steps.front.unit) for end in ends]
    state, said = several(steps, memory.state, blocks)
    return replace(memory, known=known[:, ends[-1] :], state=state, said=(*memory.said, *said))


def _stop(line: Line, memory: Memory) -> float:
    """Until when something was said, in GPS s."""
    return (memory.state.end - line.steps.settle) / line.steps.front.rate


def _trimmed(line: Line, memory: Memory) -> Memory:
    """Without what is over."""
    rate = line.steps.front.rate
    oldest = min(memory.written - 1, math.floor(memory.place / rate) - PAST)
    from_here = memory.written - reach(line.steps)
    return replace(
        memory,
        recent=tuple(one for one in memory.recent if one.gps >= oldest),
        said=tuple(one for one in memory.said if (one.start + line.steps.block) / rate > from_here),
    )


# -- a second that comes out -----------------------------------------------------------------------------------------


def _cleaned(line: Line, memory: Memory) -> Cleaned:
    """The second that comes out next."""
    gps, rate = memory.written, memory.rates[line.strain]
    second = next(one for one in memory.recent if one.gps == gps)
    strain = second.found.get(line.strain) or Samples(gps, rate, np.full(round(rate), np.nan))
    stretch = Stretch(strain.start, rate, strain.values.astype(np.float64), strain.unit, True)
    science = _science(line, memory.recent)
    weight = weight_of(science, stretch)
    blocks = [one for one in memory.said if one.start < (gps + 1) * line.steps.front.rate]
    removed, noise = (
        along(line.steps, memory.said, values, stretch)
        for values in ([one.removed for one in memory.said], [one.estimate for one in memory.said])
    )
    return Cleaned(
        gps=gps,
        recorded=strain.values,
        clean=(stretch.values - weight * removed).astype(memory.kind),
        noise=noise.astype(memory.kind),
        state=_state(line, blocks, science, stretch),
        loud=(loud := _loud(line, memory.said, gps)),
        p=line.chance.of(loud) if line.chance else np.full(STATE_RATE, np.nan),
        silent=tuple(sorted({name for one in blocks for name in one.silent})),
        passed=tuple(sorted({band for one in blocks for band in one.passed})),
        alone=any(one.alone for one in blocks),
    )


def _loud(line: Line, said: Sequence[Step], gps: int) -> Array:
    """The SNR (16,) of what is said in each sixteenth of a second."""
    rate = round(line.steps.front.rate)
    white = np.zeros(rate)
    for one in said:
        first = one.start - gps * rate
        there = slice(max(0, first), min(rate, first + len(one.white)))
        if there.start < there.stop:
            white[there] = one.white[there.start - first : there.stop - first]
    return slots(white, rate)


def _science(line: Line, recent: Sequence[Second]) -> segmentlist:
    """The time in science mode, as far as it is known."""
    return segmentlist(segment(*span) for one in recent for span in _on(line, one)).coalesce()


def _on(line: Line, second: Second) -> Iterator[tuple[float, float]]:
    if not line.state:
        yield second.gps, second.gps + 1
        return
    told = second.found.get(line.state)
    if told is None or told.values.dtype.kind not in "iuf":
        return
    on = (np.nan_to_num(told.values).astype(np.int64) & line.bits) == line.bits  # some sites write floats
    for place in np.flatnonzero(on).tolist():
        yield told.start + place / told.rate, told.start + (place + 1) / told.rate


def _state(line: Line, said: Sequence[Step], science: segmentlist, stretch: Stretch) -> NDArray[np.uint32]:
    """The state (16,) of a second: one of cleaned, passed through and no data, and science mode."""
    found, rate, gps = np.zeros(STATE_RATE, np.uint32), line.steps.front.rate, round(stretch.gps)
    treated = segmentlist(
        segment(one.start / rate, (one.start + line.steps.block) / rate) for one in said if one.treated
    ).coalesce()
    size = len(stretch.values) / STATE_RATE
    for k in range(STATE_RATE):
        span = segment(gps + k / STATE_RATE, gps + (k + 1) / STATE_RATE)
        values = stretch.values[math.floor(k * size) : math.ceil((k + 1) * size)]
        there = bool(np.isfinite(values).all())
        cleaned = span in treated and span in science
        found[k] = (SCIENCE * (span in science)) | (NOTHING if not there else CLEANED if cleaned else PASSED)
    return found
