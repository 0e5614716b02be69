"""What the benchmark of peers hands them and makes of their answers; no peer is installed."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from glitchflow.config import Harm

BENCHMARKS = Path(__file__).parent / "benchmarks"
RATE, BAND = 512.0, (10.0, 200.0)


@pytest.fixture
def peers(monkeypatch):
    """The modules of the benchmark, by the end of their names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("peers", "peers_home", "peers_franc", "peers_nomad", "peers_hveto", "seafloor")
    yield SimpleNamespace(**{n.removeprefix("peers_"): importlib.import_module(n) for n in names})
    for name in (*names, "challenge"):
        sys.modules.pop(name, None)


def test_white_series_have_the_variance_of_their_band_and_colour_undoes_it(peers):
    rng = np.random.default_rng(1)
    series = rng.standard_normal((32, 2, 4096)) * np.array([1e-21, 3.0])[:, None]
    white = peers.franc.white_of(series, RATE, BAND)
    made = white.whiten(series)
    # a median over events of spectra of few segments is a tenth low; the same number undoes it
    assert made.var(axis=(0, 2)) == pytest.approx((BAND[1] - BAND[0]) / (RATE / 2), rel=0.15)
    time = np.arange(4096) / RATE
    tone = 1e-21 * np.sin(2 * np.pi * 100 * time) + 1e-21 * np.sin(2 * np.pi * 230 * time)
    back = white.colour(white.whiten(np.stack([tone, tone])[None])[:, 0])
    assert back[0] == pytest.approx(1e-21 * np.sin(2 * np.pi * 100 * time), abs=1e-26)


def test_the_best_try_is_the_one_that_leaves_least_in_the_middle(peers):
    target = np.ones((2, 8))
    said = np.zeros((5, 2, 8))
    said[0] = np.inf
    said[3, :, 3:5] = 1
    said[4, :, [0, 1, 6, 7]] = 1
    assert peers.franc.best_of(target - said, 2, np.array) == 3
    assert (
        peers.franc.best_of(target - said, 2, lambda left: 1 - left) == 1
    )  # what a band leaves of it counts
    with pytest.raises(peers.home.NotRun, match=r"^overflows with every step$"):
        peers.franc.best_of(np.full((5, 2, 8), np.nan), 2, np.array)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_what_a_filter_says_more_for_a_signal_is_what_that_does_not_keep(peers, share):
    made = SimpleNamespace(series=SimpleNamespace(samples=1024, duration=2.0, sample_rate=512.0), seed=1)
    noise = np.random.default_rng(1).standard_normal((3, 2, 1024))
    data = SimpleNamespace(
        dataset=SimpleNamespace(config=made),
        events=lambda split, most: np.arange(3),
        series=lambda events: noise[events],
        white=SimpleNamespace(whiten=lambda series: series),
        learned=np.arange(2),
    )
    home = SimpleNamespace(ask=lambda peer, job: ({"said": share * job["apply"][None, :, 0] - 1}, 0.0))
    found = peers.franc.kept(home, peers.franc.FILTERS["franc LMS"], data, 128, 0.1, Harm())["kept"]
    assert found == pytest.approx(np.full(3, 1 - share))


def test_said_is_found_by_event_and_nothing_is_taken_of_others(peers):
    said = peers.franc.Said(np.array([3, 5]), np.array([[3.0, 3.0], [5.0, 5.0]]))
    found = said.removed(SimpleNamespace(events=np.array([5, 4, 3, 9]))).series
    assert found.tolist() == [[5, 5], [0, 0], [3, 3], [0, 0]]


def test_of_recorded_windows_all_count_and_those_are_learned_from_that_lie_side_by_side(peers):
    made = {"series": {"duration": 80.0}, "qplot": {"span": 5.0}, "ingest": {"times": {"end": 1.0}}}
    parts = {name: SimpleNamespace(**keys) for name, keys in made.items()}
    parts["ingest"].times = SimpleNamespace(**made["ingest"]["times"])
    dataset = SimpleNamespace(
        indices=lambda split: np.arange(10, 330),
        witnessed_labels=[],
        recorded=True,
        config=SimpleNamespace(**parts),
    )
    data = peers.franc.Data(dataset, [])
    assert data.events("train").tolist() == list(range(10, 330))
    assert len(data.learned) == 320 * 5 / 80
    assert data.learned[[0, -1]].tolist() == [10, 329]
    parts["ingest"].times.end = None  # windows of their own: none overlaps another
    assert len(data.learned) == peers.franc.TRAIN


