"""What is measured on a stretch: of cleaning that is perfect, half done, none at all; of vetoes that hold all."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from helpers import small, with_transients
from igwn_segments import segment, segmentlist

from glitchflow.analysis.clean.truth import Stretch, measure
from glitchflow.config import Source
from glitchflow.config.recipes import Subsystem
from glitchflow.data import stretch as module
from glitchflow.data.frames import write_frame
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


def cleaned(made, directory, share: float, part: str = "witnessed", seconds: int = SECONDS) -> Stretch:
    """The first seconds of the stretch, without a share of what witnesses explain, or of another part."""
    frames, span = made[0], made[1].cut(START, START + seconds)
    taken = [part, "shared"] if part == "witnessed" else [part]
    strain = span.channels[0] - share * sum(span.parts[name] for name in taken)
    path = directory / f"S-SIM_STRAIN_CLEAN-{START}-{seconds}.gwf"
    write_frame(path, START, seconds, {"SIM:STRAIN_CLEAN": strain}, "gwf", "clean.format")
    recorded = Source(name="SIM:STRAIN", files=[f"{frames}/*.gwf"])
    after = Source(name="SIM:STRAIN_CLEAN", files=[f"{directory}/*.gwf"])
    return Stretch(recorded, after, frames / "truth", RATE, (12.0, 90.0), (8.0, 30.0), 15.0)


@pytest.fixture(scope="module")
def nothing(made, tmp_path_factory):
    """What is measured where nothing was taken out."""
    return measure(cleaned(made, tmp_path_factory.mktemp("nothing"), 0.0), KNOWN, segmentlist(), INTERVAL)


def glitches(made) -> list[dict]:
    with (made[0] / "truth" / "glitches.csv").open() as file:
        return [row for row in csv.DictReader(file) if KNOWN[0][0] <= float(row["gps"]) < KNOWN[0][1]]


def around(rows: list[dict], reach: float) -> segmentlist:
    times = [float(row["gps"]) for row in rows]
    return segmentlist(segment(t - reach, t + reach) for t in times).coalesce() & KNOWN


@pytest.mark.parametrize("share, residual", [(0.5, 0.25), (1.0, 0.0), (2.0, 1.0)])
def test_residual_is_what_is_left_over_what_was_there(made, nothing, tmp_path, share, residual):
    found = measure(cleaned(made, tmp_path, share), KNOWN, segmentlist(), INTERVAL)
    assert found["live"] == LIVE
    assert found["residual"]["value"] == pytest.approx(residual, abs=1e-9)
    # in quiet time there is nothing to take but the shared noise: what is left of it counts
    assert found["noise_added"]["value"] == pytest.approx(
        abs(1 - share) * nothing["noise_added"]["value"], abs=1e-9
    )
    assert 0.05 < nothing["noise_added"]["value"] < 0.3
    assert 0 < found["quiet"] < LIVE


def test_volume_time_of_doing_nothing_is_1_and_without_signals_there_is_none(made, nothing, tmp_path):
    found = nothing["volume_time"]
    assert found["cleaned"]["value"] == found["vetoed"]["value"] == 1
    assert found["signals"] > 20
    gone = measure(cleaned(made, tmp_path, 1.0, "signals"), KNOWN, segmentlist(), INTERVAL)["volume_time"]
    assert gone["cleaned"]["value"] < 0.3  # of those that a glitch stands beside
    assert gone["vetoed"]["value"] == 1


def test_a_veto_costs_its_time(made, tmp_path):
    rows = glitches(made)
    held = around(rows, 0.5)
    found = measure(cleaned(made, tmp_path, 0.0), KNOWN, held, INTERVAL)["veto"]
    assert found["glitches"] == len(rows)
    assert found["efficiency"]["value"] == found["efficiency_witnessed"]["value"] == 1
    assert found["deadtime"] == pytest.approx(float(abs(held)) / LIVE)
    assert found["use_percentage"]["value"] == 1
    assert found["segments"] == len(held)
    everything = measure(cleaned(made, tmp_path, 0.0), KNOWN, KNOWN, INTERVAL)
    assert everything["veto"]["efficiency_over_deadtime"] == 1
    assert everything["volume_time"]["vetoed"]["value"] is not None
    assert np.isnan(everything["volume_time"]["vetoed"]["value"])  # no background is left to compare with


def test_half_of_the_time_is_half_of_the_seconds(made, tmp_path):
    half = segmentlist([segment(START + 8, START + 100.5), segment(START + 130.25, START + 190)])
    found = measure(cleaned(made, tmp_path, 1.0), half, segmentlist(), INTERVAL)
    assert found["live"] == 92 + 59


def test_only_what_was_cleaned_counts(made, tmp_path):
    """`clean` writes the files that its windows lie in, and no others."""
    found = measure(cleaned(made, tmp_path, 1.0, seconds=128), KNOWN, segmentlist(), INTERVAL)
    assert found["live"] == 128 - 16
    assert found["residual"]["value"] == pytest.approx(0, abs=1e-9)


def test_a_truth_that_is_missing_is_one_line(made, tmp_path):
    stretch = cleaned(made, tmp_path, 1.0)
    with pytest.raises(InputError) as refused:
        measure(replace(stretch, truth=tmp_path / "no"), KNOWN, segmentlist(), INTERVAL)
    assert str(refused.value) == f"clean.truth = {tmp_path}/no: signals.csv: No such file or directory"
