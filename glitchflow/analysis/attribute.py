"""Which sensor carries a veto: the network is run again without each witness, and the veto stands or falls.

    vetoed events --a witness's Q-plot replaced by its quiet image--> network --> level of what is generated then

A witness carries a veto that falls without it. Where two see the same disturbance neither may carry the veto alone:
witnesses that belong together (a sensor and the channels derived from it) are left out together too.

Shapes: E event, K vetoed one that is attributed, W witness, V variant left out, F frequency, T time.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.analysis.infer import load_network, predicting
from glitchflow.analysis.opened import Opened
from glitchflow.config import Cluster, Derived, Evaluate
from glitchflow.data.build import Job, run_tasks
from glitchflow.data.generate import sizes
from glitchflow.data.identity import fingerprint, identity
from glitchflow.data.memory import Shape
from glitchflow.data.provenance import provenance
from glitchflow.data.store import Array, Dataset, Design, Fixed, Writer, exists, root, write_shard
from glitchflow.data.view import axes
from glitchflow.device import device
from glitchflow.errors import InputError
from glitchflow.methods.compare import Basis
from glitchflow.progress import said_once, say
from glitchflow.score import clusters
from glitchflow.score.statistics import proportion
from glitchflow.train.checkpoint import Checkpoint, open_checkpoint
from glitchflow.twin.called import PLAIN, Called
from glitchflow.twin.kind import Asking, infer

QUIET_EVENTS = 1024  # that a witness's quiet image is the median of, at most
EVERYTHING = "all witnesses"

Variants = dict[str, list[int]]  # places of the witnesses that are left out together


@dataclass(frozen=True)
class Attribution:
    """Says the level of what is generated without each witness or group."""

    events: NDArray[np.int64]  # (K,) indices in the store, ascending
    variants: Variants  # V of them: the witnesses one by one, the groups, all together
    witnesses: int
    level: NDArray[np.float64]  # (K, V)
    threshold: float

    @property
    def falls(self) -> NDArray[np.bool_]:
        """Say whether each veto falls, (K, V)."""
        return self.level < self.threshold

    def carriers(self, events: NDArray[np.int64]) -> list[str]:
        """Name, of each of the `events` (E,), the witness whose absence lowers the level most and makes the veto
        fall, else such a group; empty where there is no veto, or none of them alone carries it."""
        found = {event: self._carrier(level) for event, level in zip(self.events.tolist(), self.level)}
        return [found.get(event, "") for event in events.tolist()]

    def _carrier(self, level: NDArray[np.float64]) -> str:
        names = list(self.variants)
        for some in (slice(0, self.witnesses), slice(self.witnesses, len(names) - 1)):
            best = int(np.argmin(level[some])) + some.start if len(names[some]) else None
            if best is not None and level[best] < self.threshold:
                return names[best]
        return ""


def spread(events: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Choose at most so many of the events, evenly spread rather than the first ones."""
    if len(events) <= most:
        return events
    return events[np.linspace(0, len(events) - 1, most).round().astype(int)]


def attribute(
    run: Opened, events: NDArray[np.int64], settings: Evaluate, batch: int, cluster: Cluster, path: Path
) -> Attribution | None:
    """Run the network without each witness on the vetoed `events` (K,), over Ray, into the store at `path`.

    Goes on where it stopped. None, with a line that says why, where the network is not there any more or nothing is
    to be attributed. Raises `InputError` for a group of unknown witnesses.
    """
    dataset, witnesses = run.dataset, run.basis.channels[1:]
    variants = find_variants(settings.groups, witnesses, dataset.config.derived)
    if not len(events) or not run.network.exists():
        gone = f"{run.network} is not there any more"
        say(f"no attribution: {gone if len(events) else f'no event is vetoed at {settings.veto:g}'}")
        return None
    network, about = open_checkpoint(run.network), run.predictions.attributes["checkpoints"]["qplot"]
    called = Called.known(about)  # as for the predictions that these are compared with
    images, areas = quiet_parts(dataset, run.basis, network), clusters.pixel_areas(*axes(dataset, 0))
    left = list(variants.values())
    work = Work(dataset, str(run.network), batch, events, left, images, areas, settings.area, called)
    content = [
        identity(dataset),
        about.get("weights"),
        variants,
        events.tolist(),
        settings.area,
        images.tobytes().hex(),
    ]
    content += [called.told] if called.told else []
    level = _run(path, work, list(variants), fingerprint(content), cluster).events("level", events)
    return Attribution(events, variants, len(witnesses), level, settings.veto)


