"""The one loop over all methods, on a small real store."""

from dataclasses import replace

import numpy as np
import pytest

from glitchflow.config.sections import Loader
from glitchflow.data.store import dataset as store
from glitchflow.methods import compare as module
from glitchflow.methods.compare import basis_of, compare
from glitchflow.methods.method import Method, Removed
from glitchflow.methods.table import METHODS
from glitchflow.score.former_table import Unit
from glitchflow.score.metrics import subtract


@pytest.fixture(scope="module")
def opened(dataset_run):
    dataset = store.open_store(dataset_run.dataset)
    basis = basis_of(dataset, Loader())
    return dataset, basis, Unit.of("l1", basis.strain)


@pytest.fixture(scope="module")
def sample(opened):
    dataset, basis, unit = opened
    return compare(dataset, dataset.indices("test"), basis, unit, None)


def test_every_method_that_needs_no_network_in_the_order_of_the_table(sample, opened):
    assert list(sample.generated) == [name for name in METHODS if name not in ("network", "untrained")]
    dataset, test = opened[0], sample.events
    np.testing.assert_array_equal(sample.recorded, dataset.events("qplot", test)[:, 0].clip(0))
    np.testing.assert_array_equal(sample.witnessed, dataset.events("witnessed", test))
    for name, generated in sample.generated.items():
        assert generated.shape == sample.recorded.shape, name
        assert (generated >= 0).all(), name


def test_series_methods_say_what_is_left_and_the_others_leave_it_to_spectral_subtraction(sample):
    assert set(sample.residual) == {"wiener", "wiener + derived"}
    np.testing.assert_array_equal(
        sample.cleaned("linear"), subtract(sample.recorded, sample.generated["linear"])
    )
    assert sample.cleaned("wiener") is sample.residual["wiener"]


def test_how_events_are_cut_into_blocks_changes_nothing(opened, sample, monkeypatch):
    dataset, basis, unit = opened
    monkeypatch.setattr(module, "BLOCK", 5)
    again = compare(dataset, dataset.indices("test"), basis, unit, None)
    for name, generated in sample.generated.items():
        np.testing.assert_array_equal(again.generated[name], generated, err_msg=name)
    for name, left in sample.residual.items():
        np.testing.assert_array_equal(again.residual[name], left, err_msg=name)


def test_the_truth_is_handed_to_who_asks_for_it_alone(opened, monkeypatch):
    dataset, basis, unit = opened
    seen = {}

    def watching(name):
        class Watching:
            def removed(self, block):
                seen.setdefault(name, []).append(block)
                return Removed(np.zeros(block.images[:, 0].shape, np.float32))

        return lambda train: Watching()

    table = {"real": Method(watching("real")), "bound": Method(watching("bound"), truth=True)}
    monkeypatch.setattr(module, "METHODS", table)
    compare(dataset, dataset.indices("test"), basis, unit, None)
    assert all(block.witnessed is None for block in seen["real"])
    assert all(block.witnessed is not None for block in seen["bound"])
    block, rate = seen["real"][0], dataset.config.series.sample_rate
    series = dataset.events("series", block.events)
    assert (block.rate, block.strain.dtype) == (rate, np.float64)
    np.testing.assert_allclose(block.strain, series[:, 0])
    np.testing.assert_allclose(block.witnesses[:, :2], series[:, 1:3])
    assert block.valid.all()


def test_without_a_train_split_only_what_needs_none_is_compared(opened, capsys):
    dataset, basis, unit = opened
    alone = compare(dataset, dataset.indices("test"), replace(basis, training=None), unit, None)
    assert list(alone.generated) == ["zero"]
    assert "no train split to fit baselines to" in capsys.readouterr().err
