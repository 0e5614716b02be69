"""Recorded glitches without a witness, from a trigger table to draws; and what any other network says of them."""

from pathlib import Path

import numpy as np
import pytest
from gwpy.timeseries import TimeSeries
from helpers import linked, small, staged

from glitchflow.analysis.sample import sample
from glitchflow.data.generate import ingest
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.train.fit import fit
from glitchflow.train.loop import train
from glitchflow.train.setup import training_of

START, RATE, NAME, EVENTS = 1_200_000_000, 256, "H1:STRAIN", 48
FAMILIES = {"Blip": 60.0, "Koi_Fish": 30.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory, ray_session):
    """White noise with a pulse every 8 s, of two families in turn, and Gravity Spy's table of them."""
    directory = tmp_path_factory.mktemp("spy")
    rng, seconds = np.random.default_rng(1), 8 * EVENTS + 16
    strain, rows = rng.standard_normal(seconds * RATE), ["event_time,ifo,peak_frequency,snr,ml_label"]
    time = np.arange(strain.size) / RATE
    for i in range(EVENTS):
        family, centre = list(FAMILIES)[i % 2], 12.0 + 8 * i
        away, snr = time - centre, rng.uniform(15, 30)
        pulse = np.exp(-((away / 0.03) ** 2)) * np.cos(2 * np.pi * FAMILIES[family] * away)
        strain += snr * pulse / np.linalg.norm(pulse)
        rows.append(f"{START + centre},H1,{FAMILIES[family]},{snr:.3f},{family}")
    rows.append(f"{START + 20},L1,60,20,Blip")  # of another detector
    (directory / "spy.csv").write_text("\n".join(rows) + "\n")
    series = TimeSeries(strain, t0=START, sample_rate=RATE, name=NAME, channel=NAME)
    series.write(directory / f"H-H1_TEST-{START}-{seconds}.hdf5", path=NAME)
    made = small(
        directory / "run",
        derived=[],
        split={"block": 32.0},
        store={"series": "float64"},
        ingest={
            "channels": [{"name": NAME, "files": [f"{directory}/H-*.hdf5"]}],
            "times": {"file": f"{directory}/spy.csv"},
            "background": 8,
            "quiet": 3.0,
        },
        model={"name": "flow", "width": 4, "options": {}},
        train={"loss": "l2", "workers": 1},
        sample={"count": 6},
    )
    ingest(staged("ingest", made))
    return made


def test_a_table_with_families_gives_a_store_that_a_generative_twin_learns_from(run):
    dataset = open_store(run.dataset)
    assert dataset.channels == [NAME] and dataset.labels == ["background", "Blip", "Koi_Fish"]
    assert np.bincount(dataset["label"][:]).tolist() == [8, EVENTS // 2, EVENTS // 2]
    train(training_of(run), Path(run.workdir) / "train")
    samples = open_store(sample(staged("sample", run)))
    assert samples.attributes["series_are"] == "glitches in N(0, 1)" and "glitch" in samples
    assert {samples.labels[k] for k in samples["label"][:]} <= {"Blip", "Koi_Fish"}
    assert np.isfinite(samples["series"][:]).all()


def test_any_other_network_says_at_once_that_there_is_nothing_to_predict_from(run, tmp_path):
    other = linked(run, tmp_path, "dataset.zarr")
    other = other.model_copy(update={"model": run.model.model_copy(update={"name": "unet"})})
    with pytest.raises(InputError) as error:
        fit(other)
    assert str(error.value) == (
        f"{tmp_path}/dataset.zarr: has no witness beside {NAME}, which model.name = unet predicts from; model.name=flow"
        " learns from the strain alone"
    )
