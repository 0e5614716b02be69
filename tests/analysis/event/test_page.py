"""The page about one time: what it says of an event of a store, and of a time that only files show."""

import re
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from accessible import violations
from helpers import linked, small, staged

from glitchflow.analysis.attribute import EVERYTHING
from glitchflow.analysis.event import event as write
from glitchflow.analysis.event import said
from glitchflow.analysis.event.page import find, methods, render, shares, vetoes, witnesses
from glitchflow.analysis.event.survive import survival
from glitchflow.analysis.event.window import from_files, window_at
from glitchflow.analysis.opened import open_run
from glitchflow.config import Evaluate, Harm, Source, Veto
from glitchflow.data.generate import ingest
from glitchflow.data.store import open_store
from glitchflow.errors import InputError


def loudest_of(run):
    """The opened run, and the window of its loudest event of the test split."""
    opened = open_run(run)
    test = opened.dataset.indices("test")
    witnessed = [opened.dataset.labels.index(name) for name in opened.dataset.witnessed_labels]
    snr = opened.dataset.events("snr", test) * np.isin(opened.dataset.events("label", test), witnessed)
    event = int(test[snr.argmax()])
    gps = float(opened.dataset.events("gps", np.array([event]))[0])
    return opened, window_at(opened.dataset, [], gps + 0.1), event


@pytest.fixture(scope="module")
def found(series_run):
    opened, window, event = loudest_of(series_run)
    assert window.event == event
    return find(opened, window, series_run.evaluate, Harm(snr=(8.0, 30.0)), 5.0)


def test_what_is_removed_is_what_the_predictions_hold(found, series_run):
    predictions = open_run(series_run).predictions
    removed = predictions.events("removed", np.array([found.window.event]))[0]
    np.testing.assert_allclose(found.whole, removed, rtol=0, atol=1e-5 * np.abs(removed).max())


def test_without_any_witness_nothing_is_removed(found):
    assert np.abs(found.without[EVERYTHING]).max() < 1e-3 * np.abs(found.whole).max()
    rows = {row["name"]: row["share"] for row in shares(found)}
    assert rows[EVERYTHING] == pytest.approx(1)
    assert max(rows, key=rows.get) in (EVERYTHING, "SIM:ACC", "SIM:SUS", "SIM:SUS + derived")


def test_the_table_of_witnesses_has_all_channels_the_strain_first(found):
    rows = witnesses(found)
    assert [rows[0]["name"], rows[0]["share"]] == ["SIM:STRAIN", None]
    assert {row["name"] for row in rows} == {*found.window.dataset.channels}
    assert rows[0]["energy"] == pytest.approx(found.window.energies[0].max())
    assert abs(rows[0]["time"]) <= 1


def test_methods_stand_beside_doing_nothing(found):
    rows = {row["name"]: row for row in methods(found)}
    assert list(rows) == ["network", "linear", "wiener", "wiener_robust", "nothing"]
    assert rows["nothing"] | {"why": ""} == {
        "name": "nothing",
        "why": "",
        "removed": 0,
        "power": 1,
        "left": 1,
    }
    assert 0 < rows["linear"]["left"] < 1, "of a loud witnessed event"


def test_vetoes_are_those_of_clean(found, series_run):
    energies = np.zeros((3, *found.window.energies.shape[1:]))
    energies[1, 4:8, 6:9] = 50
    time = found.window.axes[1]
    ((start, stop),) = vetoes(found.window, energies, series_run.evaluate, series_run.veto)
    padding, gps = series_run.veto.padding, found.window.gps
    assert start == pytest.approx(gps + time[6] - padding, abs=1e-6)
    assert stop == pytest.approx(gps + time[9] + padding, abs=1e-6)
    assert not vetoes(found.window, 0 * energies, series_run.evaluate, series_run.veto)


@pytest.mark.parametrize("kind", ["series_run", "trained_run"])
def test_the_page_is_one_file_that_needs_nothing(kind, request, tmp_path):
    run = request.getfixturevalue(kind)
    _, window, event = loudest_of(run)
    there = linked(run, tmp_path, "dataset.zarr", "predictions.zarr", "train")
    path = write(staged("event", there), window.gps)
    assert path == tmp_path / "events" / f"{window.gps:.3f}.html"
    text = path.read_text()
    assert f"Event {event} of the test split" in text and text.count("<figure><svg") == 3
    assert ("Would a signal survive?" in text) == (kind == "series_run"), (
        "the other one removes nothing there"
    )
    assert not re.search(r'(src|href)="http', text)
    assert "No veto" in text or "Vetoed" in text


