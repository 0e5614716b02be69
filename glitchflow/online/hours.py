"""What is kept by the hour beside the frames: segments of each state, and vetoes one by one.

    online/hours/S-SIM_CLEANED-1400000400-3600.txt    and SCIENCE, PASSED, NOTHING, VETO: gwpy and igwn_segments read it
    online/hours/S-SIM_VETOES-1400000400-3600.jsonl   a line for each veto

They follow from what is remembered of this hour and the one before, which lies in the state: after a kill they are
written anew from there, so that everything is in them once. Nobody waits for the disk: it has an hour for it.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from igwn_segments import segment
from igwn_segments.utils import tosegwizard

from glitchflow.online.line import CLEANED, NOTHING, PASSED, SCIENCE, STATE_RATE, Cleaned

HOUR = 3600
LOUD = 4.0  # SNR of what is said in a sixteenth of a second from which it is vetoed: of energy 16, as clusters are
FLAGS = {"SCIENCE": SCIENCE, "CLEANED": CLEANED, "PASSED": PASSED, "NOTHING": NOTHING}
VETO, VETOES = "VETO", "VETOES"
Span = tuple[float, float]  # GPS s


@dataclass(frozen=True)
class Veto:
    """Holds a piece of time in which the twin says that there is a glitch; one that goes over an hour's end is cut."""

    start: float  # GPS s
    stop: float
    peak: float  # GPS s, middle of its loudest sixteenth of a second
    loudest: float  # SNR there
    snr: float  # of all of it
    p: float | None  # highest probability of a glitch in the strain; None where nobody calibrated it
    cleaned: bool  # whether it was taken out, from begin to end


@dataclass(frozen=True)
class Hour:
    """Holds what is known of an hour: segments by flag, ascending, and vetoes."""

    segments: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    vetoes: tuple[Veto, ...] = ()


@dataclass(frozen=True)
class Log:
    """Holds this hour and the one before, by the GPS second that they begin at, and the veto that is not over."""

    hours: Mapping[int, Hour] = field(default_factory=dict)
    now: Veto | None = None


def entered(log: Log, seconds: Sequence[Cleaned]) -> Log:
    """Enter seconds that come out, in the order of time."""
    for one in seconds:
        if log.now and log.now.stop != one.gps:
            log = _closed(log)
        begin = one.gps - one.gps % HOUR
        kept = {gps: hour for gps, hour in log.hours.items() if gps >= begin - HOUR}
        log = replace(log, hours={**kept, begin: _stated(kept.get(begin, Hour()), one)})
        for k, loud in enumerate(one.loud.tolist()):
            if loud >= LOUD:
                log = replace(log, now=_joined(log.now, _loud(one, k)))
            else:
                log = _closed(log)
        if (one.gps + 1) % HOUR == 0:
            log = _closed(log)
    return log


def _stated(hour: Hour, one: Cleaned) -> Hour:
    """With the states of a second."""
    segments = dict(hour.segments)
    for k, state in enumerate(one.state.tolist()):
        start, stop = one.gps + k / STATE_RATE, one.gps + (k + 1) / STATE_RATE
        for name in (name for name, bit in FLAGS.items() if state & bit):
            spans = segments.get(name, ())
            if spans and spans[-1][1] == start:
                segments[name] = (*spans[:-1], (spans[-1][0], stop))
            else:
                segments[name] = (*spans, (start, stop))
    return replace(hour, segments=segments)


def _loud(one: Cleaned, k: int) -> Veto:
    """A veto of sixteenth k of a second."""
    start, loud, p = one.gps + k / STATE_RATE, float(one.loud[k]), float(one.p[k])
    stop, cleaned = start + 1 / STATE_RATE, bool(one.state[k] & CLEANED)
    return Veto(start, stop, (start + stop) / 2, loud, loud, None if math.isnan(p) else p, cleaned)


def _joined(first: Veto | None, then: Veto) -> Veto:
    """One veto of two that follow each other."""
    if first is None:
        return then
    loudest = max(first, then, key=lambda veto: veto.loudest)
    return Veto(
        start=first.start,
        stop=then.stop,
        peak=loudest.peak,
        loudest=loudest.loudest,
        snr=math.hypot(first.snr, then.snr),
        p=max((veto.p for veto in (first, then) if veto.p is not None), default=None),
        cleaned=first.cleaned and then.cleaned,
    )


def _closed(log: Log) -> Log:
    """With the veto that is over among those of its hour."""
    if log.now is None:
        return log
    begin = int(log.now.start // HOUR * HOUR)
    hour = log.hours[begin]
    spans = (*hour.segments.get(VETO, ()), (log.now.start, log.now.stop))
    hour = Hour({**hour.segments, VETO: spans}, (*hour.vetoes, log.now))
    return Log({**log.hours, begin: hour}, None)


# -- as files --------------------------------------------------------------------------------------------------------


def put(directory: Path, strain: str, log: Log, before: Log) -> None:
    """Write the files that differ from those of the log before, each in place of what it was."""
    old = _texts(strain, before)
    for name, text in _texts(strain, log).items():
        if text != old.get(name):
            directory.mkdir(exist_ok=True)
            hidden = directory / f".new.{name}"
            hidden.write_text(text, encoding="utf-8")
            hidden.replace(directory / name)


def _texts(strain: str, log: Log) -> dict[str, str]:
    """Files by name."""
    detector, found = strain.partition(":")[0], {}
    for begin, hour in log.hours.items():
        for flag in (*FLAGS, VETO):
            name = f"{detector[0]}-{detector}_{flag}-{begin}-{HOUR}.txt"
            text = io.StringIO()
            tosegwizard(text, [segment(*span) for span in hour.segments.get(flag, ())], coltype=float)
            found[name] = text.getvalue()
        lines = [json.dumps(asdict(veto)) for veto in hour.vetoes]
        found[f"{detector[0]}-{detector}_{VETOES}-{begin}-{HOUR}.jsonl"] = "".join(f"{x}\n" for x in lines)
    return found
