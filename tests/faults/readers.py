"""What the fuzzer gives readers of outside bytes: a valid file or directory of each, and how it is read."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gwpy.testing
import h5py
import numpy as np
import posts
import zarr
from faults.files import write_checkpoint
from gwpy.timeseries import TimeSeries, TimeSeriesDict
from helpers import small, staged, write_store

from glitchflow.analysis.evaluate import chance
from glitchflow.analysis.opened import open_run
from glitchflow.config import Experiment, Ingest, Times, load, parse
from glitchflow.config.recipes import Noise
from glitchflow.data import lease
from glitchflow.data.frames import write_gwf
from glitchflow.data.reused_events import ready_qplots
from glitchflow.data.store import find_damage, open_store
from glitchflow.online import source
from glitchflow.signal.qtransform.engine import read_asd
from glitchflow.signal.recorded.contents import contents
from glitchflow.signal.recorded.frames import find_files
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.signal.recorded.segments import usable_time
from glitchflow.signal.recorded.tables import read_table
from glitchflow.signal.simulation.noise import strain_asd
from glitchflow.signal.simulation.sampled import find_draws
from glitchflow.site.runs import recorded, runs
from glitchflow.train import checkpoint
from glitchflow.train.tracking import read_metrics
from glitchflow.train.tune.trials import read_trials

CONFIGS = Path(__file__).parents[2] / "configs"
START, RATE = 1000000000, 64
CHANNELS = ["H1:A", "H1:B"]


@dataclass(frozen=True)
class Reader:
    """Makes a valid file, or a directory of files, and reads it."""

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    name: str = "file"
    of: Callable[[Path], bool] | None = None  # which files of a directory are changed; None: all


def series() -> TimeSeriesDict:
    rng = np.random.default_rng(1)
    return TimeSeriesDict(
        {
            name: TimeSeries(
                rng.standard_normal(4 * RATE), t0=START, sample_rate=RATE, name=name, channel=name
            )
            for name in CHANNELS
        }
    )


def make_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, one in series().items():
            file.create_dataset(name, data=one.value).attrs.update(x0=float(START), dx=1 / RATE, unit="m")
        file["quality/simple/DQmask"] = np.ones(4, int)
        file["quality/simple/DQmask"].attrs.update(Xstart=float(START), Xspacing=1.0)
        file["quality/simple/DQShortnames"] = np.array([b"DATA", b"CBC"])


def make_triggers(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["triggers"] = np.array([(START + k, 8.0) for k in range(5)], [("time", "f8"), ("snr", "f8")])


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def read_checkpoint(path: Path) -> None:
    for found in checkpoint.by_step(path):
        one = checkpoint.open_checkpoint(found)
        one.weights()
        one.state()


def make_store(path: Path) -> None:
    rng = np.random.default_rng(2)
    write_store(path, {"qplot": rng.exponential(size=(6, 2, 4, 4)).astype("f4"), "gps": np.arange(6.0)})


def read_store(path: Path) -> None:
    found = open_store(path)
    found["qplot"][:], found["gps"][:]
    find_damage(found)


def read_csv(path: Path) -> object:
    return read_table(Times(file=str(path)), "H1")


def read_names(path: Path) -> object:
    channels = [{"name": name, "files": ["x"]} for name in ("H1:S", *CHANNELS)]
    return parse({"derived": [], "ingest": {"channels": channels}, "loader": {"witnesses": str(path)}})


def read_state(path: Path) -> object:
    """A mask whose bits are named in the file."""
    state = {"channel": "quality/simple/DQmask", "bits": ["DATA"]}
    source = {"name": "H1:A", "files": [str(path)]}
    return usable_time(Ingest.model_validate({"channels": [source], "segments": state}))


def read_frames(path: Path) -> object:
    return read_samples(str(path), "", CHANNELS)


# -- what stages and a watch wrote ---------------------------------------------------------------------------------


RUN_FILES = (
    "scan.json",
    "baseline.json",
    "clean.json",
    "metrics.json",
    "chance.json",
    "events.csv",
    "metrics.jsonl",
)


def experiment_at(path: Path) -> Experiment:
    model = {"name": "coherent", "width": 4, "options": {"experts": 2, "sensors": 1}}
    changes = {"simulate": {"events": 32}, "store": {"series": "float32"}, "evaluate": {"bootstrap": 10}}
    return small(path, model=model, train={"loss": "l2", "workers": 1, "epochs": 1}, **changes)


def make_run(path: Path) -> None:
    """A directory with all that stages write on the way to a report."""
    from glitchflow.analysis.baseline import baseline
    from glitchflow.analysis.clean.clean import clean
    from glitchflow.analysis.evaluate.evaluate import evaluate
    from glitchflow.analysis.infer import infer
    from glitchflow.analysis.scan import scan
    from glitchflow.cluster import session
    from glitchflow.data.generate import generate
    from glitchflow.train.loop import train
    from glitchflow.train.setup import training_of

    experiment = experiment_at(path)
    with session(cpus=1):
        generate(staged("generate", experiment))
        baseline(staged("baseline", experiment))
        scan(staged("scan", experiment))
        train(training_of(experiment), path / "train")
        infer(staged("infer", experiment))
        evaluate(staged("evaluate", experiment))
        clean(staged("clean", experiment), force=True)


def read_report(path: Path) -> None:
    from glitchflow.analysis.report import report

    report(staged("report", experiment_at(path)))


def read_predictions(path: Path) -> None:
    opened = open_run(staged("evaluate", experiment_at(path)))
    opened.predictions.events("estimate", np.arange(4))
    find_damage(opened.predictions)


def make_memory(path: Path) -> None:
    """What a watch remembers after some seconds, one of them without a witness."""
    frames = path / "frames"
    frames.mkdir(parents=True)
    for k in range(4):
        posts.put(frames, posts.START + k, tuple(posts.RATES)[: 4 - k % 2])
    posts.run(posts.post_at(frames, path / "online"))


def read_memory(path: Path) -> None:
    posts.run(posts.post_at(path / "frames", path / "online"), looks=1)


def make_runs(path: Path) -> None:
    """Records of two runs, one of them ended, and the scores that a record quotes."""
    path.mkdir()
    with recorded(path, "generate", "a.yaml", ["seed=1"]):
        pass
    with contextlib.suppress(KeyError), recorded(path, "train", "a.yaml", []):
        raise KeyError("what went wrong")


def make_qplots(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["events"] = np.random.default_rng(1).exponential(size=(3, 2, 4, 4)).astype("f4")
        file["events"].attrs["seed"] = 3


def read_qplots(path: Path) -> None:
    made = ready_qplots(Ingest(qplots_from=str(path), qplots_dataset="events"), (4, 4))
    for k in range(min(made.events, 3)):
        made.event(k)


def make_draws(path: Path) -> None:
    about = {"schema": 2, "source": "sample", "complete": True, "series_are": "glitches alone"}
    about |= {"sample_rate": 8.0, "taps": [1.0, -0.5], "sampled": {}}
    values = np.random.default_rng(1).random((3, 16))
    zarr.create_group(path, attributes=about).create_array("series", data=values)


def read_draws(path: Path) -> None:
    draws = find_draws(str(path), 8, 8)
    for k in range(min(draws.count, 3)):
        draws.strain(k, (np.arange(64) - 32) / 8)


def make_trial(path: Path) -> None:
    home = path / "trials" / "lr-0.1"
    home.mkdir(parents=True)
    (home / "trial.json").write_text(json.dumps({"values": {"train.lr": 0.1}, "epochs": 2}))
    (home / "metrics.jsonl").write_text(METRICS)


def make_lease(path: Path) -> None:
    path.mkdir()
    owner = {"id": "x", "host": "elsewhere", "pid": 1, "started": "5", "time": 1e9}
    (path / ".s.zarr.lease.json").write_text(json.dumps(owner))


def read_lease(path: Path) -> None:
    lease.BEAT = lease.WATCH = lease.SILENT = (
        0.01  # in the fuzzer's child: nobody else is there to be waited for
    )
    left = path / ".s.zarr.lease.json"
    content = left.read_bytes()
    with lease.hold(path / "s.zarr") as check:
        check()
    left.write_bytes(content)  # which was given back


def make_chance(path: Path) -> None:
    path.mkdir()
    told = {"checkpoint": {"weights": "abc123"}, "snr": [1.0, 5.0], "p": [0.1, 0.9]}
    (path / chance.FILE).write_text(json.dumps(told))


def read_curve(path: Path) -> None:
    strain_asd(Noise(psd="file", files=[str(path)]), np.arange(1.0, 32))


def read_as_watch(path: Path) -> None:
    """A frame as a watch comes by it: in a directory, with a name that says what it holds."""
    inbox = source.Inbox(path.parent, {name: name for name in CHANNELS}, wait=0)
    source.look(inbox, START, 0.0)
    for gps in range(START, START + 4):
        source.take(inbox, gps, 1.0)


METRICS = "".join(
    json.dumps({"kind": "epoch", "step": k, "validation_loss": 0.5, "samples_per_second": 9.0}) + "\n"
    for k in range(2)
)
CURVE = "".join(f"{hertz} {1e-23 * hertz}\n" for hertz in range(1, 40))
TABLE = "time,snr,label\n" + "".join(f"{START + k}.5,{k + 5},Blip\n" for k in range(6))
LIGO_LW = Path(gwpy.testing.__file__).parent / "data" / "H1-LDAS_STRAIN-968654552-10.xml.gz"
READERS = {
    "gwf": Reader(lambda path: write_gwf(series(), path), read_frames, "H-H1_A-1000000000-4.gwf"),
    "gwf without a suffix": Reader(lambda path: shutil.move(gwf_beside(path), path), read_frames, "frame"),
    "hdf5": Reader(make_hdf5, read_frames, "a.h5"),
    "hdf5 state": Reader(make_hdf5, read_state, "H-H1_A-1000000000-4.h5"),
    "csv": Reader(text(TABLE), read_csv, "a.csv"),
    "txt": Reader(text(TABLE.replace(",", " ")), read_csv, "a.txt"),
    "hdf5 table": Reader(make_triggers, read_csv, "a.h5"),
    "ligo_lw": Reader(lambda path: shutil.copy(LIGO_LW, path), read_csv, "a.xml.gz"),
    "segments": Reader(
        text("".join(f"{k} {START + 9 * k} {START + 9 * k + 5} 5\n" for k in range(4))),
        lambda path: usable_time(Ingest(segments=str(path))),
        "a.txt",
    ),
    "json flag": Reader(
        text('{"ifo": "H1", "name": "A", "version": 1, "known": [[0, 9]], "active": [[1, 2], [3, 5]]}'),
        lambda path: usable_time(Ingest(segments=str(path))),
        "a.json",
    ),
    "yaml": Reader(
        lambda path: shutil.copy(CONFIGS / "quickstart.yaml", path),
        lambda path: load(path),
        "a.yaml",
    ),
    "cache": Reader(
        text(
            "".join(
                f"H H1_A {START + 4 * k} 4 file://localhost/a/H-A-{START + 4 * k}-4.gwf\n" for k in range(3)
            )
        ),
        lambda path: find_files([str(path)], "ingest.channels"),
        "a.lcf",
    ),
    "names": Reader(text("# witnesses\nH1:A\nH1:B\n"), read_names, "witnesses.txt"),
    "checkpoint": Reader(write_checkpoint, read_checkpoint, "checkpoints"),
    "store": Reader(make_store, read_store, "dataset.zarr"),
    "state of a watch": Reader(make_memory, read_memory, "watch", lambda file: file.name == "state"),
    "runs": Reader(make_runs, lambda path: runs(path, as_json=False), "run"),
    "report": Reader(make_run, read_report, "run", lambda file: file.name in RUN_FILES),
    "predictions": Reader(make_run, read_predictions, "run", lambda file: "predictions.zarr" in file.parts),
    "metrics": Reader(text(METRICS), read_metrics, "metrics.jsonl"),
    "trials": Reader(make_trial, lambda path: read_trials(path, "validation_loss"), "tune"),
    "chance": Reader(make_chance, lambda path: chance.read(path, "abc123"), "evaluation"),
    "lease": Reader(make_lease, read_lease, "place"),
    "density": Reader(text(CURVE), lambda path: read_asd(str(path), 64, 2), "asd.txt"),
    "noise curve": Reader(text(CURVE), read_curve, "curve.txt"),
    "ready Q-plots": Reader(make_qplots, read_qplots, "a.h5"),
    "draws": Reader(make_draws, read_draws, "samples.zarr"),
    "contents of hdf5": Reader(make_hdf5, lambda path: contents(str(path)), "a.h5"),
    "contents of gwf": Reader(
        lambda path: write_gwf(series(), path), lambda path: contents(str(path)), "a.gwf"
    ),
    "frame of a watch": Reader(
        lambda path: write_gwf(series(), path), read_as_watch, "H-H1_A-1000000000-4.gwf"
    ),
}


def gwf_beside(path: Path) -> str:
    made = path.with_name("a.gwf")
    write_gwf(series(), made)
    return str(made)
