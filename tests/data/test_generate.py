"""Events to a store over Ray: the same bytes however it was made, and nothing lost or replaced unasked."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from gwpy.timeseries import TimeSeries
from helpers import damage_of, forget_shards, missing_shards, shares, small

from glitchflow.config import Experiment
from glitchflow.data import build
from glitchflow.data import generate as stage
from glitchflow.data.content import content_of
from glitchflow.data.generate import generate, ingest
from glitchflow.data.normalise import loudness
from glitchflow.data.shard_events import make_block, make_factory, make_shard
from glitchflow.data.store import dataset as store
from glitchflow.data.store.schema import UNSPLIT
from glitchflow.data.store.writer import Writer
from glitchflow.errors import InputError, RunError
from glitchflow.signal.qtransform import build_engine
from glitchflow.signal.recorded import events, recording
from glitchflow.signal.simulation.families import FAMILIES
from glitchflow.signal.whiten import estimate_asd
from glitchflow.worker_logs import kept_in

SERIES = {"store": {"series": "float64"}}  # as `dataset_run` was made


content = partial(content_of, source="simulate")


def array_bytes(path: Path) -> dict[str, str]:
    """SHA-256 of every file of a store but the metadata, which holds the provenance."""
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != "zarr.json"]
    assert not [file for file in files if file.name.endswith(".partial")]
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def copy_of(dataset_run: Experiment, workdir: Path) -> Experiment:
    shutil.copytree(dataset_run.workdir, workdir, dirs_exist_ok=True)
    return dataset_run.model_copy(update={"workdir": str(workdir)})


def command(workdir: Path, **changes: object) -> subprocess.Popen:
    """A real `glitchflow generate` of `small` on one CPU, in a process and a Ray of its own."""
    workdir.mkdir(exist_ok=True)
    experiment = small(workdir, **SERIES, cluster={"cpus": 1}, **changes)
    (workdir / "x.yaml").write_text(experiment.model_dump_json())  # JSON is YAML
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.Popen(
        [Path(sys.executable).parent / "glitchflow", "generate", workdir / "x.yaml"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for_shards(path: Path, count: int, running: subprocess.Popen) -> None:
    until = time.monotonic() + 120
    while len(list((path / ".done").glob("*.json"))) < count:
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.005)


# -- the same bytes ----------------------------------------------------------------------------------------------


@pytest.mark.ci
@pytest.mark.parametrize(
    "end",
    [
        signal.SIGTERM,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGKILL, signal.SIGINT, signal.SIGUSR1)),
    ],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(dataset_run, tmp_path, end):
    """`dataset_run` was made by two CPUs undisturbed; this one by a CPU that is stopped, then by two."""
    more = {"events": 320}
    running = command(tmp_path / "run", simulate={**_simulate(), **more})
    path = tmp_path / "run" / "dataset.zarr"
    wait_for_shards(path, 2, running)
    running.send_signal(end)
    _, errors = running.communicate(timeout=60)
    finished = set(range(20)) - set(missing_shards(path))
    assert 2 <= len(finished) < 18, "it was stopped in the middle"
    assert "Traceback" not in errors
    if end != signal.SIGKILL:
        assert running.returncode == 1
        assert errors.splitlines()[-1] == (
            "glitchflow: stopped; what is finished is kept, and the same command goes on from there"
        )
    files = [path / "qplot" / "c" / str(k) / "0" / "0" / "0" for k in finished]
    before = {file: file.stat().st_mtime_ns for file in files}

    experiment = small(tmp_path / "run", **SERIES, simulate={**_simulate(), **more})
    with pytest.raises(InputError, match=r"incomplete, .* of 20 shards missing"):
        store.open_store(path)
    generate(experiment)
    for file, changed in before.items():
        assert file.stat().st_mtime_ns == changed, "finished shards are not made again"
    assert damage_of(path) == {}
    resumed, undisturbed = store.open_store(path), store.open_store(dataset_run.dataset)
    for name in undisturbed.attributes["arrays"]:
        assert resumed[name][:96].tobytes() == undisturbed[name][:].tobytes(), name


def _simulate() -> dict:
    return small(Path("/")).simulate.model_dump(mode="json")


def test_the_same_bytes_without_ray(dataset_run, tmp_path):
    """One process, shards in another order."""
    experiment = small(tmp_path, **SERIES)
    with Writer.begin(
        experiment.dataset, lambda: stage._design(make_factory(content(experiment))), lambda _: None
    ) as writer:
        for k in reversed(range(writer.layout.shards)):
            make_shard(writer.dataset, k)
        writer.note(stage.DEVICES, ["CPU"])
        stage._finish(writer)
    assert array_bytes(experiment.dataset) == array_bytes(dataset_run.dataset)
    a, b = (store.open_store(e.dataset) for e in (experiment, dataset_run))
    assert a.normalisation == b.normalisation


def test_one_shard_made_again_alone(dataset_run, tmp_path):
    experiment = copy_of(dataset_run, tmp_path)
    before = array_bytes(experiment.dataset)
    forget_shards(experiment.dataset, 7)
    file = experiment.dataset / "qplot" / "c" / "5" / "0" / "0" / "0"
    file.write_bytes(file.read_bytes()[:100])
    assert list(damage_of(experiment.dataset)) == [5, 7]
    generate(experiment, shard=5)
    assert list(damage_of(experiment.dataset)) == [7]
    generate(experiment)
    assert array_bytes(experiment.dataset) == before
    with pytest.raises(InputError, match=r"^--shard 24: the store has shards 0 to 23$"):
        generate(experiment, shard=24)


def test_more_events_leave_the_earlier_ones_and_their_splits(dataset_run):
    block = make_block(make_factory(content(dataset_run)), range(90, 96))[0]
    longer = small(dataset_run.workdir, **SERIES, simulate={**_simulate(), "events": 5000})
    other = make_block(make_factory(content(longer)), range(93, 99))[0]
    for name, value in block.items():
        assert value[3:].tobytes() == other[name][:3].tobytes(), name


# -- what is in a store ------------------------------------------------------------------------------------------


def test_what_a_store_holds(dataset_run):
    dataset = store.open_store(dataset_run.dataset)
    attributes = dataset.attributes
    assert dataset.labels == ["background", "sine_gaussian", "scattered_light", "blip"]
    assert attributes["config"]["qplot"]["q"] == 8
    assert "train" not in attributes["config"]
    assert attributes["couplings"]["linear"]["sine_gaussian"].keys() == {"SIM:STRAIN", "SIM:ACC"}
    provenance = {"date", "host", "python", "machine", "revision", "versions", "devices"}
    assert set(attributes["provenance"]) == provenance
    assert attributes["provenance"]["devices"] in (["CPU"], ["GPU"])
    np.testing.assert_array_equal(np.diff(dataset["gps"][:]), 64)
    split = np.asarray(dataset["split"][:])
    np.testing.assert_allclose(np.bincount(split) / 96, [0.55, 0.2, 0.25], atol=0.15)
    expected = shares(dataset["qplot"][:][split == 0])
    for name, values in expected.items():
        rounded = 1e-5 if name == "loudness" else 1e-9
        np.testing.assert_allclose(attributes["normalisation"][name], values, rtol=rounded)
    label, witnessed = np.asarray(dataset["label"][:]), np.asarray(dataset["witnessed"][:])
    loud = witnessed.max((1, 2)) > 1
    assert loud[np.isin(label, (1, 2))].mean() > 0.9
    assert not witnessed[np.isin(label, (0, 3))].any()
    assert dataset["valid"][:].all()
    assert dataset["rows"][:].all()
    np.testing.assert_array_equal(dataset["loudness"][:], np.round(loudness(dataset["qplot"][:]), 6))


def test_the_table_of_transients(dataset_run):
    """One where there is one, at its own time, which the jitter moves from the event's."""
    dataset = store.open_store(dataset_run.dataset)
    label, snr, gps = (dataset[name][:] for name in ("label", "snr", "gps"))
    event = dataset["transient_event"][:]
    np.testing.assert_array_equal(event, np.flatnonzero(label))
    np.testing.assert_array_equal(dataset["transient_family"][:], label[event])
    np.testing.assert_array_equal(dataset["transient_snr"][:], snr[event])
    np.testing.assert_array_equal(dataset["transient_witnessed"][:], np.isin(label[event], (1, 2)))
    moved = dataset["transient_gps"][:] - gps[event]
    assert 0.1 < np.abs(moved).max() < 0.2 + 1e-6
    series = dataset["witnessed_series"][:]
    for row in np.flatnonzero(label[event] == 1)[:10]:
        peak = np.abs(series[event[row]]).argmax() / 256 - 4
        assert peak == pytest.approx(moved[row], abs=0.1)


