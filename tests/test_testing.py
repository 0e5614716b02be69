"""The checks of a user's own parts: the page's examples keep the rules, ours do, and what breaks one is told which."""

import re
import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from glitchflow.config import Cluster, Evaluate, Loader, Series, Simulate
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.methods import images, wiener
from glitchflow.methods.compare import basis_of, compare, fit_methods
from glitchflow.methods.method import Removed
from glitchflow.model import IMAGE_MODELS, build, build_loss
from glitchflow.testing import check_loss, check_method, check_model, check_recipe

PAGE = Path(__file__).parents[1] / "docs" / "own.md"
FEW = Simulate(events=8), Series(duration=8, sample_rate=256)


@pytest.fixture(scope="module")
def page():
    """The files of docs/own.md as modules."""
    blocks = re.findall(r"^```python (\w+)\.py\n(.*?)^```", PAGE.read_text(), re.S | re.M)
    with pytest.MonkeyPatch.context() as patch:
        for name, text in blocks:
            module = types.ModuleType(name)
            patch.setitem(sys.modules, name, module)
            exec(compile(text, f"{name}.py", "exec"), module.__dict__)
        yield {name: sys.modules[name] for name, _ in blocks}


def test_the_pages_own_keep_the_rules(page, dataset_run, monkeypatch):
    monkeypatch.setattr(page["rules"], "check_method", lambda fit, _: check_method(fit, dataset_run.dataset))
    page["rules"].test_mine_keep_the_rules()


def test_a_method_of_ones_own_is_scored_beside_ours(page, dataset_run):
    dataset = open_store(dataset_run.dataset)
    settings = Evaluate(methods=["subtraction:gains"])
    fit = fit_methods(dataset, basis_of(dataset, Loader()), 16.0, settings=settings)
    assert list(fit.methods)[-1] == "subtraction:gains"
    fit = replace(fit, methods={name: fit.methods[name] for name in ("nothing", "subtraction:gains")})
    columns = compare(dataset, dataset.indices("test")[:4], fit, None, Cluster()).columns
    assert not np.array_equal(columns["subtraction:gains"]["residual2"], columns["nothing"]["residual2"])
    for name, words in (
        ("subtraction:gain", "evaluate.methods = subtraction:gain: "),
        ("wienr", "evaluate.methods = wienr: not one of network, "),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            fit_methods(dataset, basis_of(dataset, Loader()), 16.0, settings=Evaluate(methods=[name]))


@pytest.mark.parametrize("fit", [images.fit_mean, images.fit_linear, wiener.fit_robust, wiener.fit_mask])
def test_our_methods_keep_the_rules(fit, dataset_run):
    check_method(fit, dataset_run.dataset)


@dataclass(frozen=True)
class Broken:
    """A method that breaks one rule."""

    how: str
    draw: float = 0.0

    def removed(self, block):
        w = np.array(block.witnesses.sum(axis=1))
        if self.how == "shape":
            return Removed(series=w[:, 1:])
        if self.how == "mask":
            return Removed(mask=2 * np.ones_like(block.energies[:, 0]))
        if self.how == "writes":
            block.witnesses[:] = 0
        if self.how == "mates":
            w -= w.mean(axis=0)
        if self.how == "strain":
            w = 0.5 * block.strain
        return Removed() if self.how == "silent" else Removed(series=w + self.draw)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("shape", "series is (4, "),
        ("mask", "mask reaches beyond 0 to 1"),
        ("writes", "it changes what it is handed"),
        ("mates", "of an event alone it says something else than of it among others"),
        ("strain", "it is said to look at witnesses alone (`seeing`), but the strain matters"),
        ("silent", "it says nothing: neither energies nor a mask nor a series"),
        ("chance", "fitted again to the same events, it says something else"),
    ],
)
def test_rules_that_a_method_breaks(how, words, dataset_run):
    def fit(train):
        return Broken(how, np.random.default_rng().uniform(1, 9) if how == "chance" else 0.0)

    fit.seeing = True
    with pytest.raises(AssertionError, match=re.escape(words)):
        check_method(fit, dataset_run.dataset)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_our_models_keep_the_rules(name):
    check_model(lambda witnesses, shape: build(name, witnesses, shape, width=4))


class Net(nn.Module):
    def __init__(self, witnesses, norm=None, idle=False):
        super().__init__()
        self.layer = nn.Conv2d(witnesses, 1, 3, padding=1)
        self.norm = norm or nn.Identity()
        self.idle = nn.Parameter(torch.zeros(1)) if idle else None

    def forward(self, x):
        return self.norm(self.layer(x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda w, s: nn.Conv2d(w, 1, 3), "of (4, 3, 32, 32) it makes (4, 1, 30, 30), not (4, 1, 32, 32)"),
        (lambda w, s: Net(w, nn.BatchNorm2d(1)), "it keeps statistics of the batches that it saw"),
        (lambda w, s: Net(w, idle=True), "idle has no finite gradient"),
        (lambda w, s: Net(w, nn.BatchNorm2d(1, track_running_stats=False)), "of an event alone it says"),
    ],
)
def test_rules_that_a_model_breaks(make, words):
    with pytest.raises(AssertionError, match=re.escape(words)):
        check_model(make)


@pytest.mark.parametrize("name", ["l1", "l2", "l1+ssim"])
def test_our_losses_keep_the_rules(name):
    check_loss(build_loss(name))


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda p, t: (p - t).square(), "it is (4, 1, 32, 32), not one finite number"),
        (lambda p, t: (p - t).square().sum(), "it is no mean over events: that of halves is another"),
        (lambda p, t: (p - t).square().mean() * torch.rand(()), "asked again it says something else"),
    ],
)
def test_rules_that_a_loss_breaks(loss, words):
    with pytest.raises(AssertionError, match=re.escape(words)):
        check_loss(loss)


def test_rules_that_a_recipe_breaks(page):
    good = page["physics"].clicks

    def changed(**parts):
        return lambda simulate, series, derived, seed: replace(good(simulate, series, derived, seed), **parts)

    check_recipe(good, *FEW)
    for make, words in (
        (changed(events=7), "it has 7 events of simulate.events = 8"),
        (changed(channels=["A", "A"]), "it has no strain and witness of their own names"),
        (changed(labels=["background"]), "label 1 is none of background"),
        (lambda *sections: good(*sections[:3], 1), "with another seed its events are the same"),
        (wandering(good), "an event depends on which were asked before it"),
    ):
        with pytest.raises(AssertionError, match=re.escape(words)):
            check_recipe(make, *FEW)


def wandering(good):
    """A recipe that draws on from where it was."""

    def make(simulate, series, derived, seed):
        recipe, rng = good(simulate, series, derived, seed), np.random.default_rng(seed)

        def event(index):
            one = recipe.event(index)
            return replace(one, series=one.series + rng.uniform())

        return replace(recipe, event=event)

    return make
