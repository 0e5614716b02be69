"""What a `watch` remembers for its page: the last hour, and the last glitches with the strain around them.

Nothing of it is saved: after a kill it begins anew, but for states and vetoes, which the log has. All is replaced, and
nothing changed in place: a thread that draws it sees one moment of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from igwn_segments import segment

from glitchflow.online.hours import HOUR, Log, Span, Veto
from glitchflow.online.line import CLEANED, PASSED, Cleaned, Memory
from glitchflow.signal.recorded.row import Row
from glitchflow.signal.recorded.samples import Samples
from glitchflow.signal.types import Array, Flags
from glitchflow.twin import guard
from glitchflow.twin.front import Front
from glitchflow.twin.step import Stepper

MINUTE = 60  # s
AROUND = 2.0  # s on either side of a glitch's second that are kept with it, for a band from 10 Hz
SHOWN = 6  # glitches
WAITED = 10  # s: of a glitch that lasts longer after its peak there is no picture


@dataclass(frozen=True)
class Minute:
    """Holds the rms of the white strain in a minute; 1 is that of the quiet time that the twin was trained on."""

    end: int  # GPS s
    recorded: float
    cleaned: float


@dataclass(frozen=True)
class Late:
    """Holds how late a second came out."""

    gps: int
    latency: float  # s from its last file to its frame
    backlog: float  # s that were there then and did not come out


@dataclass(frozen=True)
class Glitch:
    """Holds a veto, and the seconds around its peak as they came out."""

    veto: Veto
    seconds: tuple[Cleaned, ...]


@dataclass
class Past:
    """Holds the last hour."""

    minutes: tuple[Minute, ...] = ()
    late: tuple[Late, ...] = ()
    seconds: tuple[Cleaned, ...] = ()  # the last ones
    glitches: tuple[Glitch, ...] = ()
    log: Log = field(default_factory=Log)
    seen: bool = False  # whether anything of the minute at hand was known


def note(past: Past, steps: Stepper, memory: Memory, log: Log, found: Sequence[Cleaned]) -> Minute | None:
    """Remember seconds that came out; give the minute that is over with them, if one is."""
    past.log, over, beside = log, None, math.ceil(AROUND * steps.front.slower)
    for one in found:
        past.seconds = (*past.seconds, one)[-(2 * beside + 1) - WAITED :]
        past.seen |= bool((one.state & (CLEANED | PASSED)).any())
        if (one.gps + 1) % MINUTE == 0:
            over = _minute(past.seen, steps, memory, one)
            past.minutes, past.seen = (*past.minutes, over)[-HOUR // MINUTE :], False
    last = past.glitches[-1].veto.start if past.glitches else -math.inf
    for veto in vetoes(log)[-SHOWN:]:
        middle = math.floor(veto.peak)
        around = [one for one in past.seconds if abs(one.gps - middle) <= beside]
        if veto.start > last and len(around) == 2 * beside + 1:
            past.glitches = (*past.glitches, Glitch(veto, tuple(around)))[-SHOWN:]
    return over


def late(past: Past, gps: int, latency: float, backlog: float) -> None:
    """Remember how late a second came out."""
    past.late = (*past.late, Late(gps, latency, backlog))[-HOUR:]


def vetoes(log: Log) -> list[Veto]:
    """List the vetoes of a log, in the order of time."""
    return [veto for _, hour in sorted(log.hours.items()) for veto in hour.vetoes]


def states(log: Log, names: Sequence[str], begin: float) -> dict[str, list[Span]]:
    """List the segments of these flags from a GPS time on."""
    hours = [hour for _, hour in sorted(log.hours.items())]
    spans = {name: [span for hour in hours for span in hour.segments.get(name, ())] for name in names}
    after = segment(begin, math.inf)
    return {
        name: [(float(a), float(b)) for a, b in (segment(*span) & after for span in some if span[1] > begin)]
        for name, some in spans.items()
    }


def _minute(seen: bool, steps: Stepper, memory: Memory, one: Cleaned) -> Minute:
    """The minute that ends with a second: of a band that was passed through in it, what was recorded came out."""
    if not seen or not memory.state.heard.any():
        return Minute(one.gps + 1, math.nan, math.nan)
    limits = guard.edges(steps.front.band)
    passed: Flags = np.array([span in one.passed for span in zip(limits[:-1].tolist(), limits[1:].tolist())])
    recorded, cleaned = guard.rms(memory.state.heard, steps.block, steps.front.rate, limits, passed)
    return Minute(one.gps + 1, recorded, cleaned)


def white(glitch: Glitch, front: Front) -> tuple[Array, Array]:
    """Whiten the strain (n,) of the seconds around a glitch, at the twin's rate, as recorded and as cleaned."""
    begin, end, rate = glitch.seconds[0].gps, glitch.seconds[-1].gps + 1, len(glitch.seconds[0].recorded)
    found = []
    for name in ("recorded", "clean"):
        row = Row.empty(begin, end, rate)
        for one in glitch.seconds:
            row.put(Samples(one.gps, rate, getattr(one, name).astype(np.float64)))
        series = row.resampled(round(begin * front.rate), round(end * front.rate), front.rate)
        found.append(front.strain(torch.from_numpy(series)[None])[0].numpy())
    return found[0], found[1]