def test_the_datasets_asd_is_the_median_over_quiet_train_events(dataset_run):
    dataset = store.open_store(dataset_run.dataset)
    quiet = np.flatnonzero((dataset["label"][:] == 0) & (dataset["split"][:] == 0))
    series = torch.from_numpy(dataset.all_series(quiet))
    wanted = np.median(estimate_asd(series, 256, 2).numpy(), axis=0)
    np.testing.assert_allclose(dataset["asd"][:], wanted, rtol=1e-12)
    np.testing.assert_allclose(dataset["asd_frequency"][:], np.arange(257) / 2)


def test_one_asd_for_all_events_is_that_which_the_store_keeps(dataset_run, tmp_path):
    """Of the dataset, or of a file: kept in the store, and whitened by from there."""
    by_dataset = small(tmp_path / "a", whiten={"asd": "dataset"}, simulate={"events": 20})
    generate(by_dataset)
    made = store.open_store(by_dataset.dataset)
    table = np.column_stack([made["asd_frequency"][:], made["asd"][:].T])
    np.savetxt(tmp_path / "asd.txt", table)
    whiten = {"asd": "file", "file": str(tmp_path / "asd.txt")}
    by_file = small(tmp_path / "b", whiten=whiten, simulate={"events": 20})
    generate(by_file)
    again = store.open_store(by_file.dataset)
    np.testing.assert_allclose(again["asd"][1:, 1:], made["asd"][1:, 1:], rtol=1e-9)
    np.testing.assert_allclose(again["qplot"][:], made["qplot"][:], rtol=1e-2, atol=1e-2)
    assert not np.allclose(made["qplot"][:], store.open_store(dataset_run.dataset)["qplot"][:20], rtol=0.1)
    (tmp_path / "asd.txt").write_text("10 1 1\n20 1 1\n")
    with pytest.raises(InputError, match=r"asd\.txt: 2 columns of 1/sqrt\(Hz\) for 4 channels"):
        generate(by_file, overwrite=True)


