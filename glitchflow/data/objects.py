"""Where things are: a directory or a URL, and the objects in it, read and written the same way for both (obstore).

An object is written whole or not at all: on a file system under a temporary name that is then renamed. Arrays go
through Zarr, which `storage` tells where.
"""

import contextlib
import itertools
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url
from pydantic import TypeAdapter, ValidationError
from zarr.storage import ObjectStore as ZarrObjectStore

from glitchflow.errors import InputError, RunError

Location = str | Path
ROOT = "zarr.json"  # the metadata of a store: without it there is none
# the same where a store is being made or taken away: the place is ours, and no store is there
BEGUN = b'{"zarr_format": 3, "node_type": "group", "attributes": {"schema": 2}}'
READERS = 16  # objects read at once: an object store answers each after some 20 ms
# What a killed writer leaves of an object: Zarr's name for it, and object_store's.
PARTIALS = ("*.partial", "*#[0-9]*")


def is_url(path: Location) -> bool:
    """Whether a location is a URL, not a path of a file system."""
    return "://" in str(path)


def parted(path: Location) -> tuple[Location, str]:
    """The place that a directory or a URL lies in, and its name there. Raises `InputError` for a bare bucket."""
    if not is_url(path):
        whole = Path(path).absolute()
        return whole.parent, whole.name
    place, _, name = str(path).rstrip("/").rpartition("/")
    if not name or place.endswith(":/"):
        raise InputError(f"{path}: is a bucket; name a place inside it, as {path}/dataset.zarr")
    return place, name


def beside(path: Location, suffix: str) -> Location:
    """The location next to a directory or URL that is named like it, with a suffix."""
    place, name = parted(path)
    return f"{place}/{name}{suffix}" if is_url(path) else Path(place) / f"{name}{suffix}"


class Unread(RunError):
    """A file system or an object store does not hand out what is there: nothing is said of whether that is damaged."""


def unread(path: Location, error: Exception) -> Unread:
    """The one line where it refuses, fails or is out of reach."""
    return Unread(f"{path}: cannot be read: {reason(error)}")


def refused(error: Exception) -> bool:
    """Whether an error says that a file system or an object store does not hand out what is there: it denies, fails or
    is out of reach. What is missing, or of another kind, is not that; nor is a request for what lies past an object's
    end, which S3 calls an error."""
    if isinstance(error, BaseError):
        return "InvalidRange" not in str(error)
    absent = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
    return isinstance(error, OSError) and error.errno is not None and not absent  # codecs' have no number


@contextlib.contextmanager
def reading(path: Location) -> Iterator[None]:
    """Turn what a file system or an object store says of what cannot be read into `Unread`."""
    try:
        yield
    except (OSError, BaseError) as error:
        raise unread(path, error) from None


@contextlib.contextmanager
def writing(path: Location, what: str) -> Iterator[None]:
    """One line where the file system or the object store refuses: full, read-only, not a directory, no bucket."""
    try:
        yield
    except (OSError, BaseError) as error:
        raise RunError(f"{path}: {what}: {reason(error)}") from None


def reason(error: Exception) -> str:
    """What an error of a file system, of an object store or of a validation (its first) says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ValidationError):
        found = error.errors()[0]
        place, message = ".".join(map(str, found["loc"])), found["msg"].removeprefix("Value error, ")
        return f"{place}: {message}" if place else message
    return " ".join(
        str(error).split("\n\n")[0].split()
    )  # obstore adds pages of debugging after an empty line


def storage(path: Location) -> Any:
    """What Zarr opens: a path, or the object store behind a URL."""
    return ZarrObjectStore(_remote(str(path))) if is_url(path) else str(path)


@lru_cache(maxsize=16)
def _remote(url: str) -> ObjectStore:
    """The object store behind a URL, one client a process; it takes keys and endpoint from the environment."""
    try:
        return from_url(url)
    except Exception as error:  # noqa: BLE001  obstore's errors have no common base
        raise InputError(f"{url}: {reason(error)}") from None


def _place(path: Location, make: bool = False) -> ObjectStore | None:
    """The objects of a place; None for a directory that is not there, which `make` makes."""
    if is_url(path):
        return _remote(str(path))
    if make:
        Path(path).mkdir(parents=True, exist_ok=True)
    return LocalStore(str(path)) if Path(path).is_dir() else None


def make_directory(path: Path) -> None:
    """Make a directory where it is missing. Raises `RunError` where the file system refuses."""
    with writing(path, "cannot be made"):
        path.mkdir(parents=True, exist_ok=True)


def get(path: Location, name: str) -> bytes | None:
    """An object, or None where there is none. Raises `Unread` where the place cannot be read."""
    place = _place(path)
    with reading(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return None if place is None else bytes(obstore.get(place, name).bytes())
    return None


def read(path: Location, name: str, kind: Any) -> Any:
    """A JSON object as a `kind`, any type that pydantic knows, or None where there is none.

    Raises `RunError`, in one line, where it is something else, `Unread` where the place cannot be read.
    """
    content = get(path, name)
    return None if content is None else parse(path, name, content, kind)


def parse(path: Location, name: str, content: bytes, kind: Any) -> Any:
    """What `read` makes of an object's content."""
    try:
        return _adapter(kind).validate_json(content)
    except ValidationError as error:
        raise RunError(f"{path}: damaged: {name}: {reason(error)}") from None