def test_windows_are_joined_by_their_middles_and_gaps_are_left_out(peers):
    gps = np.array([104.0, 106.0, 108.0, 204.0])  # of the middle of windows of 8 s; one of them stands alone
    seconds = gps[:, None] - 4 + np.arange(8)
    spoiled = seconds + np.where(np.isin(np.arange(8), [3, 4]), 0, 0.5)
    made = SimpleNamespace(
        series=SimpleNamespace(duration=8, sample_rate=1, samples=8), qplot=SimpleNamespace(span=2)
    )
    dataset = SimpleNamespace(config=made, events=lambda name, events: gps[events])
    data = SimpleNamespace(
        dataset=dataset, series=lambda events: np.stack([spoiled[events], -spoiled[events]], 1)
    )
    found, series = peers.nomad.joined(data, np.arange(4))
    assert found.tolist() == [*range(100, 112), *range(200, 208)]
    assert series[0] == pytest.approx(
        np.where(np.isin(found, [*range(103, 109), 203, 204]), found, found + 0.5)
    )
    assert series[1].tolist() == (-series[0]).tolist()


def test_the_sea_floor_has_the_mean_of_the_days_and_a_dash_for_what_did_not_run(peers):
    scores = [{"nothing": {"power_left": {"value": value}}} for value in (1.0, 0.5, 0.75)]
    scores[0]["franc WF"] = {"power_left": {"value": 0.25}}
    lines = peers.seafloor.table(
        {day: {"scores": one} for day, one in zip(peers.seafloor.DAYS, scores)}, "power_left"
    )
    assert lines[-2:] == [
        "| nothing | 1.0000 | 0.5000 | 0.7500 | 0.7500 |",
        "| franc WF | 0.2500 | – | – | – |",
    ]


def test_a_table_has_what_a_method_sees_and_the_error_of_one_that_did_not_run(peers):
    methods = {"wiener": {"residual": 1.5, "left": 0.5}, "franc LMS": {"residual": 0.75}}
    one = {
        "task": "peers",
        "seed": 1,
        "families": {"witnessed": {"glitches": 7, "methods": methods}},
        "peers": {"franc LMS": {"sees": True, "minutes": 2.0, "step": 0.1}, "franc UWF": {"error": "no"}},
    }
    lines = next(peers.peers.tables([one])).splitlines()
    assert lines[1] == "peers: seed 1, 7 glitches"
    assert lines[5:] == [
        "| franc LMS | 0.75 | – | yes | 2 | 0.1 (step) |",
        "| wiener | 1.5 | 0.5 | no | – | – |",
        "| franc UWF | – | – | no | – | no |",
    ]


def test_an_error_is_the_last_line_of_what_a_peer_said(peers, tmp_path):
    assert peers.home.last_line("Traceback\n  x | y\nValueError: a | b\n\n") == "ValueError: a / b"
    with pytest.raises(peers.home.NotRun, match=r"^KeyError: 'nobody'$"):
        peers.home.ask(Path(sys.executable), "nobody", tmp_path, {"apply": np.zeros(1)})


def test_rounds_veto_about_the_triggers_that_are_loud_enough_of_their_channels(peers):
    made = peers.hveto.Triggers(
        time=np.array([10.0, 20.0, 30.0]),
        frequency=np.full(3, 50.0),
        snr=np.array([8.0, 30.0, 9.0]),
        channel=np.array([2, 2, 5]),
    )
    rounds = peers.hveto.Rounds(np.array([2, 5]), window=np.array([0.5, 2.0]), least=np.array([20.0, 8.0]))
    assert rounds.spans(made, 0).tolist() == []
    assert rounds.spans(made, 1).tolist() == [[19.75, 20.25]]
    assert rounds.spans(made, 2).tolist() == [[19.75, 20.25], [29, 31]]


def test_triggers_are_the_loudest_pixels_of_clusters_with_the_snr_of_omicron(peers):
    images = np.ones((2, 3, 4, 6), np.float32)
    images[1, 2, 1, 2:4] = 100, 200
    images[1, 2, 3, 5] = 50
    places, snr = peers.hveto.peaks(images)
    assert places.tolist() == [[1, 2, 1, 3], [1, 2, 3, 5]]
    assert snr == pytest.approx(np.sqrt(2 * np.array([200, 50]) * np.log(2) - 2))


def test_of_modulated_noise_a_filter_of_the_product_leaves_what_no_other_can(peers):
    nomad = peers.nomad
    made = nomad.make()
    series = np.arange(1.0, 1 + (nomad.END - nomad.FITTED - 100) * nomad.RATE)
    said = nomad.placed({"said": series, "start": np.array(nomad.START + nomad.FITTED + 50)})
    assert np.isnan(said).sum() == len(said) - len(series)
    assert said[(nomad.FITTED + 50) * nomad.RATE] == 1
    nothing = np.where(np.isnan(said), np.nan, 0)
    methods = {"wiener": nomad.ours(made, False), "derived": nomad.ours(made, True), "nothing": nothing}
    found = dict(nomad.scores(made, methods | {"all": made.witnessed}))
    left = {name: one["residual"] for name, one in found.items()}
    assert left["nothing"] == pytest.approx(1)
    assert left["all"] == 0
    assert left["wiener"] == pytest.approx(0.5, abs=0.05)  # half of it is steady
    assert left["derived"] < 0.02
