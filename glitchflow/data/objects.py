"""Where stores are: a path or a URL, and the small objects kept in a store beside its arrays.

Everything goes through Zarr's own storage layer, so that a file system and `s3://` are the same code. On a file
system an object is written under a temporary name and renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath

from glitchflow.errors import InputError, RunError

Location = str | Path


class Place(Protocol):
    """What holds objects: a Zarr group, or a plain directory."""

    @property
    def store_path(self) -> StorePath: ...


@dataclass(frozen=True)
class Directory:
    """A plain directory that holds such objects, as a training's."""

    store_path: StorePath


def is_url(path: Location) -> bool:
    return "://" in str(path)


@contextlib.contextmanager
def writing(path: Location, what: str) -> Iterator[None]:
    """One line where the file system or the object store refuses: full, read-only, not a directory, no bucket."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: {what}: {error.strerror or ' '.join(str(error).split())}") from None


def open_group(path: Location, mode: Any) -> zarr.Group:
    """The group at `path`, by its own metadata: the consolidated copy is stale while a store grows.

    Raises `InputError` where there is none, `RunError` where the place cannot be reached.
    """
    try:
        return zarr.open_group(storage(path), mode=mode, use_consolidated=False)
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
        raise InputError(f"{path}: no store there; make one with `glitchflow generate` or `ingest`") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be opened: {error}") from None


def storage(path: Location) -> Any:
    """What Zarr opens: a path, or the object store behind a URL; that takes its keys and endpoint from AWS_*.

    Raises `InputError` where the extra for URLs is not installed or the URL names nothing known.
    """
    if not is_url(path):
        return str(path)
    try:
        from obstore.store import from_url
        from zarr.storage import ObjectStore
    except ImportError:
        raise InputError(f"{path}: needs the extra `s3`: pip install 'glitchflow[s3]'") from None
    try:
        return ObjectStore(from_url(str(path)))
    except Exception as error:  # noqa: BLE001  obstore's errors have no common base
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None


def directory(path: Path) -> Directory:
    """A directory on a file system, made where it is missing."""
    with writing(path, "cannot be made"):
        path.mkdir(parents=True, exist_ok=True)
    return Directory(StorePath(LocalStore(path)))


def exists(path: Location) -> bool:
    """Whether a store is there that was created whole."""
    if not is_url(path):
        return (Path(path) / "zarr.json").exists()
    storage(path)  # a URL that cannot be used is not a store that is not there
    try:
        return "schema" in open_group(path, "r").attrs
    except InputError:
        return False


def wipe(path: Location) -> None:
    """Delete everything at `path`."""
    with writing(path, "cannot be removed"):
        if is_url(path):
            sync(open_group(path, "r+").store_path.delete_dir())
        else:
            shutil.rmtree(path)


def put(group: Place, name: str, value: Any) -> None:
    """Write a JSON object."""
    sync((group.store_path / name).set(cpu.Buffer.from_bytes(json.dumps(value).encode())))


def put_new(group: Place, name: str, value: Any) -> None:
    """Write a JSON object unless there is one of that name."""
    sync((group.store_path / name).set_if_not_exists(cpu.Buffer.from_bytes(json.dumps(value).encode())))


def get(group: Place, name: str) -> Any:
    """A JSON object, or None where there is none, or one cut off."""
    value = sync((group.store_path / name).get(default_buffer_prototype()))
    try:
        return None if value is None else json.loads(value.to_bytes())
    except ValueError:
        return None


def delete(group: Place, name: str) -> None:
    sync((group.store_path / name).delete())


def names(group: zarr.Group, prefix: str) -> list[str]:
    """Names of all objects under a prefix, relative to the group."""

    async def collect(store: Store, root: str) -> list[str]:
        return [key async for key in store.list_prefix(root)]

    root = group.store_path.path
    found = sync(collect(group.store_path.store, f"{root}/{prefix}".lstrip("/")))
    return sorted(key.removeprefix(root).lstrip("/") for key in found)


def write_text(path: Path, text: str) -> None:
    """A plain file, under another name first: one that is read back is never half there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
