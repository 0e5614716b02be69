"""The loop without Ray: a single process is a world of one."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from two_workers import after, train_on, train_on_two

from glitchflow.config import Experiment
from glitchflow.config.training import Train
from glitchflow.data.normalise import Normalisation
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError, RunError
from glitchflow.train import checkpoint, loop, setup
from glitchflow.train.loop import learning_rate, train
from glitchflow.train.setup import Learner, Training, training_of
from glitchflow.train.state import Meter, Progress
from glitchflow.train.tracking import read_metrics
from glitchflow.train.validate import validate
from glitchflow.train.workers import World
from glitchflow.twin import kinds


@pytest.fixture
def training(dataset_run: Experiment) -> Training:
    """What a training on the shared dataset reads."""
    return training_of(dataset_run)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where a test's run is written."""
    return tmp_path / "train"


def change(training: Training, **changes: object) -> Training:
    return replace(training, train=training.train.model_copy(update=changes))


def changed_model(training: Training, **changes: object) -> Training:
    return replace(training, model=training.model.model_copy(update=changes))


def prepare(training: Training, directory: Path, world: World | None = None) -> Learner:
    return setup.prepare(training, open_store(training.dataset), world or World(), directory)


def meter_of(learner: Learner) -> Meter:
    return Meter.of(learner.progress, learner.world)


def epochs_of(home: Path) -> list[dict]:
    return [line for line in read_metrics(home / "metrics.jsonl") if line["kind"] == "epoch"]


def last_weights(home: Path) -> dict[str, torch.Tensor]:
    return checkpoint.find(home / "checkpoints", "last").weights()


class Stop(Exception):
    pass


def test_training_lowers_the_validation_loss(training, home):
    train(change(training, epochs=6, lr=5e-3), home)
    losses = [line["validation_loss"] for line in epochs_of(home)]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


def test_what_training_makes_worse_is_not_kept_as_the_best(training, home):
    """Of weights that were good: what it began with is validated as every epoch is."""
    train(change(training, epochs=6, lr=5e-3), home)
    good = checkpoint.best(home / "checkpoints")
    assert good.name != "initial"
    spoilt = change(training, epochs=1, lr=10.0, warmup=0, clip=None, init_from=str(good))
    train(spoilt, home.with_name("spoilt"))
    found = checkpoint.open_checkpoint(checkpoint.best(home.with_name("spoilt") / "checkpoints"))
    assert found.path.name == "initial"
    assert found.loss == pytest.approx(checkpoint.open_checkpoint(good).loss, rel=1e-6)


@pytest.mark.parametrize("model, ema", [("unet", 0.0), ("helpers:ModelWithDropout", 0.9)])
def test_resuming_inside_an_epoch_gives_the_same_bits(training, tmp_path, home, monkeypatch, model, ema):
    if ":" in model:
        training = changed_model(training, name=model, options={})
    settings, other = change(training, epochs=3, checkpoint_every=2, ema=ema), tmp_path / "other"
    train(settings, home)
    save, saved = checkpoint.save, []

    def save_and_stop(directory, meta, *rest):
        path = save(directory, meta, *rest)
        saved.append(meta)
        if len(saved) in (3, 7):  # in the middle of an epoch, twice
            raise Stop
        return path

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    for _ in range(2):
        with pytest.raises(Stop):
            train(settings, other)
    assert saved[2]["step"] % prepare(settings, tmp_path / "none").train.steps  # inside, not at its end
    train(settings, other)
    undisturbed = last_weights(home)
    for name, value in last_weights(other).items():
        assert torch.equal(value, undisturbed[name]), name
    found, wanted = (read_metrics(where / "metrics.jsonl") for where in (other, home))
    assert [(x["step"], x["loss"]) for x in found] == [(x["step"], x["loss"]) for x in wanted]