# -- refusals ----------------------------------------------------------------------------------------------------


def test_other_settings_are_refused_with_their_keys(dataset_run):
    changed = dataset_run.model_copy(
        update={"seed": 4, "qplot": dataset_run.qplot.model_copy(update={"q": 9.0})}
    )
    before = array_bytes(dataset_run.dataset)
    with pytest.raises(InputError) as error:
        generate(changed)
    assert str(error.value) == (
        f"{dataset_run.dataset}: was made with other settings (qplot.q = 8.0 there, 9.0 here;"
        " seed = 3 there, 4 here); choose another workdir or --overwrite it"
    )
    assert array_bytes(dataset_run.dataset) == before
    trained = dataset_run.model_copy(update={"train": dataset_run.train.model_copy(update={"lr": 1.0})})
    assert generate(trained) == dataset_run.dataset, "the settings of other stages do not matter"


@pytest.mark.ci
def test_overwrite_replaces_a_store(dataset_run, tmp_path):
    experiment = copy_of(dataset_run, tmp_path)
    changed = experiment.model_copy(update={"seed": 4})
    generate(changed, overwrite=True)
    assert store.open_store(experiment.dataset).attributes["seed"] == 4
    assert damage_of(experiment.dataset) == {}


def test_a_failed_overwrite_leaves_what_was_there(dataset_run, tmp_path, monkeypatch):
    experiment = copy_of(dataset_run, tmp_path)
    before = array_bytes(experiment.dataset)
    monkeypatch.setattr(stage, "run_tasks", lambda *_: (_ for _ in ()).throw(RunError("no memory")))
    with pytest.raises(RunError, match="no memory"):
        generate(experiment.model_copy(update={"seed": 4}), overwrite=True)
    assert array_bytes(experiment.dataset) == before
    assert store.open_store(experiment.dataset).config.seed == 3


