"""Draws given the witnesses: what a store of them says, what a draw depends on, and what cannot be asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import glitchflow
from glitchflow.analysis.given import GIVEN, LOT, draw_events, drawing, events_of
from glitchflow.analysis.inspect import inspect
from glitchflow.analysis.report import report
from glitchflow.analysis.sample import find_twin, sample
from glitchflow.data.memory import Shape
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.signal.simulation.sampled import find_draws
from glitchflow.site.memory import of_tasks


def asked(run, **changes):
    return run.model_copy(update={"sample": run.sample.model_copy(update=changes)})


@pytest.fixture(scope="module")
def samples(posterior_run):
    return open_store(Path(posterior_run.workdir) / "samples.zarr")


@pytest.fixture(scope="module")
def dataset(posterior_run):
    return open_store(posterior_run.dataset)


def test_a_store_of_draws_has_as_many_of_each_event_of_the_test_split(samples, dataset):
    events = dataset.indices("test")
    assert samples["series"].shape == (len(events), 20, 512) and LOT < 20
    assert np.array_equal(samples["event"][:], events)
    assert np.array_equal(samples["label"][:], dataset["label"][:][events])
    assert samples.attributes["series_are"] == GIVEN and samples.attributes["sample_rate"] == 256
    assert np.isfinite(samples["series"][:]).all()
    assert inspect(samples.path, verify=True)[1]


def test_a_draw_is_the_same_in_every_bit_however_many_are_drawn_and_for_which_events(
    samples, dataset, posterior_run, tmp_path
):
    few = open_store(
        sample(asked(posterior_run, draws=3, family=["scattered_light"], path=str(tmp_path / "few.zarr")))
    )
    mine = np.isin(samples["event"][:], few["event"][:])
    assert 0 < mine.sum() < len(mine)
    assert np.array_equal(few["series"][:], samples["series"][:][mine, :3])
    alone = draw_events(
        find_twin(posterior_run).trained(), dataset, few["event"][:][1:2], posterior_run.seed, 3
    )
    assert np.array_equal(alone[0], few["series"][:][1])
    other = draw_events(find_twin(posterior_run).trained(), dataset, few["event"][:][1:2], 9, 3)
    assert not np.array_equal(other, alone)


def test_other_draws_are_not_written_over(posterior_run):
    path = Path(posterior_run.workdir) / "samples.zarr"
    assert sample(posterior_run) == path, "what is there is what was asked"
    for changes, words in (
        ({"seed": 9}, "sample.seed = 3, not 9"),
        ({"draws": 9}, "sample.draws = 20, not 9"),
        ({"family": ["scattered_light"]}, "other events than sample.family and loader.subset.test name now"),
    ):
        with pytest.raises(InputError) as error:
            sample(asked(posterior_run, **changes))
        assert str(error.value) == (
            f"{path}: holds draws of {words}; --overwrite it, or choose another sample.path"
        )


@pytest.mark.parametrize("changes", [{"snr": (8.0, 9.0)}, {"guidance": 2.0}, {"into": [1e9]}])
def test_what_an_event_says_is_not_asked(posterior_run, dataset, changes):
    with pytest.raises(InputError) as error:
        sample(asked(posterior_run, **changes))
    assert str(error.value) == (
        f"sample.{next(iter(changes))}: a posterior twin draws for the events of {dataset.path}, which say that; leave"
        " it out"
    )


def test_how_many_is_asked_by_draws(posterior_run):
    with pytest.raises(InputError) as error:
        sample(asked(posterior_run, count=3000))
    assert str(error.value) == (
        "sample.count = 3000: a posterior twin draws sample.draws times for each event; leave it out"
    )


def test_draws_are_projected_until_they_are_written():
    """Those of four events, and as Zarr encodes them."""
    few, many = (drawing(5, 8192, draws, 1024) for draws in (16, 1016))
    assert many.total - few.total == 3 * 4 * 4 * 1000 * 1024


def test_a_plan_knows_which_draws(posterior_run, dataset):
    """Those of a posterior twin, as `sample` itself projects them."""
    shape = Shape.stored(dataset)
    told = of_tasks(posterior_run, dataset.config, shape, dataset.channels)["sample"]
    recorded = dataset["series"].shape[1:]
    assert told == drawing(*recorded, 20, 512)


def test_events_that_are_not_there_are_refused(posterior_run, dataset):
    with pytest.raises(InputError) as error:
        sample(asked(posterior_run, family=["koi"]))
    assert str(error.value).startswith(
        f"sample.family = koi: not one of {dataset.path}; there are: background, "
    )
    nothing = replace(dataset, attributes=dataset.attributes | {"labels": [*dataset.labels, "koi"]})
    with pytest.raises(InputError) as error:
        events_of(asked(posterior_run, family=["koi"]).sample, nothing)
    assert str(error.value) == (
        f"{dataset.path}: its test split has no event to draw for; see split.test and sample.family"
    )


def test_they_are_no_family_of_a_simulation(samples):
    with pytest.raises(InputError) as error:
        find_draws(samples.path, 256, 8)
    assert str(error.value) == (
        f"simulate.detector.families.sampled.path = {samples.path}: its series are {GIVEN}; draws without noise come"
        " from a twin of store.transients"
    )


def test_a_report_leaves_them_out_and_python_says_what_would_do(posterior_run, tmp_path, capsys):
    for name in ("dataset.zarr", "train", "samples.zarr"):
        (tmp_path / name).symlink_to(Path(posterior_run.workdir) / name)
    report(posterior_run.model_copy(update={"workdir": str(tmp_path)}))
    assert (
        f"without draws: {tmp_path}/samples.zarr: holds {GIVEN}, which no page shows"
        in capsys.readouterr().err
    )
    with pytest.raises(
        InputError, match=r": is of the posterior kind, with which open_twin neither cleans nor draws;"
    ):
        glitchflow.open_twin(posterior_run.workdir)
