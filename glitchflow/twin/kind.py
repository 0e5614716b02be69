"""What is asked of a kind of twin, and a trained network of any kind, ready to be asked.

A kind's network takes one array of the store, (event, channel, ...), normalised: the witnesses' part of it is what it
is given, the strain's (channel 0) what it learns from. What it generates is shown and compared as energies of the
strain, whatever the network itself puts out.

Shapes: B event of a batch, C channel (the strain first), W witness, "..." one channel's part of an event (of an image:
frequency and time), F frequency, T time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glitchflow.data.normalise import Normalisation
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array

Loss = Callable[[Any, Tensor], Tensor]  # (what the network puts out, the strain (B, 1, ...)) -> scalar


@dataclass(frozen=True)
class Exported:
    """A kind's networks as programs that run without GlitchFlow."""

    program: Callable[[nn.Module, Normalisation], nn.Module]  # with what goes before and after the network
    example: Callable[[int, Sequence[int]], Tensor]  # of so many events (B, W, ...), the shape of one given
    about: Mapping[str, Any]  # axes and units of what it takes and gives


@dataclass(frozen=True)
class Kind:
    """One kind of twin: plain functions that train, infer, attribute and export call."""

    name: str
    models: Mapping[
        str, Callable[..., nn.Module]
    ]  # the networks of this kind, by their name in a configuration
    array: str  # of the store that they take and learn from
    normalisation: Callable[[Dataset, str], Normalisation]  # of all channels, by `loader.normalise`
    # what of a dataset a network of these channels depends on, for its checkpoint: `geometry` must be the same wherever
    # the network is used, `loudness` says what it has seen
    about: Callable[[Dataset, Sequence[str]], dict[str, Any]]
    loss: Callable[[str, Normalisation], Loss]  # by `train.loss`, of values normalised so
    # gives a network of this normalisation the last step that its `train.loss` asks for, once it has its weights
    finish: Callable[[nn.Module, Normalisation, str], None]
    # the network and the normalisation of the strain and its witnesses; normalised witnesses (B, W, ...) -> by array
    predict: Callable[[nn.Module, Normalisation, Tensor], dict[str, Tensor]]
    arrays: Callable[[Dataset], dict[str, Array]]  # what `predict` gives for the events of a dataset
    activations: (
        int  # numbers that a network holds for each number of one channel's part of an event, at most
    )
    energies: Callable[
        [Normalisation, Tensor], Tensor
    ]  # the strain as generated or recorded -> (B, F, T), on the CPU
    # scores of a validation: sums over events, by name, of (recorded, generated, witnessed or None) energies, and what
    # follows from them
    tallied: tuple[str, ...]
    tally: Callable[[Tensor, Tensor, Tensor | None], dict[str, float]]
    scores: Callable[[Mapping[str, float]], dict[str, float]]
    metric: str  # of them, or validation_loss: what a sweep compares by unless it says otherwise
    exported: Exported


@dataclass(frozen=True)
class Trained:
    """A trained network with all that it takes to ask it."""

    kind: Kind
    network: nn.Module
    channels: list[str]  # the strain, then the witnesses that the network takes
    normalisation: Normalisation  # of these

    @torch.inference_mode()
    def predict(
        self,
        block: NDArray,
        channels: Sequence[str],
        batch: int,
        replaced: Mapping[int, NDArray] | None = None,
    ) -> dict[str, NDArray]:
        """What the network says of some events: the kind's arrays, (event, ...) each.

        block: the kind's array of these events (event, channel, ...), its channels named by `channels`. replaced: what
        some witnesses, by their place, show instead, normalised. The network is asked about `batch` events at a time;
        an event does not depend on the others.
        """
        columns = [channels.index(name) for name in self.channels]
        parameter = next(self.network.parameters())
        found: dict[str, list[Tensor]] = {}
        for start in range(0, len(block), batch):
            span = slice(start, start + batch)
            values = torch.from_numpy(block[span][:, columns]).to(parameter.device, parameter.dtype)
            inputs = self.normalisation.apply(values)[:, 1:]
            for witness, shown in (replaced or {}).items():
                inputs[:, witness] = torch.from_numpy(shown).to(inputs)
            for name, value in self.kind.predict(self.network, self.normalisation, inputs).items():
                found.setdefault(name, []).append(value.float().cpu())
        return {name: torch.cat(parts).numpy() for name, parts in found.items()}