def test_overwrite_deletes_nothing_that_is_no_store(tmp_path):
    experiment = small(tmp_path)
    experiment.dataset.mkdir()
    (experiment.dataset / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is in the way, and is not a store of GlitchFlow's"):
        generate(experiment, overwrite=True)
    assert (experiment.dataset / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"qplot": {"q": 8, "frange": [12, 120]}},
            r"qplot.frange = \[12, 120\]: the lowest Q, 8, reaches 90",
        ),
        (
            {"whiten": {"fftlength": 9}},
            r"a series of 8 s is too short for an ASD with",
        ),
        (
            {"qplot": {"q": 60, "frange": [12, 13]}, "simulate": {"recipe": "nope"}},
            "simulate.recipe = nope: ",
        ),
    ],
)
def test_what_cannot_be_made_is_said_before_anything_is_replaced(dataset_run, tmp_path, changes, message):
    experiment = copy_of(dataset_run, tmp_path)
    before = array_bytes(experiment.dataset)
    families = {f: {"weight": 0} for f in FAMILIES}
    changes = {"simulate": {"detector": {"background": 1, "families": families}}, "derived": [], **changes}
    with pytest.raises(InputError, match=message):
        generate(small(tmp_path, **changes), overwrite=True)
    assert array_bytes(experiment.dataset) == before


# -- a user's own recipe -----------------------------------------------------------------------------------------

RECIPE = """
import os
import numpy as np
from glitchflow.errors import InputError
from glitchflow.signal.streams import generator
from glitchflow.signal.types import Event, Recipe

def make(simulate, series, derived, seed):
    options = simulate.options
    def event(index):
        if index == options.get("wrong"):
            raise InputError("event of mine: not so")
        if index == options.get("broken"):
            raise KeyError("my own mistake")
        if index == options.get("deadly"):
            os._exit(3)
        values = generator(seed, 100, index).standard_normal((2, options.get("samples", series.samples)))
        return Event(values, None, 0, float(index), 0.0)
    return Recipe(32, ["MY:STRAIN", "MY:WITNESS"], ["background"], [], {}, event, int)
"""


@pytest.fixture
def own(tmp_path, monkeypatch, ray_session):
    """An experiment whose recipe is a module in the tests' temporary directory, which Ray's workers know too."""
    (tmp_path / "recipe_of_mine.py").write_text(RECIPE)
    monkeypatch.syspath_prepend(tmp_path)
    add = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    original = build._call

    def call(*given):
        exec(add)
        return original(*given)

    monkeypatch.setattr(build, "_call", call)
    yield lambda **options: small(
        tmp_path, derived=[], simulate={"recipe": "recipe_of_mine:make", "options": options}
    )
    sys.modules.pop("recipe_of_mine", None)


def test_a_recipe_of_ones_own(own):
    dataset = store.open_store(generate(own()))
    assert dataset.channels == ["MY:STRAIN", "MY:WITNESS"]
    assert len(dataset) == 32
    assert "witnessed" not in dataset
    np.testing.assert_array_equal(dataset["gps"][:], np.arange(32.0))
    assert 1 < np.asarray(dataset["qplot"][:]).mean() < 2  # of noise, 1 / ln 2


def test_errors_of_a_recipe(own):
    with pytest.raises(InputError, match=r"^event 0: series of shape \(2, 100\), not \(2, 2048\)$"):
        generate(own(samples=100))
    with pytest.raises(InputError, match=r"^event of mine: not so$"):
        generate(own(wrong=20))
    with pytest.raises(ray.exceptions.RayTaskError, match=r"recipe_of_mine.py(.|\n)*my own mistake"):
        generate(own(broken=20), overwrite=True)