def test_an_epoch_that_another_versions_order_began_begins_again(training, tmp_path, home, monkeypatch):
    """The first versions' checkpoints do not say which order theirs is."""
    settings, save, said = change(training, epochs=1, checkpoint_every=2), checkpoint.save, []

    def save_and_stop(directory, meta, weights, state, label=""):
        state["progress"] = {k: v for k, v in state["progress"].items() if k != "order"}
        path = save(directory, meta, weights, state, label)
        if meta["step"]:
            raise Stop
        return path

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_stop)
        with pytest.raises(Stop):
            train(settings, home)
    learner = prepare(settings, home, World(say=said.append))
    assert said == [
        "epoch 1 was begun by another version of GlitchFlow, with another order of events:"
        " it begins again, after step 2"
    ]
    assert (learner.progress.batch, learner.progress.step, learner.progress.order) == (0, 2, 2)
    assert [one.epoch for one in learner.progress.sums] == [0.0]
    seen, add = [], Meter.add
    monkeypatch.setattr(Meter, "add", lambda self, *a: seen.extend(a[2]) or add(self, *a))
    train(settings, home)
    assert len(seen) == len({*seen}) == learner.train.steps * learner.train.batch
    whole = checkpoint.find(home / "checkpoints", "last")
    assert (whole.step, whole.state()["progress"]["order"]) == (2 + learner.train.steps, 2)


def test_it_says_where_its_splits_are(training, home):
    said, dataset = [], open_store(training.dataset)
    train(change(training, epochs=1), home, World(say=said.append))
    train_gb, validation_gb = (
        len(dataset.indices(split)) * 4 * 16 * 16 * 4 / 1e9 for split in ("train", "validation")
    )
    start = checkpoint.open_checkpoint(home / "checkpoints" / "initial").loss
    assert said[1:] == [f"before the first step: validation {start:.4f}"]
    assert said[:1] == [
        f"worker 0: train split in memory, {train_gb:.2g} GB, validation split in memory, {validation_gb:.2g} GB"
    ]


def test_a_running_mean_of_the_weights_is_what_is_kept(training, home):
    """After k steps it has followed by 1 - min(ema, k / (10 + k)) each time."""
    settings = change(training, epochs=1, ema=0.5, schedule="constant")
    learner = prepare(settings, home)
    wanted = [weight.detach().clone() for weight in learner.model.parameters()]
    take, made = learner.optimizer.step, []

    def step():
        take()
        share = 1 - min(0.5, (len(made) + 1) / (11 + len(made)))
        for mean, weight in zip(wanted, learner.model.parameters(), strict=True):
            mean.lerp_(weight.detach(), share)
        made.append(share)

    learner.optimizer.step = step
    loop.train_epoch(learner, meter_of(learner), None)
    assert len(made) > 5
    for mean, weight in zip(wanted, learner.average.parameters(), strict=True):
        torch.testing.assert_close(weight.detach(), mean, rtol=1e-6, atol=1e-7)
    train(settings, home)
    found = checkpoint.find(home / "checkpoints", "last")
    for name, weight in learner.average.state_dict().items():
        assert torch.equal(found.weights()[name], weight), name
    for name, weight in learner.model.state_dict().items():
        assert torch.equal(found.state()["weights"][name], weight), name


def test_more_epochs_go_on_from_the_last(training, home):
    train(change(training, epochs=1, schedule="constant"), home)
    lines = read_metrics(home / "metrics.jsonl")
    train(change(training, epochs=2, schedule="constant"), home)
    assert read_metrics(home / "metrics.jsonl")[: len(lines)] == lines
    assert [line["epoch"] for line in epochs_of(home)] == [0, 1]


def test_accumulated_batches_are_one_large_batch(training, home):
    """Two batches of 8 accumulated step like the mean of their gradients."""
    learner = prepare(change(training, accumulate=2, precision="float64", clip=None), home)
    batches = learner.train.epoch(0)
    loss = sum(learner.loss(learner.model(b.inputs), b.target) for b in (next(batches), next(batches))) / 2
    loss.backward()
    expected = [p.grad.clone() for p in learner.model.parameters()]
    seen = []
    learner.optimizer.step = lambda: seen.append([p.grad.clone() for p in learner.model.parameters()])
    loop.train_epoch(learner, meter_of(learner), None)
    for a, b in zip(seen[0], expected):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("clip", [1e-3, 1e9])
