"""How long a training is said to take: its steps are those that the loader has, and the sum is the sum."""

from pathlib import Path

import pytest
from helpers import small

from glitchflow.config import Experiment
from glitchflow.data.memory import Memory
from glitchflow.data.store.dataset import open_store
from glitchflow.site.pace import Pace, Planned, hours, planned, timed
from glitchflow.site.plan import Plan, Size, content_to_plan, describe
from glitchflow.train import checkpoint
from glitchflow.twin import kinds


def needs_of(experiment: Experiment):
    content = content_to_plan(experiment)
    return kinds.of(experiment.model.name).needs(content, open_store(experiment.dataset).channels, 53)


COHERENT = {"name": "coherent", "width": 4, "options": {"experts": 2, "sensors": 1}}


CASES = [
    {},
    {"model": COHERENT},
    {"model": {"name": "flow", "width": 8, "options": {}}},
    {"train": {"precision": "float64"}},
    {"loader": {"fresh": 40}},
    {"loader": {"subset": {"train": 17}}},
]


@pytest.mark.parametrize("changes", CASES)
def test_steps_are_the_loaders(trained_run, changes):
    """As many as `trained_run` made in its two epochs where nothing is changed, whose split was drawn."""
    experiment = small(trained_run.workdir, store={"series": "float64"}, **changes)
    dataset = open_store(experiment.dataset)
    found = planned(experiment, len(dataset), needs_of(experiment))
    loader = experiment.loader
    events = loader.fresh or len(dataset.indices("train")[: loader.subset.train])
    assert abs(found.steps - events // loader.batch) <= 1, "the split's shares are drawn"
    if not changes:
        made = checkpoint.find(Path(trained_run.workdir) / "train" / "checkpoints", "last").step
        assert abs(found.steps * found.epochs - made) <= 2
    assert (found.share, found.workers, found.epochs) == (4, 2, 2)
    assert found.fresh == bool(loader.fresh)
    pace = timed(found, 0.0)
    assert pace.step > 0
    assert pace.event > 0


def test_hours_are_the_sum():
    training = Planned({}, (1,), 8, "float32", 4, 3, 100, 80, fresh=False)
    pace = Pace(step=0.5, event=0.1)
    assert hours(training, pace, 1.0) == pytest.approx(3 * (100 * 0.5 + 20 * 0.1) / 3600)
    anew = Planned({}, (1,), 8, "float32", 4, 3, 100, 80, fresh=True)
    assert hours(anew, pace, 0.25) == pytest.approx(3 * (100 * (0.5 + 8 * 0.25) + 20 * 0.1) / 3600)


def test_it_is_said_to_be_modelled(tmp_path):
    training = Planned({}, (1,), 8, "float32", 4, 3, 100, 80, fresh=True)
    tasks = {"generate": Memory({"all": 2**20})}
    size = Size(1000, 10, 10**6, 20, None, [])
    found = Plan(size, 0.25, 1, 4, tasks, training=training, pace=Pace(0.5, 0.1))
    lines = describe(small(tmp_path).store, found).splitlines()
    assert lines[3:5] == [
        "train, modelled: 12.6 min for 3 epochs of 100 steps, by 4 worker(s) on CPUs, a thread each: 500 ms a step of 8"
        " events, and 250 ms at most for each that is drawn anew; without its start and what workers wait for",
        "infer, modelled: 100.0 ms of a core an event for the network alone",
    ]