@pytest.mark.slow
def test_a_task_that_dies_again_and_again_is_one_line(own):
    experiment = own(deadly=20)
    with (
        kept_in(Path(experiment.workdir)),
        pytest.raises(
            RunError,
            match=r"^Q-plots, part \d+: its task died, and three more after it: The worker died unexpectedly while"
            rf" executing this task; what they said is in {experiment.workdir}/workers.log$",
        ),
    ):
        generate(experiment)
    assert "=== " in (Path(experiment.workdir) / "workers.log").read_text()


# -- Q-plots made anew from stored series ------------------------------------------------------------------------


def test_a_witness_that_is_not_finite_costs_the_witness_and_no_sum_over_series(dataset_run, tmp_path):
    settings = content_of(
        small(tmp_path, **SERIES, ingest={"series_from": str(dataset_run.dataset)}), "ingest"
    )
    factory = make_factory(settings)
    event = factory.recipe.event

    def spoilt(index):
        found = event(index)
        found.series[1, 7:9] = np.nan
        return found

    spoilt_factory = replace(factory, recipe=replace(factory.recipe, event=spoilt))
    (block, skipped, _), (whole, *_) = (make_block(f, range(2)) for f in (spoilt_factory, factory))
    assert not skipped
    assert block["valid"][:, :2].tolist() == [[True, False]] * 2
    assert not block["series"][:, 1].any()
    np.testing.assert_array_equal(block["series"][:, [0, 2]], whole["series"][:, [0, 2]])
    np.testing.assert_array_equal(block["qplot"][:, 0], whole["qplot"][:, 0])


def test_the_same_qplots_from_stored_series(dataset_run, tmp_path):
    path = ingest(small(tmp_path, **SERIES, ingest={"series_from": str(dataset_run.dataset)}))
    assert array_bytes(path) == array_bytes(dataset_run.dataset)
    old, new = store.open_store(dataset_run.dataset), store.open_store(path)
    for name in ("channels", "labels", "couplings", "normalisation", "recorded"):
        assert new.attributes[name] == old.attributes[name]


def test_other_qplots_from_stored_series(dataset_run, tmp_path):
    qplot = {"q": 12, "frange": [10, 95], "shape": [8, 32], "span": 1}
    again = ingest(
        small(
            tmp_path / "a",
            qplot=qplot,
            whiten={"fftlength": 4},
            ingest={"series_from": str(dataset_run.dataset)},
        )
    )
    fresh = small(tmp_path / "b", qplot=qplot, whiten={"fftlength": 4})
    block = make_block(make_factory(content(fresh)), range(10))[0]
    dataset = store.open_store(again)
    for name in ("qplot", "witnessed", "split", "label", "gps"):
        np.testing.assert_array_equal(dataset[name][:10], block[name], err_msg=name)


def test_stored_series_that_do_not_fit(dataset_run, tmp_path):
    path = str(dataset_run.dataset)
    bare = generate(small(tmp_path / "bare", simulate={**_simulate(), "events": 16}))
    for changes, message in (
        (
            {"ingest": {"series_from": str(bare)}},
            f"{bare}: has no series; generate it with store.series=float32",
        ),
        ({"ingest": {"series_from": path}, "series": {"duration": 6}}, f"{path}: has series of duration=8"),
        (
            {"ingest": {"series_from": path}, "derived": []},
            f"{path}: holds derived channels already; take its `derived` over",
        ),
        ({"ingest": {"series_from": f"{path}x"}}, "x: no store there"),
    ):
        with pytest.raises(InputError) as error:
            ingest(small(tmp_path / "new", **changes))
        assert message in str(error.value)
    with pytest.raises(InputError, match="is what would be written; choose another workdir"):
        ingest(small(Path(dataset_run.workdir), ingest={"series_from": path}), overwrite=True)
    assert dataset_run.dataset.exists()


