"""A trained network as a `torch.export` program, which runs where GlitchFlow is not installed.

    export/twin.pt2    the program, normalisation included; of an image twin: energies of witnesses -> of the strain
    export/twin.json   what it takes and gives: channels, geometry, shapes, and where it comes from

    program = torch.export.load("twin.pt2").module()
    strain = program(witnesses)  # (event, witness, frequency, time) -> (event, frequency, time), float32

The shapes are the kind's: of images (event, witness, frequency, time).
"""

import json
from pathlib import Path

import torch
from torch import nn

from glitchflow.config import Experiment
from glitchflow.data.objects import write_text
from glitchflow.errors import RunError
from glitchflow.progress import say
from glitchflow.train import checkpoint
from glitchflow.twin.kind import Exported

EVENTS = (1, 3, 8)  # sizes of the batches that the program is compared on
TOLERANCE = 1e-5  # relative to the largest value; operators may be fused differently


def export(experiment: Experiment) -> Path:
    """Write `workdir/export` from the checkpoint that `infer.checkpoint` names; returns its path.

    Raises `RunError` where torch cannot export the network, or the program gives other numbers than the network.
    """
    directory = Path(experiment.workdir)
    checkpoints, uri = directory / "train" / "checkpoints", experiment.mlflow.uri
    found = checkpoint.find(checkpoints, experiment.infer.checkpoint, uri)
    trained = found.as_named(experiment.model.name)
    form, normalisation = trained.kind.exported, trained.normalisation
    shape = form.shape(normalisation, trained.meta.shape)
    module = form.program(trained.trained().network, normalisation).eval()
    program = make_program(module, form, shape)
    difference = largest_difference(program, module, form, shape)
    if not difference <= TOLERANCE:
        raise RunError(f"{trained.path}: its exported program differs from the network by {difference:.1e}")
    path = directory / "export"
    path.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path / "partial.pt2")
    (path / "partial.pt2").replace(path / "twin.pt2")
    about = {
        **form.about(normalisation),
        "witnesses": trained.meta.channels[1:],
        "strain": trained.meta.channels[0],
        "shape": list(shape),
        "geometry": trained.meta.geometry,
        "checkpoint": {"path": str(trained.path), "step": trained.step, "metrics": trained.meta.metrics},
        "largest_relative_difference": difference,
        "provenance": trained.meta.provenance,
    }
    write_text(path / "twin.json", json.dumps(about, indent=1))
    say(
        f"exported {trained.path.name}; the program and the network differ by {difference:.1e} of the maximum"
    )
    return path


def make_program(module: nn.Module, form: Exported, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    """A module as a program for any number of events. Raises `RunError` where torch cannot export it."""
    events = torch.export.Dim("event", min=1)
    try:
        with torch.inference_mode(False), torch.no_grad():
            return torch.export.export(module, (form.example(2, shape),), dynamic_shapes=({0: events},))
    except Exception as error:  # noqa: BLE001 - a network of the user's own may do anything
        raise RunError(f"torch cannot export this network: {' '.join(str(error).split())[:300]}") from None


@torch.no_grad()
def largest_difference(
    program: torch.export.ExportedProgram, module: nn.Module, form: Exported, shape: tuple[int, ...]
) -> float:
    """The largest difference of the program's output from the module's, relative to the largest value."""
    worst, exported = 0.0, program.module()
    for count in EVENTS:
        given = form.example(count, shape)
        wanted, found = module(given), exported(given)
        worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12)))
    return worst
