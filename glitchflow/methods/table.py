"""The table of methods: everything that is compared, in the order in which it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from glitchflow.methods import images, oracle, wiener
from glitchflow.methods.method import Block, Fitted, Method, Read, Removed, Train

NETWORK, UNTRAINED, ORACLE = "network", "untrained", "oracle"


@dataclass(frozen=True)
class Predicted:
    """A network, whose predictions are handed in."""

    read: Read

    def removed(self, block: Block) -> Removed:
        """Return what the network generated for a block."""
        return Removed(self.read(block.events))


def fit_network(train: Train) -> Fitted:
    """Read what the trained network generated."""
    return Predicted(train.predictions[NETWORK])


def fit_untrained(train: Train) -> Fitted:
    """Read what the same network generated before training."""
    return Predicted(train.predictions[UNTRAINED])


TRAIN = frozenset({"train"})
METHODS: dict[str, Method] = {
    NETWORK: Method(fit_network, frozenset({NETWORK})),
    UNTRAINED: Method(fit_untrained, frozenset({UNTRAINED})),
    "zero": Method(images.fit_zero, blind=True),
    "constant": Method(images.fit_constant, TRAIN, blind=True),
    "mean": Method(images.fit_mean, TRAIN, blind=True),
    "median": Method(images.fit_median, TRAIN, blind=True),
    "linear": Method(images.fit_linear, TRAIN),
    ORACLE: Method(oracle.fit_oracle, TRAIN | {"witnessed"}, truth=True),
    "wiener": Method(wiener.fit_recorded, TRAIN | {"series", "recorded"}),
    "wiener + derived": Method(wiener.fit_derived, TRAIN | {"series", "derived"}),
}
BLIND = [name for name, method in METHODS.items() if method.blind]
# image methods that need no network: what its summary names the best of
BASELINES = [*BLIND, "linear"]
