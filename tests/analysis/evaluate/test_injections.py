"""One exam of all methods by injected signals, on a small store: what each must keep, and of whom."""

from dataclasses import replace

import numpy as np
import pytest

from glitchflow.analysis.evaluate import injections
from glitchflow.analysis.evaluate.injections import Exam, examine
from glitchflow.config import Cluster, Harm, Loader
from glitchflow.data.store import open_store
from glitchflow.methods import treat
from glitchflow.methods.compare import basis_of, fit_methods
from glitchflow.methods.method import Method, Removed
from glitchflow.methods.table import NETWORK, predicted, thresholded
from glitchflow.signal.types import Energies

HARM = Harm(signals=8, snr=(8.0, 20.0))
SEED = 3


class Dimmer:
    """A method of series that looks at the strain: it takes three tenths of it."""

    def removed(self, block) -> Removed:
        return Removed(series=0.3 * block.strain)


class Truth:
    """A network that is right: it generates the witnessed energy."""

    def __init__(self, dataset):
        self.dataset = dataset

    def removed(self, block) -> Removed:
        witnessed: Energies = self.dataset.events("witnessed", block.events)
        return Removed(np.maximum(witnessed, 0))


@pytest.fixture(scope="module")
def dataset(dataset_run):
    return open_store(dataset_run.dataset)


@pytest.fixture(scope="module")
def fit(dataset):
    found = fit_methods(dataset, basis_of(dataset, Loader()), 5.0)
    names = ("nothing", "constant", "gate", "wiener", "oracle")
    methods = {NETWORK: predicted(NETWORK)} | {name: found.methods[name] for name in names}
    fitted = {NETWORK: Truth(dataset)} | {name: found.fitted[name] for name in names}
    return replace(found, methods=methods, fitted=fitted)


def only(fit, **fitted):
    """Methods of a fit, and others of a test's own that look at the strain."""
    rows = {name: fit.methods.get(name) or Method(lambda train: None, seeing=False) for name in fitted}
    return replace(fit, methods=rows, fitted={name: one or fit.fitted[name] for name, one in fitted.items()})


@pytest.fixture(scope="module")
def events(dataset):
    return np.arange(40)


@pytest.fixture(scope="module")
def found(dataset, events, fit):
    return examine(dataset, HARM, SEED, Cluster(), events, fit)


def of(dataset, events, *families):
    return np.isin(dataset["label"][:][events], [dataset.labels.index(name) for name in families])


def test_as_many_signals_as_are_asked_for_on_glitches_and_in_quiet_events(dataset, events, found):
    there = np.isfinite(found["nothing"]["kept"])
    witnessed = of(dataset, events, *dataset.witnessed_labels)
    for some in (witnessed, of(dataset, events, "background")):
        assert HARM.signals <= there[some].sum() < HARM.signals + there[some].any(axis=1).sum()
    blips = there[of(dataset, events, "blip")]
    assert blips[:, 0].all() and not blips[:, 1:].any()  # each is its own signal
    for columns in found.values():
        assert (np.isfinite(columns["kept"]) == there).all()


@pytest.mark.parametrize("method", ["nothing", "wiener"])
def test_who_takes_nothing_of_the_strain_itself_keeps_everything(found, method):
    there = np.isfinite(found[method]["kept"])
    assert (found[method]["kept"][there] == 1).all()
    for name in ("late", "turned", "heavier", "chi2"):
        assert (found[method][name][np.isfinite(found[method][name])] == 0).all()


def test_the_perfect_mask_takes_of_signals_on_glitches_alone(dataset, events, found):
    kept = found["oracle"]["kept"]
    witnessed = of(dataset, events, *dataset.witnessed_labels)
    assert np.nanmax(kept[witnessed]) < 1
    assert np.nanmedian(kept[witnessed]) < 0.8
    assert np.nanmin(kept[~witnessed]) > 0.99
    assert np.nanmax(found["oracle"]["chi2"][~witnessed]) < np.nanmedian(found["oracle"]["chi2"][witnessed])


def test_a_mask_of_everything_takes_more_than_half_of_each_signal_on_a_glitch(dataset, events, found):
    """More than half of its SNR^2 is inside W >= b, and the gate takes that and more."""
    witnessed = of(dataset, events, *dataset.witnessed_labels)
    assert np.nanmax(found["gate"]["kept"][witnessed]) < 0.5
    assert np.nanmedian(found["gate"]["kept"]) < np.nanmedian(found["constant"]["kept"])


