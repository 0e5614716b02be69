"""Every reader of outside bytes, given valid files with some bytes changed: `make fuzz`.

A case is a reader, a seed and a number, from which the change follows: `--case hdf5:17` does it again and shows what
came. A reader may read the file, or refuse it in one line; that it ends its process, shows a traceback, takes more than
`SECONDS` or more than `MEMORY` is counted and named, and the exit status is 1. Readers work in a child process.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import gwpy.testing
import h5py
import numpy as np
from faults.files import write_checkpoint
from gwpy.timeseries import TimeSeries, TimeSeriesDict
from helpers import write_store

from glitchflow.config import Ingest, Times, load, parse
from glitchflow.data.frames import write_gwf
from glitchflow.data.store import find_damage, open_store
from glitchflow.errors import InputError, RunError
from glitchflow.signal.recorded.frames import find_files
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.signal.recorded.segments import usable_time
from glitchflow.signal.recorded.tables import read_table
from glitchflow.train import checkpoint

SECONDS, MEMORY = (
    30.0,
    4 * 2**30,
)  # of one case: beyond them it hangs, and asks for more than a file can be worth
CONFIGS = Path(__file__).parents[2] / "configs"
START, RATE = 1000000000, 64
CHANNELS = ["H1:A", "H1:B"]
TOKENS = (
    b"\0",
    b"\xff" * 4,
    b"\0" * 8,
    b"\x7f\xff\xff\xff",
    b"nan",
    b"1e999",
    b"-1",
    b'"',
    b"[" * 40,
    b"\n",
    b"{",
    b",",
)


@dataclass(frozen=True)
class Reader:
    """Makes a valid file, or a directory of files, and reads it."""

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    name: str = "file"


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
}


def gwf_beside(path: Path) -> str:
    made = path.with_name("a.gwf")
    write_gwf(series(), made)
    return str(made)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes flipped, cut off, taken out, doubled, or others in their place."""
    found = bytearray(content)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4, 16]))):
        at = int(rng.integers(len(found) + 1))
        length = int(rng.choice([1, 4, 16, 256]))
        token = TOKENS[int(rng.integers(len(TOKENS)))]
        match int(rng.integers(7)):
            case 0 | 1:
                if at < len(found):
                    found[at] ^= 1 << int(rng.integers(8))
            case 2:
                del found[at:]
            case 3:
                del found[at : at + length]
            case 4:
                found[at:at] = found[at : at + length]
            case 5:
                found[at : at + len(token)] = token
            case _:
                found[at:at] = token
    return bytes(found)


def harmed(reader: Reader, name: str, seed: int, number: int, whole: Path, place: Path) -> Path:
    """A copy of what the reader reads, in which one file is another."""
    path = place / reader.name
    rng = np.random.default_rng([seed, number, *name.encode()])
    if not whole.is_dir():
        path.write_bytes(mutated(whole.read_bytes(), rng))
        return path
    shutil.copytree(whole, path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    file = files[int(rng.integers(len(files)))]
    file.write_bytes(mutated(file.read_bytes(), rng))
    return path


def outcome(reader: Reader, path: Path) -> str:
    """read, refused, or what went wrong."""
    try:
        reader.read(path)
        return "read"
    except (InputError, RunError):  # whose line is one, whatever stands in the file
        return "refused"
    except BaseException:  # noqa: BLE001  which is what is looked for
        return traceback.format_exc()


def make_valid(reader: Reader, whole: Path) -> None:
    """In a child: the valid file, which the reader reads."""
    reader.make(whole)
    assert (said := outcome(reader, whole)) == "read", said


def work(name: str, seed: int, whole: Path, pipe: Connection) -> None:
    """In a child: cases by number, as they are asked for. What libraries say of them is of no use here."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    while True:
        number = pipe.recv()
        with tempfile.TemporaryDirectory() as place:
            path = harmed(READERS[name], name, seed, number, whole, Path(place))
            pipe.send(outcome(READERS[name], path))


class Child:
    """A process that reads, and is begun anew when it has died or hangs."""

    def __init__(self, name: str, seed: int, whole: Path):
        self.given, self.process = (name, seed, whole), None

    def case(self, number: int) -> str:
        if self.process is None:
            self.pipe, theirs = multiprocessing.Pipe()
            self.process = multiprocessing.get_context("fork").Process(
                target=work, args=(*self.given, theirs), daemon=True
            )
            self.process.start()
            theirs.close()
        self.pipe.send(number)
        try:
            if self.pipe.poll(SECONDS):
                return self.pipe.recv()
            self.process.kill()
            said = f"hangs: more than {SECONDS:g} s"
        except EOFError:
            self.process.join()
            said = f"ends its process: exit code {self.process.exitcode}"
        self.process = None
        return said


def main() -> int:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--minutes", type=float, default=10)
    command.add_argument("--seed", type=int, default=1)
    command.add_argument(
        "--first", type=int, default=0, help="number to begin with: that another run ended at"
    )
    command.add_argument("--only", nargs="*", choices=READERS, default=list(READERS))
    command.add_argument("--case", help="READER:NUMBER, this one alone, with its whole traceback")
    given = command.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = {name: Counter() for name in given.only}
        children, bad = {}, []
        for place, (name, reader) in enumerate(READERS.items()):
            whole = Path(directory) / str(place) / reader.name
            whole.parent.mkdir()
            # in a process of its own: a child that is forked after Zarr has started its thread would wait for it
            made = multiprocessing.get_context("fork").Process(target=make_valid, args=(reader, whole))
            made.start()
            made.join()
            assert made.exitcode == 0, name
            children[name] = Child(name, given.seed, whole)
        if given.case:
            name, _, number = given.case.rpartition(":")
            said = children[name].case(int(number))
            print(said)
            return int(said not in ("read", "refused"))
        until, number = time.monotonic() + 60 * given.minutes, given.first
        while time.monotonic() < until:
            for name in given.only:
                said = children[name].case(number)
                found[name][said if said in ("read", "refused") else "wrong"] += 1
                if said not in ("read", "refused"):
                    bad.append(f"{name}:{number}: {said.splitlines()[-1]}")
                    print(bad[-1], flush=True)
            number += 1
    for name, counts in found.items():
        print(f"{name}: {counts['read']} read, {counts['refused']} refused, {counts['wrong']} wrong")
    print(f"seed {given.seed}, numbers {given.first} to {number - 1}: {len(bad)} wrong")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
