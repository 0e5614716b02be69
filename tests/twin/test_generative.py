"""The generative kind: what a batch sees, what it is taught, what it draws, and what is not asked of it."""

import numpy as np
import pytest
import torch

from glitchflow.data.loader import build_loader
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.model.diffusion import LOUDEST
from glitchflow.model.flow import ANY, FAMILY, LEVEL, SNR
from glitchflow.train import checkpoint
from glitchflow.twin import generative, kinds
from glitchflow.twin.generative import ABOUT, TARGET, UNTOLD, WEIGHT, Asked, X
from glitchflow.twin.kind import Trained
from glitchflow.twin.white import White


def white(clean=True):
    rows = [[0.0] * 33, np.linspace(8, 40, 33).tolist()]
    return White(512, 128, [1.0], clean, ["background", "blip"], [0, 9], rows, [1.0, 0.5])


def view(known, events=4000):
    return generative.View(known, np.ones(events, np.int16), np.full(events, 20, np.float32), 3)


def test_a_clean_glitch_has_unit_rms_and_is_its_own_target():
    glitch = torch.randn(4000, 1, 128, generator=torch.Generator().manual_seed(1)) * 5
    rows = view(white())(glitch, np.arange(4000), 0)
    norm = glitch[:, 0].norm(dim=1)
    torch.testing.assert_close(rows[:, TARGET], glitch[:, 0] * (128**0.5 / norm)[:, None])
    torch.testing.assert_close(rows[:, ABOUT, SNR], norm)
    level = rows[:, ABOUT, LEVEL]
    noise = (rows[:, X] - rows[:, TARGET]) / level[:, None]
    assert noise.std().item() == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(rows[:, ABOUT, WEIGHT], 1 + 1 / level.square())
    told = (rows[:, ABOUT, FAMILY] == ANY).float().mean().item()
    assert told == pytest.approx(UNTOLD, abs=0.02)


def test_a_recorded_glitch_is_at_the_level_of_its_noise_already():
    """SNR 20, half of it in the window: 128 samples of unit rms have 11.3, so that the noise is 1.13 of it."""
    own = 128**0.5 / 10
    clean = torch.ones(4000, 1, 128) * 10 / 128**0.5
    noise = torch.randn(4000, 1, 128, generator=torch.Generator().manual_seed(2))
    rows = view(white(clean=False))(clean + noise, np.arange(4000), 0)
    level = rows[:, ABOUT, LEVEL]
    assert own < level.min() and level.max() <= LOUDEST
    torch.testing.assert_close(rows[:, ABOUT, SNR], torch.full((4000,), 10.0))
    assert ((rows[:, X] - 1) / level[:, None]).std().item() == pytest.approx(1, abs=0.01)
    mean = (rows[:, ABOUT, WEIGHT, None] * rows[:, TARGET]).sum() / rows[:, ABOUT, WEIGHT].sum() / 128
    assert mean.item() == pytest.approx(1, abs=0.02)


def test_what_a_batch_sees_of_an_event_does_not_depend_on_the_batch_but_on_the_epoch():
    glitch = torch.randn(6, 1, 128, generator=torch.Generator().manual_seed(3))
    sees, events = view(white()), np.arange(6)
    whole = sees(glitch, events, 1)
    assert torch.equal(sees(glitch[[4, 2]], events[[4, 2]], 1), whole[[4, 2]])
    assert not torch.equal(sees(glitch, events, 2), whole)
    assert torch.equal(sees(glitch, events, None), sees(glitch, events, None))
    assert (sees(glitch, events, None)[:, ABOUT, FAMILY] == 1).all()


def test_the_loss_counts_each_event_by_its_weight():
    target = torch.zeros(2, 2, 8)
    target[:, ABOUT, WEIGHT] = torch.tensor([1.0, 3.0])
    generated = torch.ones(2, 1, 8) * torch.tensor([2.0, 1.0])[:, None, None]
    assert generative.power(generated, target).item() == pytest.approx((4 + 3) / 2)
    with pytest.raises(
        InputError, match=r"^train.loss = l1: a generative twin is trained with l2, whose mean"
    ):
        generative.loss("l1", white())