def test_a_networks_threshold_spares_signals(dataset, events, fit):
    tried = thresholded(fit, [2.0, 30.0])
    assert list(tried.methods) == ["2", "30"]
    low, high = examine(dataset, HARM, SEED, Cluster(), events, tried).values()
    assert np.nanmedian(low["kept"]) <= np.nanmedian(high["kept"])
    assert np.nanmin(low["kept"]) < np.nanmin(high["kept"])


def test_a_method_that_looks_at_the_strain_is_asked_again_with_the_signal(dataset, events, fit):
    dimmer = only(fit, nothing=None, dimmer=Dimmer(), gate=None)
    found = examine(dataset, HARM, SEED, Cluster(), events, dimmer)
    there = np.isfinite(found["gate"]["kept"])
    assert found["dimmer"]["kept"][there] == pytest.approx(0.7)
    assert (found["nothing"]["kept"][there] == 1).all()
    for name in ("late", "turned", "chi2"):
        assert found["dimmer"][name][there] == pytest.approx(0, abs=1e-6)


def test_signals_depend_on_seed_and_event_alone(dataset, events, fit, found):
    """Whatever else is examined beside them: other events, other methods."""
    few = only(fit, gate=None)
    some = np.flatnonzero(np.isfinite(found["gate"]["kept"]).any(axis=1))[::3]
    counts = {int(event): int(np.isfinite(found["gate"]["kept"][event]).sum()) for event in some}
    alone = Exam(dataset, few, HARM, SEED, counts).examine(tuple(counts))
    other = Exam(dataset, few, HARM, SEED + 1, counts).examine(tuple(counts))
    for event, verdicts in alone.items():
        expected = found["gate"]["kept"][event, : counts[event]]
        np.testing.assert_allclose(verdicts[:, 0, 0], expected, atol=1e-5)
    label = dataset["label"][:]
    drawn = [event for event in counts if dataset.labels[label[event]] != "blip"]
    assert any(not np.allclose(alone[event], other[event], atol=1e-3) for event in drawn)


def test_tasks_have_about_as_many_signals_each(dataset, fit, monkeypatch):
    monkeypatch.setattr(injections, "AT_ONCE", 10)
    counts = {1: 4, 3: 4, 4: 4, 7: 25, 8: 1}
    exam, told = Exam(dataset, fit, HARM, SEED, counts), []

    def run(job, parts, cluster):
        told.extend(parts.values())
        return {part: job.make(part) for part in parts}

    monkeypatch.setattr(injections, "run_tasks", run)
    parts = exam.over(lambda part: part, np.array([*counts]), Cluster(), "signals")
    assert parts == [(1, 3, 4), (7,), (8,)]
    assert told == [3, 1, 1]
    assert exam.over(lambda part: part, np.array([1, 3]), Cluster(), "signals") == [(1, 3)]  # in no task
    assert exam.over(lambda part: part, np.array([], np.int64), Cluster(), "signals") == []


def test_where_nobody_knows_the_truth_signals_lie_in_what_any_method_takes(dataset, fit):
    """As on recorded data: pixels where as much energy is removed as noise has, of methods that look at witnesses."""
    exam = Exam(dataset, fit, HARM, SEED)
    glitches = np.flatnonzero(of(dataset, np.arange(40), *dataset.witnessed_labels))[:3]
    (known,) = exam._blocks(tuple(glitches.tolist()))
    witnessed = exam._pixels(known)
    nobody = replace(known, truth=None)
    looking = only(fit, network=None, wiener=None, nothing=None, gate=None)
    pixels = Exam(dataset, looking, HARM, SEED)._pixels(nobody)
    assert pixels.any(axis=(1, 2)).all() and not pixels.all()  # the gate is blind: it does not count
    loud = known.truth.energies > 50
    assert (pixels & loud).sum() > 0.5 * (witnessed & loud).sum()


def test_a_glitch_that_holds_no_signal_gets_none(dataset, events, fit, monkeypatch):
    monkeypatch.setattr(injections.signals, "INSIDE", 1.0)
    found = examine(dataset, HARM, SEED, Cluster(), events, fit)
    witnessed = of(dataset, events, *dataset.witnessed_labels)
    assert not np.isfinite(found["gate"]["kept"][witnessed]).any()
    assert np.isfinite(found["gate"]["kept"][~witnessed]).any()


def test_no_signals_are_no_scores(dataset, events, fit):
    assert examine(dataset, Harm(signals=0), SEED, Cluster(), events, fit) == {}


def test_asking_makes_no_series_of_masks(dataset, fit):
    block, _ = treat.read_block(
        dataset, np.arange(2), fit.witnesses, Exam(dataset, fit, HARM, SEED).estimator
    )
    asked = treat.ask(fit, block)
    assert asked["gate"].series is None and asked["gate"].mask.all()
    assert asked["wiener"].mask is None and asked["wiener"].series is not None
