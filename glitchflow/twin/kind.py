"""What is asked of a kind of twin, and a trained network of any kind, ready to be asked.

A kind's network takes one array of the store, (event, channel, ...), prepared: the witnesses' part of it is what it
is given, the strain's (channel 0) what it learns from. What it generates is shown and compared as energies of the
strain, whatever the network itself puts out.

Shapes: B event of a batch, C channel (the strain first), W witness, "..." one channel's part of an event (of an image:
frequency and time), F frequency, T time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from glitchflow.data.batch import early
from glitchflow.data.content import Content
from glitchflow.data.loader import Reads
from glitchflow.data.normalise import Normalisation
from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array
from glitchflow.signal.types import Indices
from glitchflow.twin.front import Front
from glitchflow.twin.white import White

AT_WORK = 2**29  # bytes that a network's batch may hold, besides what is read and written

Loss = Callable[[Any, Tensor], Tensor]  # (what the network puts out, the target (B, S, ...)) -> scalar
Prepared = Normalisation | Front | White
Replaced = Mapping[int, NDArray] | None
Answers = Iterator[
    dict[str, NDArray]
]  # of each who is asked in turn about some events, then about the next ones


@dataclass(frozen=True)
class Exported:
    """A kind's networks as programs that run without GlitchFlow."""

    program: Callable[[nn.Module, Any], nn.Module]  # with what goes before and after the network
    example: Callable[[int, Sequence[int]], Tensor]  # of so many events (B, ...), the shape of one given
    shape: Callable[[Any, Sequence[int]], tuple[int, ...]]  # of one event, from the checkpoint's `shape`
    about: Callable[[Any], Mapping[str, Any]]  # axes and units of what it takes and gives


@dataclass(frozen=True)
class Needs:
    """Says what a training holds that is to be on some channels of a dataset; numbers of one event."""

    array: str  # of the store that is read
    channels: int  # that are read of it
    given: tuple[int, ...]  # the shape of what its network sees
    options: Mapping[str, Any]  # of its model that follow
    kept: int  # that a loader keeps where a split is in memory
    batch: int  # of a batch
    start: int = 0  # bytes that are held before the first step
    beside: Sequence[str] = ()  # further arrays that are read


@dataclass(frozen=True)
class Kind:
    """One kind of twin: plain functions that train, infer, attribute and export call.

    Prepared: how what is read becomes what a network sees, of the strain and its witnesses; a checkpoint keeps it.
    """

    name: str
    models: Mapping[
        str, Callable[..., nn.Module]
    ]  # the networks of this kind, by their name in a configuration
    array: str  # of the store that they take and learn from
    # of the store, which scores of a validation may know: the strain's witnessed part, and what adds to it
    truth: tuple[str, ...]
    # what a network has to be given, strain and witnesses, where these are chosen from a dataset
    channels: Callable[[Dataset, list[str]], list[str]]
    # by `loader.normalise`, of the strain and witnesses named; for a network that was trained on what was prepared
    # otherwise, whose weights this still has to fit
    normalisation: Callable[[Dataset, str, Sequence[str], Prepared | None], Prepared]
    # what of a dataset a network of these channels depends on, for its checkpoint: `geometry` must be the same wherever
    # the network is used, `loudness` says what it has seen
    about: Callable[[Dataset, Sequence[str]], dict[str, Any]]
    # quantiles of how loud each channel that is read was over the train split, for those who watch; None: nobody asks
    levels: Callable[[Any, Dataset], list[list[float]] | None]
    # how many witnesses' parts a network sees, and the options of its model that follow
    sees: Callable[[Any], tuple[int, dict[str, Any]]]
    reads: Callable[[Dataset, Any, Sequence[str], int], Reads]  # of these channels, with this seed
    loss: Callable[[str, Any], Loss]  # by `train.loss`, of values prepared so
    # gives a network whose weights were drawn what can be known of them before any step, from a dataset's train split
    start: Callable[[nn.Module, Any, Dataset], None]
    # gives a network the last step that its `train.loss` asks for, once it has its weights
    finish: Callable[[nn.Module, Any, str], None]
    # the weights to train, as AdamW's groups; `factor`: of the learning rate
    groups: Callable[[nn.Module], list[dict[str, Any]]]
    predict: Callable[[Trained, NDArray, Sequence[str], int, Replaced], dict[str, NDArray]]  # see `Trained`
    infer: Callable[[Sequence[Asking], Dataset, Indices, int], Answers]  # see below
    # what each witness shows when nothing happens, of these (quiet) events: (W, ...)
    quiet: Callable[[Dataset, Any, Sequence[str], Indices], NDArray]
    arrays: Callable[[Dataset], dict[str, Array]]  # what `infer` gives for the events of a dataset
    # what a training on these channels of a dataset of so many train events will hold
    needs: Callable[[Content, Sequence[str], int], Needs]
    outputs: int  # such parts that `infer` holds of an event that it has predicted
    activations: (
        int  # numbers that a network holds for each number of one channel's part of an event, at most
    )
    preparing: int  # and that are held of each channel while its part is prepared
    energies: Callable[[Any, Tensor], Tensor]  # the strain as generated or recorded -> (B, F, T), on the CPU
    axes: Callable[[Dataset, Any], tuple[NDArray, NDArray]]  # Hz and s of these
    # scores of a validation: sums over events, by name, of what is generated, the target and the truth, if it is known,
    # and what follows from them
    tallied: tuple[str, ...]
    tally: Callable[[Any, Tensor, Tensor, Sequence[Tensor]], dict[str, float]]
    scores: Callable[[Mapping[str, float]], dict[str, float]]
    metric: str  # of them, or validation_loss: what a sweep compares by unless it says otherwise
    exported: Exported
    # whether it draws and predicts nothing; no witness says what it learns, so that a dataset is not judged by them
    draws: bool = False
    # the kind of twin that its networks have a trained one of in them, as `mean`, and begin from; empty: none
    upon: str = ""
    # what a loader reads, with what a part of a network that is not trained says of it
    through: Callable[[Any, nn.Module, Reads], Reads] = lambda _prepared, _network, reads: reads
    # the same, where each witness is silent in a share of what is trained on; None: its network is shown them all
    drops: Callable[[Reads, Any, int, float], Reads] | None = None


