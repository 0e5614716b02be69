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
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from faults.readers import READERS, Reader

from glitchflow.errors import InputError, RunError

SECONDS, MEMORY = (
    30.0,
    4 * 2**30,
)  # of one case: beyond them it hangs, and asks for more than a file can be worth
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
    files = sorted(
        file for file in path.rglob("*") if file.is_file() and (reader.of is None or reader.of(file))
    )
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
    """In a child: the valid file, unless another reader's is the same, which the reader reads."""
    if not whole.exists():
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
    if given.case:
        given.only = [given.case.rpartition(":")[0]]
    with tempfile.TemporaryDirectory() as directory:
        found = {name: Counter() for name in given.only}
        children, bad, wholes = {}, [], {}
        for place, name in enumerate(given.only):
            reader = READERS[name]
            whole = Path(directory) / str(place) / reader.name
            whole = wholes.setdefault((reader.make, reader.name), whole)  # a run is made once for its readers
            whole.parent.mkdir(exist_ok=True)
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
