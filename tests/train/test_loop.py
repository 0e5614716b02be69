"""The loop without Ray: a single process is a world of one."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from glitchflow.config import Experiment
from glitchflow.config.sections import Train
from glitchflow.errors import InputError, RunError
from glitchflow.train import checkpoint, loop, setup
from glitchflow.train.loop import Progress, World, learning_rate, train
from glitchflow.train.tracking import read_metrics


@pytest.fixture
def experiment(dataset_run: Experiment, tmp_path: Path) -> Experiment:
    """A run of its own on the shared dataset."""
    (tmp_path / "dataset.zarr").symlink_to(dataset_run.dataset)
    return dataset_run.model_copy(update={"workdir": str(tmp_path)})


def change(experiment: Experiment, **changes: object) -> Experiment:
    return experiment.model_copy(update={"train": experiment.train.model_copy(update=changes)})


def last_weights(experiment: Experiment) -> dict[str, torch.Tensor]:
    path = checkpoint.by_step(Path(experiment.workdir) / "train" / "checkpoints")[-1]
    return checkpoint.open_checkpoint(path).weights()


class Stop(Exception):
    pass


def test_training_lowers_the_validation_loss(experiment):
    train(change(experiment, epochs=6, lr=5e-3))
    losses = [
        line["validation_loss"]
        for line in read_metrics(Path(experiment.workdir) / "train" / "metrics.jsonl")
        if line["kind"] == "epoch"
    ]
    assert len(losses) == 6
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("model", ["unet", "helpers:ModelWithDropout"])
def test_resuming_inside_an_epoch_gives_the_same_bits(experiment, tmp_path, monkeypatch, model):
    named = experiment.model.model_copy(update={"name": model} | ({"options": {}} if ":" in model else {}))
    experiment = experiment.model_copy(update={"model": named})
    settings = change(experiment, epochs=3, checkpoint_every=2)
    train(settings)
    undisturbed = last_weights(settings)
    lines = read_metrics(tmp_path / "train" / "metrics.jsonl")

    other = settings.model_copy(update={"workdir": str(tmp_path / "other")})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "dataset.zarr").symlink_to(experiment.dataset)
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
            train(other)
    assert saved[2]["step"] % loop.prepare(settings, World(rank=-1)).train.steps  # inside, not at its end
    train(other)
    for name, value in last_weights(other).items():
        assert torch.equal(value, undisturbed[name]), name
    resumed = read_metrics(tmp_path / "other" / "train" / "metrics.jsonl")
    assert [(x["step"], x["loss"]) for x in resumed] == [(x["step"], x["loss"]) for x in lines]


def test_more_epochs_go_on_from_the_last(experiment):
    train(change(experiment, epochs=1, schedule="constant"))
    lines = read_metrics(Path(experiment.workdir) / "train" / "metrics.jsonl")
    train(change(experiment, epochs=2, schedule="constant"))
    more = read_metrics(Path(experiment.workdir) / "train" / "metrics.jsonl")
    assert more[: len(lines)] == lines
    assert [x["epoch"] for x in more if x["kind"] == "epoch"] == [0, 1]


def test_accumulated_batches_are_one_large_batch(experiment, tmp_path):
    """Two batches of 8 accumulated step like the mean of their gradients."""
    run = loop.prepare(change(experiment, accumulate=2, precision="float64", clip=None), World())
    batches = run.train.epoch(0)
    loss = sum(run.loss(run.model(b.inputs), b.target) for b in (next(batches), next(batches))) / 2
    loss.backward()
    expected = [p.grad.clone() for p in run.model.parameters()]
    seen = []
    run.optimizer.step = lambda: seen.append([p.grad.clone() for p in run.model.parameters()])
    loop._train_epoch(run, None, loop.begin(run))
    for a, b in zip(seen[0], expected):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("clip", [1e-3, 1e9])
def test_the_last_accumulated_group_may_be_short_and_its_gradient_is_clipped(experiment, clip):
    run = loop.prepare(change(experiment, accumulate=4, precision="float64", clip=clip), World())
    assert run.train.steps % 4 == 2
    last = list(run.train.epoch(0))[4:]
    (sum(run.loss(run.model(b.inputs), b.target) for b in last) / 2).backward()
    expected = torch.cat([p.grad.flatten() for p in run.model.parameters()])
    expected *= min(1.0, clip / float(expected.norm()))
    seen = []
    run.optimizer.step = lambda: seen.append(torch.cat([p.grad.flatten() for p in run.model.parameters()]))
    loop._train_epoch(run, None, loop.begin(run))
    assert len(seen) == 2
    torch.testing.assert_close(seen[-1], expected, rtol=1e-5, atol=1e-12)


def test_a_seed_of_the_training_alone_changes_weights_and_order(experiment, tmp_path):
    def first(seed):
        run = setup.prepare(change(experiment, seed=seed), World(), tmp_path / str(seed))
        return next(iter(run.train.epoch(0))).events, torch.cat([p.flatten() for p in run.model.parameters()])

    (order, weights), (same_order, same_weights) = first(None), first(experiment.seed)
    assert torch.equal(weights, same_weights)
    np.testing.assert_array_equal(order, same_order)
    order_again, weights_again = first(77)
    assert not torch.equal(weights, weights_again)
    assert not np.array_equal(order, order_again)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(experiment):
    result = train(change(experiment, loss="helpers:loss_not_finite"))
    assert "the loss is not finite at step 1 (epoch 1, batches with events " in result["failed"]
    assert "last good checkpoint: none" in result["failed"]


def test_early_stop(experiment):
    settings = change(experiment, epochs=50, lr=1e-12, warmup=0, early_stop=2)
    metrics = train(settings)
    assert metrics["epoch"] < 10
    assert setup.check(settings).over(settings.train)
    assert train(settings) == {}  # over again: there is nothing left to train
    lines = read_metrics(Path(experiment.workdir) / "train" / "metrics.jsonl")
    assert [x["epoch"] for x in lines if x["kind"] == "epoch"] == list(range(metrics["epoch"] + 1))
    patient = change(settings, early_stop=4)
    assert not setup.check(patient).over(patient.train)


def test_a_run_goes_on_with_the_dataset_it_was_begun_on(experiment, monkeypatch):
    train(change(experiment, epochs=1))
    monkeypatch.setattr(setup, "recipe", lambda _: "another")
    with pytest.raises(InputError, match=r"train: was begun on another dataset than .*dataset.zarr is now"):
        train(change(experiment, epochs=2))


def test_every_rank_begins_from_the_checkpoint_that_rank_0_sees(experiment, tmp_path, monkeypatch):
    train(change(experiment, epochs=2, keep=9))
    steps = [
        checkpoint.open_checkpoint(p).step for p in checkpoint.by_step(tmp_path / "train" / "checkpoints")
    ]

    def rank_1(step_of_rank_0):
        return World(
            1, 2, add=lambda table: torch.cat([torch.full_like(table[:1], step_of_rank_0), table[1:]])
        )

    assert setup._last(tmp_path / "train" / "checkpoints", rank_1(steps[0])).step == steps[0]
    assert setup._last(tmp_path / "train" / "checkpoints", rank_1(-1)) is None
    monkeypatch.setattr(setup, "HIDDEN", 0.3)
    with pytest.raises(RunError, match=r"step-00000999: rank 0 sees this checkpoint, rank 1 does not"):
        setup._last(tmp_path / "train" / "checkpoints", rank_1(999))


def test_a_signal_during_validation_does_not_wait_for_its_end(experiment, tmp_path, monkeypatch):
    settings = change(experiment, epochs=2)
    undisturbed = train(settings, directory=tmp_path / "undisturbed")
    monkeypatch.setattr(loop, "validate", lambda *given: (given[-1](), killed()))

    def killed():
        raise Stop

    run = loop.prepare(settings, World(stop=lambda: True))
    with pytest.raises(Stop):
        loop._train_epoch(replace(run, world=World()), None, loop.begin(run))
        loop._finish_epoch(run, None, loop.begin(run))
    last = checkpoint.find(tmp_path / "train" / "checkpoints", "last")
    assert last.state()["progress"]["batch"] == run.train.steps
    monkeypatch.undo()
    assert train(settings)["validation_loss"] == undisturbed["validation_loss"]


def test_killed_between_an_epochs_metrics_and_its_checkpoint(experiment, tmp_path, monkeypatch):
    """A checkpoint by steps is there at that very step."""
    steps = loop.prepare(experiment, World(rank=-1)).train.steps
    settings, save = change(experiment, epochs=2, checkpoint_every=steps), loop.save

    def killed(run, metrics, *rest, **named):
        if metrics:
            raise Stop
        save(run, metrics, *rest, **named)

    monkeypatch.setattr(loop, "save", killed)
    with pytest.raises(Stop):
        train(settings)
    monkeypatch.undo()
    train(settings)
    lines = read_metrics(tmp_path / "train" / "metrics.jsonl")
    assert [x["epoch"] for x in lines if x["kind"] == "epoch"] == [0, 1]


def test_plateau_halves_the_rate(experiment):
    metrics = train(change(experiment, epochs=6, lr=1e-12, warmup=0, schedule="plateau", patience=2))
    assert metrics["lr"] == pytest.approx(1e-12 * 0.5 ** (metrics["epoch"] // 2), rel=0.6)
    assert metrics["lr"] < 1e-12


def test_init_from_starts_at_those_weights(experiment, trained_run):
    best = checkpoint.best(Path(trained_run.workdir) / "train" / "checkpoints")
    run = loop.prepare(change(experiment, init_from=str(best)), World())
    for name, value in checkpoint.open_checkpoint(best).weights().items():
        assert torch.equal(run.model.state_dict()[name], value), name


def other_data(experiment, trained_run, **changes):
    """Fine-tuning on data whose statistics are others: the stored ones of every channel, doubled."""
    best = checkpoint.best(Path(trained_run.workdir) / "train" / "checkpoints")
    return checkpoint.open_checkpoint(best), change(experiment, init_from=str(best), **changes)


@pytest.mark.parametrize("which", ["old", "new"])
def test_fine_tuning_keeps_the_old_normalisation_or_takes_the_new(
    experiment, trained_run, monkeypatch, which
):
    first, tuned = other_data(experiment, trained_run, init_normalisation=which)
    shifted = replace(first.normalisation, offset=[x + 1 for x in first.normalisation.offset])
    monkeypatch.setattr("glitchflow.train.setup.build_normalisation", lambda *_: shifted)
    run = loop.prepare(tuned, World())
    wanted = first.normalisation if which == "old" else shifted
    assert run.train.normalisation == wanted
    assert run.meta["normalisation"] == wanted.to_json()


def test_a_resumed_run_keeps_its_normalisation_whatever_the_store_says_now(experiment, monkeypatch):
    train(change(experiment, epochs=1))
    before = loop.prepare(experiment, World()).train.normalisation
    shifted = replace(before, offset=[x + 1 for x in before.offset])
    monkeypatch.setattr("glitchflow.train.setup.build_normalisation", lambda *_: shifted)
    assert loop.prepare(experiment, World()).train.normalisation == before


def test_fine_tuning_something_else_is_refused_in_one_line(experiment, trained_run):
    _, tuned = other_data(experiment, trained_run)
    fewer = tuned.model_copy(update={"loader": tuned.loader.model_copy(update={"witnesses": ["SIM:ACC"]})})
    with pytest.raises(
        InputError, match=r"train.init_from = .*: its network takes 3 witnesses .*, here are 1"
    ):
        loop.prepare(fewer, World())
    wider = tuned.model_copy(update={"model": tuned.model.model_copy(update={"width": 6})})
    with pytest.raises(InputError, match=r"model: not that of .*, which is .*'width': 4"):
        loop.prepare(wider, World())
    other = tuned.model_copy(update={"loader": tuned.loader.model_copy(update={"normalise": "max"})})
    with pytest.raises(InputError, match=r"loader.normalise = max: the network of .* expects log1p"):
        loop.prepare(other, World())


def test_a_flag_stops_the_loop_at_a_checkpoint(experiment):
    result = train(change(experiment, epochs=3), World(stop=lambda: True))
    assert result == {"stopped": "stopped after step 1, with a checkpoint"}
    assert checkpoint.find(Path(experiment.workdir) / "train" / "checkpoints", "last").step == 1


def test_checkpoints_by_the_clock(experiment):
    train(change(experiment, epochs=1, checkpoint_every="1s"), World(report=lambda _: None))
    run = loop.prepare(change(experiment, checkpoint_every="1s"), World())
    meter = loop.begin(run)
    meter.saved -= 2
    loop.step(run, run.train.epoch(1), meter)
    loop._meet(run, None, meter)
    assert (
        checkpoint.find(Path(experiment.workdir) / "train" / "checkpoints", "last").step == run.progress.step
    )


def test_the_best_ones_are_kept(experiment):
    train(change(experiment, epochs=6, keep=1, keep_best=3, lr=5e-3))
    directory = Path(experiment.workdir) / "train" / "checkpoints"
    lines = read_metrics(directory.parent / "metrics.jsonl")
    losses = {x["step"]: x["validation_loss"] for x in lines if x["kind"] == "epoch"}
    wanted = {*sorted(losses, key=losses.get)[:3], max(losses)}
    assert {checkpoint.open_checkpoint(path).step for path in checkpoint.by_step(directory)} == wanted
    assert checkpoint.by_loss(directory)[0] == checkpoint.best(directory)


def test_what_an_epoch_says_and_draws(experiment):
    train(change(experiment, epochs=1, samples=2))
    (epoch,) = [
        x for x in read_metrics(Path(experiment.workdir) / "train" / "metrics.jsonl") if x["kind"] == "epoch"
    ]
    assert 0 < epoch["memory_gb"] < 100
    assert 0 <= epoch["waiting_for_data"] <= 1
    assert {"validation_loss", "validation_excess_removed", "samples_per_second"} <= set(epoch)
    (figure,) = (Path(experiment.workdir) / "train" / "figures").iterdir()
    assert figure.stat().st_size > 10_000
    board = EventAccumulator(
        str(Path(experiment.workdir) / "train" / "tensorboard"), size_guidance={"images": 0}
    )
    board.Reload()
    assert len(board.Images("samples")) == 1


@pytest.mark.slow
def test_compiled(experiment):
    plain = train(change(experiment, epochs=1))
    directory = Path(experiment.workdir) / "compiled"
    compiled = train(change(experiment, epochs=1, compile=True), directory=directory)
    assert compiled["validation_loss"] == pytest.approx(plain["validation_loss"], rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_precisions(experiment, precision):
    metrics = train(change(experiment, epochs=1, precision=precision))
    assert math.isfinite(metrics["validation_loss"])


def test_a_model_of_ones_own(experiment):
    own = experiment.model.model_copy(update={"name": "helpers:OwnModel", "options": {}})
    metrics = train(change(experiment.model_copy(update={"model": own}), epochs=1))
    assert math.isfinite(metrics["validation_loss"])


def test_the_networks_keys_reach_it(experiment, monkeypatch):
    """bfloat16 and channels_last as the first convolution has them; compile as torch is asked."""
    taken, seen, asked = [], [], []
    monkeypatch.setattr(torch, "compile", lambda model: asked.append(model) or model)
    for precision, channels_last in (("bfloat16", True), ("float32", False)):
        settings = change(experiment, precision=precision, channels_last=channels_last, compile=channels_last)
        run = loop.prepare(settings, World())
        run.model.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
        first = next(m for m in run.model.modules() if isinstance(m, torch.nn.Conv2d))
        first.register_forward_hook(lambda _, given, out: seen.append(out))
        loss, *_ = loop.forward(run, run.network, next(run.train.epoch(0)))
        assert loss.dtype == torch.float32
        assert first.weight.is_contiguous(memory_format=torch.channels_last) or not channels_last
    assert [out.dtype for out in seen] == [torch.bfloat16, torch.float32]
    for images in (taken, seen):
        assert [x.is_contiguous(memory_format=torch.channels_last) for x in images] == [True, False]
    assert len(asked) == 1


def test_a_model_that_cannot_take_the_image_is_refused_before_data_is_read(experiment, monkeypatch):
    deep = experiment.model.model_copy(update={"options": {"depth": 7}})
    monkeypatch.setattr("glitchflow.data.loader.Loader.read", lambda *_: pytest.fail("data was read"))
    with pytest.raises(InputError, match=r"model: .*16"):
        loop.prepare(experiment.model_copy(update={"model": deep}), World())


def test_metrics_in_tensorboard(experiment):
    train(experiment)
    board = EventAccumulator(str(Path(experiment.workdir) / "train" / "tensorboard"))
    board.Reload()
    written = [e.value for e in board.Scalars("epoch/validation_loss")]
    lines = read_metrics(Path(experiment.workdir) / "train" / "metrics.jsonl")
    assert written == pytest.approx([x["validation_loss"] for x in lines if x["kind"] == "epoch"])


def test_a_cut_off_last_line_of_metrics_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"kind": "epoch", "step": 1}) + '\n{"kind": "ep')
    assert read_metrics(path) == [{"kind": "epoch", "step": 1}]


def test_learning_rate_schedules():
    settings = Train(lr=1.0, epochs=10, warmup=4, schedule="cosine")
    rates = [learning_rate(settings, Progress(step=step), batches=10) for step in range(101)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0], rel=3e-3)
    assert rates[50] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    constant = Train(lr=1.0, epochs=10, warmup=0, schedule="constant")
    assert learning_rate(constant, Progress(step=77), batches=10) == 1.0


def test_validation_counts_every_event_once(experiment):
    run = loop.prepare(experiment, World())
    run.model.eval()
    with torch.no_grad():
        one_by_one = [float(run.loss(run.model(b.inputs), b.target)) for b in run.validation.once(1)]
    assert len(one_by_one) == len(run.validation.events)
    assert loop._validate(run)["validation_loss"] == pytest.approx(
        sum(one_by_one) / len(one_by_one), rel=1e-5
    )


def test_two_ranks_validate_like_one(experiment):
    """Sums of two ranks' shares: what the all-reduce adds up."""
    run = loop.prepare(experiment, World())
    totals = []

    def keep(total):
        totals.append(total.clone())
        return total

    for rank in range(2):
        loop._validate(replace(run, world=World(rank=rank, size=2, add=keep)))
    both = totals[0] + totals[1]
    assert float(both[1]) == len(run.validation.events)
    alone = replace(run, world=World(add=keep))
    assert float(both[0] / both[1]) == pytest.approx(loop._validate(alone)["validation_loss"], rel=1e-6)
    assert both.tolist() == pytest.approx(totals[2].tolist(), rel=1e-6)  # the scores' sums too
