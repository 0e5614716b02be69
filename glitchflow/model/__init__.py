"""The networks, from what witnesses show to what the strain does, and their losses: pure torch, by name.

In: a name of `MODELS` or `LOSSES`, or an import path, and options. Out: a torch module, or a function of two tensors.
Read first: layers.py (what the networks share), then unet.py, and bank.py for series; a new network is one file and a
row in its kind's table.

Shapes: images (event, witness, frequency, time) -> (event, 1, frequency, time); series (event, witness, sample) ->
(event, 1, sample).
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from glitchflow.config import import_path
from glitchflow.model.bank import Coherent
from glitchflow.model.decoder import Decoder
from glitchflow.model.layers import initialise
from glitchflow.model.loss import LOSSES, build_loss
from glitchflow.model.resnet import ResNet
from glitchflow.model.unet import UNet

IMAGE_MODELS: dict[str, Callable[..., nn.Module]] = {
    "decoder": Decoder,
    "decoder_deep": partial(Decoder, width=32, depth=8),  # sees 19 pixels each way
    "resnet": ResNet,
    "unet": UNet,
    "attention_unet": partial(UNet, attention=True),
}

COHERENT_MODELS: dict[str, Callable[..., nn.Module]] = {"coherent": Coherent}

MODELS = {**IMAGE_MODELS, **COHERENT_MODELS}  # of every kind

GENERAL = ("width", "norm", "coordinates", "init", "init_scale", "seed")

__all__ = ["COHERENT_MODELS", "IMAGE_MODELS", "LOSSES", "MODELS", "build", "build_loss", "initialise"]


def build(
    name: str,
    witnesses: int,
    shape: tuple[int, ...],
    *,
    init: str = "kaiming",
    init_scale: float | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Builds the model of that name for `witnesses` channels and images of `shape` = (frequency, time) pixels,
    or series of `shape` = (sample,).

    `name` is a key of `MODELS` or the import path of a user's own callable(witnesses, shape, **options). Options of
    the built-in image models: `width` (channels), `depth`, `norm` ("group" or "instance"), `coordinates`. Their weights
    are drawn by `initialise` from `seed`, a bank's taps likewise; torch's global
    random state is left as it was. A callable of the user's own initialises itself. Of `GENERAL` settings a model gets
    those it has a parameter for: they have defaults in every config, which must not stand in its way.

    Raises `InputError` for a name that is neither known nor can be imported, and ValueError, in one line, for an
    unknown option, or a value the model cannot take.
    """
    known = name in MODELS
    factory = MODELS.get(name) or import_path(name, "model.name", MODELS)
    parameters = inspect.signature(factory).parameters
    flexible = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if not known:
        options |= {"init": init, "init_scale": init_scale, "seed": seed}
    options = {k: v for k, v in options.items() if k not in GENERAL or k in parameters or flexible}
    allowed = [key for key in parameters if key not in ("witnesses", "shape", "attention")]
    for key in options:
        if key not in allowed and not flexible:
            raise ValueError(f"model {name!r} has no option {key!r}: allowed are {', '.join(allowed)}")
    # The layers' own constructors draw from the global generator: keep that without effect outside.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = factory(witnesses, tuple(shape), **options)
    if known:
        initialise(model, init, init_scale, seed)
    if isinstance(model, Coherent):
        model.draw(torch.Generator().manual_seed(seed))
    return model
