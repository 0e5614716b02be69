"""Which model is of which kind: the one table that a new kind joins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from glitchflow.config import import_path
from glitchflow.data.loader import Reads
from glitchflow.data.store.dataset import Dataset
from glitchflow.errors import InputError
from glitchflow.model import build
from glitchflow.twin import coherent, generative, image, posterior
from glitchflow.twin.kind import Kind, Prepared

KINDS = {kind.name: kind for kind in (image.KIND, coherent.KIND, generative.KIND, posterior.KIND)}


def of(model: str) -> Kind:
    """The kind of a model by its name or import path; a user's own is `image`, or what its attribute `kind` says.

    Raises `InputError` for a model that there is not, or a kind that there is not.
    """
    for kind in KINDS.values():
        if model in kind.models:
            return kind
    own = import_path(model, "model.name", [name for kind in KINDS.values() for name in kind.models])
    name = getattr(own, "kind", image.KIND.name)
    if name not in KINDS:
        raise InputError(f"model.name = {model}: its kind is {name}, not one of {', '.join(KINDS)}")
    return KINDS[name]


def reads(
    kind: Kind, dataset: Dataset, prepared: Prepared, channels: Sequence[str], seed: int, drop: float
) -> Reads:
    """Say what a loader reads of a dataset, each witness being silent in a share of what is trained on.

    Raises `InputError` where that is asked of a kind whose networks have to be shown them all.
    """
    found = kind.reads(dataset, prepared, channels, seed)
    if not drop:
        return found
    if kind.drops is None:
        raise InputError(
            f"loader.drop = {drop:g}: a twin of kind {kind.name} is shown its witnesses as they are; must be 0"
        )
    return kind.drops(found, prepared, seed, drop)


def network_of(
    kind: Kind, settings: Mapping[str, Any], prepared: Prepared, shape: Sequence[int]
) -> nn.Module:
    """The network of a `model` section with its seed, for what is prepared so; raises as `build_network`."""
    witnesses, more = kind.sees(prepared)
    return build_network({**settings, "options": {**settings["options"], **more}}, witnesses, shape)


def build_network(settings: Mapping[str, Any], witnesses: int, shape: Sequence[int]) -> nn.Module:
    """The network of a `model` section with its seed, for `witnesses` channels of that shape each.

    Raises `InputError` for options that it does not have or sizes that it cannot take.
    """
    options = {k: v for k, v in settings.items() if k not in ("name", "options")} | settings["options"]
    try:
        network = build(settings["name"], witnesses, tuple(int(size) for size in shape), **options)
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    if not isinstance(network, nn.Module):
        raise InputError(f"model.name = {settings['name']}: gives no torch.nn.Module")
    return network
