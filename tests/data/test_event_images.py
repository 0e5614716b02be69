"""Q-plots event by event: those of the store, made anew from its series, and straight from files."""

import h5py
import numpy as np
import pytest
from helpers import small

from glitchflow.data.content import content_of
from glitchflow.data.event_images import READERS, Origin
from glitchflow.data.generate import generate, ingest
from glitchflow.data.store import dataset as store


def origin(experiment, dataset):
    return Origin(content_of(experiment, "simulate"), dataset)


RATE, START = 256, 1000.0


def test_series_give_the_stored_qplots(dataset_run):
    """In the store's order, whatever was asked for; channels in the order asked for, bit for bit."""
    dataset, events = store.open_store(dataset_run.dataset), [70, 3, 4, 65]
    channels = ["SIM:STRAIN", "SIM:FRINGE", "SIM:ACC"]
    columns = [dataset.channels.index(name) for name in channels]
    for source in ("qplot", "series"):
        images = list(READERS[source](origin(dataset_run, dataset), events, channels))
        assert [image.event for image in images] == [3, 4, 65, 70]
        for image in images:
            np.testing.assert_array_equal(image.energy, np.asarray(dataset["qplot"][image.event])[columns])
            np.testing.assert_allclose(image.frequency, dataset["frequency"][:])
            assert image.step == pytest.approx(float(np.diff(dataset["time"][:])[0]))


def test_series_take_another_geometry(dataset_run):
    qplot = dataset_run.qplot.model_copy(update={"shape": (8, 20), "q": 12.0})
    experiment = dataset_run.model_copy(update={"qplot": qplot})
    dataset = store.open_store(experiment.dataset)
    (image,) = READERS["series"](origin(experiment, dataset), [5], ["SIM:STRAIN", "SIM:ACC"])
    assert image.energy.shape == (2, 8, 20)
    assert image.step == pytest.approx(0.1)


@pytest.mark.ci
def test_a_crop_has_frequencies_of_its_own(ray_session, tmp_path):
    experiment = small(
        tmp_path, simulate={"events": 4}, qplot={"window": "loudest", "fres": 1.0, "tres": 0.02}
    )
    generate(experiment)
    dataset = store.open_store(experiment.dataset)
    for image in READERS["qplot"](origin(experiment, dataset), range(4), dataset.channels):
        first = float(np.asarray(dataset["frequency0"][image.event]))
        np.testing.assert_allclose(image.frequency, first + np.arange(16))
        assert image.step == 0.02


def test_files_give_what_ingest_stores(ray_session, tmp_path):
    rng, channels = np.random.default_rng(0), []
    for name, seconds in (("S:A", 40), ("W:B", 40), ("W:C", 22)):
        path = tmp_path / f"{name[2:]}.h5"
        with h5py.File(path, "w") as file:
            item = file.create_dataset(name, data=rng.standard_normal(seconds * RATE))
            item.attrs.update(
                {"x0": START, "dx": 1 / RATE, "xunit": "s", "unit": "", "name": name, "channel": name}
            )
        channels.append({"name": name, "files": [str(path)]})
    gps = [START + 10.001, START + 30]
    experiment = small(
        tmp_path / "run", series={"duration": 8, "sample_rate": RATE}, ingest={"channels": channels, "times": gps},
        derived=[{"name": "W:D", "function": "scatter", "channels": ["W:B"]}],
    )  # fmt: skip
    dataset = store.open_store(ingest(experiment))
    names = ["S:A", "W:B", "W:C", "W:D"]
    assert dataset.channels == names
    files = Origin(content_of(experiment, "ingest"), gps=gps)
    whole, gap = READERS["files"](files, [0, 1], names)
    np.testing.assert_array_equal(whole.energy, np.asarray(dataset["qplot"][0]))
    np.testing.assert_array_equal(gap.energy, dataset["qplot"][1])
    assert gap.energy.any(axis=(1, 2)).tolist() == [True, True, False, True], "it counts for the others"
    assert dataset["valid"][:].tolist() == [[True] * 4, [True, True, False, True]]
    assert (dataset["split"][:] >= 0).all(), "a witness without data costs the witness, not the event"
    (some,) = READERS["files"](files, [0], ["S:A", "W:D"])
    np.testing.assert_array_equal(some.energy, whole.energy[[0, 3]])
