"""Commands that are ended while they write: by a signal, by kill -9 of them or of what they started, by another driver.

When is drawn by a seed: after so many of the files that the stage makes, and a moment more. The command runs in a
process that is forked from one which has imported everything but Ray.
"""

import atexit
import contextlib
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from faults.cases import changed
from helpers import descendants, run_here

from glitchflow.data import lease

PATIENCE = 240.0  # s for what is waited for
LOOK = 0.002
HERE = 4.0  # s of silence after which a driver of these counts as gone
# what no two runs have in common: logs, records, and what keeps the speeds of a training
APART = ("runs.jsonl", "workers.log", "log.txt", "metrics.jsonl", "tensorboard", "lease.json")
DATE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
SUMS = re.compile(rb'"(sha256|meta\.json|state\.pt)": ?"[0-9a-f]{64}"')  # over dates, and over strides
SPEEDS = re.compile(rb'"(memory_gb|samples_per_second|waiting_for_data)": ?[-+.e0-9]+')

# what may be there besides: where a training stopped, and the marker of a shard that one who woke wrote once more
MORE = re.compile(r"^train/checkpoints/|\.done/\d{5}\.json$")

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["faults.interruptions", "glitchflow.analysis.report", "glitchflow.train.fit"])


@dataclass(frozen=True)
class Interruption:
    """A stage, what happens to it, and the seed of when."""

    stage: str
    ending: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.stage}: {self.ending}, seed {self.seed}"


# a stage: the place it is given, the names there that it reads, and the rest of its command
GIVEN: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "generate": ("trained", (), ()),
    "ingest": ("observed", ("frames", "times.csv"), ()),
    "stretch": ("trained", (), ("stretch.duration=64", "stretch.frame=8")),
    "scan": ("trained", ("dataset.zarr",), ()),
    "train": ("trained", ("dataset.zarr", "baseline.json"), ("train.workers=1", "train.epochs=8")),
    "infer": ("trained", ("dataset.zarr", "train"), ()),
    "evaluate": ("trained", ("dataset.zarr", "train", "predictions.zarr"), ()),
    "clean": ("trained", ("dataset.zarr", "train", "predictions.zarr"), ("--force",)),
    "report": ("trained", ("dataset.zarr", "train", "predictions.zarr", "evaluation"), ()),
    "sample": ("glitches", ("dataset.zarr", "train"), ()),
}
LEASED = ("generate", "ingest", "stretch", "train", "infer", "clean", "sample")
OVER_RAY = ("scan", "train", "infer", "sample")  # also where they are small
# what a Ray is made of on one host: how its process is called there
PARTS = {
    "worker": "ray::",
    "raylet": "raylet/raylet",
    "GCS": "gcs/gcs_server",
    "dashboard agent": "ray::DashboardAgent",
    "runtime environment agent": "ray::RuntimeEnvAgent",
}


def words(stage: str) -> tuple[str, ...]:
    return stage, "config.yaml", "cluster.cpus=1", *GIVEN[stage][2]


def copy(stage: str, places: dict[str, Path], into: Path) -> Path:
    """A place with what a stage reads, and nothing of what it writes."""
    source, names, _ = GIVEN[stage]
    into.mkdir(parents=True)
    for name in names:
        path = places[source] / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, into / name)
    shutil.copy(
        places[source] / ("recorded.yaml" if stage == "ingest" else "config.yaml"), into / "config.yaml"
    )
    return into


def again(stage: str, place: Path) -> str:
    """Gives the command in this process, with the tests' Ray; what it says where it fails."""
    with contextlib.chdir(place):
        done = run_here(*words(stage))
    return "" if done.returncode == 0 else done.stderr


# -- a command in a process of its own ---------------------------------------------------------------------------


