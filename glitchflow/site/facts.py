"""What `doctor` gathers, and what a check says of it."""

from dataclasses import dataclass, field
from typing import Any, Literal

HERE = "here"  # the machine and environment of the command itself, among the names of nodes
Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Finding:
    """Says one thing that would make a run fail, or slow, and what to do about it."""

    level: Level
    text: str
    advice: str = ""


@dataclass(frozen=True)
class Facts:
    """What was gathered. Machines are named by node; `HERE` is this process. An error is a string, none is None."""

    here: dict[str, Any]  # of probe.facts
    session: str  # Ray's directory
    places: list[str] = field(default_factory=list)  # where a run writes
    address: str = ""  # empty: an embedded Ray
    ray: str | None = None  # why there is no Ray
    token: tuple[str, str, int | None] = ("", "", None)  # mode, path of its file, permission bits of that
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)  # of probe.facts, by node that answered
    silent: dict[str, str] = field(default_factory=dict)  # nodes that did not
    lost: list[str] = field(default_factory=list)  # nodes that Ray gave up
    resources: dict[str, dict[str, float]] = field(default_factory=dict)  # of each node, as Ray counts
    exchange: dict[str, dict[str, dict[str, str | None]]] = field(
        default_factory=dict
    )  # machine, place, with whom
    calls: dict[str, str | None] = field(default_factory=dict)  # a connection from each machine to this one
    taken: list[int] = field(default_factory=list)  # Ray's usual ports, if others listen there
    # by backend, gloo and (of those with a GPU) nccl: each machine's part in a sum
    sums: dict[str, dict[str, str | None]] = field(default_factory=dict)
    offsets: dict[str, tuple[float, float]] = field(default_factory=dict)  # s ahead of this clock, +- s
    need: tuple[str, float, int] | None = None  # the dataset to come: place, bytes, files
    refusals: list[str] = field(default_factory=list)  # what the stages would say to the experiment
    devices: list[Finding] = field(default_factory=list)  # what they would run on

    @property
    def machines(self) -> dict[str, dict[str, Any]]:
        """Returns what was gathered of this process and of every node, by name."""
        return {HERE: self.here} | self.nodes
