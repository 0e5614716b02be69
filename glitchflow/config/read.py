"""Read an experiment from YAML with overrides, and explain what is wrong with it in one line."""

import contextlib
import difflib
import os
import pkgutil
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from glitchflow.config.base import inner_section
from glitchflow.config.experiment import Experiment
from glitchflow.config.upgrade import GONE, MOVED
from glitchflow.errors import InputError

# in the environment, so that Ray's workers on this machine keep to it too
NO_IMPORTS = "GLITCHFLOW_NO_IMPORTS"


def load(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Experiment:
    """Read an experiment from YAML with `section.key=value` overrides.

    A list or a mapping takes the place of what the file says there.

    Raises `InputError`: one line naming the file (or the override), the key and what is allowed.
    """
    with _named(str(path)):
        tree: Any = OmegaConf.load(path)
    if not OmegaConf.is_dict(tree):
        raise InputError(f"{path}: must hold sections such as `train:`, not a list")
    for item in overrides:
        if not item.partition("=")[0] or "=" not in item:
            raise InputError(f"{item}: an override looks like section.key=value")
        name, _, value = item.partition("=")
        cut = any(value.count(a) > value.count(b) for a, b in ("[]", "{}"))  # at a space, by the shell
        advice = "; a value with spaces needs quotes: 'section.key=[1, 2]'" if cut else ""
        with _named(f"{path} with {item}", advice):
            _refuse_within(tree, name)
            if value.lstrip()[:1] in ("[", "{"):  # what is whole takes the place of what is there
                OmegaConf.update(tree, name, None)
            tree.merge_with_dotlist([item])
    with _named(str(path)):
        values = OmegaConf.to_container(tree, resolve=True)
    return parse(typing.cast(dict[Any, Any], values), str(path), overrides)


def _refuse_within(tree: Any, name: str) -> None:
    """Raises `ValueError` for a key inside what the file gives as a list or a text."""
    parts = name.split(".")
    for k in range(1, len(parts)):
        outer, inner = ".".join(parts[:k]), ".".join(parts[k:])
        there = OmegaConf.select(tree, outer)
        kind = "list" if OmegaConf.is_list(there) else "text" if isinstance(there, str) else ""
        if kind and not parts[k].isdecimal():
            raise ValueError(
                f"{outer} is a {kind} there, and has no key {inner}; {outer}={{{inner}: ...}} takes its place"
            )


def named(key: str, names: list[str] | str) -> list[str]:
    """The names of a key that takes a list or a file. Raises `InputError` where there is no such file."""
    if isinstance(names, str):
        raise InputError(
            f"{key} = {names}: no such file; give a list of names, or run `glitchflow scan`, which writes one"
        )
    return names


@contextlib.contextmanager
def _named(origin: str, advice: str = "") -> typing.Iterator[None]:
    """Turn the errors of YAML and OmegaConf into one line that begins with what was being read.

    advice: what ends the line where that is not YAML.
    """
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{origin}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{origin}: cannot be read: {error}") from None
    except YAMLError as error:
        raise InputError(f"{origin}: not YAML: {' '.join(str(error).split())}{advice}") from None
    except RecursionError:
        raise InputError(f"{origin}: is nested too deeply, or refers to itself") from None
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        where = getattr(error, "full_key", None)
        key = f"{where}: " if where else ""
        raise InputError(f"{origin}: {key}{str(error).splitlines()[0]}") from None


def parse(values: dict[Any, Any], source: str = "config", overrides: typing.Sequence[str] = ()) -> Experiment:
    """Check a nested dictionary and return the experiment. Raises `InputError`."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        # a mistyped key often makes another one missing: name the mistake, not its consequence
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        more = error.error_count() - 1
        text = _explain(first)
        name = text.split(" ")[0].rstrip(":")
        set_by = [item for item in overrides if f"{item.split('=')[0]}.".startswith(f"{name}.")]
        origin = f"{source} with {set_by[-1]}" if set_by else source
        raise InputError(f"{origin}: {text}" + (f" (and {more} more)" if more else "")) from None


def _explain(error: Any) -> str:
    """One pydantic error as `key = value: what is allowed`."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        if now := (MOVED | GONE).get(where):
            return f"{where}: is {now} now"
        *parents, last = error["loc"]
        known = known_keys(parents)
        close = difflib.get_close_matches(str(last), known, n=1, cutoff=0.5)
        full = ".".join([*map(str, parents), close[0]]) if close else ""
        return f"{where}: unknown key; " + (
            f"did you mean {full}?" if close else f"known: {', '.join(known)}"
        )
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and not where:
        return message
    message = message[:1].lower() + message[1:]
    if error["type"] == "model_type":
        message = f"must be a section of keys: {', '.join(known_keys(error['loc']))}"
    if error["type"] in ("missing", "secret") or isinstance(error["input"], dict):
        return f"{where}: {message}"
    return f"{where} = {error['input']}: {message}"


def known_keys(parents: typing.Sequence[Any]) -> list[str]:
    """Keys of the section at a path such as ("train",) or ("derived", 0)."""
    section: Any = Experiment
    for part in parents:
        if isinstance(part, int):
            continue
        section = inner_section(section.model_fields[part].annotation)
    return list(section.model_fields)


def import_path(path: str, key: str, known: typing.Iterable[str]) -> Callable[..., Any]:
    """Finds a callable of the user's own by `package.module:name`, or `package.module.name`.

    Raises `InputError` naming the config's `key` that holds the path: with the `known` names where it is no path, or
    where `NO_IMPORTS` is set in the environment, else with what cannot be imported, or is no callable.
    """
    if ":" not in path and "." not in path:
        raise InputError(
            f"{key} = {path}: not one of {', '.join(known)}, nor an import path package.module:name"
        )
    if os.environ.get(NO_IMPORTS):
        raise InputError(
            f"{key} = {path}: is not imported under --no-imports; built in are {', '.join(known)}"
        )
    try:
        found = pkgutil.resolve_name(path)
    except Exception as error:  # noqa: BLE001  a module of the user's own raises anything
        kind = (
            ""
            if isinstance(error, (ValueError, ImportError, AttributeError))
            else f"{type(error).__name__}: "
        )
        raise InputError(
            f"{key} = {path}: cannot be imported: {kind}{' '.join(str(error).split())}"
        ) from None
    if not callable(found):
        raise InputError(f"{key} = {path}: is neither a function nor a class")
    return found
