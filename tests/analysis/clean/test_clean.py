"""Cleaned strain against the recording it came from: what changed, what did not, and how the files read."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from gwpy.segments import DataQualityFlag
from gwpy.timeseries import TimeSeries
from helpers import linked, small, write_predictions

from glitchflow.analysis.clean import clean as module
from glitchflow.analysis.clean.clean import clean
from glitchflow.analysis.evaluate.veto_scores import cluster_rule, judge, veto_table
from glitchflow.analysis.opened import open_run
from glitchflow.config import Evaluate, Loader
from glitchflow.data import lease
from glitchflow.data.generate import ingest
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError, RunError
from glitchflow.methods.compare import basis_of, fit_method
from glitchflow.methods.treat import read_block
from glitchflow.score import levels
from glitchflow.score.statistics import Bootstrap
from glitchflow.twin.estimate import estimator_of

START, SECONDS, RATE = 1_000_000_000.0, 48, 1024
GLITCHES = (
    16.5,
    24.0,
    31.9,
)  # s from the start; windows of 2 s every 1.5 s: the second is where windows overlap
CHANNEL = "X1:STRAIN"


def glitch(time, middle, frequency=40.0):
    return 3e-20 * np.exp(-(((time - middle) / 0.1) ** 2)) * np.cos(2 * np.pi * frequency * (time - middle))


def truth():
    """Noise of a steep spectrum with a line, and the glitches in it."""
    rng, samples = np.random.default_rng(3), SECONDS * RATE
    frequency = np.fft.rfftfreq(samples, 1 / RATE)
    colour = 1e-21 * (1 + (30 / frequency.clip(5)) ** 3 + 10 / (1 + ((frequency - 60) / 0.2) ** 2))
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=samples)) * colour)
    time = np.arange(samples) / RATE
    return noise, sum(glitch(time, middle) for middle in GLITCHES)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Two files of 24 s, GWF: a strain at 1024 Hz, and a witness."""
    directory = tmp_path_factory.mktemp("recording")
    noise, glitches = truth()
    for first in (0, SECONDS // 2):
        part = slice(first * RATE, (first + SECONDS // 2) * RATE)
        options = {"t0": START + first, "sample_rate": RATE}
        strain = TimeSeries(noise[part] + glitches[part], name=CHANNEL, channel=CHANNEL, **options)
        strain.write(directory / f"X-STRAIN-{START + first:.0f}-{SECONDS // 2}.gwf")
        witness = np.random.default_rng(first).normal(size=part.stop - part.start)
        TimeSeries(witness, name="X1:AUX", channel="X1:AUX", **options).write(
            directory / f"X-AUX-{START + first:.0f}-{SECONDS // 2}.gwf"
        )
    return directory


def experiment_of(recording: Path, workdir: Path, **changes):
    names = {CHANNEL: "STRAIN", "X1:AUX": "AUX"}
    settings = {
        "channels": [{"name": n, "files": [f"{recording}/X-{f}-*.gwf"]} for n, f in names.items()],
        "times": {"start": START + 8, "end": START + 40, "stride": 1.5},
    }
    qplot = {"shape": [32, 64], "frange": [12, 90]}
    return small(workdir, ingest=settings, derived=[], qplot=qplot, **changes)


@pytest.fixture(scope="module")
def run(recording, ray_session, tmp_path_factory):
    """A dataset at a quarter of the rate, predictions that know the glitches, and what was cleaned."""
    experiment = experiment_of(recording, tmp_path_factory.mktemp("run"))
    dataset = store.open_store(ingest(experiment))
    energy = np.asarray(dataset["qplot"][:, 0])
    centre = np.asarray(dataset["gps"][:])[:, None] + np.asarray(dataset["time"][:]) - START
    near = np.abs(centre[:, :, None] - np.array(GLITCHES)).min(axis=2) < 0.4
    write_predictions(experiment, (energy * near[:, None]).clip(0))
    return experiment, clean(experiment)


def cleaned_strain(directory):
    files = sorted(map(str, directory.glob("*.gwf")))
    return TimeSeries.read(files, f"{CHANNEL}_CLEAN")


def test_the_files_keep_channel_time_and_rate(run, recording):
    _, directory = run
    names = [path.name for path in sorted(directory.glob("*.gwf"))]
    assert names == [f"X-X1_STRAIN_CLEAN-{START + first:.0f}-24.gwf" for first in (0, 24)]
    series = cleaned_strain(directory)
    assert series.t0.value == START
    assert series.sample_rate.value == RATE
    assert series.size == SECONDS * RATE
    assert series.value.dtype == np.float64


def test_the_glitches_are_gone_and_the_noise_is_not(run):
    _, directory = run
    noise, glitches = truth()
    left = cleaned_strain(directory).value - noise
    time = np.arange(noise.size) / RATE
    for middle in GLITCHES:
        at = np.abs(time - middle) < 0.3
        assert np.square(left[at]).sum() < 0.1 * np.square(glitches[at]).sum()
    # what is lost of the noise itself, in the band and whitened: a small part of it
    white = [
        TimeSeries(v, sample_rate=RATE).whiten(4, 2, asd=TimeSeries(noise, sample_rate=RATE).asd(4, 2))
        for v in (noise, noise + left)
    ]
    inside = slice(4 * RATE, -4 * RATE)
    assert np.std((white[1] - white[0]).value[inside]) < 0.25 * np.std(white[0].value[inside])


def test_samples_outside_the_treated_windows_are_the_same_bits(run):
    _, directory = run
    noise, glitches = truth()
    same = cleaned_strain(directory).value == noise + glitches
    time = np.arange(noise.size) / RATE
    # a window of 2 s that touches a glitch, and half the whitening filter beyond it
    far = np.abs(time[:, None] - np.array(GLITCHES)).min(axis=1) > 2 + 0.4 + 1
    assert far.sum() > 10 * RATE
    assert same[far].all()
    assert not same[~far].all()


def test_seams_leave_no_step(run):
    """What is removed is band-limited, also where windows begin, end and overlap: its differences stay small."""
    _, directory = run
    noise, glitches = truth()
    removed = noise + glitches - cleaned_strain(directory).value
    steepest = 2 * np.pi * 90 / RATE  # of a sine at the top of the band, as a share of its amplitude
    envelope = np.abs(removed).reshape(-1, RATE // 4).max(axis=1)
    near = np.maximum.reduce([np.roll(envelope, k) for k in (-1, 0, 1)]).repeat(RATE // 4)
    assert (np.abs(np.diff(removed)) <= steepest * near[1:] + 1e-28).all()


def test_vetoes_cover_the_glitches_and_read_back_exactly(run):
    _, directory = run
    facts = json.loads((directory / "clean.json").read_text())
    flags = [DataQualityFlag.read(directory / "veto.hdf5"), DataQualityFlag.read(directory / "veto.xml")]
    for flag in flags:
        assert flag.name == "X1:GLITCHFLOW-VETO:1"
        assert [tuple(map(float, s)) for s in flag.known] == [(START + 8, START + 40)]
        assert len(flag.active) == len(GLITCHES)
        for middle, segment in zip(GLITCHES, flag.active):
            assert START + middle in segment
            assert 0.1 <= float(abs(segment)) < 1
        assert float(abs(flag.active)) / float(abs(flag.known)) == pytest.approx(facts["deadtime"])
    assert flags[0].active == flags[1].active
    assert facts["treated"] < facts["windows"] == 21
    with (directory / "seconds.csv").open() as file:
        rows = {int(row["gps"]) - int(START): row for row in csv.DictReader(file)}
    assert list(rows) == [*range(SECONDS)] and facts["seconds"] == SECONDS
    assert all(rows[int(middle)]["why"] == "" and rows[int(middle)]["cleaned"] == "1" for middle in GLITCHES)
    assert rows[0]["why"] == "not chosen" and rows[0]["removed_rms"] == "0"
    assert facts["cleaned"] + sum(facts["why"].values()) == SECONDS
    assert {*facts["why"]} == {"not chosen", "nothing to remove"}


def test_the_deadtime_is_that_of_evaluate(run):
    experiment, directory = run
    facts = json.loads((directory / "clean.json").read_text())
    opened = open_run(experiment)
    events, rule = np.arange(len(opened.dataset)), cluster_rule(opened.dataset, experiment.evaluate)
    recorded, here = levels.recorded_columns(
        np.maximum(opened.dataset.events("qplot", events)[:, 0], 0), rule
    )
    level, covered = levels.generated_columns(opened.generated["network"](events), rule)
    found = levels.Levels.of({"network": recorded | level}, {levels.RECORDED: here, "network": covered})
    table, _ = veto_table(judge(opened.dataset, events, found), None, rule, experiment.veto, Bootstrap(1, 10))
    at_veto = table["methods"]["network"]["at_veto"]
    assert at_veto["deadtime"]["value"] == pytest.approx(facts["deadtime"], rel=1e-6)
    assert table["analysed_seconds"] == SECONDS - 16
    assert at_veto["segments"] == facts["veto"]["segments"] == at_veto["chance"]["caught"] == len(GLITCHES)


def test_it_is_not_overwritten_by_accident(run, capsys):
    experiment, directory = run
    with pytest.raises(InputError, match=r"clean: is there already; --overwrite it"):
        clean(experiment)
    before = cleaned_strain(directory).value
    clean(experiment, overwrite=True)
    np.testing.assert_array_equal(cleaned_strain(directory).value, before)


def test_what_was_there_stays_until_its_successor_stands(run, monkeypatch):
    experiment, directory = run
    before = sorted(path.name for path in directory.iterdir())
    monkeypatch.setattr(module.veto, "write_flag", lambda *_: (_ for _ in ()).throw(RunError("disk full")))
    with pytest.raises(RunError, match="disk full"):
        clean(experiment, overwrite=True)
    assert sorted(path.name for path in directory.iterdir()) == before


def test_one_driver_at_a_time(run):
    experiment, directory = run
    with lease.hold(directory), pytest.raises(lease.Held, match="clean: another run is writing it"):
        clean(experiment, overwrite=True)
    assert (directory / "clean.json").exists()


def test_hdf5_where_it_is_asked_for(run, tmp_path):
    experiment, directory = run
    settings = experiment.clean.model_copy(update={"format": "hdf5"})
    elsewhere = linked(experiment, tmp_path, "dataset.zarr", "predictions.zarr")
    other = clean(elsewhere.model_copy(update={"clean": settings}))
    series = TimeSeries.read(sorted(map(str, other.glob("*STRAIN*.hdf5"))), f"{CHANNEL}_CLEAN")
    np.testing.assert_array_equal(series.value, cleaned_strain(directory).value)


def test_synthetic_events_are_cleaned_one_by_one(dataset_run, tmp_path):
    settings = dataset_run.clean.model_copy(update={"split": "test"})
    experiment = linked(dataset_run, tmp_path, "dataset.zarr").model_copy(update={"clean": settings})
    dataset = store.open_store(experiment.dataset)
    write_predictions(experiment, np.asarray(dataset["witnessed"][:]))
    directory = clean(experiment, force=True)  # no network that could be judged
    left, before = [], []
    for event in dataset.indices("test"):
        gps, recorded = float(dataset["gps"][event]), np.asarray(dataset["series"][event, 0])
        series = TimeSeries.read(
            directory / f"S-SIM_STRAIN_CLEAN-{gps - 4:.0f}-8.hdf5", f"{dataset.channels[0]}_CLEAN"
        )
        assert series.t0.value == gps - 4
        witnessed = np.asarray(dataset["witnessed_series"][event])
        if np.asarray(dataset["witnessed"][event]).max() < 5:
            np.testing.assert_array_equal(series.value, recorded)
        elif np.asarray(dataset["witnessed"][event]).max() > 100:
            left.append(np.square(series.value - (recorded - witnessed)).sum())
            before.append(np.square(witnessed).sum())
    assert sum(left) < 0.5 * sum(before)
    assert not (directory / "veto.xml").exists(), "SIM is no detector that LIGO_LW knows"
    assert DataQualityFlag.read(directory / "veto.hdf5").name == "SIM:GLITCHFLOW-VETO:1"


def with_method(dataset_run, tmp_path, monkeypatch, name):
    """The experiment that cleans its test events by a method, beside predictions that no network made."""
    settings = dataset_run.clean.model_copy(update={"split": "test", "method": name})
    experiment = linked(dataset_run, tmp_path, "dataset.zarr").model_copy(update={"clean": settings})
    dataset = store.open_store(experiment.dataset)
    write_predictions(experiment, np.zeros_like(np.asarray(dataset["witnessed"][:])))
    opened = open_run(experiment)
    opened.__dict__["basis"] = basis_of(dataset, Loader())
    monkeypatch.setattr(module, "open_run", lambda _: opened)
    return experiment, opened


def test_a_method_is_subtracted_in_the_networks_place(dataset_run, tmp_path, monkeypatch):
    experiment, opened = with_method(dataset_run, tmp_path, monkeypatch, "wiener")
    directory, dataset = clean(experiment), opened.dataset
    assert json.loads((directory / "clean.json").read_text())["method"] == "wiener"
    fit = fit_method(dataset, opened.basis, "wiener", 16.0, Evaluate())
    events = dataset.indices("test")[:3]
    block, _ = read_block(dataset, events, fit.witnesses, estimator_of(dataset))
    time = np.arange(block.strain.shape[1]) / block.rate
    for gps, strain, w, shown in zip(
        block.gps, block.strain, fit.fitted["wiener"].removed(block).series, block.shown, strict=True
    ):
        path = directory / f"S-SIM_STRAIN_CLEAN-{gps - 4:.0f}-8.hdf5"
        removed = strain - TimeSeries.read(path, f"{dataset.channels[0]}_CLEAN").value
        inside = (time >= shown.start) & (time < shown.stop)
        np.testing.assert_allclose(removed[inside], w[inside], atol=1e-9 * np.abs(strain).max())
        away = (time < shown.start - 1) | (time > shown.stop + 1)
        assert not removed[away].any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("oracle", "clean.method = oracle: is told the truth, which nobody knows of a strain"),
        ("untrained", "clean.method = untrained: needs untrained, which PATH does not have"),
        ("winer", "clean.method = winer: not one of network, "),
    ],
)
def test_methods_that_cannot_clean(dataset_run, tmp_path, monkeypatch, name, message):
    experiment, opened = with_method(dataset_run, tmp_path, monkeypatch, name)
    with pytest.raises(InputError) as failure:
        clean(experiment)
    assert str(failure.value).startswith(message.replace("PATH", opened.dataset.path))
    assert not (tmp_path / "clean").exists()


def test_what_cannot_be_cleaned_is_said(run, tmp_path):
    experiment, _ = run
    elsewhere = linked(experiment, tmp_path, "dataset.zarr", "predictions.zarr")
    channels = [c.model_copy(update={"files": [f"{tmp_path}/lost.gwf"]}) for c in experiment.ingest.channels]
    lost = elsewhere.model_copy(
        update={"ingest": experiment.ingest.model_copy(update={"channels": channels})}
    )
    with pytest.raises(InputError, match=r"ingest.channels X1:STRAIN: files = .*lost.gwf: no such file"):
        clean(lost)
    assert not (tmp_path / "clean").exists()
    nothing = experiment.clean.model_copy(update={"split": "validation"})
    split = np.asarray(store.open_store(experiment.dataset)["split"][:])
    if not (split == 1).any():
        with pytest.raises(InputError, match=r"clean.split = validation: .* has no usable event in it"):
            clean(elsewhere.model_copy(update={"clean": nothing}))
