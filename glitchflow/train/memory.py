"""The memory that a worker of a training is projected to hold.

Shapes: W witness, "..." one channel's part of an event.
"""

from collections.abc import Sequence

import torch
from torch import nn

from glitchflow.config import Loader, Split
from glitchflow.data.batch import AHEAD
from glitchflow.data.build import BASE_MEMORY, MIB
from glitchflow.data.loader import BLOCK, GROUP
from glitchflow.data.memory import Memory, Shape
from glitchflow.twin.kind import Needs

STATE = 5  # copies of the weights: themselves, gradients, AdamW's two moments, and what a checkpoint is written from
MEAN = 2  # more of them where a running mean is kept
BATCHES = AHEAD + 2  # those made ahead, the one at work, and the one that is being made

GRADIENTS = 1.25  # of the activations, with the gradients that are at work on their way back; measured
LIBRARIES = 160 * MIB  # torch's compiler, which AdamW imports, tensorboard, and a figure of samples; measured
GB = 1e9
SPLITS = "splits in memory"  # the one part that the workers of a host have together


def saved(network: nn.Module, shape: Sequence[int], half: bool = False) -> int:
    """Count the bytes that a network keeps of one event (W, ...) until its gradients are known.

    half: whether its convolutions are of bfloat16.
    """
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    low = torch.autocast("cpu", torch.bfloat16, enabled=half)
    with low, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = network(torch.zeros(1, *shape))
    for weight in network.parameters():
        kept.pop(weight.untyped_storage().data_ptr(), None)
    del result  # it held what was counted: a place that is free may be taken again
    return sum(kept.values())


def learning(
    shape: Shape,
    split: Split,
    loader: Loader,
    share: int,
    network: nn.Module,
    needs: Needs,
    half: bool,
    mean: bool = False,
) -> Memory:
    """Project what a worker holds that trains a network of a kind that `needs` so much of each event, `share` at once.

    half: whether with bfloat16; mean: with a running mean of the weights. What it starts from is found before, and
    given back. It is alone on its host: `hosted` is of several.
    """
    one, validation = 4 * needs.kept, split.validation
    sizes = [one * round(shape.events * part) for part in (1 - validation - split.test, validation)]
    cached = [size for size in sizes if size <= loader.cache_gb * GB]
    lanes = -(-loader.lanes_among(loader.batch // share) * share // loader.batch)
    beside = [name for name in needs.beside if name in shape.arrays]
    more = sum(shape.arrays[name] for name in beside)
    block = BLOCK * shape.chunk * (shape.block(needs.array, needs.channels) + more)
    read = shape.read(needs.array, needs.channels) + sum(shape.read(name, shape.channels) for name in beside)
    joined = block if beside else 0  # beside the parts that it is joined of
    ahead = 0 if sizes[0] in cached else 2 * lanes * GROUP * block
    weights = (STATE + MEAN * mean) * 4 * sum(weight.numel() for weight in network.parameters())
    parts = {
        SPLITS: sum(cached),
        "what is read": read + joined + ahead,
        "batches": BATCHES * share * 4 * needs.batch,
        "weights": weights,
        "activations": int(GRADIENTS * share * saved(network, needs.given, half)),
    }
    first = {"what it starts from": needs.start, "weights": weights}
    return Memory(
        {
            "Python and libraries": BASE_MEMORY + LIBRARIES,
            **(first if sum(first.values()) > sum(parts.values()) else parts),
        }
    )


def own(worker: Memory) -> int:
    """Count the bytes of a worker's sum that it has to itself: all but the splits."""
    return worker.total - worker.parts.get(SPLITS, 0)


def hosted(worker: Memory, workers: int) -> Memory:
    """Project what so many workers of a training hold on one host, which has their splits once (data/together.py).

    Where they do not see each other's processes (a container each), and where there are no files in memory (macOS, a
    sandbox), each has its own: that many times the splits then, of which nothing is known before they are there.
    """
    once = worker.total - own(worker)
    return Memory({f"{SPLITS}, once": once, "what each has to itself": workers * own(worker)})
