"""Which inputs of a coherent twin are of which group of witnesses: what each puts into the estimate is a channel.

Shapes: G group, C input.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from glitchflow.errors import InputError
from glitchflow.twin.front import Front
from glitchflow.twin.kind import Trained

OTHER = "OTHER"  # what is in no group
NAME = re.compile(r"[\w-]+", re.ASCII)  # what frames and HDF5 take in a channel's name


def find_groups(trained: Trained, groups: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """Say which inputs (C,) of a coherent twin are of each group of witnesses, 1 or 0; `OTHER` holds the rest.

    Each input is of one group: a product of two witnesses of that of its fast one. A slow witness moves no input of
    its own, and what is derived follows what it is made from. groups: `evaluate.groups`. Raises `InputError` where
    there are none, for a name that no channel can have, a witness that is unknown or in two groups, and a network of
    a user's own that cannot be split.
    """
    front = trained.normalisation
    assert isinstance(front, Front), "a coherent twin's"
    if not hasattr(trained.network, "parts"):
        raise InputError(
            f"clean.groups = true: {type(trained.network).__name__} has no method parts(given, groups), which says"
            " what each group of inputs puts into the estimate"
        )
    if not groups:
        raise InputError("clean.groups = true: evaluate.groups names no group")
    of: dict[str, str] = {}
    known = list(dict.fromkeys([*front.channels[1:], *trained.channels[1:]]))
    for name, members in groups.items():
        if name == OTHER or not NAME.fullmatch(name):
            raise InputError(
                f"evaluate.groups.{name}: names a channel (clean.groups): must be of letters, digits, _ and -,"
                f" and not {OTHER}"
            )
        for member in members:
            if member not in known:
                raise InputError(
                    f"evaluate.groups.{name} = {member}: not a witness of the network; there are: {', '.join(known)}"
                )
            if of.setdefault(member, name) != name:
                raise InputError(
                    f"evaluate.groups.{name} = {member}: is in {of[member]} too; clean.groups takes one each"
                )
    inputs = [*front.inputs, *(one.fast for one in front.products)]
    heard = [of.get(front.channels[place], OTHER) for place in inputs]
    named = [*groups, *([OTHER] if OTHER in heard else [])]
    return {name: torch.tensor([float(one == name) for one in heard]) for name in named}