class Running:
    """A command, with a Ray of its own where it needs one."""

    def __init__(self, stage: str, place: Path, silence: float = lease.SILENT):
        self.place, self.before = place, set(files(place))
        self.said = place.parent / f"{place.name}.said"
        self.met = False  # whether what was to happen to it did
        self.process = FORK.Process(target=command, args=(words(stage), place, self.said, silence))
        self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def made(self) -> int:
        """How many files it has made."""
        return len(set(files(self.place)) - self.before)

    def over(self) -> bool:
        return self.process.exitcode is not None

    def wait_for(self, what: Callable[[], object]) -> bool:
        """Whether that came before the command ended."""
        until = time.monotonic() + PATIENCE
        while not self.over():
            if what():
                return True
            assert time.monotonic() < until
            time.sleep(LOOK)
        return False

    def send(self, number: int) -> None:
        if not self.over():
            os.kill(self.pid, number)
            self.met = True

    def end(self) -> int:
        """Its exit status; what a killed one leaves of its Ray ends too."""
        left = descendants(self.pid)
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, "it does not end"
        for pid, title in left:
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") == title:
                    os.kill(pid, signal.SIGKILL)
        return self.process.exitcode

    def stderr(self) -> str:
        return self.said.read_text()


def command(line: tuple[str, ...], place: Path, said: Path, silence: float) -> None:
    """In the forked process: the command as its own program would run it."""
    from glitchflow.cli import main

    for name in [name for name in os.environ if name.startswith("RAY_")]:
        del os.environ[name]
    os.chdir(place)
    opened = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    sys.stdout, sys.stderr = (os.fdopen(one, "a", buffering=1) for one in (1, 2))
    sys.argv = ["glitchflow", *line]
    lease.SILENT, lease.BEAT = silence, silence / 6
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def files(place: Path) -> list[str]:
    with contextlib.suppress(OSError):  # a directory that is renamed meanwhile
        return [str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()]
    return []


# -- what happens to it: returns what is wrong with how that was met ------------------------------------------------


def line_of_ours(running: Running, allowed: tuple[int, ...], say: str) -> str:
    """The command ended with one of these statuses, and if not with 0 in a line that says this."""
    status, text = running.end(), running.stderr()
    last = (text.splitlines() or [""])[-1]
    if status not in allowed:
        return f"status {status}: {text[-500:]}"
    if "Traceback" in text:
        return f"a traceback: {text[-800:]}"
    if status and not (last.startswith("glitchflow: ") and re.search(say, last)):
        return f"no line of ours: {last}"
    return ""


def signalled(number: int, running: Running, case: Interruption) -> str:
    running.send(number)
    return line_of_ours(running, (0, 1), "stopped")


def killed(running: Running, case: Interruption) -> str:
    running.send(signal.SIGKILL)
    status = running.end()
    return "" if status in (0, -signal.SIGKILL) else f"status {status}"


def part_killed(part: str, running: Running, case: Interruption) -> str:
    def found() -> list[int]:
        others = [title for name, title in PARTS.items() if name != part]
        there = descendants(running.pid)
        if not watching(running.pid):
            return []  # while Ray starts it is Ray that says what it lacks
        wanted = PARTS[part]
        return [p for p, t in there if wanted in t and (part != "worker" or not any(o in t for o in others))]

    pids = []
    if running.wait_for(lambda: pids.extend(found()) or pids):
        os.kill(pids[0], signal.SIGKILL)
        running.met = True
    # a worker is replaced, or its end is told by what it did
    say = "died|failed|ended" if part == "worker" else f"Ray's {part} has ended"
    return line_of_ours(running, (0, 1), say)


def watching(pid: int) -> bool:
    """Whether a process watches over those of its Ray, as it does once Ray is there."""
    found = []
    with contextlib.suppress(OSError):  # it has ended
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
    return "anon_inode:[pidfd]" in found


def second_refused(running: Running, case: Interruption) -> str:
    """A second driver while the first one stands still, but not for long."""
    running.send(signal.SIGSTOP)
    said = "" if running.over() else again(case.stage, running.place)
    running.send(signal.SIGCONT)
    problem = line_of_ours(running, (0,), "")
    return problem if "another run is writing it" in said or not said else said


def taken_over(running: Running, case: Interruption) -> str:
    """The first one stands still for longer than a lease lasts, a second finishes, and the first one wakes."""
    running.send(signal.SIGSTOP)
    if case.stage == "clean" and (running.place / "clean").exists():  # all is written: nothing to take over
        running.send(signal.SIGCONT)
        running.met = False
        return line_of_ours(running, (0,), "")
    time.sleep(HERE + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "SILENT", HERE)
        said = again(case.stage, running.place)
    running.send(signal.SIGCONT)
    problem = line_of_ours(running, (0, 1, 2), "another run|is there already|already")
    return said or problem