class Gaussian(torch.nn.Module):
    """Knows that each sample of data is normal, with this deviation for each family: its answer is the best."""

    def forward(self, rows):
        level, x = rows[:, :1, LEVEL, None], rows[:, 1:]
        own = 1.0 + rows[:, :1, FAMILY, None]
        return own**2 / (own**2 + level**2) * x


def asked(count=2000, guidance=1.0, snr=20.0):
    noise = torch.randn(count, 128, generator=torch.Generator().manual_seed(4))
    return Asked(noise, torch.ones(count, dtype=torch.long), torch.full((count,), snr), guidance)


def test_draws_of_a_clean_twin_have_the_variance_of_the_data_and_the_snr_asked():
    series, alone, size = generative.draw(Trained(generative.KIND, Gaussian(), ["S"], white()), asked())
    assert torch.equal(series, alone)
    torch.testing.assert_close(alone.norm(dim=1), torch.full((2000,), 20.0))
    assert size.mean().item() == pytest.approx(2, rel=0.02)


def test_draws_of_a_twin_of_recorded_glitches_are_glitch_and_noise():
    """Data of deviation 2 at the level 128^.5 / 20: divided by it, the noise has unit variance."""
    twin = Trained(generative.KIND, Gaussian(), ["S"], white(clean=False))
    series, alone, size = generative.draw(twin, asked())
    own = 128**0.5 / 20
    assert series.var().item() == pytest.approx((4 + own**2) / own**2, rel=0.02)
    torch.testing.assert_close(alone.norm(dim=1), torch.full((2000,), 20.0))
    assert size.mean().item() == pytest.approx(4 / (4 + own**2) ** 0.5, rel=0.02)


def test_guidance_goes_beyond_the_family():
    """At 1 it changes nothing; at 2, of what any and this family say, the difference counts twice."""
    x, level, network = torch.ones(1, 128), torch.ones(1, 1), Gaussian()
    said = [generative.denoised(network, asked(1, guidance), x, level) for guidance in (1.0, 2.0)]
    torch.testing.assert_close(said[0], torch.full((1, 128), 4 / 5))
    torch.testing.assert_close(said[1], torch.full((1, 128), 1 / 2 + 2 * (4 / 5 - 1 / 2)))


def test_a_loader_gives_glitches_alone(glitches_run):
    dataset = open_store(glitches_run.dataset)
    known = generative.normalisation(dataset, "log1p", ["SIM:STRAIN"])
    reads = generative.reads(dataset, known, ["SIM:STRAIN"], 3)
    loader = build_loader(dataset, "train", glitches_run.loader, reads, 3)
    assert len(loader.events) and (dataset["label"][:][loader.events] > 0).all()
    batch = next(loader.epoch(0))
    assert batch.inputs.shape == (8, 2, 512) and batch.target.shape == (8, 2, 512)
    assert torch.equal(batch.inputs[:, 0], batch.target[:, ABOUT])
    fresh = glitches_run.loader.model_copy(update={"fresh": 16})
    with pytest.raises(InputError) as error:
        build_loader(dataset, "train", fresh, reads, 3)
    assert str(error.value) == (
        "loader.fresh = 16: a generative twin is told the families of the events that the store holds; must be 0"
    )


def test_its_checkpoint_is_of_the_strain_alone_and_keeps_what_it_knows(glitches_run):
    found = checkpoint.find(open_workdir(glitches_run), "best")
    assert found.meta.kind == "generative" and found.kind is kinds.KINDS["generative"]
    assert found.meta.channels == ["SIM:STRAIN"]
    dataset = open_store(glitches_run.dataset)
    assert found.normalisation == generative.normalisation(dataset, "log1p", ["SIM:STRAIN"])
    assert found.trained().network.samples == 512


def open_workdir(run):
    from pathlib import Path

    return Path(run.workdir) / "train" / "checkpoints"


def test_it_predicts_nothing(glitches_run):
    from glitchflow.analysis.infer import infer

    with pytest.raises(InputError) as error:
        infer(glitches_run)
    assert str(error.value) == "model.name: a generative twin does not predict, it draws: `glitchflow sample`"