def read_each(path: Location, names: Iterable[str], kind: Any) -> Iterator[Any]:
    """What `read` makes of objects that are there, in their order, a few in memory and under way at a time.

    Raises `RunError` also where one is missing.
    """

    def one(name: str) -> Any:
        return parse(path, name, get(path, name) or b"", kind)

    left = iter(names)
    with ThreadPoolExecutor(READERS) as pool:
        while some := list(itertools.islice(left, READERS)):
            yield from pool.map(one, some)


_adapter = lru_cache(maxsize=32)(TypeAdapter)  # building one takes longer than a small object


def has(path: Location, name: str) -> bool:
    """Whether there is an object of that name. Raises `Unread` where the place cannot be read."""
    return size(path, name) is not None


def size(path: Location, name: str) -> int | None:
    """The bytes of an object, or None where there is none. Raises `Unread` where the place cannot be read."""
    place = _place(path)
    with reading(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return None if place is None else obstore.head(place, name)["size"]
    return None


def put(path: Location, name: str, content: bytes) -> None:
    """Write an object, whole. Raises what `writing` turns into one line."""
    obstore.put(_place(path, make=True), name, content)  # type: ignore[arg-type]


def put_new(path: Location, name: str, content: bytes) -> bool:
    """Write an object unless there is one of that name, and say whether it was written; of two at once one is."""
    try:
        obstore.put(_place(path, make=True), name, content, mode="create")  # type: ignore[arg-type]
    except AlreadyExistsError:
        return False
    return True


def delete(path: Location, name: str) -> None:
    """Delete an object; one that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        if (place := _place(path)) is not None:
            obstore.delete(place, name)


def delete_all(path: Location, names: list[str]) -> None:
    """Delete objects that are there, many with one request where the place can."""
    if names and (place := _place(path)) is not None:
        obstore.delete(place, names)


def names(path: Location, under: str = "") -> list[str]:
    """Names of all objects of a place, or of those under a folder of it, ascending. Raises `Unread`."""
    place = _place(path)
    with reading(path):
        listed: Any = obstore.list(place, under or None) if place is not None else []
        return sorted(entry["path"] for entries in listed for entry in entries)


def wipe(path: Location) -> None:
    """Delete everything at a location, out of every reader's sight at once; only for who holds the lease."""
    if not is_url(path):
        _remove(_hide(path))
        return
    _empty(path)
    delete(path, ROOT)


def replace(new: Location, path: Location) -> None:
    """Put `new` in the place of `path`, which goes away; on a URL object by object, the metadata last.

    Where the file system refuses, `path` stays as it was. Killed at any point, it leaves `path` as it was, or `new`
    whole and nothing that looks like a store at `path`.
    """
    if not is_url(path):
        hidden = _hide(path)
        try:
            Path(new).rename(path)
        except OSError:
            if hidden.exists():
                hidden.rename(path)
            raise
        _remove(hidden)
        return
    _empty(path)
    (place, before), after = parted(new), parted(path)[1]
    for name in (*(name for name in names(new) if name != ROOT), ROOT):
        obstore.copy(_remote(str(place)), f"{before}/{name}", f"{after}/{name}")
    wipe(new)


def _empty(path: Location) -> None:
    """Delete all objects of a URL but the metadata, which say at once that no store is there any more."""
    found = names(path)
    if found:
        put(path, ROOT, BEGUN)
        obstore.delete(_remote(str(path)), [name for name in found if name != ROOT])


def _hide(path: Location) -> Path:
    """Rename a directory, if it is there, to what `_remove` deletes; so does the next run where this one is killed."""
    hidden = Path(path).with_name(f".{Path(path).name}.gone")
    _remove(hidden)
    if Path(path).exists():
        Path(path).rename(hidden)
    return hidden


def _remove(hidden: Path) -> None:
    shutil.rmtree(hidden, ignore_errors=True)  # a reader on NFS may hold a file open: the next time, then


def clear_partials(path: Location) -> None:
    """Delete the temporary files that killed writers left behind; only for who holds the lease."""
    if not is_url(path):
        for pattern in PARTIALS:
            for left in Path(path).rglob(pattern):
                left.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Bring a file, or a directory's names, onto the disk: what is replaced after it is not there before it."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_text(path: Path, text: str) -> None:
    """A plain file, under another name first: one that is read back is never half there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def alive(pid: int) -> bool:
    """Whether a process of this host is there, whosever it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


@contextlib.contextmanager
def together(directory: Path) -> Iterator[Path]:
    """A place for several plain files: they come into the directory when all are written, and none where one cannot be.

    What a killed process of this host left of it is removed.
    """
    mine = f".writing.{socket.gethostname()}."
    place = directory / f"{mine}{os.getpid()}"
    for left in directory.glob(f"{mine}*"):
        pid = left.name.removeprefix(mine)  # of a host whose name begins as this one's does, no number
        if pid.isdecimal() and (not alive(int(pid)) or left == place):
            _remove(left)
    try:
        make_directory(place)
        yield place
        for file in sorted(place.iterdir()):
            file.replace(directory / file.name)
    finally:
        _remove(place)
