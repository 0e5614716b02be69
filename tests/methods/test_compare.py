"""The one loop over all methods, on a small real store."""

from dataclasses import replace

import numpy as np
import pytest

from glitchflow.config import Evaluate
from glitchflow.config.sections import Cluster, QPlot, Series
from glitchflow.config.training import Loader
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError
from glitchflow.methods import compare as module
from glitchflow.methods import treat
from glitchflow.methods.compare import FEW, basis_of, compare, fit_methods, parts_of
from glitchflow.methods.method import Method, Removed, fitted_window
from glitchflow.methods.table import METHODS
from glitchflow.score.levels import Rule
from glitchflow.score.power import in_band
from glitchflow.score.table import measure
from glitchflow.twin.estimate import estimator_of

RULE = Rule(np.full(16, 0.6), 0.5, 16.0, np.array([4.0, 16.0]))  # 78 Hz and 2 s in 16 x 16 pixels


@pytest.fixture(scope="module")
def opened(dataset_run):
    dataset = store.open_store(dataset_run.dataset)
    return dataset, basis_of(dataset, Loader())


@pytest.fixture(scope="module")
def fit(opened):
    return fit_methods(*opened, 16.0)


@pytest.fixture(scope="module")
def scored(opened, fit):
    dataset, _ = opened
    return compare(dataset, dataset.indices("test"), fit, RULE, Cluster(cpus=2))


def test_every_method_that_needs_no_network_in_the_order_of_the_table(scored):
    assert list(scored.columns) == [name for name in METHODS if name not in ("network", "untrained")]
    for name, columns in scored.columns.items():
        assert all(len(values) == len(scored.events) for values in columns.values()), name
        assert np.isfinite(columns["residual2"]).all(), name


def test_nothing_leaves_all_and_the_perfect_mask_little(scored):
    columns, label = scored.columns, scored.label
    np.testing.assert_allclose(columns["nothing"]["residual2"], columns["nothing"]["witnessed2"], rtol=1e-12)
    glitch = columns["nothing"]["witnessed2"] >= 1
    perfect = columns["oracle"]["residual2"][glitch].sum() / columns["oracle"]["witnessed2"][glitch].sum()
    assert perfect < 0.5
    assert (columns["nothing"]["witnessed2"][label == 0] == 0).all()
    assert (columns["oracle"]["residual2"][label == 0] < 1e-6).all(), (
        "where nothing is known to be it takes nothing"
    )
    gate = columns["gate"]
    np.testing.assert_array_less(0.5 * gate["strain2"][label == 0], gate["residual2"][label == 0])


def test_stationary_noise_that_witnesses_share_is_to_be_removed_and_makes_no_glitch(opened, fit):
    dataset, _ = opened
    estimator = estimator_of(dataset)
    block, recorded = treat.read_block(dataset, dataset.indices("test")[:4], fit.witnesses, estimator)
    hum = 1e-22 * np.random.default_rng(0).standard_normal(block.strain.shape)
    with_hum = replace(block, truth=replace(block.truth, shared=hum))
    before, after = (
        measure(dict(treat.make(fit, estimator, one, recorded))["nothing"]) for one in (block, with_hum)
    )
    assert "transients2" not in before
    np.testing.assert_allclose(after["transients2"], before["witnessed2"], rtol=1e-12)
    both = replace(block, truth=replace(block.truth, series=block.truth.series + hum))
    wanted = measure(dict(treat.make(fit, estimator, both, recorded))["nothing"])
    np.testing.assert_allclose(after["witnessed2"], wanted["witnessed2"], rtol=1e-12)
    np.testing.assert_allclose(after["residual2"], after["witnessed2"], rtol=1e-12)


@pytest.mark.ci
def test_how_events_are_shared_out_changes_nothing(opened, fit, scored, monkeypatch, ray_session):
    """In blocks of another size, and as tasks on two CPUs."""
    dataset, _ = opened
    monkeypatch.setattr(module, "PART", 16)
    monkeypatch.setattr("glitchflow.methods.memory.BLOCK", 7)
    again = compare(dataset, dataset.indices("test"), fit, RULE, Cluster(cpus=2))
    np.testing.assert_array_equal(again.loudness, scored.loudness)
    for name, columns in scored.columns.items():
        for key, values in columns.items():
            np.testing.assert_array_equal(again.columns[name][key], values, err_msg=f"{name} {key}")


def test_the_truth_is_handed_to_who_asks_for_it_alone(opened, monkeypatch):
    dataset, basis = opened
    seen = {}

    def watching(name):
        class Watching:
            def removed(self, block):
                seen.setdefault(name, []).append(block)
                return Removed(np.zeros(block.energies[:, 0].shape, np.float32))

        return lambda train: Watching()

    table = {"real": Method(watching("real")), "bound": Method(watching("bound"), truth=True)}
    monkeypatch.setattr(module, "METHODS", table)
    compare(dataset, dataset.indices("test"), fit_methods(dataset, basis, 16.0), RULE, Cluster())
    assert all(block.truth is None for block in seen["real"])
    assert all(block.truth is not None for block in seen["bound"])
    block, rate = seen["real"][0], dataset.config.series.sample_rate
    series = dataset.events("series", block.events)
    assert (block.rate, block.strain.dtype) == (rate, np.float64)
    np.testing.assert_allclose(block.strain, series[:, 0])
    np.testing.assert_allclose(block.witnesses[:, :2], series[:, 1:3])
    assert block.valid.all()


