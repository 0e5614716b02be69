"""The networks, from the witnesses' Q-plots to the strain's, and their losses: pure torch, by name.

Shapes: (event, witness, frequency, time) -> (event, 1, frequency, time).
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from glitchflow.model.decoder import Decoder, decoder_deep
from glitchflow.model.layers import initialise
from glitchflow.model.lookup import resolve
from glitchflow.model.loss import LOSSES, build_loss
from glitchflow.model.resnet import ResNet
from glitchflow.model.unet import UNet, attention_unet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "decoder": Decoder,
    "decoder_deep": decoder_deep,
    "resnet": ResNet,
    "unet": UNet,
    "attention_unet": attention_unet,
}

__all__ = ["LOSSES", "MODELS", "build", "build_loss", "initialise"]


def build(
    name: str,
    witnesses: int,
    shape: tuple[int, int],
    *,
    init: str = "kaiming",
    init_scale: float | None = None,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """The model of that name for `witnesses` channels and images of `shape` = (frequency, time) pixels.

    `name` is a key of `MODELS` or the import path of a user's own callable(witnesses, shape, **options), which
    gets `init`, `init_scale` and `seed` too if it has parameters so called, and else is left as it made itself.
    Options of the built-in models: `width`, `depth`, `norm`, `coordinates`. Weights are drawn by
    `initialise` from `seed`; torch's global random state is left as it was.

    Raises ValueError, in one line, for an unknown name or option, or a value the model cannot take.
    """
    known = name in MODELS
    if not known and "." not in name and ":" not in name:
        raise ValueError(
            f"model {name!r} is unknown: allowed are {', '.join(MODELS)} or package.module:callable"
        )
    factory = MODELS[name] if known else resolve(name)
    parameters = inspect.signature(factory).parameters
    flexible = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    weights = {"init": init, "init_scale": init_scale, "seed": seed}
    if not known:
        options |= {key: value for key, value in weights.items() if key in parameters}
    allowed = [key for key in parameters if key not in ("witnesses", "shape", "attention")]
    for key in options:
        if key not in allowed and not flexible:
            raise ValueError(
                f"model {name!r} has no option {key!r}: allowed are {', '.join(allowed + [*weights])}"
            )
    # The layers' own constructors draw from the global generator: keep that without effect outside.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = factory(witnesses, tuple(shape), **options)
    if known:
        initialise(model, init, init_scale, seed)
    return model
