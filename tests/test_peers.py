"""What the benchmark of peers hands them and makes of their answers; no peer is installed."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
RATE, BAND = 512.0, (10.0, 200.0)


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import peers

    yield peers
    for name in ("peers", "challenge"):
        sys.modules.pop(name, None)


def test_white_series_have_the_variance_of_their_band_and_colour_undoes_it(peers):
    rng = np.random.default_rng(1)
    series = rng.standard_normal((32, 2, 4096)) * np.array([1e-21, 3.0])[:, None]
    white = peers.white_of(series, RATE, BAND)
    made = white.whiten(series)
    # a median over events of spectra of few segments is a tenth low; the same number undoes it
    assert made.var(axis=(0, 2)) == pytest.approx((BAND[1] - BAND[0]) / (RATE / 2), rel=0.15)
    time = np.arange(4096) / RATE
    tone = 1e-21 * np.sin(2 * np.pi * 100 * time) + 1e-21 * np.sin(2 * np.pi * 230 * time)
    back = white.colour(white.whiten(np.stack([tone, tone])[None])[:, 0])
    assert back[0] == pytest.approx(1e-21 * np.sin(2 * np.pi * 100 * time), abs=1e-26)


def test_best_step_is_the_one_that_leaves_least_in_the_middle(peers):
    target = np.ones((2, 8))
    said = np.zeros((5, 2, 8))
    said[0] = np.inf
    said[3, :, 3:5] = 1
    said[4, :, [0, 1, 6, 7]] = 1
    assert peers.best_step(said, target, 2) == peers.STEPS[3]
    with pytest.raises(peers.NotRun, match=r"^overflows with every step$"):
        peers.best_step(np.full((5, 2, 8), np.nan), target, 2)


def test_said_is_found_by_event_and_nothing_is_taken_of_others(peers):
    said = peers.Said(np.array([3, 5]), np.array([[3.0, 3.0], [5.0, 5.0]]))
    found = said.removed(SimpleNamespace(events=np.array([5, 4, 3, 9]))).series
    assert found.tolist() == [[5, 5], [0, 0], [3, 3], [0, 0]]


def test_a_table_has_what_a_method_sees_and_the_error_of_one_that_did_not_run(peers):
    methods = {"wiener": {"residual": 1.5, "left": 0.5}, "franc LMS": {"residual": 0.75}}
    one = {
        "task": "peers",
        "seed": 1,
        "families": {"witnessed": {"glitches": 7, "methods": methods}},
        "peers": {"franc LMS": {"sees": True, "minutes": 2.0, "step": 0.1}, "franc UWF": {"error": "no"}},
    }
    lines = next(peers.tables([one])).splitlines()
    assert lines[1] == "peers: seed 1, 7 glitches"
    assert lines[5:] == [
        "| franc LMS | 0.75 | – | – | – | – | – | yes | 2 | 0.1 |",
        "| wiener | 1.5 | 0.5 | – | – | – | – | no | – | – |",
        "| franc UWF | – | – | – | – | – | – | no | – | no |",
    ]


def test_an_error_is_the_last_line_of_what_a_peer_said(peers, tmp_path):
    assert peers.last_line("Traceback\n  x | y\nValueError: a | b\n\n") == "ValueError: a / b"
    with pytest.raises(peers.NotRun, match=r"^KeyError: 'nobody'$"):
        peers.ask(Path(sys.executable), "nobody", tmp_path, {"apply": np.zeros(1)})
