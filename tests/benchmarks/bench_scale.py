"""Memory of each stage by the number of events: `python tests/benchmarks/bench_scale.py [--events 10000 100000]`.

Stores of so many tiny recorded events (a strain and two witnesses, 1 s at 128 Hz, 4 x 8 pixels) out of small files,
made through the store's own writer: what a stage holds is then what grows with their number. Each stage runs in a
process of its own, and its tasks one after the other in the same process, without Ray: its peak is a driver's and a
task's together. It counts Python, the libraries, and the pages of its own (RssAnon), as they are sampled; not those of
the files that large arrays lie in, which the machine takes back when it wants them: an array is large here where it
would be one of 10^6 events.

- `begin`, `task`, `finish`: what `ingest` does before its tasks (the list of times, quiet times, the store's metadata),
  in each task, and after them
- `split` (`ingest --split`), `scan`, `baseline`, `evaluate`, `clean`: the stages, with a network's predictions

From two sizes follow bytes per event, and the peak at 10^6. Prints a line a stage, and ends with status 1 where one of
them would take more than 1 GiB then.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from glitchflow.analysis.baseline import baseline
from glitchflow.analysis.clean.clean import clean
from glitchflow.analysis.evaluate.evaluate import evaluate
from glitchflow.analysis.scan import scan
from glitchflow.cluster import threads
from glitchflow.config import Experiment, parse
from glitchflow.data import scratch
from glitchflow.data.build import Job, run_tasks
from glitchflow.data.content import content_of
from glitchflow.data.generate import _agrees, _design, _finish
from glitchflow.data.identity import identity
from glitchflow.data.resplit import resplit
from glitchflow.data.shard_events import make_block, make_factory
from glitchflow.data.store import Array, Design, Writer, open_store, write_shard
from glitchflow.data.store.create import create

START, RATE, NAMES = 1_400_000_000, 128, ("X1:STRAIN", "X1:A", "X1:B")
APART, FILE = 0.02, 64  # s from event to event, and of a file
QUIET = 20  # events to each quiet time
FAR, ALLOWED = 10**6, 1024  # events, MiB
EVERY = 0.02  # s from sample to sample


def experiment(directory: Path, events: int) -> Experiment:
    """What the stages are run with."""
    recorded = [{"name": name, "files": [str(directory / "X-X1_TINY-*.hdf5")]} for name in NAMES]
    times = {"file": str(directory / "times.csv")}
    return parse(
        {
            "workdir": str(directory),
            "series": {"duration": 1, "sample_rate": RATE},
            "ingest": {"channels": recorded, "times": times, "background": events // QUIET, "quiet": 0.5},
            "qplot": {"q": 4, "frange": [8, 32], "shape": [4, 8], "span": 0.5},
            "whiten": {"asd": "none", "fftlength": 0.5},
            "store": {"series": "float32"},
            "split": {"validation": 0.15, "test": 0.15, "block": 1},
            "harm": {"signals": 0},  # what is kept of them lies in a file, and each takes long
            "evaluate": {"bootstrap": 50},  # resamples are drawn in pieces
        }
    )


def prepare(made: Experiment, events: int) -> None:
    """The files and the list of times: the second half of what they cover is quiet."""
    directory, rng = Path(made.workdir), np.random.default_rng(1)
    for start in range(START, START + 2 * int(events * APART) + 8, FILE):
        with h5py.File(directory / f"X-X1_TINY-{start}-{FILE}.hdf5", "w") as file:
            for name in NAMES:
                dataset = file.create_dataset(name, data=rng.standard_normal(FILE * RATE))
                dataset.attrs.update({"x0": float(start), "dx": 1 / RATE})
    gps = START + 2 + APART * np.arange(events - events // QUIET)
    rows = "\n".join(f"{t:.4f},loud" for t in gps.tolist())
    (directory / "times.csv").write_text(f"time,label\n{rows}\n")


def begin(made: Experiment) -> None:
    create(made.dataset, _design(make_factory(content_of(made, "ingest"))))


def task(made: Experiment) -> None:
    dataset = open_store(made.dataset, complete=False)
    factory = make_factory(content_of(made, "ingest"), dataset)
    make_block(factory, range(factory.block))


def fill(made: Experiment) -> None:
    """Every shard of the store, of random energies with a loud pixel at the strain's middle and in one witness's."""
    dataset = open_store(made.dataset, complete=False)
    gps = np.array([row[0] for row in dataset.note("triggers")])
    label = np.array([int(row[1] == "loud") for row in dataset.note("triggers")])
    names, split = dataset.known.arrays, np.digitize(np.arange(len(gps)) / len(gps), [0.7, 0.85])
    for k in range(dataset.layout.shards):
        span, rng = dataset.layout.span(k), np.random.default_rng(k)
        count = span.stop - span.start
        values = {
            n: rng.standard_exponential((count, *a.shape)).astype(a.dtype) for n, a in names.items() if a
        }
        values |= {"gps": gps[span], "label": label[span], "split": split[span]}
        values["valid"][:] = True
        values["qplot"][:, :2, 1:3, 3:5] += 40 * label[span][:, None, None, None]
        share = {
            name: [float(count)] * len(NAMES) for name in ("count", "max", "sum", "log_sum", "log_square_sum")
        }
        write_shard(dataset, k, values, share)


def predict(made: Experiment) -> None:
    """What a network would have said: the second channel's energies."""
    dataset = open_store(made.dataset)
    attributes = {
        "source": "infer",
        "checkpoints": {"qplot": {"path": "none"}},
        "dataset_identity": identity(dataset),
        "network": {"channels": dataset.channels, "dataset": None, "loudness": None},
    }
    arrays = {"qplot": Array(("frequency", "time"), dataset["qplot"].shape[2:], "float32")}
    with Writer.begin(
        made.predictions, lambda: Design(arrays, dataset.layout, attributes), lambda _: None
    ) as writer:
        for k in writer.missing():
            write_shard(writer.dataset, k, {"qplot": dataset["qplot"][dataset.layout.span(k)][:, 1]})
        writer.collect()
        writer.complete()


