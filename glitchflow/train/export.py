"""A trained network as a `torch.export` program, which runs where GlitchFlow is not installed.

    export/twin.pt2    the program: energies of the witnesses -> energies of the strain, normalisation included
    export/twin.json   what it takes and gives: channels, geometry, shapes, and where it comes from

    program = torch.export.load("twin.pt2").module()
    strain = program(witnesses)  # (event, witness, frequency, time) -> (event, frequency, time), float32

Shapes: B event, W witness, F frequency, T time.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from glitchflow.config import Experiment
from glitchflow.data.normalise import Normalisation
from glitchflow.errors import RunError
from glitchflow.progress import say
from glitchflow.train import checkpoint

EVENTS = (1, 3, 8)  # sizes of the batches that the program is compared on
TOLERANCE = 1e-5  # relative to the largest energy; operators may be fused differently


class Twin(nn.Module):
    """A network with its normalisation: energies of the witnesses (B, W, F, T) -> of the strain (B, F, T)."""

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        self.strain = normalisation.channels([0])
        self.witnesses = normalisation.channels(range(1, len(normalisation.offset)))

    def forward(self, energies: torch.Tensor) -> torch.Tensor:
        dtype = next(self.network.parameters()).dtype
        generated = self.network(self.witnesses.apply(energies.to(dtype)))
        return self.strain.invert(generated)[:, 0].float()


def export(experiment: Experiment) -> Path:
    """Write `workdir/export` from the checkpoint that `infer.checkpoint` names; returns its path.

    Raises `RunError` where torch cannot export the network, or the program gives other numbers than the network.
    """
    directory = Path(experiment.workdir)
    trained = checkpoint.find(directory / "train" / "checkpoints", experiment.infer.checkpoint)
    twin = Twin(trained.network(), trained.normalisation).eval()
    shape = (len(trained.meta["channels"]) - 1, *trained.meta["shape"])
    program = _program(twin, shape)
    difference = _difference(program, twin, shape)
    if not difference <= TOLERANCE:
        raise RunError(f"{trained.path}: its exported program differs from the network by {difference:.1e}")
    path = directory / "export"
    path.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path / "partial.pt2")
    (path / "partial.pt2").replace(path / "twin.pt2")
    about = {
        "input": ["event", "witness", "frequency", "time"],
        "output": ["event", "frequency", "time"],
        "unit": "energies, normalised so that Gaussian noise has median 1; float32",
        "witnesses": trained.meta["channels"][1:],
        "strain": trained.meta["channels"][0],
        "shape": list(shape),
        "geometry": trained.meta["geometry"],
        "checkpoint": {"path": str(trained.path), "step": trained.step, "metrics": trained.meta["metrics"]},
        "largest_relative_difference": difference,
        "provenance": trained.meta["provenance"],
    }
    (path / "twin.json").write_text(json.dumps(about, indent=1))
    say(
        f"exported {trained.path.name}; the program and the network differ by {difference:.1e} of the maximum"
    )
    return path


def _program(twin: Twin, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    events = torch.export.Dim("event", min=1)
    try:
        with torch.inference_mode(False), torch.no_grad():
            return torch.export.export(twin, (_noise(2, shape),), dynamic_shapes=({0: events},))
    except Exception as error:  # noqa: BLE001 - a network of the user's own may do anything
        raise RunError(f"torch cannot export this network: {' '.join(str(error).split())[:300]}") from None


@torch.no_grad()
def _difference(program: torch.export.ExportedProgram, twin: Twin, shape: tuple[int, ...]) -> float:
    """Largest difference of the program's output from the network's, relative to the largest energy."""
    worst, module = 0.0, program.module()
    for count in EVENTS:
        energies = _noise(count, shape)
        wanted, found = twin(energies), module(energies)
        worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12)))
    return worst


def _noise(events: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Energies of Gaussian noise, with a loud spot."""
    energies = torch.empty(events, *shape).exponential_(generator=torch.Generator().manual_seed(events))
    energies[:, :, : shape[1] // 4, : shape[2] // 4] *= 50
    return energies
