"""What a case of the table is, what harm it does, and the one rule by which all are judged."""

import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import run_here

from glitchflow.config import NO_IMPORTS
from glitchflow.site.runs import NAME

Harm = Callable[[Path], object]
Harms = tuple[Harm, ...]


@dataclass(frozen=True)
class Case:
    """A fault in a place that a command is then given: its `config.yaml`, `dataset.zarr`, `train/checkpoints/...`."""

    name: str
    command: tuple[str, ...]  # PLACE stands for the place
    names: str  # in the line that the command ends with: the key, or the file
    harm: Harm = lambda place: None
    spares: bool = (
        False  # what the harm does not reach is made all the same, and the line names what it did reach
    )


def judge(case: Case, whole: Path, place: Path) -> str:
    """What is wrong with how a command meets a case; empty where nothing is.

    The command either says in one line what it met, ends with status 1 or 2 and leaves every file as it was, or it
    mends what was harmed and leaves the files of a place that nothing was done to, byte for byte. Of what it was given
    to read it may spare what was not harmed: it says what is missing then, and leaves what it was given as it was.
    """
    shutil.copytree(whole, place)
    case.harm(place)
    before = digests(place)
    # its configuration says `workdir: .`, and what a command sets ends with it
    with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.setenv(NO_IMPORTS, "")
        done = run_here(*(word.replace("PLACE", str(place)) for word in case.command))
    last = (done.stderr.splitlines() or [""])[-1]
    if case.spares and done.returncode == 0:
        if case.names not in done.stderr:
            return f"{case.names} is not said: {done.stderr[-300:]}"
        after = digests(place)
        return changed(before, {name: after.get(name, "") for name in before})
    if done.returncode == 0:
        return changed(digests(whole), digests(place))
    if done.returncode not in (1, 2):
        return f"status {done.returncode}"
    if not last.startswith("glitchflow: ") or "Traceback" in done.stderr:
        return f"no line of ours: {last}"
    if case.names.replace("PLACE", str(place)) not in last:
        return f"{case.names} is not named: {last}"
    return changed(before, digests(place))


def digests(place: Path) -> dict[str, str]:
    """Every file below a place, by its bytes, but for the record of what was run there."""
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and path.name != NAME]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def changed(before: dict[str, str], after: dict[str, str]) -> str:
    """The first file that is gone, new, or another."""
    return next((f"{name} changed" for name, _ in sorted(before.items() ^ after.items())), "")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def foreign(file: Path) -> None:
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))


def a_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


HARMS: Harms = (truncated, flipped, emptied, foreign, a_directory, Path.unlink)


def to(file: str, harm: Callable[[Path], object]) -> Harm:
    """That harm, to this file of a place."""
    return lambda place: harm(place / file)


def harmed(files: tuple[str, ...], command: tuple[str, ...], names: str, harms: Harms = HARMS) -> list[Case]:
    """Every one of these harms to each of these files."""
    return [
        Case(f"{command[0]}: {file} {harm.__name__}", command, names, to(file, harm))
        for file in files
        for harm in harms
    ]