def test_the_last_accumulated_group_may_be_short_and_its_gradient_is_clipped(training, home, clip):
    learner = prepare(change(training, accumulate=4, precision="float64", clip=clip), home)
    assert learner.train.steps % 4 == 2
    last = list(learner.train.epoch(0))[4:]
    (sum(learner.loss(learner.model(b.inputs), b.target) for b in last) / 2).backward()
    expected = torch.cat([p.grad.flatten() for p in learner.model.parameters()])
    expected *= min(1.0, clip / float(expected.norm()))
    seen = []
    learner.optimizer.step = lambda: seen.append(
        torch.cat([p.grad.flatten() for p in learner.model.parameters()])
    )
    loop.train_epoch(learner, meter_of(learner), None)
    assert len(seen) == 2
    torch.testing.assert_close(seen[-1], expected, rtol=1e-5, atol=1e-12)


def test_a_seed_of_the_training_alone_changes_weights_and_order(training, home):
    def first(seed):
        learner = prepare(change(training, seed=seed), home)
        weights = torch.cat([p.flatten() for p in learner.model.parameters()])
        return next(iter(learner.train.epoch(0))).events, weights

    (order, weights), (same_order, same_weights) = first(None), first(training.seed)
    assert torch.equal(weights, same_weights)
    np.testing.assert_array_equal(order, same_order)
    order_again, weights_again = first(77)
    assert not torch.equal(weights, weights_again)
    assert not np.array_equal(order, order_again)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(training, home):
    result = train(change(training, loss="helpers:loss_not_finite"), home)
    assert "the loss is not finite at step 1 (epoch 1, batches with events " in result["failed"]
    assert "last good checkpoint: none" in result["failed"]
    assert read_metrics(home / "metrics.jsonl")[-1]["reason"] == result["failed"]


def test_early_stop(training, home):
    settings = change(training, epochs=50, lr=1e-12, warmup=0, early_stop=2)
    metrics = train(settings, home)
    assert metrics["epoch"] < 10
    dataset = open_store(training.dataset)
    assert setup.check(settings, dataset, home).over(settings.train)
    assert train(settings, home) == {}  # over again: there is nothing left to train
    assert [line["epoch"] for line in epochs_of(home)] == list(range(metrics["epoch"] + 1))
    patient = change(settings, early_stop=4)
    assert not setup.check(patient, dataset, home).over(patient.train)


def test_a_run_goes_on_with_the_dataset_it_was_begun_on(training, home, monkeypatch):
    train(change(training, epochs=1), home)
    monkeypatch.setattr(setup, "recipe", lambda _: "another")
    with pytest.raises(InputError, match=r"train: was begun on another dataset than .*dataset.zarr is now"):
        train(change(training, epochs=2), home)


def test_every_rank_begins_from_the_checkpoint_that_rank_0_sees(training, home, monkeypatch):
    train(change(training, epochs=2, keep=9), home)
    directory = home / "checkpoints"
    first = checkpoint.open_checkpoint(checkpoint.by_step(directory)[0]).step

    def rank_1(step_of_rank_0):
        return World(
            1, 2, add=lambda table: torch.cat([torch.full_like(table[:1], step_of_rank_0), table[1:]])
        )

    assert setup._last(directory, rank_1(first)).step == first
    assert setup._last(directory, rank_1(-1)) is None
    monkeypatch.setattr(setup, "HIDDEN", 0.3)
    with pytest.raises(RunError, match=r"step-00000999: rank 0 sees this checkpoint, rank 1 does not"):
        setup._last(directory, rank_1(999))


def test_a_signal_during_validation_does_not_wait_for_its_end(training, tmp_path, home, monkeypatch):
    settings = change(training, epochs=2)
    undisturbed = train(settings, tmp_path / "undisturbed")

    def killed(learner, forward, between):
        between()
        raise Stop

    monkeypatch.setattr(loop, "validate", killed)
    learner = prepare(settings, home, World(stop=lambda: True))
    with pytest.raises(Stop):
        loop.train_epoch(replace(learner, world=World()), meter_of(learner), None)
        loop.finish_epoch(learner, meter_of(learner), None)
    assert checkpoint.find(home / "checkpoints", "last").state()["progress"]["batch"] == learner.train.steps
    monkeypatch.undo()
    assert train(settings, home)["validation_loss"] == undisturbed["validation_loss"]


