"""The coherent kind: its loss, its scores, what it predicts, and a training of it, on a small real store."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from fronts import FRONT, First, recorded
from two_workers import train_on_two

from glitchflow.config.training import Loader, Model, Train
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError
from glitchflow.train import checkpoint, loop, setup
from glitchflow.train.export import largest_difference, make_program
from glitchflow.train.setup import Training
from glitchflow.train.tracking import read_metrics
from glitchflow.train.workers import World
from glitchflow.twin import coherent, kinds
from glitchflow.twin.crops import CROP
from glitchflow.twin.kind import Trained


@pytest.fixture
def twin():
    return Trained(coherent.KIND, First(), FRONT.channels, FRONT)


def test_the_loss_is_the_power_left_and_that_near_the_end_again():
    length = round(CROP * FRONT.rate)
    front = replace(FRONT, scatters=[])
    strain, y = torch.randn(2, 1, length), torch.zeros(2, 1, length)
    found = coherent.loss("l2", front)(y, strain)
    late = strain[:, 0, -round(0.55 * FRONT.rate) : -round(0.25 * FRONT.rate)]
    assert found.item() == pytest.approx(strain.square().mean().item() + late.square().mean().item() / 4)


def test_another_loss_is_refused():
    with pytest.raises(
        InputError, match=r"^train.loss = l1: a coherent twin is trained with l2, the power that it leaves$"
    ):
        coherent.loss("l1", FRONT)


def test_removed_is_the_estimate_and_the_fit():
    length = round(CROP * FRONT.rate)
    templates = torch.randn(2, 4, length)
    strain = 0.5 * templates[:, 1:2] + 2.0
    target = torch.cat([strain, templates], dim=1)
    found = coherent.removed(replace(FRONT, prior=100.0), torch.full((2, 1, length), 2.0), target)
    torch.testing.assert_close(found, strain[:, 0], rtol=0, atol=1e-3)


def test_what_witnesses_alone_hear_is_learned_from_and_not_removed():
    """The loss pulls y to nothing where the strain hears nothing, though nothing of it is removed."""
    length, front = round(CROP * FRONT.rate), replace(FRONT, scatters=[])
    y, strain = torch.zeros(2, 1, 1, length)
    y[..., 480:540] = 3.0
    removed = coherent.removed(front, y, strain)
    assert removed.square().sum() == 0
    y.requires_grad_()
    coherent.loss("l2", front)(y, strain).backward()  # through the fit goes nothing
    torch.testing.assert_close(y.grad[..., 480:540], torch.full((1, 1, 60), 2 * 3.0 / length))


def test_the_fit_does_not_take_a_part_of_what_is_passed_through():
    """A loud burst that the strain lacks, much like a template; the strain holds that template's light."""
    length = round(CROP * FRONT.rate)
    templates = torch.zeros(1, 4, length, dtype=torch.float64)
    templates[0, 0] = torch.sin(torch.arange(length) * 1.2)
    y, light = torch.zeros(1, 1, length, dtype=torch.float64), 0.1 * templates[:, :1]
    y[..., 480:540] = 20 * templates[0, 0, 480:540]
    removed = coherent.removed(FRONT, y, torch.cat([light, templates], dim=1))
    torch.testing.assert_close(removed, light[:, 0], rtol=0, atol=0.01)
    assert torch.equal(removed, coherent.removed(FRONT, 0 * y, torch.cat([light, templates], dim=1)))


