"""The table of methods: everything that is compared, in the order in which it is shown."""

from dataclasses import dataclass
from functools import partial

from glitchflow.methods import images, oracle, reference, wiener
from glitchflow.methods.method import Block, Method, Read, Removed

NETWORK, UNTRAINED, NOTHING, ORACLE = "network", "untrained", "nothing", "oracle"


@dataclass(frozen=True)
class Predicted:
    """Stands for a network, whose predictions are handed in."""

    read: Read

    def removed(self, block: Block) -> Removed:
        """Return what the network generated for a block."""
        return Removed(self.read(block.events))


def predicted(name: str) -> Method:
    """Make the row of a network, which only finds what the network of that name generated."""
    return Method(lambda train: Predicted(train.predictions[name]), frozenset({name}))


TRAIN, SERIES = frozenset({"train"}), frozenset({"train", "series"})
METHODS: dict[str, Method] = {
    NETWORK: predicted(NETWORK),
    UNTRAINED: predicted(UNTRAINED),
    NOTHING: Method(images.fit_nothing, blind=True),
    "constant": Method(images.fit_constant, TRAIN, blind=True),
    "gate": Method(images.fit_gate, blind=True),
    "mean": Method(images.fit_mean, TRAIN, blind=True),
    "loudest_witness": Method(images.fit_loudest),
    "loudest_thresholded": Method(images.fit_thresholded),
    "linear": Method(images.fit_linear, TRAIN),
    "wiener": Method(partial(wiener.fit, derived=False), SERIES | {"recorded"}),
    "wiener_derived": Method(partial(wiener.fit, derived=True), SERIES | {"derived"}),
    "wiener_mask": Method(wiener.fit_mask, SERIES),
    ORACLE: Method(oracle.fit, TRAIN | {"truth"}, truth=True),
    "reference": Method(reference.fit, SERIES | {"truth", "couplings"}, truth=True, seeing=False),
}
GUESSES = (
    NOTHING,
    "constant",
    "mean",
)  # blind ones that expect an energy: the best of them is `skill`'s zero
BASELINES = [
    name for name, method in METHODS.items() if not method.truth and name not in (NETWORK, UNTRAINED)
]
