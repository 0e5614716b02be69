"""Methods on a stretch: one that is told the truth, one that does nothing, others between, by windows that overlap."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import small, with_transients
from igwn_segments import segment, segmentlist

from glitchflow.analysis import truth
from glitchflow.analysis.evaluate import stretch as module
from glitchflow.analysis.evaluate.evaluate import rows_of
from glitchflow.analysis.opened import windows_of
from glitchflow.config.recipes import Subsystem
from glitchflow.data import generate
from glitchflow.data import stretch as frames
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.methods.compare import Comparison, basis_of, compare, fit_methods
from glitchflow.methods.method import Block, Method, Removed
from glitchflow.methods.treat import read_block
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import score_table

START, SECONDS, RATE = 1_400_000_000, 128, 256
SHARED = {"subsystems": [Subsystem(name="PEM", count=1, telling=1, shared=0.3, rate=RATE)]}
INTERVAL = Bootstrap(1, 50)


def here(job, parts, *_):
    return {part: job.make(part) for part in parts}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The experiment of a stretch of which there are frames, and windows of 2 s, one a second."""
    workdir = tmp_path_factory.mktemp("stretch")
    settings = small(workdir, stretch={"duration": SECONDS, "signals": 720}, store={"series": "float64"})
    settings = with_transients(settings, 0.15, SHARED)
    with pytest.MonkeyPatch.context() as patch:
        for one in (frames, generate, module):
            patch.setattr(one, "run_tasks", here)
        files = [str(frames.stretch(settings) / "*.gwf")]
        channels = [
            {"name": name, "files": files} for name in ("SIM:STRAIN", "SIM:ACC", "SIM:SUS", "SIM:PEM_1")
        ]
        times = {"start": START + 4, "end": START + SECONDS - 4, "stride": 1}
        experiment = small(
            workdir,
            ingest={"channels": channels, "times": times},
            store={"series": "float64"},
            evaluate={"truth": f"{workdir}/frames/truth", "bootstrap": 50},
        )
        generate.ingest(experiment)
        yield experiment


@pytest.fixture(scope="module")
def dataset(made):
    return open_store(made.dataset)


@pytest.fixture(scope="module")
def known(made, dataset):
    return truth.open_truth(dataset, [], made.evaluate.truth, made.harm)


@dataclass(frozen=True)
class Told:
    """Takes a share of the truth out, as a method of series."""

    share: float

    def removed(self, block: Block) -> Removed:
        assert block.truth is not None
        return Removed(series=self.share * (block.truth.series + block.truth.shared))


@pytest.fixture(scope="module")
def fit(made, dataset, known):
    """Every method that the store has, and two that are told."""
    found = fit_methods(
        dataset, basis_of(dataset, made.loader), made.clean.threshold, truth=truth.frames_of(known, dataset)
    )
    told = {"told": Told(1.0), "half": Told(0.5)}
    rows = {name: Method(lambda train: None, truth=True, seeing=False) for name in told}
    return replace(found, methods=found.methods | rows, fitted=found.fitted | told)


@pytest.fixture(scope="module")
def measured(made, dataset, known, fit):
    events = np.arange(len(dataset))
    analysed = segmentlist([segment(START + 4, START + SECONDS - 4)])
    vetoes = analysed, {"nothing": segmentlist(), "gate": analysed}
    comparison = Comparison(dataset, fit, None, False)
    return module.measure(known, comparison, events, vetoes, made.cluster, INTERVAL)


def test_every_method_that_has_a_series_is_measured(fit, measured):
    assert list(measured) == list(fit.methods)
    assert {"linear", "wiener", "wiener_mask", "oracle", "gate"} <= set(measured)
    assert {row["live"] for row in measured.values()} == {
        SECONDS - 16
    }  # files end 8 s beyond what is measured


def test_windows_that_overlap_share_what_they_take_out(measured):
    """One that is told leaves nothing, and half of it a quarter of the squares: were a second counted twice, it would
    be taken out twice."""
    assert measured["told"]["residual"]["value"] == pytest.approx(0, abs=1e-6)
    assert measured["half"]["residual"]["value"] == pytest.approx(0.25, abs=1e-3)
    assert measured["nothing"]["residual"]["value"] == 1
    assert measured["nothing"]["volume_time"]["cleaned"]["value"] == 1
    assert measured["oracle"]["residual"]["value"] < 0.5 < measured["gate"]["residual"]["value"]


def test_vetoes_are_those_of_the_method_and_none_where_it_has_none(measured):
    assert measured["nothing"]["veto"]["deadtime"] == 0
    assert measured["gate"]["veto"]["efficiency"]["value"] == measured["gate"]["veto"]["deadtime"] == 1
    assert measured["linear"]["veto"] is None
    assert np.isnan(measured["linear"]["volume_time"]["vetoed"]["value"])


def test_windows_have_the_truth_that_simulated_events_have(dataset, fit):
    """Cut from the frames, it is what was put into the strain: without it, less is there."""
    events = np.arange(40, 60)
    block, recorded = read_block(
        dataset, events, fit.witnesses, Comparison(dataset, fit, None, False).estimator, fit.truth
    )
    assert block.truth is not None and block.seen is not None and block.truth.series is not None
    assert block.truth.energies.shape == recorded.shape
    loud = block.truth.energies.max(axis=(1, 2)) > 100
    assert loud.any() and not loud.all()
    left = block.seen.energies(block.seen.whiten((block.strain - block.truth.series)[:, None]))[:, 0]
    assert (left.max(axis=(1, 2))[loud] < recorded.max(axis=(1, 2))[loud] / 3).all()


def test_scores_of_windows_are_those_of_named_families(made, dataset, known, fit):
    events = np.arange(len(dataset))
    few = replace(fit, methods={name: fit.methods[name] for name in ("nothing", "told", "oracle")})
    rows = rows_of(dataset, made.evaluate.quiet, known)
    scored = rows.named(compare(dataset, events, few, None, made.cluster))
    assert rows.labels[0] == "background" and set(rows.witnessed) == {"scattered_light", "sine_gaussian"}
    assert rows.ratio is None
    np.testing.assert_array_equal(scored.label, truth.name_events(known, windows_of(dataset, events)))
    table = score_table(scored.columns, rows.of(scored), rows.witnessed, INTERVAL)
    assert set(table) <= {*rows.labels, "witnessed"}
    scores = table["witnessed"]["scores"]
    assert scores["nothing"]["residual"]["value"] == 1
    assert scores["told"]["residual"]["value"] == pytest.approx(0, abs=1e-6)
    assert scores["oracle"]["removed"]["value"] > 0.5


def test_a_store_without_series_is_refused(known, dataset):
    class Bare:
        path = "bare.zarr"

        def __contains__(self, name):
            return False

    with pytest.raises(InputError) as refused:
        truth.frames_of(known, Bare())
    assert str(refused.value) == (
        f"evaluate.truth = {known.truth}: bare.zarr has no series to measure by it; ingest it with"
        " store.series=float32"
    )
