"""Segments and vetoes by the hour: read by gwpy and igwn_segments, each once, cut at the hour's end."""

import json

import numpy as np
import pytest
from gwpy.segments import SegmentList
from igwn_segments import segmentlist
from igwn_segments.utils import fromsegwizard

from glitchflow.online.hours import HOUR, LOUD, Log, entered, put
from glitchflow.online.line import CLEANED, NOTHING, PASSED, SCIENCE, Cleaned
from glitchflow.online.saved import LOG

START = 277_778 * HOUR  # GPS s, where an hour begins


def second(gps: int, state: int = SCIENCE | CLEANED, loud=(), p: float = np.nan) -> Cleaned:
    """A second in one state, in which some sixteenths are loud: {place: SNR}."""
    found = np.zeros(16)
    for place, snr in dict(loud).items():
        found[place] = snr
    none = np.zeros(4)
    return Cleaned(gps, none, none, none, np.full(16, state, np.uint32), found, np.full(16, p), (), ())


@pytest.fixture
def read(tmp_path):
    """read(log): segments by flag, and vetoes, of the hour that begins at `START`, from the files."""

    def of(log: Log, begin: int = START):
        put(tmp_path / "hours", "S:X", log, Log())
        names = ("SCIENCE", "CLEANED", "PASSED", "NOTHING", "VETO")
        segments = {}
        for name in names:
            path = tmp_path / "hours" / f"S-S_{name}-{begin}-3600.txt"
            found = SegmentList.read(path)
            with path.open() as file:
                assert fromsegwizard(file, coltype=float) == segmentlist(found)
            segments[name] = [(float(a) - begin, float(b) - begin) for a, b in found]
        lines = (tmp_path / "hours" / f"S-S_VETOES-{begin}-3600.jsonl").read_text().splitlines()
        return segments, [json.loads(line) for line in lines]

    return of


def test_states_become_segments(read):
    states = [SCIENCE | CLEANED] * 2 + [SCIENCE | PASSED, NOTHING] + [SCIENCE | CLEANED]
    log = entered(Log(), [second(START + k, state) for k, state in enumerate(states)])
    segments, vetoes = read(log)
    assert segments == {
        "SCIENCE": [(0, 3), (4, 5)],
        "CLEANED": [(0, 2), (4, 5)],
        "PASSED": [(2, 3)],
        "NOTHING": [(3, 4)],
        "VETO": [],
    }
    assert vetoes == []


def test_a_veto_is_a_line_once_it_is_over(read):
    first = second(START, loud={15: 5.0}, p=0.25)
    then = second(START + 1, loud={0: 12.0, 1: LOUD, 8: LOUD - 0.1, 12: 6.0}, p=0.75)
    log = entered(Log(), [first])
    assert log.now and read(log)[1] == []
    log = entered(log, [then])
    segments, vetoes = read(log)
    assert segments["VETO"] == [(0.9375, 1.125), (1.75, 1.8125)]
    assert vetoes[0] == {
        "start": START + 0.9375,
        "stop": START + 1.125,
        "peak": START + 1.03125,
        "loudest": 12.0,
        "snr": pytest.approx(np.sqrt(25 + 144 + 16)),
        "p": 0.75,
        "cleaned": True,
    }
    assert [veto["snr"] for veto in vetoes] == pytest.approx([np.sqrt(185), 6])


def test_of_what_nobody_calibrated_there_is_no_probability(read):
    _, (veto,) = read(entered(Log(), [second(START, PASSED, loud={3: 9.0})]))
    assert veto["p"] is None and veto["cleaned"] is False


def test_an_hour_ends_what_goes_over_it_and_the_last_two_are_remembered(read, tmp_path):
    last, loud = START + HOUR - 1, {15: 9.0}
    log = entered(Log(), [second(last, loud=loud), second(last + 1, loud={0: 9.0})])
    assert read(log)[0]["VETO"] == [(3599.9375, 3600)]
    assert read(log, START + HOUR)[0]["VETO"] == [(0, 0.0625)]
    log = entered(log, [second(last + 1 + HOUR)])
    assert set(log.hours) == {START + HOUR, START + 2 * HOUR}
    assert len(list((tmp_path / "hours").iterdir())) == 12, "the files stay"


def test_what_is_left_out_ends_a_veto_in_its_own_hour(read):
    log = entered(Log(), [second(START, loud={15: 9.0})])
    put_before = read(log)
    log = entered(log, [second(START + 5)])
    segments, vetoes = read(log)
    assert put_before[1] == [] and len(vetoes) == 1
    assert segments["VETO"] == [(0.9375, 1)] and segments["CLEANED"] == [(0, 1), (5, 6)]
    log = entered(entered(Log(), [second(START, loud={15: 9.0})]), [second(START + 5 * HOUR)])
    assert set(log.hours) == {START + 5 * HOUR}


def test_it_is_the_same_out_of_json():
    log = entered(Log(), [second(START, loud={3: 9.0, 15: 5.5}, p=0.5), second(START + 1, PASSED)])
    assert LOG.validate_json(LOG.dump_json(log)) == log


def test_only_what_differs_is_written(tmp_path):
    log = entered(Log(), [second(START)])
    put(tmp_path, "S:X", log, Log())
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    inode = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    put(tmp_path, "S:X", entered(log, [second(START + 1)]), log)
    assert len(kept) == 6
    changed = {path.name for path in tmp_path.iterdir() if path.stat().st_ino != inode[path.name]}
    assert changed == {f"S-S_{name}-{START}-3600.txt" for name in ("SCIENCE", "CLEANED")}