def test_what_is_left_of_energies_and_of_series_is_the_same_at_the_ends(opened, fit):
    """A store without series: R from energies; all of it and nothing of it are as with series."""
    dataset, _ = opened
    events = dataset.indices("test")[:6]
    block, recorded = treat.read_block(dataset, events, fit.witnesses, None)
    images = {n: m for n, m in fit.methods.items() if "series" not in m.needs}
    made = dict(treat.make(replace(fit, methods=images), None, block, recorded))
    np.testing.assert_array_equal(made["nothing"].cleaned, recorded)
    assert not made["gate"].cleaned.any()
    np.testing.assert_allclose(made["oracle"].cleaned, made["oracle"].wanted, rtol=1e-4)
    assert made["linear"].strain is None and made["linear"].removed is None


def test_what_no_witness_explains_teaches_no_method(opened):
    dataset, basis = opened
    train = module.train_of(basis, 16.0, None, {}, 1.0)
    label = dataset.events("label", dataset.indices("train"))
    blip = dataset.labels.index("blip")
    assert len(train.target) == (label != blip).sum() < len(label)


def test_without_a_train_split_only_what_needs_none_is_compared(opened, capsys):
    dataset, basis = opened
    fit = fit_methods(dataset, replace(basis, training=None), 16.0)
    assert list(fit.methods) == ["nothing", "gate", "loudest_witness", "loudest_thresholded"]
    assert "no train split to fit methods to" in capsys.readouterr().err
    found = compare(dataset, dataset.indices("test"), fit, RULE, Cluster())
    assert np.isfinite(found.columns["nothing"]["nll"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"segment": 20}, "evaluate.segment = 20: must be at most series.duration = 8 s"),
        (
            {"band": [20, 300]},
            "evaluate.band = [20, 300]: must be 0 < low < high <= 256 Hz, half of series.sample_rate",
        ),
    ],
)
def test_lengths_that_a_store_does_not_have(settings, message):
    series, qplot = Series(duration=8, sample_rate=512), QPlot()
    with pytest.raises(InputError) as failure:
        module.lengths(Evaluate.model_validate(settings), series, qplot)
    assert str(failure.value) == message


def test_a_filter_holds_ten_periods_of_the_lowest_frequency_unless_told():
    series, qplot = Series(duration=900, sample_rate=5), QPlot(frange=(0.01, 0.1), span=300)
    assert module.lengths(Evaluate(), series, qplot) == (300, (0.01, 0.1)), "no longer than the window"
    assert module.lengths(Evaluate(), Series(), QPlot()) == (1, (10, 200))
    assert module.lengths(Evaluate(segment=500, band=(0.02, 0.05)), series, qplot) == (500, (0.02, 0.05))


@pytest.mark.parametrize(
    ("sliding", "window", "seconds"),
    [(False, "fixed", 16), (False, "loudest", 16), (True, "fixed", 3), (True, "loudest", 16)],
)
def test_a_filter_is_fitted_to_whole_series_where_no_other_window_shows_the_rest(sliding, window, seconds):
    series, qplot = Series(duration=16), QPlot(span=2, window=window)
    assert fitted_window(series, qplot, 1.0, sliding) == seconds
    assert fitted_window(Series(duration=2.5), qplot, 1.0, sliding) == 2.5, "no longer than the series"


def test_power_is_measured_where_nobody_knows_the_truth(opened, fit):
    dataset, _ = opened
    estimator = estimator_of(dataset)
    block, recorded = treat.read_block(dataset, dataset.indices("test")[:3], fit.witnesses, estimator)
    assert "power_left" not in measure(dict(treat.make(fit, estimator, block, recorded))["wiener"])
    unknown = replace(block, truth=None)
    some = {name: fit.methods[name] for name in ("nothing", "gate", "wiener")}
    made = dict(treat.make(replace(fit, methods=some), estimator, unknown, recorded))
    found = {name: measure(one) for name, one in made.items()}
    np.testing.assert_array_equal(found["nothing"]["power_left"], found["nothing"]["power"])
    assert (found["gate"]["power_left"] < 0.1 * found["gate"]["power"]).all()
    w = fit.fitted["wiener"].removed(block).series
    window = treat._window(block)
    left = in_band(block.strain - w, block.rate, fit.band)
    expected = np.square(np.take_along_axis(left, window, axis=1)).sum(axis=1)
    np.testing.assert_allclose(found["wiener"]["power_left"], expected, rtol=1e-9)


def test_few_events_are_scored_here_and_more_are_shared_out(opened):
    dataset, _ = opened
    assert list(parts_of(dataset, np.arange(FEW))) == [tuple(range(FEW))]
    parts = list(parts_of(dataset, np.arange(len(dataset))))
    assert len(parts) == dataset.layout.shards and sum(parts, ()) == tuple(range(len(dataset)))
