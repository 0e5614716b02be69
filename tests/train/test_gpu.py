"""Training on a GPU: whatever feeds it, the same bits; the numbers of a CPU within rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from glitchflow.config import Experiment
from glitchflow.data.batch import Batch
from glitchflow.data.store.dataset import open_store
from glitchflow.train import setup
from glitchflow.train.loop import train
from glitchflow.train.setup import Learner, Training, training_of
from glitchflow.train.tracking import read_metrics
from glitchflow.train.workers import World

pytestmark = pytest.mark.gpu

GPU = World(device=torch.device("cuda", 0))
CACHED = {"cache_gb": 1.0, "cache_gpu_gb": None}  # the ways that batches come to a GPU
HOST = {"cache_gb": 1.0, "cache_gpu_gb": 0.0}
STORE = {"cache_gb": 0.0, "cache_gpu_gb": 0.0}
MODELS = {
    "unet": ({"name": "unet"}, {}),
    "attention_unet": ({"name": "attention_unet"}, {}),
    "whittle": ({"name": "decoder", "options": {}}, {"loss": "whittle"}),
    "coherent": ({"name": "coherent", "options": {"experts": 2, "sensors": 1}}, {"loss": "l2"}),
    "flow": ({"name": "flow", "options": {}}, {"loss": "l2", "ema": 0.9}),
}


@pytest.fixture
def training(request: pytest.FixtureRequest, glitches_run: Experiment) -> Training:
    """What a training of the model named reads; a dataset with its series and its transients has it all."""
    model, more = MODELS[getattr(request, "param", "unet")]
    found = training_of(glitches_run)
    settings = {"loss": "l1", "ema": 0.0, "epochs": 2, **more}
    options = {"depth": 2} if "unet" in model["name"] else {}
    return replace(
        found,
        model=found.model.model_copy(update={"width": 4, "options": options, **model}),
        train=found.train.model_copy(update=settings),
    )


def fed(training: Training, loader: dict, **changes: object) -> Training:
    return replace(
        training,
        loader=training.loader.model_copy(update=loader),
        train=training.train.model_copy(update=changes),
    )


def prepare(training: Training, world: World, directory: Path) -> Learner:
    return setup.prepare(training, open_store(training.dataset), world, directory)


def losses(training: Training, home: Path, world: World = GPU) -> np.ndarray:
    """(line, (loss, validation loss)) of a run's epochs."""
    train(training, home, world)
    lines = [line for line in read_metrics(home / "metrics.jsonl") if line["kind"] == "epoch"]
    return np.array([(line["loss"], line["validation_loss"]) for line in lines])


def assert_alike(found: Batch, wanted: Batch, **tolerance: float) -> None:
    np.testing.assert_array_equal(found.events, wanted.events)
    torch.testing.assert_close(found.inputs.cpu(), wanted.inputs.cpu(), **tolerance)
    torch.testing.assert_close(found.target.cpu(), wanted.target.cpu(), **tolerance)


@pytest.mark.parametrize("training", ["unet", "coherent", "flow"], indirect=True)
@pytest.mark.parametrize("way", [CACHED, HOST, STORE])
def test_batches_are_those_of_a_cpu(training, way, tmp_path):
    there = prepare(fed(training, way), GPU, tmp_path)
    here = prepare(fed(training, STORE), World(), tmp_path)
    assert (there.train.cache is not None and there.train.cache.is_cuda) == (way is CACHED)
    wanted = [*here.train.epoch(1), *here.validation.once(5)]
    found = [*there.train.epoch(1), *there.validation.once(5)]
    exactly = training.model.name == "coherent"  # others are normalised, or given noise levels, there
    for one, other in zip(found, wanted, strict=True):
        assert one.inputs.is_cuda and one.target.is_cuda
        assert_alike(one, other, **({"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-6, "atol": 1e-6}))


def test_the_network_s_stream_never_sees_memory_that_is_taken_again(training, tmp_path):
    """The GPU is kept so busy that the host is whole epochs ahead of it; sums are looked at in the end alone, and are
    those of a CPU but for what a logarithm is rounded by."""
    learner = prepare(fed(training, STORE), GPU, tmp_path)
    busy, sums, wanted = torch.randn(2048, 2048, device=GPU.device), [], []
    for epoch in range(20):
        for batch in learner.train.epoch(epoch):
            for _ in range(20):
                busy = (busy @ busy).tanh()
            sums.append(batch.inputs.double().sum())
    assert torch.isfinite(busy).all()
    here = prepare(fed(training, STORE), World(), tmp_path).train
    for epoch in range(20):
        wanted += [batch.inputs.double().sum() for batch in here.epoch(epoch)]
    torch.testing.assert_close(torch.stack(sums).cpu(), torch.stack(wanted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("training", ["unet", "coherent", "flow"], indirect=True)
def test_the_same_losses_whatever_feeds_it(training, tmp_path):
    wanted = losses(fed(training, STORE), tmp_path / "store")
    assert np.isfinite(wanted).all() and len(wanted) == 2
    for name, way in (("cached", CACHED), ("host", HOST)):
        np.testing.assert_array_equal(losses(fed(training, way), tmp_path / name), wanted)


@pytest.mark.parametrize("training", ["attention_unet", "whittle"], indirect=True)
def test_the_losses_of_a_cpu_within_rounding(training, tmp_path):
    wanted = losses(training, tmp_path / "cpu", World())
    np.testing.assert_allclose(losses(training, tmp_path / "gpu"), wanted, rtol=2e-3)


@pytest.mark.parametrize("training", ["unet"], indirect=True)
@pytest.mark.parametrize("changes", [{"precision": "tf32"}, {"precision": "bfloat16"}, {"autotune": True}])
def test_faster_arithmetic_changes_the_losses_little(training, tmp_path, changes):
    wanted = losses(training, tmp_path / "exact")
    np.testing.assert_allclose(losses(fed(training, {}, **changes), tmp_path / "fast"), wanted, rtol=0.05)
    losses(training, tmp_path / "again")
    assert not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"


def test_it_says_where_batches_come_from(training, tmp_path):
    said: list[str] = []
    train(fed(training, CACHED), tmp_path / "a", replace(GPU, say=said.append))
    train(
        fed(training, {"cache_gb": 1.0, "cache_gpu_gb": 1e-9}), tmp_path / "b", replace(GPU, say=said.append)
    )
    size = prepare(fed(training, STORE), GPU, tmp_path / "c").train.bytes / 1e9
    assert said[0].startswith(f"worker 0: train split in GPU memory, {size:.2g} GB, validation split in GPU")
    assert said[1].startswith(f"worker 0: train split in memory, {size:.2g} GB, validation split in memory")
