"""What is measured on a stretch: of cleaning that is perfect, half done, none at all; of vetoes that hold all."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import small, with_transients
from igwn_segments import segment, segmentlist

from glitchflow.analysis import truth
from glitchflow.analysis.opened import Windows
from glitchflow.analysis.truth import families, name_events, open_truth, second_by_second, spans_of
from glitchflow.config import Harm, Source
from glitchflow.config.recipes import Subsystem
from glitchflow.data import stretch as module
from glitchflow.data.stretch import stretch
from glitchflow.errors import InputError
from glitchflow.score.statistics import Bootstrap
from glitchflow.signal.simulation.stretch import draw_stretch, make_spans

START, SECONDS, RATE = 1_400_000_000, 208, 256
INTERVAL = Bootstrap(1, 100)
KNOWN = segmentlist([segment(START + 8, START + SECONDS - 8)])
LIVE = SECONDS - 16
SHARED = {"subsystems": [Subsystem(name="PEM", count=1, telling=1, shared=0.3, rate=RATE)]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stretch with its frames, and its span as the simulation has it."""
    workdir = tmp_path_factory.mktemp("truth")
    settings = with_transients(small(workdir, stretch={"duration": SECONDS, "signals": 720}), 0.1, SHARED)
    maker = draw_stretch(settings.simulate.detector, settings.stretch, RATE, settings.seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_tasks", lambda job, parts, *_: [job.make(part) for part in parts])
        return stretch(settings), next(make_spans(maker, [START, START + SECONDS]))


def dataset(recorded: bool = True, arrays: tuple = ("series",)) -> SimpleNamespace:
    """What is asked of a store of the stretch's windows."""
    settings = small(Path("none"), series={"sample_rate": RATE})
    qplot = settings.qplot.model_copy(update={"frange": (12.0, 90.0)})
    config = SimpleNamespace(series=settings.series, qplot=qplot, ingest=settings.ingest)
    return SimpleNamespace(path="d.zarr", recorded=recorded, channels=["SIM:STRAIN"], config=config)


def opened(made, where=None):
    strain = Source(name="SIM:STRAIN", files=[f"{made[0]}/*.gwf"])
    return open_truth(dataset(), [strain], str(where or made[0] / "truth"), Harm())


def measure(made, share: float, known=KNOWN, vetoed=(), part: str = "witnessed", seconds: int = SECONDS):
    """What is measured of the first seconds of the stretch, without a share of what witnesses explain, or of another
    part."""
    span = made[1].cut(START, START + seconds)
    taken = [part, "shared"] if part == "witnessed" else [part]
    strain = span.channels[0] - share * sum(span.parts[name] for name in taken)

    def left(recorded, first):
        return {"it": strain[(first - START) * RATE :][: len(recorded)]}

    stretch = opened(made)
    spans = spans_of([(START, START + seconds)], known)
    found = {one: second_by_second(stretch, left, one) for one in spans}
    return truth.measure(stretch, found, known, {"it": segmentlist(vetoed)}, INTERVAL)["it"]


@pytest.fixture(scope="module")
def nothing(made):
    """What is measured where nothing was taken out."""
    return measure(made, 0.0)


def glitches(made) -> list[dict]:
    with (made[0] / "truth" / "glitches.csv").open() as file:
        return [row for row in csv.DictReader(file) if KNOWN[0][0] <= float(row["gps"]) < KNOWN[0][1]]


def around(rows: list[dict], reach: float) -> segmentlist:
    times = [float(row["gps"]) for row in rows]
    return segmentlist(segment(t - reach, t + reach) for t in times).coalesce() & KNOWN


@pytest.mark.parametrize("share, residual", [(0.5, 0.25), (1.0, 0.0), (2.0, 1.0)])
def test_residual_is_what_is_left_over_what_was_there(made, nothing, share, residual):
    found = measure(made, share)
    assert found["live"] == LIVE
    assert found["residual"]["value"] == pytest.approx(residual, abs=1e-9)
    # in quiet time there is nothing to take but the shared noise: what is left of it counts
    assert found["noise_added"]["value"] == pytest.approx(
        abs(1 - share) * nothing["noise_added"]["value"], abs=1e-9
    )
    assert 0.05 < nothing["noise_added"]["value"] < 0.3
    assert 0 < found["quiet"] < LIVE


def test_volume_time_of_doing_nothing_is_1_and_without_signals_there_is_none(made, nothing):
    found = nothing["volume_time"]
    assert found["cleaned"]["value"] == found["vetoed"]["value"] == 1
    assert found["signals"] > 20
    gone = measure(made, 1.0, part="signals")["volume_time"]
    assert gone["cleaned"]["value"] < 0.3  # of those that a glitch stands beside
    assert gone["vetoed"]["value"] == 1


def test_a_veto_costs_its_time(made):
    rows = glitches(made)
    held = around(rows, 0.5)
    found = measure(made, 0.0, vetoed=held)["veto"]
    assert found["glitches"] == len(rows)
    assert found["efficiency"]["value"] == found["efficiency_witnessed"]["value"] == 1
    assert found["deadtime"] == pytest.approx(float(abs(held)) / LIVE)
    assert found["use_percentage"]["value"] == 1
    assert found["segments"] == len(held)
    everything = measure(made, 0.0, vetoed=KNOWN)
    assert everything["veto"]["efficiency_over_deadtime"] == 1
    assert everything["volume_time"]["vetoed"]["value"] is not None
    assert np.isnan(everything["volume_time"]["vetoed"]["value"])  # no background is left to compare with


def test_half_of_the_time_is_half_of_the_seconds(made):
    half = segmentlist([segment(START + 8, START + 100.5), segment(START + 130.25, START + 190)])
    found = measure(made, 1.0, half)
    assert found["live"] == 92 + 59


def test_only_what_was_cleaned_counts(made):
    """`clean` writes the files that its windows lie in, and no others."""
    found = measure(made, 1.0, seconds=128)
    assert found["live"] == 128 - 16
    assert found["residual"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_truth_that_is_missing_is_one_line(made, tmp_path):
    with pytest.raises(InputError) as refused:
        opened(made, tmp_path / "no")
    assert str(refused.value) == f"evaluate.truth = {tmp_path}/no: signals.csv: No such file or directory"


def test_without_a_key_nothing_is_opened_and_events_have_no_stretch():
    assert open_truth(dataset(), [], "", Harm()) is None
    with pytest.raises(InputError) as refused:
        open_truth(dataset(recorded=False), [], "truth", Harm())
    assert str(refused.value) == "evaluate.truth = truth: is of a stretch, and d.zarr is of events"


def test_time_outside_of_the_stretch_is_refused(made):
    with pytest.raises(InputError) as refused:
        measure(made, 1.0, segmentlist([segment(START + 0.25, START + 0.75)]), seconds=64)
    assert str(refused.value) == (
        f"evaluate.truth = {made[0]}/truth: no second of what was analysed lies in its stretch"
    )


def test_windows_are_named_by_the_loudest_that_they_show(made):
    stretch = opened(made)
    loudest = max(glitches(made), key=lambda row: float(row["snr"]))
    gps = float(loudest["gps"])
    start = np.array([gps - 1.0, gps + 10.0, gps - 0.5])
    windows = Windows(np.array([2, 0, 1]), start - 3, start, start + np.array([2.0, 1e-3, 0.25]))
    labels, witnessed = families(stretch)
    assert labels == ["background", "blip", "chirp", "scattered_light", "sine_gaussian"]
    assert witnessed == ["scattered_light", "sine_gaussian"]
    found = [labels[i] for i in name_events(stretch, windows)]
    assert found == ["background", "background", loudest["label"]]