def test_killed_between_an_epochs_metrics_and_its_checkpoint(training, home, monkeypatch):
    """A checkpoint by steps is there at that very step."""
    steps = prepare(training, home).train.steps
    settings, save = change(training, epochs=2, checkpoint_every=steps), loop.save

    def killed(learner, metrics, *rest, **named):
        if metrics:
            raise Stop
        save(learner, metrics, *rest, **named)

    monkeypatch.setattr(loop, "save", killed)
    with pytest.raises(Stop):
        train(settings, home)
    monkeypatch.undo()
    train(settings, home)
    assert [line["epoch"] for line in epochs_of(home)] == [0, 1]


def test_plateau_halves_the_rate(training, home):
    metrics = train(change(training, epochs=6, lr=1e-12, warmup=0, schedule="plateau", patience=2), home)
    assert metrics["lr"] == pytest.approx(1e-12 * 0.5 ** (metrics["epoch"] // 2), rel=0.6)
    assert metrics["lr"] < 1e-12


def test_a_plateau_lowers_the_rate_by_the_factor_asked_down_to_the_floor(training):
    settings = change(training, lr=1e-3, warmup=0, schedule="plateau", factor=0.1, floor=4e-5).train
    rates = [learning_rate(settings, Progress(halvings=times), 10) for times in range(4)]
    assert rates == pytest.approx([1e-3, 1e-4, 4e-5, 4e-5])


@pytest.mark.parametrize("name, kind", [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_is_the_one_asked_for(training, home, name, kind):
    learner = prepare(change(training, optimizer=name, betas=(0.5, 0.9), weight_decay=0.0), home)
    assert type(learner.optimizer) is kind
    assert all(group["betas"] == (0.5, 0.9) for group in learner.optimizer.param_groups)


@pytest.fixture
def first(trained_run) -> checkpoint.Checkpoint:
    """The best checkpoint of another run, to start from."""
    return checkpoint.find(Path(trained_run.workdir) / "train" / "checkpoints", "best")


def test_init_from_starts_at_those_weights(training, home, first):
    learner = prepare(change(training, init_from=str(first.path)), home)
    for name, value in first.weights().items():
        assert torch.equal(learner.model.state_dict()[name], value), name


def shifted(*_):
    """The normalisation of data whose statistics are others."""
    return Normalisation("log1p", [float(i) for i in range(1, 5)], [2.0] * 4)


@pytest.mark.parametrize("which", ["old", "new"])
def test_fine_tuning_keeps_the_old_normalisation_or_takes_the_new(training, home, first, monkeypatch, which):
    monkeypatch.setitem(kinds.KINDS, "image", replace(kinds.KINDS["image"], normalisation=shifted))
    learner = prepare(change(training, init_from=str(first.path), init_normalisation=which), home)
    wanted = first.normalisation if which == "old" else shifted()
    assert learner.normalisation == wanted
    assert learner.meta["normalisation"] == wanted.to_json()


def test_a_resumed_run_keeps_its_normalisation_whatever_the_store_says_now(training, home, monkeypatch):
    train(change(training, epochs=1), home)
    before = prepare(training, home).normalisation
    monkeypatch.setitem(kinds.KINDS, "image", replace(kinds.KINDS["image"], normalisation=shifted))
    assert prepare(training, home).normalisation == before != shifted()


def test_fine_tuning_something_else_is_refused_in_one_line(training, home, first):
    tuned = change(training, init_from=str(first.path))
    fewer = replace(tuned, loader=tuned.loader.model_copy(update={"witnesses": ["SIM:ACC"]}))
    with pytest.raises(
        InputError, match=r"train.init_from = .*: its network takes 3 witnesses .*, here are 1"
    ):
        prepare(fewer, home)
    with pytest.raises(InputError, match=r"model: not that of .*, which is .*'width': 4"):
        prepare(changed_model(tuned, width=6), home)
    said = r"^train.init_from = .*: its network is of the image kind, model.name of the coherent one$"
    with pytest.raises(InputError, match=said):
        prepare(changed_model(tuned, name="coherent"), home)
    other = replace(tuned, loader=tuned.loader.model_copy(update={"normalise": "max"}))
    with pytest.raises(InputError, match=r"loader.normalise = max: the network of .* expects log1p"):
        prepare(other, home)


def test_a_flag_stops_the_loop_at_a_checkpoint(training, home):
    result = train(change(training, epochs=3), home, World(stop=lambda: True))
    assert result == {"stopped": "stopped after step 1, with a checkpoint"}
    assert checkpoint.find(home / "checkpoints", "last").step == 1


def test_checkpoints_by_the_clock(training, home):
    train(change(training, epochs=1, checkpoint_every="1s"), home)
    learner = prepare(change(training, checkpoint_every="1s"), home)
    meter = meter_of(learner)
    meter.saved -= 2
    loop.step(learner, meter, learner.train.epoch(1))
    loop.meet(learner, meter, None)
    assert checkpoint.find(home / "checkpoints", "last").step == learner.progress.step


def test_the_best_ones_are_kept(training, home):
    train(change(training, epochs=6, keep=1, keep_best=3, lr=5e-3), home)
    directory = home / "checkpoints"
    losses = {line["step"]: line["validation_loss"] for line in epochs_of(home)}
    wanted = {*sorted(losses, key=losses.get)[:3], max(losses)}
    assert {checkpoint.open_checkpoint(path).step for path in checkpoint.by_step(directory)} == wanted
    assert checkpoint.by_loss(directory)[0] == checkpoint.best(directory)


def test_what_an_epoch_says_and_draws(training, home):
    train(change(training, epochs=1, samples=2), home)
    (epoch,) = epochs_of(home)
    assert 0 < epoch["memory_gb"] < 100
    assert 0 <= epoch["waiting_for_data"] <= 1
    assert {"validation_loss", "validation_nll", "validation_residual", "samples_per_second"} <= set(epoch)
    (figure,) = (home / "figures").iterdir()
    assert figure.stat().st_size > 10_000
    board = EventAccumulator(str(home / "tensorboard"), size_guidance={"images": 0})
    board.Reload()
    assert len(board.Images("samples")) == 1
    assert [e.value for e in board.Scalars("epoch/validation_loss")] == pytest.approx(
        [epoch["validation_loss"]]
    )


def test_the_likelihood_that_is_trained_is_the_one_of_what_is_predicted(training, home):
    train(change(training, epochs=2, loss="whittle"), home)
    first, last = epochs_of(home)
    assert last["validation_nll"] < first["validation_nll"]
    assert last["validation_nll"] == pytest.approx(last["validation_loss"], rel=1e-5)
    dataset = open_store(training.dataset)
    events = dataset.indices("validation")
    energy = dataset.events("qplot", events)
    trained = checkpoint.find(home / "checkpoints", "last").trained()
    generated = trained.predict(energy, dataset.channels, 8)["qplot"]
    likelihood = np.log(generated) + np.maximum(energy[:, 0], 0) / generated
    assert float(likelihood.mean(dtype=np.float64)) == pytest.approx(last["validation_nll"], rel=1e-5)


def test_any_network_can_be_trained_on_with_another_loss(training, home, first):
    learner = prepare(change(training, init_from=str(first.path), loss="whittle"), home)
    for name, value in first.weights().items():
        assert torch.equal(learner.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("precision", "reason"),
    [
        ("bfloat16", "torch has no kernels of it for this CPU: float32, which is faster here"),
        ("tf32", "products of a GPU, which a CPU has none of: float32"),
    ],
)
def test_a_precision_that_a_cpu_has_none_of_is_float32(training, home, monkeypatch, precision, reason):
    """And those who follow the run are told so: of a worker's own standard error they see nothing."""
    monkeypatch.setattr("glitchflow.device._bfloat16_on_cpus", lambda: False)
    said, seen = [], []
    learner = prepare(change(training, precision=precision), home, World(say=said.append))
    assert said == [f"train.precision = {precision}: {reason}"]
    layer = next(m for m in learner.model.modules() if isinstance(m, torch.nn.Conv2d))
    layer.register_forward_hook(lambda _, given, out: seen.append(out.dtype))
    loop.forward(learner, learner.network, next(learner.train.epoch(0)))
    assert seen == [torch.float32]


@pytest.mark.slow
def test_compiled(training, tmp_path):
    plain = train(change(training, epochs=1), tmp_path / "plain")
    compiled = train(change(training, epochs=1, compile=True), tmp_path / "compiled")
    assert compiled["validation_loss"] == pytest.approx(plain["validation_loss"], rel=1e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float64"])
def test_precisions(training, home, precision):
    assert math.isfinite(train(change(training, epochs=1, precision=precision), home)["validation_loss"])


def test_a_model_of_ones_own(training, home):
    own = changed_model(training, name="helpers:OwnModel", options={})
    assert math.isfinite(train(change(own, epochs=1), home)["validation_loss"])


def test_the_networks_keys_reach_it(training, home, monkeypatch):
    """bfloat16 and channels_last as the first convolution has them; compile as torch is asked."""
    taken, seen, asked, compiled = [], [], [], None
    monkeypatch.setattr(torch, "compile", lambda model: asked.append(model) or model)
    monkeypatch.setattr("glitchflow.device._bfloat16_on_cpus", lambda: True)
    for precision, channels_last in (("bfloat16", True), ("float32", False)):
        settings = change(training, precision=precision, channels_last=channels_last, compile=channels_last)
        learner = prepare(settings, home)
        compiled = learner if channels_last else compiled
        learner.model.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
        layer = next(m for m in learner.model.modules() if isinstance(m, torch.nn.Conv2d))
        layer.register_forward_hook(lambda _, given, out: seen.append(out))
        loss, *_ = loop.forward(learner, learner.network, next(learner.train.epoch(0)))
        assert loss.dtype == torch.float32
        assert layer.weight.is_contiguous(memory_format=torch.channels_last) or not channels_last
    assert [out.dtype for out in seen] == [torch.bfloat16, torch.float32]
    for images in (taken, seen):
        assert [x.is_contiguous(memory_format=torch.channels_last) for x in images] == [True, False]
    assert asked == [compiled.network, compiled.average]


def test_a_model_that_cannot_take_the_image_is_refused_before_data_is_read(training, home, monkeypatch):
    monkeypatch.setattr("glitchflow.data.loader.Loader.read", lambda *_: pytest.fail("data was read"))
    with pytest.raises(InputError, match=r"model: .*16"):
        prepare(changed_model(training, options={"depth": 7}), home)


def test_a_cut_off_last_line_of_metrics_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"kind": "epoch", "step": 1}) + '\n{"kind": "ep')
    assert read_metrics(path) == [{"kind": "epoch", "step": 1}]
    assert read_metrics(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    "line, said",
    [
        ("{", "Invalid JSON: "),
        ("[]", "Input should be an object"),
        ('{"kind": "step"}', "step: Field required"),
    ],
)
def test_a_line_that_is_none_of_metrics_is_named(tmp_path, line, said):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "epoch", "step": 1}\n' + line + '\n{"kind": "epoch", "step": 2}\n')
    with pytest.raises(RunError, match=rf"^{path}: damaged: line 2: {said}"):
        read_metrics(path)


@pytest.mark.parametrize(
    ("more", "rate"),
    [
        ({}, 0.01),
        ({"lr_batch": 8}, 0.04),
        ({"lr_batch": 8, "lr_scaling": "sqrt"}, 0.02),
        ({"lr_batch": 8, "accumulate": 2}, 0.08),
        ({"lr_batch": 64}, 0.005),
    ],
)
def test_a_learning_rate_is_scaled_to_the_events_of_a_step(tmp_path, more, rate):
    """Checkpoints hold what was asked: a run that goes on does not scale it twice."""
    training = training_of(small(tmp_path, loader={"batch": 32}, train={"lr": 0.01, **more}))
    assert training.scaled.lr == pytest.approx(rate)
    assert training.to_json()["train"]["lr"] == 0.01


def test_learning_rate_schedules():
    settings = Train(lr=1.0, epochs=10, warmup=4, schedule="cosine")
    places = [Progress(step=step, epoch=step // 10, batch=step % 10) for step in range(101)]
    rates = [learning_rate(settings, progress, batches=10) for progress in places]
    again = replace(places[90], step=97)  # the last epoch was begun again: it learns to its end
    assert learning_rate(settings, again, batches=10) == rates[90] > 0
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0], rel=3e-3)
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    constant = Train(lr=1.0, epochs=10, warmup=0, schedule="constant")
    assert learning_rate(constant, Progress(step=77), batches=10) == 1.0


def validated(learner: Learner) -> float:
    return validate(learner, partial(loop.forward, learner, learner.model))["validation_loss"]


def test_validation_counts_every_event_once(training, home):
    learner = prepare(training, home)
    learner.model.eval()
    with torch.no_grad():
        one_by_one = [
            float(learner.loss(learner.model(b.inputs), b.target)) for b in learner.validation.once(1)
        ]
    assert len(one_by_one) == len(learner.validation.events)
    assert validated(learner) == pytest.approx(sum(one_by_one) / len(one_by_one), rel=1e-5)


def test_two_ranks_validate_like_one(training, home):
    """Sums of two ranks' shares: what the all-reduce adds up."""
    learner = prepare(training, home)
    totals = []

    def keep(total):
        totals.append(total.clone())
        return total

    for rank in range(2):
        validated(replace(learner, world=World(rank=rank, size=2, add=keep)))
    both = totals[0] + totals[1]
    assert float(both[1]) == len(learner.validation.events)
    alone = validated(replace(learner, world=World(add=keep)))
    assert float(both[0] / both[1]) == pytest.approx(alone, rel=1e-6)
    assert both.tolist() == pytest.approx(totals[2].tolist(), rel=1e-6)  # the scores' sums too


# -- two workers -------------------------------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_give_the_losses_of_one_step_by_step(training, tmp_path, workers):
    """Of four lanes two workers have as many each; of three one has two, and counts for as much."""
    settings = change(training, precision="float64", epochs=4)
    train(settings, tmp_path / "one")
    train_on(workers, settings, tmp_path / "several")
    one, several = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "several"))
    assert len(one) == 6  # 24 steps: two lines of ten, four epochs
    for a, b in zip(one, several, strict=True):
        for key in {"step", "loss", "lr", "gradient_norm", "validation_loss", "validation_iou"} & set(a):
            assert a[key] == pytest.approx(b[key], rel=1e-9, abs=1e-9), key
    found = last_weights(tmp_path / "several")
    for name, value in last_weights(tmp_path / "one").items():
        torch.testing.assert_close(found[name], value, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_two_hundred_steps_of_two_workers_are_those_of_one(training, tmp_path):
    settings = change(training, epochs=34)
    train(settings, tmp_path / "one")
    train_on_two(settings, tmp_path / "two")
    one, two = (
        [line["loss"] for line in read_metrics(tmp_path / name / "metrics.jsonl") if line["kind"] == "step"]
        for name in ("one", "two")
    )
    assert one == pytest.approx(two, rel=1e-3)


@pytest.mark.ci
def test_two_workers_that_are_stopped_go_on_to_the_same_bits(training, tmp_path, home):
    settings = change(training, epochs=3)
    train_on_two(settings, tmp_path / "undisturbed")
    told = train_on_two(settings, home, meetings=2)
    assert told[0] == told[1] == {"stopped": read_metrics(home / "metrics.jsonl")[-1]["reason"]}
    train_on_two(settings, home)
    for name, value in last_weights(tmp_path / "undisturbed").items():
        assert torch.equal(last_weights(home)[name], value), name
    found, wanted = (epochs_of(where) for where in (home, tmp_path / "undisturbed"))
    assert [x["validation_loss"] for x in found] == [x["validation_loss"] for x in wanted]
    assert [x["loss"] for x in found] == [x["loss"] for x in wanted]


@pytest.mark.ci
@pytest.mark.parametrize("first, then", [(1, 2), (2, 1), (3, 2)])
def test_going_on_with_another_number_of_workers(training, tmp_path, home, first, then):
    settings = change(training, precision="float64", epochs=3)
    train(settings, tmp_path / "one")
    train_on(first, settings, home, meetings=2)
    train_on(then, settings, home)
    lines = [
        [(x["kind"], x["step"]) for x in read_metrics(where / "metrics.jsonl")]
        for where in (home, tmp_path / "one")
    ]
    assert lines[0] == lines[1]
    losses = [
        [x["loss"] for x in read_metrics(where / "metrics.jsonl")] for where in (home, tmp_path / "one")
    ]
    assert losses[0] == pytest.approx(
        losses[1], rel=1e-9
    )  # of a window that some wrote and others ended, too


@pytest.mark.ci
def test_a_run_that_blows_up_on_one_worker_names_that_ones_events(training, home):
    """The loss of rank 1 alone, at its fifth step."""
    settings = change(training, loss="helpers:loss_not_finite_on_rank_1", checkpoint_every=2)
    told = train_on_two(settings, home)
    assert told[0] == told[1]
    batches = list(prepare(settings, home / "none").train.epoch(0, 1, 2))
    events = ", ".join(str(event) for event in batches[4].events)
    assert told[0]["failed"] == (
        f"the loss is not finite at step 5 (epoch 1, batches with events {events}, ...); last good checkpoint:"
        f" {home / 'checkpoints' / 'step-00000004'}"
    )


# -- on a GPU ----------------------------------------------------------------------------------------------------

KINDS = {"image": "dataset_run", "coherent": "series_run", "flow": "glitches_run"}


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_learns_what_a_cpu_learns(kind, gpu, request, tmp_path):
    """The same losses, and a checkpoint that a CPU opens: what it says there is what the GPU says."""
    training = change(
        training_of(request.getfixturevalue(KINDS[kind])), epochs=2, precision="float32", ema=0.0
    )
    train(training, tmp_path / "cpu")
    train(training, tmp_path / "gpu", World(device=gpu))
    lines = [epochs_of(tmp_path / where) for where in ("gpu", "cpu")]
    for name in ("loss", "validation_loss"):
        found, expected = ([line[name] for line in epochs] for epochs in lines)
        assert found == pytest.approx(expected, rel=2e-3), name
    assert lines[0][-1]["memory_gb"] < lines[1][-1]["memory_gb"]  # of the card, and of this process
    last = checkpoint.find(tmp_path / "gpu" / "checkpoints", "last")
    here, there = (last.trained(where).network for where in ("cpu", gpu))
    given = next(prepare(training, tmp_path / "none").validation.once(4)).inputs
    with torch.inference_mode():
        torch.testing.assert_close(there(given.to(gpu)).cpu(), here(given), rtol=2e-3, atol=2e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_on_a_gpu_goes_on(kind, precision, gpu, request, tmp_path):
    """Stopped inside an epoch it ends as if it had not been, within what a GPU's sums differ by from run to run."""
    training = change(training_of(request.getfixturevalue(KINDS[kind])), epochs=2, precision=precision)
    train(training, tmp_path / "whole", World(device=gpu))
    train(training, tmp_path / "parts", World(device=gpu, stop=after(0)))
    assert read_metrics(tmp_path / "parts" / "metrics.jsonl")[-1]["kind"] == "stopped"
    train(training, tmp_path / "parts", World(device=gpu))
    found, expected = (
        [(x["loss"], x["validation_loss"]) for x in epochs_of(tmp_path / where)]
        for where in ("parts", "whole")
    )
    assert np.array(found) == pytest.approx(np.array(expected), rel=2e-2 if precision == "bfloat16" else 2e-3)


@pytest.mark.gpu
def test_a_validation_on_a_gpu_scores_what_one_on_a_cpu_does(gpu, training, home):
    learner, there = (prepare(training, home, World(device=where)) for where in (torch.device("cpu"), gpu))
    scores = [validate(each, partial(loop.forward, each, each.average)) for each in (there, learner)]
    assert scores[0] == pytest.approx(scores[1], rel=2e-3)