def finish(made: Experiment) -> None:
    content = content_of(made, "ingest")
    with Writer.begin(
        made.dataset, lambda: _design(content), lambda found: _agrees(content, found)
    ) as writer:
        _finish(writer)


STAGES: dict[str, Callable[[Experiment], object]] = {
    "begin": begin,
    "task": task,
    "fill": fill,
    "finish": finish,
    "split": resplit,
    "scan": scan,
    "baseline": baseline,
    "predict": predict,
    "evaluate": evaluate,
    "clean": clean,
}
UNMEASURED = ("fill", "predict")
NEEDED = ("begin", "fill", "finish", "predict")  # by those that come after them


def run_here(job: Job, parts: Mapping[Any, int], *_: Any, keep: Any = lambda _, made: made) -> dict[Any, Any]:
    """What `run_tasks` does, without Ray."""
    return {part: keep(part, job.make(part)) for part in parts}


def one(stage: str, made: Experiment) -> None:
    """Run a stage in this process and print its peak as JSON."""
    threads(1)
    scratch.ROOM = scratch.ROOM * (made.ingest.background * QUIET) // FAR
    for name, module in sys.modules.items():
        if name.startswith("glitchflow.") and getattr(module, "run_tasks", None) is run_tasks:
            module.run_tasks = run_here  # type: ignore[attr-defined]
    libraries, most, started = held("VmRSS:") - held("RssAnon:"), [0.0], time.monotonic()
    threading.Thread(target=watch, args=(most,), daemon=True).start()
    STAGES[stage](made)
    print(json.dumps({"peak": libraries + most[0], "seconds": time.monotonic() - started}))


def held(what: str) -> float:
    """MiB that this process holds."""
    return int(Path("/proc/self/status").read_text().partition(what)[2].split()[0]) / 1024


def watch(most: list[float]) -> None:
    while True:
        most[0] = max(most[0], held("RssAnon:"))
        time.sleep(EVERY)


def measured(events: int, stages: list[str]) -> dict[str, dict[str, float]]:
    """The peaks of each stage, by name."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="glitchflow-bench-") as directory:
        made = experiment(Path(directory), events)
        prepare(made, events)
        for stage in STAGES:
            if stage in (*stages, *NEEDED):
                command = [sys.executable, __file__, "--one", stage, made.model_dump_json()]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
                if done.returncode:
                    sys.exit(f"{stage} failed")
                found[stage] = json.loads(done.stdout.splitlines()[-1])
                print(f"{events} events, {stage}: {found[stage]}", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs=2, default=[10_000, 100_000])
    parser.add_argument("--stages", nargs="*", default=[name for name in STAGES if name not in UNMEASURED])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], parse(json.loads(arguments.one[1])))
        return 0
    few, many = arguments.events
    small, large = (measured(events, arguments.stages) for events in (few, many))
    worst = 0.0
    for stage in arguments.stages:
        before, after = small[stage]["peak"], large[stage]["peak"]
        growth = max(0.0, after - before) / (many - few)
        far = after + growth * (FAR - many)
        worst = max(worst, far)
        print(
            f"{stage:>9}: {before:4.0f} MiB of {few} events, {after:4.0f} of {many} ({large[stage]['seconds']:.0f} s):"
            f" {growth * 2**20:5.0f} bytes an event, {far:5.0f} MiB of {FAR}"
        )
    return int(worst > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