def test_where_the_files_are_gone_the_event_that_shows_the_time_is_taken(ray_session, tmp_path, capsys):
    start, rate = 1_000_000_000, 256
    path = tmp_path / f"S-ALL-{start}-64.hdf5"
    with h5py.File(path, "w") as file:
        for name in ("SIM:STRAIN", "SIM:ACC"):
            values = np.random.default_rng(len(name)).standard_normal(64 * rate)
            file.create_dataset(name, data=values).attrs.update(x0=start, dx=1 / rate, unit="m")
    sources = [{"name": name, "files": [str(path)]} for name in ("SIM:STRAIN", "SIM:ACC")]
    about = {"channels": sources, "times": {"start": start + 4, "end": start + 60}}
    ingest(small(tmp_path, ingest=about, derived=[], store={"series": "float64"}))
    dataset = open_store(tmp_path / "dataset.zarr")
    middle = float(dataset["gps"][3])
    before = window_at(dataset, dataset.config.ingest.channels, middle)
    path.unlink()
    after = window_at(dataset, dataset.config.ingest.channels, middle + 0.3)
    assert (after.gps, after.event) == (middle, 3)
    assert "; taken instead: the series of event 3, which the dataset keeps\n" in capsys.readouterr().err
    np.testing.assert_array_equal(after.series, before.series)
    with pytest.raises(InputError):
        window_at(dataset, dataset.config.ingest.channels, start + 1000.0)


class Taking:
    """A network of series that takes a share of the strain, or what a witness says."""

    def __init__(self, share):
        self.share, self.kind = share, SimpleNamespace(array="series")

    def predict(self, block, channels, batch, replaced):
        return {"removed": self.share * block[:, 0] + 1e-22 * block[:, channels.index("SIM:ACC")]}


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_of_a_signal_is_kept_what_is_not_taken_of_it(found, share):
    """A network that takes a share of the strain takes as much of a signal; one that is blind takes nothing."""
    network = Taking(share)
    whole = said.say_of(found.window, network, 5.0, {})
    rows = survival(found.window, network, 5.0, Harm(snr=(9.0, 30.0), mass=(8.0, 32.0)), whole)
    assert [(round(row["mass"], 6), row["snr"]) for row in rows] == [(8, 9), (16, 9), (32, 9)]
    np.testing.assert_allclose([row["kept"] for row in rows], 1 - share, rtol=1e-6)


def test_signals_end_where_what_is_removed_is_loudest_or_a_little_later(found):
    white = np.abs(found.window.seen.whiten(found.whole[None, None])[0, 0])
    time = (np.arange(white.size) - white.size // 2) / found.window.rate
    shown = (time >= found.window.axes[1][0]) & (time <= found.window.axes[1][-1])
    loudest = time[np.where(shown, white, 0).argmax()]
    assert len(found.signals) == 3
    for row in found.signals:
        assert 0 <= row["time"] - loudest <= 0.1 * np.ptp(found.window.axes[1]) and 0 < row["kept"] < 1.01
    text = render(found, found.window.gps, Evaluate(), Veto())
    assert f"{100 * found.signals[0]['kept']:.1f} %</td>" in text


def test_no_signals_are_asked_about_where_none_are_wanted(found, capsys):
    network = Taking(0.1)
    assert survival(found.window, network, 5.0, Harm(signals=0), found.whole) == []
    assert survival(found.window, network, 5.0, Harm(), 0 * found.whole) == []
    assert survival(found.window, network, 5.0, Harm(mass=(900.0, 1000.0)), found.whole) == []
    assert "no signals are tried: harm.mass = [900, 1000]: the heaviest ends at " in capsys.readouterr().err


def test_a_time_that_nothing_shows_is_refused(series_run):
    opened = open_run(series_run)
    with pytest.raises(InputError) as failure:
        window_at(opened.dataset, [], 5.0)
    assert str(failure.value) == f"5.000: {opened.dataset.path}: no event shows this time"


def test_a_witness_without_data_is_said(found, series_run):
    silent = np.array(found.window.valid)
    silent[1] = False
    page = render(
        replace(found, window=replace(found.window, valid=silent)),
        found.window.gps,
        series_run.evaluate,
        series_run.veto,
    )
    assert "no data" in page


def test_a_time_between_events_is_cut_from_the_files(series_run, tmp_path):
    """Its middle is the time itself; a witness that the files lack there has no data, nor what is derived from it."""
    dataset = open_run(series_run).dataset
    rate, start = dataset.config.series.sample_rate, 1_000_000_000
    time = np.arange(round(20 * rate)) / rate
    with h5py.File(tmp_path / f"S-ALL-{start}-20.hdf5", "w") as file:
        for name, values in (("SIM:STRAIN", np.sin(40 * time)), ("SIM:ACC", np.cos(40 * time))):
            file.create_dataset(name, data=values).attrs.update(x0=start, dx=1 / rate, unit="m")
    sources = [Source(name=name, files=[f"{tmp_path}/*.hdf5"]) for name in dataset.recorded_channels]
    window = from_files(dataset, sources, start + 9.5, None)
    assert (window.gps, window.event) == (start + 9.5, None)
    part = slice(round(5.5 * rate), round(13.5 * rate))
    np.testing.assert_allclose(window.series[0], np.sin(40 * time)[part], atol=1e-12)
    assert window.valid.tolist() == [True, True, False, False] and not window.series[2:].any()
    with pytest.raises(InputError, match=r"^1000000001.000: "):
        from_files(dataset, sources, start + 1.0, None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_who_hears_it_or_has_no_mouse_reads_it_too(browser, found, series_run, tmp_path, scheme):
    path = tmp_path / "page.html"
    path.write_text(render(found, found.window.gps, series_run.evaluate, series_run.veto))
    context = browser.new_context(offline=True, color_scheme=scheme)
    page = context.new_page()
    page.goto(path.as_uri())
    assert violations(page) == []
    context.close()