def working(kind: Kind, channels: int, numbers: int) -> int:
    """Count the bytes that predicting one event holds, of so many channels of so many numbers."""
    return 4 * numbers * (kind.activations + kind.preparing * channels)


def together(kind: Kind, channels: int, numbers: int, batch: int) -> int:
    """Count the events that are predicted at once: `batch`, or of many channels as many as there is room for."""
    return int(np.clip(AT_WORK // working(kind, channels, numbers), 1, batch))


@dataclass(frozen=True)
class Trained:
    """A trained network with all that it takes to ask it."""

    kind: Kind
    network: nn.Module
    channels: list[str]  # the strain, then the witnesses that the network takes
    normalisation: Prepared  # of these

    def predict(
        self,
        block: NDArray,
        channels: Sequence[str],
        batch: int,
        replaced: Replaced = None,
    ) -> dict[str, NDArray]:
        """What the network says of some events, (event, ...) by name; `infer` adds what is made of that.

        block: the kind's array of these events (event, channel, ...), its channels named by `channels`. replaced: what
        some witnesses, by their place, show instead: rows of the kind's `quiet`. The network is asked about `batch`
        events at a time; an event does not depend on the others.
        """
        return self.kind.predict(self, block, channels, batch, replaced)

    def infer(self, dataset: Dataset, events: Indices, batch: int) -> dict[str, NDArray]:
        """The kind's arrays of ascending events of a dataset, (event, ...) each."""
        parts = list(infer([Asking(self)], dataset, events, batch))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Asking:
    """Says which network is asked, and what some witnesses show it instead; see `Trained.predict`."""

    trained: Trained
    replaced: Replaced = None


def infer(asked: Sequence[Asking], dataset: Dataset, events: Indices, batch: int) -> Answers:
    """Give the kind's arrays of ascending events of a dataset as each of `asked` says, some events at a time.

    All are of one kind. Events are read once, however many are asked, the next ones while networks are at work. Of
    many channels fewer events than `batch` are asked about at a time.
    """
    kind, channels = asked[0].trained.kind, max(len(one.trained.channels) for one in asked)
    numbers = math.prod(dataset[kind.array].shape[2:])
    return kind.infer(asked, dataset, events, together(kind, channels, numbers, batch))


def blocks(
    dataset: Dataset, array: str, events: Indices, places: Sequence[int], batch: int
) -> Iterator[NDArray]:
    """Read some channels of ascending events (B, channel, ...), the next events while these are worked on."""
    spans = (events[start : start + batch] for start in range(0, len(events), batch))
    return early((partial(dataset.events, array, some, places) for some in spans), 1)