def find_variants(groups: dict[str, list[str]], witnesses: list[str], derived: list[Derived]) -> Variants:
    """List what is left out: each witness, each group, all. `derived`: that section of the store's configuration.

    Raises `InputError` for a group that names no witness of the network.
    """
    if not groups:
        of = {w: [w, *(d.name for d in derived if w in d.channels)] for w in witnesses}
        groups = {f"{w} + derived": [m for m in of[w] if m in witnesses] for w in witnesses}
        groups = {name: members for name, members in groups.items() if len(members) > 1}
    for name, members in groups.items():
        for member in members:
            if member not in witnesses:
                raise InputError(
                    f"evaluate.groups.{name} = {member}: not a witness of the network; there are:"
                    f" {', '.join(witnesses)}"
                )
    named = {w: [w] for w in witnesses} | groups | {EVERYTHING: witnesses}
    return {name: [witnesses.index(member) for member in members] for name, members in named.items()}


def quiet_parts(dataset: Dataset, basis: Basis, network: Checkpoint) -> NDArray[np.float32]:
    """Make what each witness shows the network when nothing happens, (W, ...): from the train split's background.

    Of all events where none is labelled background, and of the scored store where the training's is not there.
    """
    origin = basis.training or dataset
    events = origin.indices("train") if basis.training else np.arange(len(origin))
    quiet = events[np.asarray(origin["label"][:])[events] == 0]
    chosen = (quiet if len(quiet) else events)[:QUIET_EVENTS]
    return network.kind.quiet(origin, network.normalisation, basis.channels, chosen)


@dataclass(frozen=True)
class Work:
    """Holds what every task needs to know."""

    dataset: Dataset
    network: str  # path of its checkpoint
    batch: int
    events: NDArray[np.int64]  # (K,) indices in the store
    variants: list[list[int]]
    images: NDArray[np.float32]  # (W, ...)
    areas: NDArray[np.float64]  # (F,) in s Hz
    area: float  # smallest one of a cluster, s Hz
    called: Called = PLAIN


def leave_out_shard(work: Work, target: Dataset, shard: int) -> str:
    """Compute and write the levels (event, V) of one shard's vetoed events without each variant; NaN for the other
    events. Returns what is to be said of the precision here."""
    span = work.dataset.layout.span(shard)
    level = np.full((span.stop - span.start, len(work.variants)), np.nan)
    inside = work.events[(work.events >= span.start) & (work.events < span.stop)]
    if len(inside):
        network = load_network(work.network, work.called)
        asked = [Asking(network, {place: work.images[place] for place in left}) for left in work.variants]
        found = infer(asked, work.dataset, inside, work.batch)
        levels = [clusters.cluster_level(one["qplot"], work.areas, work.area) for one in found]
        for v in range(len(asked)):
            level[inside - span.start, v] = np.concatenate(levels[v :: len(asked)])
    write_shard(target, shard, {"level": level})
    return work.called.instead(device())


def _run(path: Path, work: Work, names: list[str], content: str, cluster: Cluster) -> Dataset:
    """Make all shards that are not there yet; a store made from other settings is made anew."""
    layout = work.dataset.layout
    arrays = {"level": Array(("variant",), (len(names),), "float64", column=True)}
    fixed: Fixed = {"variant": (("variant",), np.array(names, dtype=object))}
    attributes = {"source": "attribute", "content": content, "provenance": provenance()}
    other = exists(path) and (root(path) or {}).get("content") != content
    with Writer.begin(
        path, lambda: Design(arrays, layout, attributes, fixed), lambda _: None, other
    ) as writer:
        network = open_checkpoint(Path(work.network))
        shape, channels = Shape.stored(work.dataset), len(network.meta.channels)
        needed = predicting(network.kind, shape, channels, 1, work.batch, work.called.compile)
        make = partial(leave_out_shard, work, writer.dataset)
        job = Job(make, "witnesses left out", needed.total + work.images.nbytes, accelerated=True)
        run_tasks(job, sizes(layout, writer.missing()), cluster, writer.check, said_once())
        if not writer.dataset.complete:
            writer.collect()
            writer.complete()
        return writer.dataset


def table(attribution: Attribution, vetoes: int, dataset: Dataset) -> dict[str, Any]:
    """Sum over the events: how many of the vetoes each witness and each group carries."""
    count = len(attribution.events)
    family = np.array(dataset.labels)[dataset.events("label", attribution.events)]
    rows = []
    for v, name in enumerate(attribution.variants):
        falls = attribution.falls[:, v]
        share = proportion(falls.sum(), count)
        by_family = {f: int(falls[family == f].sum()) for f in np.unique(family).tolist()}
        rows.append(
            {
                "name": name,
                "carried": int(falls.sum()),
                "share": float(share.value),
                "low": float(share.low),
                "high": float(share.high),
                "families": by_family,
            }
        )
    return {
        "threshold": attribution.threshold,
        "vetoes": vetoes,
        "attributed": count,
        "witnesses": rows[: attribution.witnesses],
        "groups": rows[attribution.witnesses : -1],
        # all witnesses quiet: what stands then says more of the network than of a sensor
        "everything": rows[-1],
    }