def test_scores_of_nothing_and_of_everything_known():
    front, given = replace(FRONT, scatters=[]), recorded()
    witnessed = torch.zeros(2, given.shape[-1], dtype=torch.float64)
    witnessed[0, 900:1100] = 20 * torch.sin(torch.arange(200) * 1.2)  # at 49 Hz
    middle = slice(given.shape[-1] // 2 - 512, given.shape[-1] // 2 + 512)
    target = front.strain(given[:, 0] + witnessed)[:, None, middle]
    truth = front.strain(witnessed)[:, None, middle]
    nothing = coherent.scores(coherent.tally(front, torch.zeros_like(target), target, [witnessed]))
    assert nothing == {"validation_left": pytest.approx(1), "validation_added": 0}
    known = coherent.scores(coherent.tally(front, truth, target, [witnessed]))
    assert known == {
        "validation_left": pytest.approx(0, abs=1e-9),
        "validation_added": pytest.approx(0, abs=1e-9),
    }
    everything = coherent.scores(coherent.tally(front, target, target, [witnessed]))
    assert everything["validation_added"] == pytest.approx(1)
    assert coherent.scores(coherent.tally(front, target, target, [])) == {}


def test_shared_noise_is_witnessed_too(unasked):
    front, given = replace(FRONT, scatters=[]), recorded()
    transients, shared = torch.zeros(2, given.shape[-1], dtype=torch.float64), given[:, 1] / 4
    transients[0, 900:1100] = 20 * torch.sin(torch.arange(200) * 1.2)
    middle = slice(given.shape[-1] // 2 - 512, given.shape[-1] // 2 + 512)
    parts = [transients, shared]
    strain, both, first = (
        front.strain(series)[:, None, middle] for series in (given[:, 0], transients + shared, transients)
    )
    known = coherent.scores(coherent.tally(front, both, strain, parts))
    assert known == dict.fromkeys(known, pytest.approx(0, abs=1e-9)) and len(known) == 2
    half = coherent.scores(coherent.tally(front, first, strain, parts))
    quiet = front.strain(shared)[1, middle].norm() / strain[1].norm()
    assert half["validation_added"] == pytest.approx(float(quiet), rel=1e-4) and quiet > 0.01


def test_energies_of_noise_are_those_of_a_q_plot():
    energy = coherent.energies(FRONT, torch.randn(16, 1, 1024))
    assert energy[:, 2:, 2:-2].mean().item() == pytest.approx(1.443, rel=0.05)
    frequency, time = coherent.axes(FRONT)
    assert energy.shape[1:] == (len(frequency), len(time))


def test_predictions_are_in_the_strain_s_unit_and_end_softly(twin):
    given = recorded().numpy()
    found = twin.predict(given, FRONT.channels, 1)
    wanted = FRONT.undo(FRONT.prepare(torch.from_numpy(given))[:, 5].numpy())
    middle = slice(1024 - 300, 1024 + 300)
    np.testing.assert_allclose(
        found["estimate"][:, middle], wanted[:, middle], rtol=0, atol=0.02 * wanted.std()
    )
    outside = np.r_[0:256, -200:0]  # beyond 4 s about the middle, but for what the filters ring
    assert np.abs(found["estimate"][:, outside]).max() < 0.05 * wanted.std()


def test_the_estimate_cannot_see_the_strain_and_what_is_removed_can(twin, unasked):
    given, other = recorded().numpy(), recorded().numpy()
    other[:, 0] += 5 * recorded(2)[:, 0].numpy()
    found, again = (twin.predict(values, FRONT.channels, 2) for values in (given, other))
    assert np.array_equal(found["estimate"], again["estimate"])
    assert not np.array_equal(found["removed"], again["removed"])
    fitted = coherent.fitted(FRONT, other, found["estimate"])
    np.testing.assert_allclose(fitted, again["removed"], rtol=0, atol=0.02 * np.std(fitted))


def test_long_spans_are_laid_of_several_crops(twin):
    long = replace(twin, normalisation=replace(FRONT, span=5.0))
    given = recorded().numpy()
    found = long.predict(given, FRONT.channels, 2)["estimate"]
    wanted = FRONT.undo(FRONT.prepare(torch.from_numpy(given))[:, 5].numpy())
    middle = slice(1024 - 640, 1024 + 640)
    np.testing.assert_allclose(found[:, middle], wanted[:, middle], rtol=0, atol=0.02 * wanted.std())


def test_a_witness_that_is_left_out_is_silent(twin):
    found = twin.predict(recorded().numpy(), FRONT.channels, 2, {0: np.zeros(1)})
    assert not found["estimate"].any()


# -- a training --------------------------------------------------------------------------------------------------


def training(dataset_run, **changes) -> Training:
    settings = Train(epochs=2, loss="l2", warmup=2, samples=1, **changes)
    options = {"experts": 2, "sensors": 2}
    return Training(
        dataset_run.dataset, 3, Loader(batch=8), Model(name="coherent", width=4, options=options), settings
    )


@pytest.fixture(scope="module")
def run(dataset_run, tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("coherent")
    loop.train(training(dataset_run), home)
    return home


def test_a_training_learns_and_is_scored(run):
    lines = [line for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "epoch"]
    assert lines[1]["validation_loss"] < lines[0]["validation_loss"]
    assert {"validation_left", "validation_added"} <= set(lines[0])
    assert (run / "figures").is_dir()


def test_the_bank_has_a_pace_of_its_own_and_is_not_drawn_to_zero(dataset_run, tmp_path):
    learner = setup.prepare(training(dataset_run), open_store(dataset_run.dataset), World(), tmp_path)
    gates, bank = learner.optimizer.param_groups
    assert [len(bank["params"]), bank["factor"], bank["weight_decay"]] == [1, 0.5, 0.0]
    assert gates["weight_decay"] > 0 and gates["betas"] == bank["betas"] == (0.9, 0.98)
    meter = loop.Meter.of(learner.progress, learner.world)
    loop.step(learner, meter, learner.train.epoch(0))
    assert bank["lr"] == gates["lr"] / 2


def test_compiling_it_is_refused_before_data_is_read(dataset_run, tmp_path):
    said = (
        "train.compile = true: torch.compile has no code for complex spectra, of which a coherent twin is made;"
        " leave it off"
    )
    with pytest.raises(InputError) as error:
        setup.check(training(dataset_run, compile=True), open_store(dataset_run.dataset), tmp_path)
    assert str(error.value) == said


def test_resuming_gives_the_same_bits(dataset_run, run, tmp_path):
    stopped = iter([False, True] + [False] * 99)
    told = loop.train(training(dataset_run), tmp_path, World(stop=partial(next, stopped)))
    assert "stopped" in told
    loop.train(training(dataset_run), tmp_path)
    wanted, found = (checkpoint.find(home / "checkpoints", "last").weights() for home in (run, tmp_path))
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_ranks_share_the_batches_of_one(dataset_run, tmp_path):
    loader = setup.prepare(training(dataset_run), open_store(dataset_run.dataset), World(), tmp_path).train
    for one, *two in zip(loader.epoch(1), loader.epoch(1, 0, 2), loader.epoch(1, 1, 2)):
        assert torch.equal(one.inputs, torch.cat([part.inputs for part in two]))
        assert torch.equal(one.target, torch.cat([part.target for part in two]))
        assert one.target.shape[1] == 5 and one.inputs.shape[1] == 5


@pytest.mark.slow
def test_two_workers_give_the_losses_of_one(dataset_run, tmp_path):
    settings = training(dataset_run, precision="float64")
    loop.train(settings, tmp_path / "one")
    train_on_two(settings, tmp_path / "two")
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for key in {"loss", "gradient_norm", "validation_loss", "validation_left"} & set(a):
            assert a[key] == pytest.approx(b[key], rel=1e-9), key


def test_a_checkpoint_says_all_that_it_takes(dataset_run, run):
    found = checkpoint.find(run / "checkpoints", "best")
    dataset = open_store(dataset_run.dataset)
    assert found.meta.kind == "coherent" and found.kind is kinds.KINDS["coherent"]
    assert found.normalisation == coherent.front(dataset, "", dataset.channels)
    # a network that goes on from another one's weights has as many experts, whatever its own train split shares
    steady = replace(found.normalisation, steady=1)
    assert coherent.front(dataset, "", dataset.channels, steady) == steady
    trained = found.trained()
    events = np.array([3, 8])
    arrays = trained.infer(dataset, events, 1)
    assert {name: value.shape[1:] for name, value in arrays.items()} == {
        name: array.shape for name, array in coherent.arrays(dataset).items()
    }
    raw = dataset.events("series", events, [0, 1, 2])
    again = trained.predict(raw, dataset.recorded_channels, 2)
    np.testing.assert_allclose(
        arrays["removed"], again["removed"], rtol=1e-3, atol=1e-3 * again["removed"].std()
    )


def test_a_strain_out_of_lock_ends_no_prediction(dataset_run, run, monkeypatch):
    dataset, events = open_store(dataset_run.dataset), np.array([3, 8])
    trained = checkpoint.find(run / "checkpoints", "best").trained()
    wanted, read = trained.infer(dataset, events, 2), type(dataset).events

    def unlocked(self, name, *where):
        values = read(self, name, *where)
        return np.concatenate([values[:1], np.zeros_like(values[1:])]) if name == "series" else values

    monkeypatch.setattr(type(dataset), "events", unlocked)
    found = trained.infer(dataset, events, 2)
    for name, value in found.items():
        np.testing.assert_allclose(
            value[0], wanted[name][0], rtol=1e-5, atol=1e-6 * np.abs(wanted[name][0]).max()
        )
        assert np.isfinite(value).all(), name


def test_a_checkpoint_of_other_numbers_is_refused(run, tmp_path):
    found = checkpoint.find(run / "checkpoints", "best")
    meta = json.loads((found.path / "meta.json").read_text())
    meta["normalisation"]["prior"] = 0
    checkpoint.save(tmp_path, meta, {}, {})
    with pytest.raises(InputError, match=r"normalisation: its numbers must be finite, and a scale not 0"):
        checkpoint.find(tmp_path, "last")


@pytest.mark.ci
def test_the_exported_program_is_the_network(run):
    found = checkpoint.find(run / "checkpoints", "best")
    form, front = found.kind.exported, found.normalisation
    shape = form.shape(front, found.meta.shape)
    module = form.program(found.trained().network, front).eval()
    program = make_program(module, form, shape)
    assert largest_difference(program, module, form, shape) <= 1e-5
    about = form.about(front)
    assert about["channels"] == ["SIM:STRAIN", "SIM:ACC", "SIM:SUS"] and len(about["taps"]) == 65
