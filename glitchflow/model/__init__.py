"""The networks, from what witnesses show to what the strain does, and their losses: pure torch, by name.

In: a name of `MODELS` or `LOSSES`, or an import path, and options. Out: a torch module, or a function of two tensors.
Read first: layers.py (what the networks share), then unet.py, and bank.py for series; a new network is one file and a
row in its kind's table.

Shapes: images (event, witness, frequency, time) -> (event, 1, frequency, time); series (event, witness, sample) ->
(event, 1, sample).
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from glitchflow.cluster import available_memory
from glitchflow.config import import_path
from glitchflow.errors import InputError
from glitchflow.model.bank import Coherent
from glitchflow.model.decoder import Decoder
from glitchflow.model.flow import Flow
from glitchflow.model.layers import initialise
from glitchflow.model.loss import LOSSES, build_loss
from glitchflow.model.posterior import Posterior
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

GENERATIVE_MODELS: dict[str, Callable[..., nn.Module]] = {"flow": Flow}

POSTERIOR_MODELS: dict[str, Callable[..., nn.Module]] = {"posterior": Posterior}

MODELS = {**IMAGE_MODELS, **COHERENT_MODELS, **GENERATIVE_MODELS, **POSTERIOR_MODELS}  # of every kind

GENERAL = ("width", "norm", "coordinates", "init", "init_scale", "seed")

SIZES = ("depth", "experts", "sensors")  # options that, beside the width, say how large a network of ours is

__all__ = [
    "COHERENT_MODELS",
    "GENERATIVE_MODELS",
    "IMAGE_MODELS",
    "LOSSES",
    "MODELS",
    "POSTERIOR_MODELS",
    "build",
    "build_loss",
    "initialise",
]


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

    Raises `InputError` for a name that is neither known nor can be imported, or a network that this machine's memory
    cannot hold, and ValueError, in one line, for an unknown option, or a value the model cannot take.
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
    if known:
        _whole_numbers(options, parameters)
        _refuse_oversize(partial(factory, witnesses, tuple(shape), **options), options)
    # The layers' own constructors draw from the global generator: keep that without effect outside.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = factory(witnesses, tuple(shape), **options)
    if known:
        initialise(model, init, init_scale, seed)
    if isinstance(model, Coherent | Flow | Posterior):
        model.draw(torch.Generator().manual_seed(seed))
    return model


def _whole_numbers(options: dict[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Raises ValueError for an option of a model of ours that counts something, and is no whole number."""
    for key, value in options.items():
        if type(parameters[key].default) is int and type(value) is not int:
            raise ValueError(f"{key}={value!r}: must be a whole number")


def _refuse_oversize(factory: Callable[[], nn.Module], options: dict[str, Any]) -> None:
    """Raises `InputError` where this machine's memory cannot hold a network while its weights are drawn.

    Torch would say so of one layer, or the machine would end the process. What is made here has shapes and no memory.
    """
    try:
        with torch.device("meta"):
            weights = [weight.numel() for weight in factory().parameters()]
    except (RuntimeError, TypeError) as error:
        if "overflow" not in str(error).lower():  # of numbers too large for torch
            raise
        weights = []
    # float32, and two copies of the largest layer in float64 while it is drawn (`initialise`)
    needed, there = 4 * sum(weights) + 16 * max(weights, default=0), available_memory()
    if not weights or needed > there:
        keys = {"width": "model.width"} | {name: f"model.options.{name}" for name in SIZES}
        told = ", ".join(f"{key} = {options[name]}" for name, key in keys.items() if name in options)
        size = f"{needed / 2**30:,.0f} GiB" if weights else "more memory than can be counted"
        raise InputError(
            f"{told}: such a network would take {size}, and this machine has {there / 2**30:,.0f} GiB"
        )
