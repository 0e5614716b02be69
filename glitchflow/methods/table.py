"""The table of methods: everything that is compared, in the order in which it is shown."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from glitchflow.methods import images, oracle, wiener
from glitchflow.methods.method import Block, Method, Read, Removed, Train

NETWORK, UNTRAINED, ORACLE = "network", "untrained", "oracle"


@dataclass(frozen=True)
class Predicted:
    """Stands for a network, whose predictions are handed in."""

    read: Read

    def removed(self, block: Block) -> Removed:
        """Return what the network generated for a block."""
        return Removed(self.read(block.events))


def predicted(name: str) -> Callable[[Train], Predicted]:
    """Make the `fit` of a network, which only finds what the network generated."""
    return lambda train: Predicted(train.predictions[name])


TRAIN = frozenset({"train"})
METHODS: dict[str, Method] = {
    NETWORK: Method(predicted(NETWORK), frozenset({NETWORK})),
    UNTRAINED: Method(predicted(UNTRAINED), frozenset({UNTRAINED})),
    "zero": Method(images.fit_zero, blind=True),
    "constant": Method(images.fit_constant, TRAIN, blind=True),
    "mean": Method(images.fit_mean, TRAIN, blind=True),
    "median": Method(images.fit_median, TRAIN, blind=True),
    "linear": Method(images.fit_linear, TRAIN),
    ORACLE: Method(oracle.fit_oracle, TRAIN | {"witnessed"}, truth=True),
    "wiener": Method(partial(wiener.fit, derived=False), TRAIN | {"series", "recorded"}),
    "wiener + derived": Method(partial(wiener.fit, derived=True), TRAIN | {"series", "derived"}),
}
BLIND = [name for name, method in METHODS.items() if method.blind]
# image methods that need no network: what its summary names the best of
BASELINES = [*BLIND, "linear"]
