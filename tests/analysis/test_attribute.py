"""Attribution with networks known by heart: what carries their vetoes can be said without running them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import Chosen, forget_shards

from glitchflow.analysis import attribute as module
from glitchflow.analysis.attribute import (
    EVERYTHING,
    Attribution,
    attribute,
    find_variants,
    quiet_parts,
    spread,
    table,
)
from glitchflow.analysis.infer import infer
from glitchflow.analysis.opened import open_run
from glitchflow.config import Derived
from glitchflow.data.identity import identity
from glitchflow.data.store import dataset as store
from glitchflow.data.view import axes
from glitchflow.errors import InputError
from glitchflow.methods.table import NETWORK
from glitchflow.score.clusters import cluster_level, pixel_areas
from glitchflow.train import checkpoint
from glitchflow.twin import image
from glitchflow.twin.geometry import geometry

ACC, SUS, FRINGE = "SIM:ACC", "SIM:SUS", "SIM:FRINGE"
VETO = 10.0


@pytest.fixture(scope="module")
def made(dataset_run, tmp_path_factory):
    """For a way to choose: the opened run, and a function that attributes its vetoes."""

    def make(how, **changes):
        directory = tmp_path_factory.mktemp(how)
        (directory / "dataset.zarr").symlink_to(dataset_run.dataset)
        dataset = store.open_store(dataset_run.dataset)
        meta = {
            "step": 1,
            "metrics": {"validation_loss": 0.0},
            "model": {"name": "helpers:Chosen", "options": {"how": how}},
            "channels": dataset.channels,
            "shape": [16, 16],
            "geometry": geometry(dataset, dataset.channels),
            "normalisation": {"kind": "mean", "offset": [0.0] * 4, "scale": [1.0] * 4},
            "dataset": {"path": dataset.path, "identity": identity(dataset)},
        }
        checkpoints = directory / "train" / "checkpoints"
        checkpoint.save(checkpoints, meta, Chosen(3, (16, 16), how).state_dict(), {})
        settings = dataset_run.evaluate.model_copy(update={"veto": VETO, **changes})
        model = dataset_run.model.model_copy(update={"name": "helpers:Chosen"})
        update = {"workdir": str(directory), "evaluate": settings, "model": model}
        experiment = dataset_run.model_copy(update=update)
        infer(experiment)
        run = open_run(experiment)

        def attributed(**more):
            used = settings.model_copy(update=more)
            lost = spread(vetoed(run, used), used.attribute)
            path = directory / "evaluation" / "attribution.zarr"
            return attribute(run, lost, used, experiment.infer.batch, experiment.cluster, path)

        return run, attributed

    return make


@pytest.fixture(scope="module")
def first(made):
    return made("first")


def levels(dataset, energy):
    return cluster_level(energy, pixel_areas(*axes(dataset, 0)), 0.5)


def vetoed(run, settings):
    test = run.dataset.indices("test")
    return test[levels(run.dataset, run.generated[NETWORK](test)) >= settings.veto]


@pytest.fixture(scope="module")
def witness_levels(first):
    """The cluster level of ACC and SUS in each test event."""
    dataset = first[0].dataset
    energy = dataset.events("qplot", dataset.indices("test"))
    return [levels(dataset, energy[:, c]) for c in (1, 2)]


def carried(found):
    return {name: int(found.falls[:, v].sum()) for v, name in enumerate(found.variants)}


def test_a_network_of_one_witness_owes_every_veto_to_it(first, witness_levels):
    run, attributed = first
    found, loud = attributed(), witness_levels[0] >= VETO
    test = run.dataset.indices("test")
    assert 3 < loud.sum() < len(loud)
    np.testing.assert_array_equal(found.events, test[loud])
    expected = {ACC: loud.sum(), SUS: 0, FRINGE: 0, f"{SUS} + derived": 0, EVERYTHING: loud.sum()}
    assert carried(found) == expected
    assert found.carriers(test) == [ACC if v else "" for v in loud]
    # without SUS nothing changes; without ACC what is left is its quiet image's own level
    np.testing.assert_allclose(found.level[:, 1], witness_levels[0][loud], rtol=1e-5)
    assert len(set(found.level[:, 0])) == 1


def test_a_veto_that_takes_two_witnesses_falls_without_either(made, witness_levels):
    run, attributed = made("both", veto=5.0)
    found = attributed()
    count = len(found.events)
    assert count > 3
    assert carried(found) == {ACC: count, SUS: count, FRINGE: 0, f"{SUS} + derived": count, EVERYTHING: count}
    assert set(found.carriers(run.dataset.indices("test"))) <= {"", ACC, SUS}


def test_where_two_witnesses_see_the_same_only_the_group_carries(made, witness_levels):
    groups = {"floor": [ACC, SUS]}
    run, attributed = made("either", veto=5.0, groups=groups)
    found = attributed()
    a, b = (level >= 5.0 for level in witness_levels)
    assert (a & b).sum() > 3, "some are seen by both"
    expected = {ACC: (a & ~b).sum(), SUS: (b & ~a).sum(), FRINGE: 0, "floor": (a | b).sum()}
    assert carried(found) == {**expected, EVERYTHING: (a | b).sum()}
    carriers = np.array(found.carriers(run.dataset.indices("test")))
    assert set(carriers[a & b]) == {"floor"}
    assert set(carriers[~(a | b)]) <= {""}


def test_events_are_read_once_however_many_witnesses_are_left_out(first, monkeypatch):
    run, attributed = first
    dataset, batch, left = run.dataset, 4, [[0], [1], [2], [0, 1, 2]]
    areas, quiet = pixel_areas(*axes(dataset, 0)), np.zeros((3, 16, 16), np.float32)
    work = module.Work(dataset, str(run.network), batch, attributed().events, left, quiet, areas, 0.5)
    shard = int(work.events[0]) // dataset.layout.shard
    reads, read, written = [], type(dataset).events, {}

    def watched(self, name, *rest):
        reads.append(name)
        return read(self, name, *rest)

    monkeypatch.setattr(type(dataset), "events", watched)
    monkeypatch.setattr(module, "write_shard", lambda target, shard, values: written.update(values))
    module.leave_out_shard(work, dataset, shard)
    assert reads == ["qplot"]
    assert np.isfinite(written["level"][work.events[0] % dataset.layout.shard]).all()


def test_it_goes_on_where_it_stopped_and_starts_anew_for_other_settings(first, monkeypatch):
    run, attributed = first
    before = attributed().level
    made_again = []
    run_tasks = module.run_tasks

    def watched(job, parts, *rest):
        made_again.append(list(parts))
        return run_tasks(job, parts, *rest)

    monkeypatch.setattr(module, "run_tasks", watched)
    path = Path(run.predictions.path).parent / "evaluation" / "attribution.zarr"
    forget_shards(path, 3)
    np.testing.assert_array_equal(attributed().level, before)
    np.testing.assert_array_equal(attributed().level, before)
    fewer = attributed(attribute=3)
    assert made_again == [[3], [], list(range(run.dataset.layout.shards))]
    assert len(fewer.events) == 3
    assert fewer.events[0] == attributed().events[0]


@pytest.mark.parametrize("at_once", [image.QUIET_BYTES, 1])
def test_the_quiet_image_is_the_median_of_the_train_splits_background(first, monkeypatch, at_once):
    monkeypatch.setattr(image, "QUIET_BYTES", at_once)  # 1: a witness at a time
    dataset, basis, network = first[0].dataset, first[0].basis, checkpoint.open_checkpoint(first[0].network)
    quiet = (np.asarray(dataset["split"][:]) == 0) & (np.asarray(dataset["label"][:]) == 0)
    energy = np.asarray(dataset["qplot"][:])[quiet, 1:].clip(0)
    np.testing.assert_allclose(quiet_parts(dataset, basis, network), np.median(energy, axis=0), rtol=1e-6)


def test_derived_channels_go_with_their_parents():
    derived = [
        Derived(name="D", function="scatter", channels=["B"]),
        Derived(name="E", function="product", channels=["A", "B"]),
        Derived(name="X", function="scatter", channels=["B"]),
    ]
    found = find_variants({}, ["A", "B", "C", "D", "E"], derived)
    assert found == {
        **{name: [i] for i, name in enumerate("ABCDE")},
        "A + derived": [0, 4],
        "B + derived": [1, 3, 4],
        EVERYTHING: [0, 1, 2, 3, 4],
    }


def test_a_group_of_an_unknown_witness():
    with pytest.raises(
        InputError, match=r"evaluate.groups.ears = C: not a witness of the network; there are: A, B"
    ):
        find_variants({"ears": ["A", "C"]}, ["A", "B"], [])


def test_nothing_to_attribute_is_said(made, capsys):
    _, attributed = made("first", veto=1e9)
    assert attributed() is None
    assert "no attribution: no event is vetoed at 1e+09" in capsys.readouterr().err


def test_summed_with_binomial_intervals_and_by_family():
    level = np.array([[1.0, 9, 1, 1], [9, 9, 9, 1], [1, 9, 1, 1], [9, 1, 1, 1]])
    found = Attribution(
        np.array([0, 2, 3, 5]), {"A": [0], "B": [1], "G": [0, 1], EVERYTHING: [0, 1]}, 2, level, 5.0
    )
    family = np.array([0, 1, 0, 1, 1, 1])
    dataset = SimpleNamespace(labels=["x", "y"], events=lambda name, events: family[events])
    result = table(found, 7, dataset)
    assert (result["vetoes"], result["attributed"], result["threshold"]) == (7, 4, 5.0)
    a, b = result["witnesses"]
    assert (a["name"], a["carried"], a["share"], a["families"]) == ("A", 2, 0.5, {"x": 1, "y": 1})
    assert (b["name"], b["carried"], b["families"]) == ("B", 1, {"x": 0, "y": 1})
    assert a["low"] == pytest.approx(0.150, abs=1e-3)  # Wilson, 2 of 4
    assert [row["name"] for row in result["groups"]] == ["G"]
    assert result["everything"]["share"] == 1
    assert found.carriers(np.arange(6)) == ["A", "", "", "A", "", "B"]