ENDINGS: dict[str, Callable[[Running, Interruption], str]] = {
    "SIGTERM": lambda running, case: signalled(signal.SIGTERM, running, case),
    "SIGINT": lambda running, case: signalled(signal.SIGINT, running, case),
    "kill -9": killed,
    "a second driver": second_refused,
    "SIGSTOP, take-over, SIGCONT": taken_over,
    **{
        f"kill -9 of its {part}": lambda running, case, part=part: part_killed(part, running, case)
        for part in PARTS
    },
}


# -- the table, and its rule ----------------------------------------------------------------------------------------


def table() -> list[Interruption]:
    """Each ending of each stage that can meet it, with seeds of their own; kill -9 at two moments."""
    rows = [(stage, ending) for stage in GIVEN for ending in ("SIGTERM", "SIGINT", "kill -9", "kill -9")]
    rows += [(stage, "a second driver") for stage in LEASED]
    rows += [(stage, "SIGSTOP, take-over, SIGCONT") for stage in GIVEN]
    rows += [(stage, f"kill -9 of its {part}") for stage in OVER_RAY for part in PARTS]
    return [Interruption(stage, ending, seed) for seed, (stage, ending) in enumerate(rows)]


INTERRUPTIONS = table()


def essence(place: Path) -> dict[str, str]:
    """What every file of a place says, but for its dates, its speeds and where the place is."""
    found = {}
    for name in files(place):
        if any(part in name for part in APART):
            continue
        content = (place / name).read_bytes()
        if name.endswith((".json", ".html")):
            content = DATE.sub(b"DATE", content.replace(str(place).encode(), b"PLACE"))
        if name.endswith(("/zarr.json", "/meta.json")):
            content = SPEEDS.sub(b"", SUMS.sub(b"", content))
        found[name] = str(hash(values(place / name) if name.endswith("/state.pt") else content))
    return found


def values(path: Path) -> str:
    """What an optimiser's state holds: one that was read has the same numbers in another order of the memory."""
    torch.set_printoptions(profile="full", precision=17)
    try:
        return str(torch.load(path, weights_only=True))
    except (OSError, RuntimeError):  # half of one, on a disk that is full
        return str(hash(path.read_bytes()))
    finally:
        torch.set_printoptions(profile="default")


def judge(case: Interruption, places: dict[str, Path], whole: Path, directory: Path) -> str:
    """What is wrong with how a command meets an interruption; empty where nothing is.

    It ends as it should, what it was given is as it was, and the same command, given again, leaves every file of a run
    that nobody disturbed (`whole`), and no other but `MORE`.
    """
    rng = random.Random(case.seed)
    share, more = rng.random(), rng.random() * 0.3
    for k, earlier in enumerate((1.0, 0.5, 0.0)):  # than was drawn, where the command was over by then
        place = copy(case.stage, places, directory / str(k) / "place")
        given, end = essence(place), essence(whole)
        wanted = 1 + int(share * earlier * (len(end) - len(given)))
        running = Running(case.stage, place, HERE if "take-over" in case.ending else lease.SILENT)
        if running.wait_for(lambda wanted=wanted, running=running: running.made() >= wanted):
            time.sleep(more * earlier)
        problem = ENDINGS[case.ending](running, case)
        if running.met or problem:
            break
    else:
        return "it was over before anything could happen to it"
    after = essence(place)
    lost = changed(given, {name: after.get(name, "") for name in given})
    said = problem or lost or again_unless_whole(case.stage, place)
    after = essence(place)
    extra = [name for name in after if name not in end and MORE.search(name)]
    return said or changed(end, {name: value for name, value in after.items() if name not in extra})


def again_unless_whole(stage: str, place: Path) -> str:
    """The same command; what refuses to replace its own is asked only where it had not written it."""
    return "" if stage == "clean" and (place / "clean").exists() else again(stage, place)
