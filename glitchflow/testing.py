"""What a method, model, loss or recipe of a user's own is run through: what the toolkit relies on, and nothing else.

    def test_mine():
        check_method(subtraction.gains, "runs/synthetic/dataset.zarr")

Each check raises AssertionError with what is wrong in words, so it can stand in any test.

Shapes: E event, W witness, F frequency, T time, C channel, N sample.
"""

import pickle
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from glitchflow.config import Derived, Evaluate, Loader, Series, Simulate
from glitchflow.data.store import SKIPPED, open_store
from glitchflow.methods.compare import basis_of, facts, lengths, train_of
from glitchflow.methods.method import Block, Fitted, Removed, Train
from glitchflow.methods.table import own
from glitchflow.methods.treat import alone, read_block
from glitchflow.signal.types import Event, Recipe
from glitchflow.twin.estimate import estimator_of

CLOSE = 1e-5  # of the largest number: what the order of sums may change in single precision
THRESHOLD = 16.0  # of clean.threshold's default


def check_method(fit: Callable[[Train], Fitted], store: str, events: int = 4) -> None:
    """Check a method of comparison on some events of a store, whose train split it is fitted to.

    It takes numbers of the right shapes out, the same when it is fitted and asked again, pickled, or asked about one
    event alone; it leaves what it is handed as it was; where it says that it is `seeing`, the strain does not matter.
    """
    dataset = open_store(store)
    basis, row = basis_of(dataset, Loader()), own(fit)
    segment, _ = lengths(Evaluate(), dataset.config.series, dataset.config.qplot)
    train = train_of(basis, THRESHOLD, None, {}, segment)
    lacking = row.needs - facts(train, dataset)
    assert not lacking, f"it needs {', '.join(sorted(lacking))}, which {dataset.path} does not have"
    some = np.flatnonzero(np.asarray(dataset["split"][:]) != SKIPPED)[:events]
    estimator = estimator_of(dataset) if "series" in dataset else None
    block = replace(read_block(dataset, some, basis.channels[1:], estimator)[0], truth=None)
    fitted, before = row.fit(train), pickle.dumps(_arrays(block))
    found = fitted.removed(block)
    _check_removed(found, block)
    assert pickle.dumps(_arrays(block)) == before, "it changes what it is handed"
    _same(found, row.fit(train).removed(block), "fitted again to the same events, it says something else")
    sent = pickle.loads(pickle.dumps(fitted))  # noqa: S301  of our own making, a line ago
    _same(found, sent.removed(block), "pickled, as it is sent to tasks, it says something else")
    if block.strain is None:
        return
    for i, strain in enumerate(block.strain):
        one = fitted.removed(alone(block, i, strain))
        _same(_only(found, i), one, "of an event alone it says something else than of it among others")
        if row.seeing:
            other = fitted.removed(alone(block, i, strain[::-1].copy()))
            _same(one, other, "it is said to look at witnesses alone (`seeing`), but the strain matters")


def check_model(
    make: Callable[..., nn.Module], witnesses: int = 3, shape: tuple[int, int] = (32, 32)
) -> None:
    """Check an image model: a function of (witnesses, shape) that returns a module (E, W, F, T) -> (E, 1, F, T).

    Its weights follow from torch's seed, its outputs from weights and inputs; an event's do not depend on the others in
    its batch; every weight has a gradient, which DDP waits for.
    """
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(make(witnesses, shape))
    model, again = models
    x = torch.randn(4, witnesses, *shape, generator=torch.Generator().manual_seed(1))
    known = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(value, known[name]) for name, value in again.state_dict().items()), (
        "with the same seed of torch's it has other weights"
    )
    y = model(x)
    assert y.shape == (4, 1, *shape), f"of {tuple(x.shape)} it makes {tuple(y.shape)}, not {(4, 1, *shape)}"
    assert y.dtype == torch.float32 and torch.isfinite(y).all(), "its output is not finite float32"
    assert all(torch.equal(value, known[name]) for name, value in model.named_buffers() if name in known), (
        "it keeps statistics of the batches that it saw, which differ from worker to worker: use group norm"
    )
    y.square().mean().backward()
    for name, weight in model.named_parameters():
        there = weight.grad is not None and bool(torch.isfinite(weight.grad).all())
        assert there or not weight.requires_grad, f"{name} has no finite gradient"
    with torch.no_grad():
        whole = model.eval()(x)
        assert torch.equal(whole, model(x)), "asked again it says something else"
        _close(whole[:1], model(x[:1]), "of an event alone it says something else than of it among others")
        again.load_state_dict(model.state_dict())
        assert torch.equal(whole, again.eval()(x)), "its state_dict does not hold all that it is"


