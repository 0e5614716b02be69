"""Checkpoints: one directory each, written under a temporary name and renamed, so that none is ever half there.

    checkpoints/step-00001234/weights.pt    the network
                              state.pt      optimiser and loop: what resuming needs beyond the weights
                              meta.json     config, channels, geometry, normalisation, step, metrics, versions, hashes

The best one is the one whose metrics say so: there is no second record of it that a kill could leave behind.
Inference needs weights.pt and meta.json and nothing else. What is read is checked first, and nothing in it is ever run:
tensors are loaded with `weights_only=True`, and a network of a user's own is imported only where the configuration
names it too (`as_named`).
"""

import hashlib
import io
import json
import math
import os
import pickle
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from glitchflow.data import objects
from glitchflow.data.identity import known
from glitchflow.data.objects import reason
from glitchflow.data.store.dataset import Dataset
from glitchflow.errors import InputError
from glitchflow.model import MODELS
from glitchflow.train.registry import SCHEME, fetched
from glitchflow.twin import kinds
from glitchflow.twin.geometry import of_any_version
from glitchflow.twin.kind import Kind, Prepared, Trained

WEIGHTS, STATE, META = "weights.pt", "state.pt", "meta.json"
INITIAL = "initial"  # the name of what a training begins with


class Meta(BaseModel):
    """What meta.json says, of any version so far: the one place where it is read."""

    model_config = ConfigDict(frozen=True)

    step: int = Field(ge=0)
    epoch: int = Field(0, ge=0)
    kind: str = "image"
    config: dict[str, Any] = {}  # the sections that training reads
    model: dict[str, Any]  # section `model` and the seed of the weights
    channels: list[str] = Field(min_length=1)  # the strain, then the witnesses, if it takes any
    shape: list[int] = Field(min_length=1)  # of one channel's part of an event
    geometry: Annotated[
        dict[str, dict[str, Any]], AfterValidator(of_any_version)
    ]  # how the data are made that it takes
    normalisation: Prepared  # of these channels
    dataset: dict[str, str] = {}  # which it learned from, as `identity.known` says it
    loudness: list[list[float]] | None = None  # of each channel over the train split, quantiles
    levels: list[list[float]] | None = None  # of each channel that is read, quantiles: see twin/levels.py
    provenance: dict[str, Any] = {}
    metrics: dict[str, int | float] = {}  # of the epoch that it was written after, if it was
    # of its files, of meta.json without this entry; none in the first versions' checkpoints
    sha256: dict[str, str] = {}

    @model_validator(mode="after")
    def _usable(self) -> Self:
        wrong = self.normalisation.problem(len(self.channels))
        problems = {
            f"kind: {self.kind} is none of {', '.join(kinds.KINDS)}": self.kind not in kinds.KINDS,
            "model: has no name or no options": not (
                isinstance(self.model.get("name"), str) and isinstance(self.model.get("options"), dict)
            ),
            f"normalisation: {wrong}": bool(wrong),
        }
        for problem, found in problems.items():
            if found:
                raise ValueError(problem)
        return self


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose meta.json has been read and found right; its tensors are read when they are asked for."""

    path: Path
    meta: Meta

    @property
    def step(self) -> int:
        """The optimiser steps that were done."""
        return self.meta.step

    @property
    def loss(self) -> float | None:
        """The validation loss of the epoch that it was written after; None where it was not validated."""
        return self.meta.metrics.get("validation_loss")

    @property
    def kind(self) -> Kind:
        """The kind of twin that its network is."""
        return kinds.KINDS[self.meta.kind]

    @property
    def normalisation(self) -> Prepared:
        """How the strain and the witnesses that the network takes are prepared, in this order."""
        return self.meta.normalisation

    def weights(self, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
        """The network's weights by name. Raises `InputError` where they are damaged or not finite."""
        weights = self._load(WEIGHTS, device)
        for name, value in weights.items():
            if not isinstance(value, torch.Tensor):
                raise InputError(f"{self.path / WEIGHTS}: is not the weights of a network")
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{self.path / WEIGHTS}: {name} is not finite; choose an earlier checkpoint")
        return weights

    def state(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """Optimiser and progress. Raises `InputError` where they are damaged."""
        return self._load(STATE, device)

    def as_named(self, model: str, named: str = "the configuration names it too: model.name={}") -> Self:
        """This checkpoint, whose network may be built: it is one of ours, or what the configuration's `model.name` is.

        What a checkpoint names is imported, which runs code: whoever wrote it has no say in that. named: how to name
        it. Raises `InputError`, also where nothing is imported: here, for Ray's workers may not have been told.
        """
        name = self.meta.model["name"]
        if name not in MODELS and name != model:
            raise InputError(
                f"{self.path}: its network is {name}, code that is imported only where {named.format(name)}"
            )
        kinds.of(name)
        return self

    def starts(self, kind: Kind, dataset: Dataset) -> None:
        """Raise `InputError` where no training of this kind on this dataset starts from it: it is of another kind, or
        what is kept of it as it is may have learned from the test."""
        if self.meta.kind not in (kind.name, kind.upon):
            raise InputError(
                f"train.init_from = {self.path}: its network is of the {self.meta.kind} kind, model.name of the"
                f" {kind.name} one"
            )
        now, before = known(dataset), self.meta.dataset
        if kind.upon and before.get("events") == now["events"] and before["split"] != now["split"]:
            raise InputError(
                f"train.init_from = {self.path}: learned from these events, shared out by another section split than"
                f" that of {dataset.path}, and may know what is the test there; train it again on that"
            )

    def load_into(
        self, network: nn.Module, device: torch.device | str = "cpu", named: str = "model: not that"
    ) -> None:
        """Give a network these weights. named: how a configuration names its settings. Raises `InputError` where it has
        others than they are for."""
        weights = self.weights(device)
        try:
            network.load_state_dict(weights)
        except (RuntimeError, AttributeError):  # of other shapes or names, or of what is no name
            raise InputError(self._misfit(weights, named)) from None

    def _misfit(self, weights: dict[str, torch.Tensor], named: str) -> str:
        """Say why weights are none of a network's: its settings are others, or the same made another one before."""
        settings = {k: v for k, v in self.meta.model.items() if k in ("name", "width", "norm", "options")}
        own = kinds.network_of(self.kind, self.meta.model, self.normalisation, self.meta.shape).state_dict()
        if {name: value.shape for name, value in own.items()} == {k: v.shape for k, v in weights.items()}:
            return f"{named} of {self.path}, which is {settings}"
        return (
            f"{self.path}: was written by another version, in which model {settings} had other weights; train again,"
            " with --overwrite or in another workdir"
        )

    def trained(self, device: torch.device | str = "cpu") -> Trained:
        """The trained network on a device, ready to be asked. Raises `InputError` where any part of it is damaged."""
        network = kinds.network_of(self.kind, self.meta.model, self.normalisation, self.meta.shape)
        self.load_into(network)
        self.kind.finish(network, self.normalisation, self.meta.config.get("train", {}).get("loss", ""))
        return Trained(self.kind, network.to(device).eval(), self.meta.channels, self.normalisation)

    def content(self, name: str) -> bytes:
        """One of its files. Raises `InputError` where it is missing, or differs from its checksum."""
        path = self.path / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        wanted = self.meta.sha256.get(name)
        if wanted and hashlib.sha256(content).hexdigest() != wanted:
            raise InputError(f"{path}: differs from its checksum in {META}: it is damaged, or of another run")
        return content

    def _load(self, name: str, device: torch.device | str) -> dict[str, Any]:
        path, content = self.path / name, self.content(name)
        try:
            found = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
            raise InputError(f"{path}: is not a file of tensors, or damaged: {reason}") from None
        if not isinstance(found, dict):
            raise InputError(f"{path}: holds a {type(found).__name__}, not tensors by name")
        return found


def save(
    directory: Path, meta: dict[str, Any], weights: dict[str, Any], state: dict[str, Any], label: str = ""
) -> Path:
    """Write a checkpoint into `directory` under a label (default: by its step) and return its path."""
    label = label or name(meta["step"])
    path, temporary = directory / label, directory / f".{label}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    checksums = {}
    for file, content in ((WEIGHTS, weights), (STATE, state)):
        torch.save(content, temporary / file)
        checksums[file] = hashlib.sha256((temporary / file).read_bytes()).hexdigest()
    checksums[META] = _digest(json.loads(json.dumps(meta)))
    (temporary / META).write_text(json.dumps({**meta, "sha256": checksums}, indent=1))
    # on disk before it has a name, and then the name: a node that loses power loses no checkpoint
    for written in temporary.iterdir():
        objects.sync(written)
    old = _hide(path)  # the same step again, after a resume or with an epoch's metrics
    temporary.rename(path)
    objects.sync(directory)
    shutil.rmtree(old, ignore_errors=True)
    return path


def _digest(meta: dict[str, Any]) -> str:
    """SHA-256 of what meta.json says, checksums apart: it holds numbers that a network is fed with."""
    told = {key: value for key, value in meta.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def name(step: int) -> str:
    """The name of the checkpoint of a step."""
    return f"step-{step:08d}"


def _hide(path: Path) -> Path:
    """Rename what is to be deleted: a kill meanwhile leaves no half of a checkpoint under its name."""
    hidden = path.with_name(f".{path.name}.{time.time_ns()}")
    if path.exists():
        path.rename(hidden)
    return hidden


def best(directory: Path) -> Path | None:
    """The checkpoint of the lowest validation loss, that of the start among them: training may make worse what it
    begins with. None where no epoch was validated."""
    found = by_loss(directory)
    start = directory / INITIAL
    if not found or not start.exists():
        return next(iter(found), None)
    before, after = open_checkpoint(start).loss, open_checkpoint(found[0]).loss
    return start if before is not None and after is not None and before < after else found[0]


def by_step(directory: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in directory.glob("step-*") if path.name.removeprefix("step-").isdigit())


def by_loss(directory: Path) -> list[Path]:
    """Checkpoints that were validated, lowest loss first; equal losses: the earlier one first."""
    losses = {path: open_checkpoint(path).loss for path in by_step(directory)}
    validated = {path: loss for path, loss in losses.items() if loss is not None and math.isfinite(loss)}
    return sorted(validated, key=lambda path: validated[path])


def newest_good(directory: Path) -> Path | None:
    """The newest checkpoint that can be read, with finite weights and, where it was validated, a finite loss."""
    for path in reversed(by_step(directory)):
        try:
            found = open_checkpoint(path)
            found.weights()
        except InputError:
            continue
        if found.loss is None or math.isfinite(found.loss):
            return path
    return None


def prune(directory: Path, keep: int, keep_best: int = 1) -> None:
    """Delete all but the newest `keep` and the best `keep_best`, and what a killed writer left."""
    spared = {*by_step(directory)[-keep:], *by_loss(directory)[:keep_best]}
    for path in by_step(directory):
        if path not in spared:
            _hide(path)
    for left in directory.glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)  # a reader on NFS may hold one open: the next time, then


def open_checkpoint(path: Path) -> Checkpoint:
    """Read what a checkpoint says of itself. Raises `InputError` where there is none, or none of ours."""
    try:
        stored = json.loads((path / META).read_text(encoding="utf-8"))
        meta = Meta.model_validate(stored)
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no checkpoint there") from None
    except ValidationError as error:
        raise InputError(f"{path / META}: {reason(error)}") from None
    except (ValueError, RecursionError, OSError) as error:  # not JSON, not even text, or unreadable
        raise InputError(f"{path / META}: cannot be read: {error}") from None
    wanted = meta.sha256.get(META)
    if wanted and _digest(stored) != wanted:
        raise InputError(f"{path / META}: differs from its own checksum: it was edited or is damaged")
    return Checkpoint(path, meta)


def find(directory: Path, name: str, registry: str = "") -> Checkpoint:
    """`best`, `last` or `initial` of a run's checkpoint directory; by path any checkpoint, or any run's best; and as
    models:/NAME/VERSION what the MLflow server at `registry` keeps, which is fetched into the run's `registry/`."""
    if name.startswith(SCHEME):
        return open_checkpoint(fetched(name, registry, directory.parents[1] / "registry"))
    if (Path(name) / "train" / "checkpoints").is_dir():
        directory, name = Path(name) / "train" / "checkpoints", "best"
    steps = by_step(directory)
    path = {
        "best": best(directory) if name == "best" else None,
        "last": steps[-1] if steps else None,
        INITIAL: directory / INITIAL,
    }.get(name, Path(name))
    if path is None:
        raise InputError(f"{directory}: no {name} checkpoint; run `glitchflow train` first")
    return open_checkpoint(path)
