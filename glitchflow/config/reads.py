"""What a stage reads of an experiment: the keys that its `--help` lists, and no others.

A stage's entry in the command's table names sections (`train`) and single keys (`store.path`). `describe` prints them,
and `Reads` lets the stage see just these, so that the one cannot be wrong about the other.
"""

import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from glitchflow.config.base import Section, inner_section


@dataclass(frozen=True)
class Reads:
    """What a stage may read of an experiment, and what it has read so far."""

    stage: str
    keys: frozenset[str]  # "section", or "section.key"
    seen: set[str] = field(default_factory=set)  # of these

    def take(self, name: str, value: Any) -> Any:
        """A key or section of the experiment; where single keys are listed, something that has these alone.

        Raises RuntimeError for what is not listed: a mistake of the stage's entry, not of the user's.
        """
        if name in self.keys:
            self.seen.add(name)
            return value
        if any(key.startswith(f"{name}.") for key in self.keys):
            return _Part(self, name, value)
        raise RuntimeError(f"{self.stage} reads {name}, which its --help does not list")


class _Part:
    """A section of which single keys are listed."""

    def __init__(self, reads: Reads, name: str, section: Section) -> None:
        self._reads, self._name, self._section = reads, name, section

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):  # also while being unpickled, when there is no section yet
            raise AttributeError(key)
        return self._reads.take(f"{self._name}.{key}", getattr(self._section, key))


def describe(experiment: type[Section], keys: Sequence[str]) -> str:
    """The keys that a stage reads, one line each: name, default, unit, meaning."""
    lines = [(f"{name} = {default}", meaning) for name, default, meaning in listed(experiment, keys)]
    width = min(max(len(left) for left, _ in lines), 64)
    return "\n".join(f"  {left:<{width}}  {right}" for left, right in lines)


def listed(experiment: type[Section], keys: Sequence[str]) -> list[tuple[str, str, str]]:
    """The keys that a stage reads: name, default, meaning with unit."""
    return [row for name in keys for row in _listed(experiment, "", name.split("."))]


def _listed(section: type[Section], prefix: str, wanted: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Of a section: the key at the path `wanted`, or all keys where that is empty."""
    for name, info in section.model_fields.items():
        if wanted and name != wanted[0]:
            continue
        inner = inner_section(info.annotation)
        if isinstance(inner, type) and issubclass(inner, Section):
            many = "[]" if typing.get_origin(info.annotation) is list else ""
            yield from _listed(inner, f"{prefix}{name}{many}.", wanted[1:])
            continue
        unit = typing.cast(dict[str, str], info.json_schema_extra)["unit"]
        default = "required" if info.is_required() else _yaml(info.default)
        yield f"{prefix}{name}", default, f"{info.description} [{unit}]" if unit else str(info.description)


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and len(value) > 20:
        return f"[{_yaml(value[0])}, {_yaml(value[1])}, ... {_yaml(value[-1])}]"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(v) for v in value) + "]"
    return f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value) or '""'
