"""A stretch in files: names, samples, truth, going on after a kill, another length, other settings."""

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
from gwpy.timeseries import StateVector, TimeSeries, TimeSeriesDict
from helpers import small, with_transients

from glitchflow.config import Stretch
from glitchflow.data import stretch as module
from glitchflow.data.stretch import channels_of, framing, stretch
from glitchflow.errors import InputError, RunError
from glitchflow.signal.simulation.stretch import draw_stretch, make_spans

START, RATE = 1_400_000_000, 256
CHANNELS = ["SIM:STRAIN", "SIM:ACC", "SIM:SUS", "SIM:GLITCHFLOW_STATE"]
SETTINGS = {"duration": 150, "frame": 60, "signals": 200}


def here(job, parts, cluster, check=lambda: None):
    """In place of the cluster: its tasks, one after the other, in this process."""
    for part in parts:
        check()
        job.make(part)


def killed(job, parts, cluster, check):
    """The same, of which the first task dies before it has finished its last frame."""
    (start, stop), *_ = parts
    job.make((start, stop - 60))
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch):
    monkeypatch.setattr(module, "run_tasks", here)


def experiment(workdir: Path, **changes):
    return with_transients(small(workdir, stretch=SETTINGS | changes), 0.1)


def read(path: Path, channel: str, **options) -> TimeSeries:
    return TimeSeries.read(sorted(map(str, path.glob("*.gwf"))), channel, **options)


