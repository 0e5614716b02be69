"""The table of methods: everything that is compared, in the order in which it is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from glitchflow.config import import_path
from glitchflow.methods import images, oracle, reference, wiener
from glitchflow.methods.coherent import Subtraction
from glitchflow.methods.method import Block, Fit, Fitted, Method, Read, Removed, Train
from glitchflow.score.mask import removal_mask
from glitchflow.signal.types import Array

NETWORK, UNTRAINED, NOTHING, ORACLE = "network", "untrained", "nothing", "oracle"


@dataclass(frozen=True)
class Predicted:
    """Stands for a network, whose predictions are handed in."""

    read: Read

    def removed(self, block: Block) -> Removed:
        """Return what the network generated for a block."""
        return Removed(self.read(block.events))


def predicted(name: str, known: Read | Subtraction | None = None) -> Method:
    """Make the row of a network, of what is `known` of it: what it generated is read; a method that is ready is taken
    as it is, and looks at the strain."""
    if isinstance(known, Subtraction):
        return Method(lambda train: known, frozenset({name}), seeing=False)
    return Method(lambda train: Predicted(train.predictions[name]), frozenset({name}))


@dataclass(frozen=True)
class Thresholded:
    """Stands for a network of whose energies only those from a threshold on are subtracted, as `clean` does."""

    network: Fitted
    threshold: float
    floor: Array  # (F,) mean energy of the strain where nothing happened

    def removed(self, block: Block) -> Removed:
        """Return what the network generated for a block, and the mask of what is loud enough."""
        generated = self.network.removed(block).generated
        assert generated is not None, "a network generates energies"
        return Removed(generated, removal_mask(generated, self.threshold, self.floor[:, None]))


def thresholded(fit: Fit, thresholds: Sequence[float]) -> Fit:
    """Take a fit's network at several thresholds in place of all methods, each named by its threshold."""
    fitted: dict[str, Fitted] = {f"{t:g}": Thresholded(fit.fitted[NETWORK], t, fit.floor) for t in thresholds}
    return replace(fit, methods=dict.fromkeys(fitted, fit.methods[NETWORK]), fitted=fitted)


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
    "wiener_robust": Method(wiener.fit_robust, SERIES | {"recorded"}),
    "wiener_mask": Method(wiener.fit_mask, SERIES),
    ORACLE: Method(oracle.fit, TRAIN | {"truth"}, truth=True),
    "reference": Method(reference.fit, SERIES | {"truth", "couplings"}, truth=True, seeing=False),
}


def row_of(name: str, key: str) -> Method:
    """Find a method of the table, or one of a user's own by the import path of the function that fits it.

    key: that names it. Raises `InputError` for another name.
    """
    return METHODS.get(name) or own(import_path(name, key, METHODS))


def own(fit: Callable[[Train], Fitted]) -> Method:
    """Make the row of a function that fits a user's own method.

    It may say by attributes what `Method` has: `needs` (else the train split and series), `blind`, and `seeing`; unless
    it says that it makes what it expects of the witnesses alone, it counts as one that looks at the strain.
    """
    said = {name: getattr(fit, name, False) for name in ("blind", "seeing")}
    return Method(fit, frozenset(getattr(fit, "needs", SERIES)), **said)


GUESSES = (
    NOTHING,
    "constant",
    "mean",
)  # blind ones that expect an energy: the best of them is `skill`'s zero
BASELINES = [
    name for name, method in METHODS.items() if not method.truth and name not in (NETWORK, UNTRAINED)
]
