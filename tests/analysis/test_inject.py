"""Draws put into recorded strain: where, how loud, and what is refused."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries
from helpers import linked

from glitchflow.analysis.inject import Injection, check
from glitchflow.analysis.sample import find_twin, sample
from glitchflow.config import Source
from glitchflow.data.store import open_store
from glitchflow.errors import InputError

START, RATE, NAME = 1400000000, 1024, "SIM:STRAIN"


@pytest.fixture
def files(tmp_path):
    """Two files of 16 s at four times the draws' rate, side by side, of zeros."""
    for first in (START, START + 16):
        series = TimeSeries(np.zeros(16 * RATE), t0=first, sample_rate=RATE, name=NAME)
        series.write(tmp_path / f"S-SIM-{first}-16.hdf5", path=NAME)
    return tmp_path


def asked(run, files, into, **changes):
    channels = [Source(name=NAME, files=[f"{files}/S-SIM-*.hdf5"])]
    return run.model_copy(
        update={
            "sample": run.sample.model_copy(update={"into": into, **changes}),
            "ingest": run.ingest.model_copy(update={"channels": channels}),
        }
    )


@pytest.mark.ci
def test_draws_are_added_where_they_are_asked_and_listed(glitches_run, files):
    """A draw across two files is in both; back at its own rate and white, it is the draw."""
    times = [START + 5.0, START + 16.25]
    run = asked(linked(glitches_run, files, "train"), files, times, count=2)
    samples = open_store(sample(run))
    there = files / "injected"
    with (there / "injected.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["gps"]) for row in rows] == times
    assert [row["draw"] for row in rows] == ["0", "1"]
    assert [row["family"] for row in rows] == [samples.labels[k] for k in samples["label"][:]]
    assert [float(row["snr"]) for row in rows] == pytest.approx(samples["snr"][:].tolist(), abs=1e-3)
    both = [f"S-SIM-{first}-16.hdf5" for first in (START, START + 16)]
    assert [row["files"].split() for row in rows] == [both[:1], both]
    written = sorted(there.glob("*.hdf5"))
    assert len(written) == 2
    whole = np.concatenate([TimeSeries.read(path, path=f"{NAME}_INJECTED").value for path in written])
    white = find_twin(run).normalisation
    strain = TimeSeries(whole, sample_rate=RATE).resample(white.rate).value
    back = np.convolve(white.taps, strain)[: strain.size]
    for gps, series in zip(times, samples["series"][:], strict=True):
        first = round((gps - START) * white.rate) - 256
        off, norm = back[first : first + 512] - series, np.linalg.norm(series)
        # what lies next to half the draws' rate is lost in the change of rates
        low = np.abs(np.fft.rfft(off))[:200], np.abs(np.fft.rfft(series))[:200]
        assert np.linalg.norm(low[0]) < 0.02 * np.linalg.norm(low[1]) and np.linalg.norm(off) < 0.3 * norm


def test_what_cannot_be_injected_is_refused_before_anything_is_drawn(glitches_run, files):
    source = Source(name=NAME, files=[f"{files}/S-SIM-*.hdf5"])

    white = find_twin(glitches_run).normalisation

    def refused(times, clean=True, count=5, directory=files / "injected"):
        with pytest.raises(InputError) as error:
            twin = replace(white, clean=clean)
            check(Injection(times, source, "", directory), twin, count, overwrite=False)
        return str(error.value)

    assert refused([START + 99.0]) == f"sample.into = {START + 99:.3f}: no file of {NAME} covers it"
    assert refused([START + 1.0] * 6) == "sample.into: 6 times; sample.count = 5 draws no more"
    values = np.zeros(16 * RATE)
    values[4 * RATE : 5 * RATE] = np.nan
    TimeSeries(values, t0=START + 32, sample_rate=RATE, name=NAME).write(
        files / f"S-SIM-{START + 32}-16.hdf5", path=NAME
    )
    assert refused([START + 36.5]) == (
        f"sample.into = {START + 36.5:.3f}: {files}/S-SIM-{START + 32}-16.hdf5 has no number there"
    )
    assert refused([START + 1.0], directory=files) == f"{files}: is there already; --overwrite it"
    assert refused([START + 1.0], clean=False) == (
        "sample.into: this twin learned from recorded strain and draws glitch and noise; one that learned from a store"
        " made with store.transients draws glitches alone, which can be injected"
    )


def test_strain_of_a_lower_rate_is_refused(glitches_run, tmp_path):
    series = TimeSeries(np.zeros(16 * 128), t0=START, sample_rate=128, name=NAME)
    series.write(tmp_path / f"S-SIM-{START}-16.hdf5", path=NAME)
    run = asked(linked(glitches_run, tmp_path, "train"), tmp_path, [START + 5.0], count=1)
    with pytest.raises(InputError) as error:
        sample(run)
    assert str(error.value) == (
        f"{tmp_path}/S-SIM-{START}-16.hdf5: has 128 Hz; draws of 256 Hz need as much at least, in whole Hz"
    )
    assert not (Path(run.workdir) / "injected").exists()
    assert not (Path(run.workdir) / "samples.zarr").exists(), "it is told before anything is drawn"
