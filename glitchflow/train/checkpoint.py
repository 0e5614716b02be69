"""Checkpoints: one directory each, written under a temporary name and renamed, so that none is ever half there.

    checkpoints/step-00001234/weights.pt    the network
                              state.pt      optimiser and loop: what resuming needs beyond the weights
                              meta.json     config, channels, geometry, normalisation, step, metrics, versions

The best one is the one whose metrics say so: there is no second record of it that a kill could leave behind.
Inference needs weights.pt and meta.json and nothing else. Everything is loaded with `weights_only=True`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glitchflow.data.normalise import Normalisation
from glitchflow.errors import InputError
from glitchflow.model import build


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    meta: dict[str, Any]

    @property
    def step(self) -> int:
        return self.meta["step"]

    @property
    def normalisation(self) -> Normalisation:
        """Of the strain and the witnesses the network takes, in this order."""
        return Normalisation(**self.meta["normalisation"])

    def weights(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        return _load(self.path / "weights.pt", device)

    def state(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        return _load(self.path / "state.pt", device)

    def network(self, device: torch.device | str = "cpu") -> nn.Module:
        """The trained network, ready to generate."""
        model = build_model(self.meta["model"], len(self.meta["channels"]) - 1, self.meta["shape"])
        model.load_state_dict(self.weights(device))
        return model.to(device).eval()


def build_model(settings: dict[str, Any], witnesses: int, shape: tuple[int, int]) -> nn.Module:
    """The network of a `model` section. Raises `InputError` for options it does not have or sizes it cannot take."""
    options = {k: v for k, v in settings.items() if k not in ("name", "options")} | settings["options"]
    try:
        return build(settings["name"], witnesses, (int(shape[0]), int(shape[1])), **options)
    except ValueError as error:
        raise InputError(f"model: {error}") from None


def save(
    directory: Path, meta: dict[str, Any], weights: dict[str, Any], state: dict[str, Any], label: str = ""
) -> Path:
    """Write a checkpoint into `directory` under a label (default: by its step) and return its path."""
    label = label or name(meta["step"])
    path, temporary = directory / label, directory / f".{label}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    torch.save(weights, temporary / "weights.pt")
    torch.save(state, temporary / "state.pt")
    (temporary / "meta.json").write_text(json.dumps(meta, indent=1))
    # on disk before it has a name, and then the name: a node that loses power loses no checkpoint
    for file in temporary.iterdir():
        _sync(file)
    old = _hide(path)  # the same step again, after a resume or with an epoch's metrics
    temporary.rename(path)
    _sync(directory)
    shutil.rmtree(old, ignore_errors=True)
    return path


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def name(step: int) -> str:
    return f"step-{step:08d}"


def _hide(path: Path) -> Path:
    """Rename what is to be deleted: a kill meanwhile leaves no half of a checkpoint under its name."""
    hidden = path.with_name(f".{path.name}.{time.time_ns()}")
    if path.exists():
        path.rename(hidden)
    return hidden


def best(directory: Path) -> Path | None:
    return next(iter(by_loss(directory)), None)


def by_step(directory: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in directory.glob("step-*") if path.name.removeprefix("step-").isdigit())


def by_loss(directory: Path) -> list[Path]:
    """Checkpoints that were validated, lowest loss first; equal losses: the earlier one first."""
    losses = {
        path: open_checkpoint(path).meta.get("metrics", {}).get("validation_loss")
        for path in by_step(directory)
    }
    validated = (path for path, loss in losses.items() if loss is not None and math.isfinite(loss))
    return sorted(validated, key=lambda path: losses[path])


def newest_good(directory: Path) -> Path | None:
    """The newest checkpoint with finite weights and, where it was validated, a finite loss."""
    for path in reversed(by_step(directory)):
        found = open_checkpoint(path)
        weights = found.weights().values()
        if all(bool(torch.isfinite(value).all()) for value in weights) and math.isfinite(
            found.meta.get("metrics", {}).get("validation_loss", 0.0)
        ):
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
    """Raises `InputError` where there is no checkpoint."""
    try:
        return Checkpoint(path, json.loads((path / "meta.json").read_text()))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no checkpoint there") from None


def find(directory: Path, name: str) -> Checkpoint:
    """`best`, `last` or `initial` of a run's checkpoint directory; by path any checkpoint, or any run's best."""
    if (Path(name) / "train" / "checkpoints").is_dir():
        directory, name = Path(name) / "train" / "checkpoints", "best"
    steps = by_step(directory)
    path = {
        "best": best(directory),
        "last": steps[-1] if steps else None,
        "initial": directory / "initial",
    }.get(name, Path(name))
    if path is None:
        raise InputError(f"{directory}: no {name} checkpoint; run `glitchflow train` first")
    return open_checkpoint(path)


def _load(path: Path, device: torch.device | str) -> dict[str, Any]:
    return torch.load(path, map_location=device, weights_only=True)