def rows(path: Path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def digests(path: Path) -> dict:
    return {p.name: json.loads(p.read_text()) for p in sorted((path / "truth" / "frames").glob("*.json"))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """frames/ of 150 s in files of 60 s."""
    workdir = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_tasks", here)
        return stretch(experiment(workdir))


@pytest.fixture(scope="module")
def span(tmp_path_factory):
    """The same seconds, straight from the simulation."""
    settings = experiment(tmp_path_factory.mktemp("span"))
    maker = draw_stretch(settings.simulate.detector, settings.stretch, RATE, settings.seed)
    return channels_of(maker, next(make_spans(maker, [START, START + 150])))


def test_names_say_what_they_cover(made):
    spans = [(START, 60), (START + 60, 60), (START + 120, 30)]
    assert names(made) == [f"S-SIM_GLITCHFLOW-{a}-{n}.gwf" for a, n in spans] + ["truth"]
    assert {p.name for p in (made / "truth").glob("*.gwf")} == {f"S-SIM_TRUTH-{a}-{n}.gwf" for a, n in spans}


def test_no_pattern_for_frames_meets_the_truth(made):
    assert not [path for path in [*made.glob("*.gwf"), *made.glob("*")] if "TRUTH" in path.name]


def test_gwpy_reads_back_what_was_made(made, span):
    shown, truth = span
    first = TimeSeriesDict.read(str(made / f"S-SIM_GLITCHFLOW-{START}-60.gwf"), CHANNELS)
    assert list(shown) == CHANNELS
    for name, channel in first.items():
        rate = 16 if name == CHANNELS[-1] else RATE
        assert (channel.name, float(channel.t0.value), channel.sample_rate.value) == (name, START, rate)
        assert channel.dtype == shown[name].dtype
        np.testing.assert_array_equal(channel.value, shown[name][: 60 * rate])
    np.testing.assert_array_equal(read(made, "SIM:STRAIN").value, shown["SIM:STRAIN"])  # over two seams
    for name, part in truth.items():
        np.testing.assert_array_equal(read(made / "truth", name).value, part)
    assert list(truth) == ["SIM:STRAIN_WITNESSED", "SIM:STRAIN_SHARED"]
    assert truth["SIM:STRAIN_WITNESSED"].any()


def test_the_state_is_a_vector_of_bits(made):
    path = str(made / f"S-SIM_GLITCHFLOW-{START}-60.gwf")
    bits = ["science", "cleaned", "passed through", "no data"]
    flags = StateVector.read(path, CHANNELS[-1], bits=bits).to_dqflags()
    assert [tuple(map(float, s)) for s in flags["science"].active] == [(START, START + 60)]
    assert not any(flags[bit].active for bit in bits[1:])


def test_hdf5_holds_the_same(tmp_path, span):
    path = stretch(experiment(tmp_path, format="hdf5"))
    files = sorted(path.glob("*.h5"))
    assert files[0].name == f"S-SIM_GLITCHFLOW-{START}-60.h5"
    for name in CHANNELS:
        pieces = [TimeSeries.read(file, path=name, format="hdf5") for file in files]
        assert [float(p.t0.value) for p in pieces] == [START, START + 60, START + 120]
        np.testing.assert_array_equal(np.concatenate([p.value for p in pieces]), span[0][name])


@pytest.mark.parametrize("form", ["hdf5", "gwf"])
def test_files_are_the_same_byte_for_byte(tmp_path, form):
    if form == "gwf":
        pytest.importorskip("gwframe")  # LALFrame writes the time of day
    first = stretch(experiment(tmp_path / "first", format=form))
    time.sleep(1.1)
    again = stretch(experiment(tmp_path / "again", format=form))
    files = sorted(path for path in first.rglob("S-*") if path.is_file())
    assert len(files) == 6
    for file in files:
        assert (again / file.relative_to(first)).read_bytes() == file.read_bytes()


def test_tables_hold_every_transient_once(made, span):
    glitches, signals = rows(made / "truth" / "glitches.csv"), rows(made / "truth" / "signals.csv")
    assert {row["label"] for row in signals} == {"chirp"}
    assert {row["label"] for row in glitches} == {"sine_gaussian", "scattered_light", "blip"}
    for table in (glitches, signals):
        times = [float(row["gps"]) for row in table]
        assert times == sorted(set(times))
        assert START <= times[0] <= times[-1] < START + 150
    assert {row["label"] for row in glitches if row["witnessed"] == "True"} == {
        "sine_gaussian",
        "scattered_light",
    }
    science = rows(made / "truth" / "science.csv")
    assert science == [{"start": f"{START}.0", "end": f"{START + 150}.0"}]


def test_segments_that_meet_are_joined():
    rows = [(0.0, 64.0, "x"), (0.0, 30.0, "y"), (64.0, 70.0, "x"), (66.0, 80.0, "x"), (90.0, 91.0, "x")]
    assert list(module._meeting(iter(rows))) == [(0.0, 80.0, "x"), (0.0, 30.0, "y"), (90.0, 91.0, "x")]


def test_a_stretch_that_was_killed_goes_on(tmp_path, made, monkeypatch):
    settings = experiment(tmp_path)
    monkeypatch.setattr(module, "run_tasks", killed)
    with pytest.raises(KeyboardInterrupt):
        stretch(settings)
    path = tmp_path / "frames"
    assert not (path / "truth" / "glitches.csv").exists()
    kept = path / f"S-SIM_GLITCHFLOW-{START}-60.gwf"
    before = kept.stat().st_mtime_ns
    (path / f"S-SIM_GLITCHFLOW-{START + 60}-60.gwf").unlink()  # its checksums are there, and it is not
    (path / f"S-SIM_GLITCHFLOW-{START + 120}-30.gwf.partial").write_bytes(b"half")
    monkeypatch.setattr(module, "run_tasks", here)
    assert stretch(settings) == path
    assert kept.stat().st_mtime_ns == before
    assert digests(path) == digests(made)
    assert names(path) == names(made)
    for table in module.TABLES:
        assert (path / "truth" / f"{table}.csv").read_text() == (made / "truth" / f"{table}.csv").read_text()


def test_a_longer_one_extends_it_and_a_part_of_it_is_the_same(tmp_path, made):
    whole = stretch(experiment(tmp_path, duration=120))
    first = whole / f"S-SIM_GLITCHFLOW-{START}-60.gwf"
    before = first.stat().st_mtime_ns
    stretch(experiment(tmp_path, duration=150))
    assert first.stat().st_mtime_ns == before
    assert digests(whole) == digests(made)


def test_settings_that_this_version_does_not_take_are_other_settings(tmp_path):
    path = stretch(experiment(tmp_path, duration=60))
    root = path / "truth" / "stretch.json"
    root.write_text(root.read_text().replace('"signals": 200.0', '"signals": -1.0'))
    with pytest.raises(
        InputError, match=r"was made from other settings: stretch.signals = -1.0 there, 200.0 here"
    ):
        stretch(experiment(tmp_path, duration=60))


def test_other_settings_are_refused_and_overwritten(tmp_path, made):
    path = stretch(experiment(tmp_path, duration=60))
    other = experiment(tmp_path, duration=60, signals=0)
    with pytest.raises(InputError) as refused:
        stretch(other)
    assert str(refused.value) == (
        f"{path}: was made from other settings: stretch.signals = 200.0 there, 0.0 here; --overwrite it, or choose"
        " another workdir"
    )
    assert stretch(other, overwrite=True) == path
    assert not rows(path / "truth" / "signals.csv")
    assert names(tmp_path) == ["frames"]


def test_what_is_overwritten_stays_until_its_successor_stands(tmp_path, monkeypatch):
    path = stretch(experiment(tmp_path, duration=120))
    before = digests(path)
    monkeypatch.setattr(module, "run_tasks", killed)
    other = experiment(tmp_path, duration=120, signals=0)
    with pytest.raises(KeyboardInterrupt):
        stretch(other, overwrite=True)
    assert digests(path) == before
    monkeypatch.setattr(module, "run_tasks", here)
    stretch(other, overwrite=True)
    assert digests(path) != before


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "frames").mkdir()
    with pytest.raises(InputError) as refused:
        stretch(experiment(tmp_path))
    assert str(refused.value) == (
        f"{tmp_path}/frames: is there and holds no stretch; move it away, or choose another workdir"
    )


def test_it_is_a_stretch_of_the_detector(tmp_path):
    settings = small(
        tmp_path, simulate={"recipe": "notebook", "notebook": {"frequency": [15, 80]}}, derived=[]
    )
    with pytest.raises(InputError) as refused:
        stretch(settings)
    assert str(refused.value) == "simulate.recipe = notebook: a stretch is made by the recipe detector"


def test_a_disk_that_refuses_is_one_line(tmp_path):
    from glitchflow.data.frames import write_frame

    path = tmp_path / "no" / "S-SIM_X-0-1.gwf"
    with pytest.raises(RunError) as failed:
        write_frame(path, 0, 1, {"SIM:X": np.zeros(16)}, "gwf", "stretch.format")
    assert str(failed.value).startswith(f"{path}: cannot be written: ")


def test_a_task_is_projected_to_hold_a_block_and_the_frames_that_it_writes():
    settings = Stretch(duration=3600, frame=64)
    parts = framing([512, 256, 16], 2, settings).parts
    assert parts["filters"] == 8 * 80 * (784 + 2 * 512)  # of half as many complex numbers
    assert parts["a block"] == 8 * 64 * (784 + 4 * 512)
    assert parts["frames"] == 2 * 8 * 64 * 784
    joined = framing([512, 256, 16], 2, settings.model_copy(update={"frame": 60})).parts
    assert joined["frames"] == 3 * 8 * 60 * 784
    assert framing([512, 256, 16], 2, settings.model_copy(update={"duration": 36000})).parts == parts