def test_recorded_neighbours_share_a_split_also_when_made_anew(ray_session, tmp_path):
    noise = np.random.default_rng(1).standard_normal((2, 200 * 256))
    sources = []
    for name, values in zip(("S1:A", "W1:B"), noise, strict=True):
        series = TimeSeries(values, t0=1000, sample_rate=256, name=name)
        series.write(tmp_path / f"{name[:2]}.h5", path=name, format="hdf5")
        sources.append({"name": name, "files": [str(tmp_path / f"{name[:2]}.h5")]})
    settings = {
        "derived": [],
        "split": {"order": "blocks", "block": 20.0, "test": 0.3, "validation": 0.3},
        **SERIES,
    }
    times = list(np.arange(1010.0, 1190.0, 5.0))
    first = ingest(small(tmp_path / "a", **settings, ingest={"channels": sources, "times": times}))
    again = ingest(small(tmp_path / "b", **settings, ingest={"series_from": str(first)}))
    blocks = np.array(times) // 20
    for path in (first, again):
        split = np.asarray(store.open_store(path)["split"][:])
        assert len(set(split)) > 1
        assert all(len(set(split[blocks == b]) - {UNSPLIT}) <= 1 for b in set(blocks))
        assert (split != UNSPLIT).mean() > 0.7  # the rest is the guard band between blocks


def test_what_was_read_for_the_first_event_is_not_read_again(tmp_path, monkeypatch):
    """Without a Ray: the recording that told the rates holds all windows, and shards are cut from it."""
    values = np.random.default_rng(1).standard_normal((2, 200 * 256))
    for name, one in zip(("S1:A", "W1:B"), values, strict=True):
        series = TimeSeries(one, t0=1000, sample_rate=256, name=name)
        series.write(tmp_path / f"{name[:2]}.h5", path=name, format="hdf5")
    sources = [{"name": name, "files": [str(tmp_path / f"{name[:2]}.h5")]} for name in ("S1:A", "W1:B")]
    times = {"channels": sources, "times": list(np.arange(1010.0, 1190.0, 5.0))}
    read, inner = [], recording.read_samples
    monkeypatch.setattr(recording, "read_samples", lambda *given: read.append(given[0]) or inner(*given))
    for module in (build, stage):
        monkeypatch.setattr(module, "at_hand", lambda address: False)
    one, other = (small(tmp_path / name, derived=[], **SERIES, ingest=times) for name in ("a", "b"))
    first = store.open_store(ingest(one))
    assert first.layout.shards > stage.FEW
    assert sorted(read) == [str(tmp_path / "S1.h5"), str(tmp_path / "W1.h5")]
    monkeypatch.setattr(stage, "FEW", 100)
    monkeypatch.setattr(events, "is_read", lambda recording: False)
    again = store.open_store(ingest(other))
    assert len(read) == 6
    for name in ("qplot", "gps", "q", "split", "valid"):
        np.testing.assert_array_equal(first[name][:], again[name][:])


def test_whitened_by_the_datasets_own_asd(tmp_path):
    """Every event by the same ASD, which the store holds before its first shard: without Ray, shard by shard."""
    experiment = small(
        tmp_path, simulate={**_simulate(), "events": 48}, whiten={"fftlength": 2, "asd": "dataset"}
    )
    begun = Writer.begin(
        experiment.dataset, lambda: stage._design(make_factory(content(experiment))), lambda _: None
    )
    with begun as writer:
        asd = writer.dataset["asd"][:]
        for k in range(writer.layout.shards):
            make_shard(writer.dataset, k)
        stage._finish(writer)
    dataset = store.open_store(experiment.dataset)
    made, events = dataset.config, [0, 1, 30]
    engine = build_engine(made.series, made.qplot, made.whiten, "raise", asd)
    recipe = make_factory(content(experiment)).recipe
    plot = engine(np.stack([recipe.event(i).series for i in events]))
    np.testing.assert_array_equal(dataset["qplot"][:][events], plot.energy.numpy())
    own = build_engine(made.series, made.qplot, made.whiten.model_copy(update={"asd": "event"}))
    other = own(np.stack([recipe.event(i).series for i in events])).energy.numpy()
    assert not np.allclose(dataset["qplot"][:][events], other, rtol=0.01)
    np.testing.assert_array_equal(dataset["asd"][:], asd)