def check_loss(loss: Callable[..., torch.Tensor], shape: tuple[int, int] = (32, 32)) -> None:
    """Check a loss: a function of prediction and target, both (E, 1, F, T) and normalised.

    It is one finite number with a finite gradient, the same when asked again, and the mean over events: workers that
    have half of a batch each average their gradients.
    """
    generator = torch.Generator().manual_seed(1)
    prediction, target = (torch.randn(4, 1, *shape, generator=generator) for _ in range(2))
    prediction.requires_grad_()
    value = loss(prediction, target)
    assert value.shape == () and torch.isfinite(value), f"it is {tuple(value.shape)}, not one finite number"
    value.backward()
    gradient = prediction.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.any(), (
        "it has no finite gradient"
    )
    with torch.no_grad():
        assert torch.equal(value, loss(prediction, target)), "asked again it says something else"
        halves = [loss(prediction[some], target[some]) for some in (slice(0, 2), slice(2, 4))]
        _close(value, (halves[0] + halves[1]) / 2, "it is no mean over events: that of halves is another")


def check_recipe(
    make: Callable[[Simulate, Series, list[Derived], int], Recipe],
    simulate: Simulate = Simulate(),  # noqa: B008  sections never change
    series: Series = Series(),  # noqa: B008
    events: int = 4,
) -> None:
    """Check a recipe: a function of (simulate, series, derived, seed) that returns a `Recipe`.

    Events have finite series (C, N) and a family that there is; one depends on the seed and its index alone, neither on
    which were asked before it nor on the object that was asked.
    """
    recipe, again, other = (make(simulate, series, [], seed) for seed in (1, 1, 2))
    assert len(set(recipe.channels)) == len(recipe.channels) > 1, (
        "it has no strain and witness of their own names"
    )
    assert recipe.events == simulate.events, (
        f"it has {recipe.events} events of simulate.events = {simulate.events}"
    )
    some = range(min(events, recipe.events))
    found = [recipe.event(i) for i in some]
    shape = (len(recipe.channels), series.samples)
    for one in found:
        assert one.series.shape == shape, f"an event's series are {one.series.shape}, not {shape}"
        assert np.isfinite(one.series).all(), "an event's series are not finite"
        assert 0 <= one.label < len(recipe.labels), f"label {one.label} is none of {', '.join(recipe.labels)}"
        for part in (one.witnessed, one.transient, one.shared):
            assert part is None or part.shape == shape[1:], f"a part of the strain is not {shape[1:]}"
    for i in reversed(some):
        assert _equal(found[i], again.event(i)), "an event depends on which were asked before it"
    assert any(not _equal(found[i], other.event(i)) for i in some), (
        "with another seed its events are the same"
    )


# -- comparing ---------------------------------------------------------------------------------------------------


def _check_removed(found: Removed, block: Block) -> None:
    """What a method takes out has the block's shapes and is finite."""
    events, _, rows, columns = block.energies.shape
    given = _parts(found)
    assert given, "it says nothing: neither energies nor a mask nor a series"
    for name, value in given.items():
        samples = () if block.strain is None else block.strain.shape[1:]
        wanted = (events, *samples) if name == "series" else (events, rows, columns)
        assert value.shape == wanted, f"{name} is {value.shape}, not {wanted}"
        assert np.isfinite(value).all(), f"{name} is not finite"
    if found.mask is not None:
        assert found.mask.min() >= 0 and found.mask.max() <= 1, "mask reaches beyond 0 to 1"


def _parts(found: Removed) -> dict[str, np.ndarray]:
    values = {one.name: getattr(found, one.name) for one in fields(found)}
    return {name: value for name, value in values.items() if value is not None}


def _only(found: Removed, event: int) -> Removed:
    return Removed(**{name: value[event : event + 1] for name, value in _parts(found).items()})


def _same(first: Removed, second: Removed, words: str) -> None:
    a, b = _parts(first), _parts(second)
    assert a.keys() == b.keys(), words
    for name, value in a.items():
        _close(value, b[name], words)


def _close(first: Any, second: Any, words: str) -> None:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    assert a.shape == b.shape and np.abs(a - b).max() <= CLOSE * np.abs(a).max(), words


def _arrays(block: Block) -> list[Any]:
    return [block.energies, block.strain, block.witnesses, block.valid, block.gps]


def _equal(first: Event, second: Event) -> bool:
    same = first.label == second.label and first.gps == second.gps
    return same and np.array_equal(first.series, second.series)
