"""Whether what a network says may be subtracted at all: what that does to events of the validation split.

    simulated events    `residual` must be below that of doing nothing, 1, and of the linear method
    recorded windows    at most `SHARE` of them may be `made_worse`, and all together by no more than one may be

Shapes: E event.
"""

from dataclasses import dataclass, replace

import numpy as np

from glitchflow.analysis.opened import Opened
from glitchflow.config import Evaluate
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.methods.coherent import Subtraction
from glitchflow.methods.compare import Comparison, fit_method
from glitchflow.methods.method import Fit
from glitchflow.methods.table import NETWORK, NOTHING, Predicted, Thresholded, predicted
from glitchflow.score.made import Columns, Who, families
from glitchflow.score.power import WORSE
from glitchflow.score.statistics import Bootstrap
from glitchflow.score.table import SCORES
from glitchflow.signal.types import Indices

EVENTS = 256  # of the validation split at most: they take seconds, and know a share of 5 % to 1.4 %
SHARE = 0.05  # of windows; the best method on real witnesses, robust Wiener filters, makes 0 to 2 % worse
LINEAR, RECORDED = "linear", ("made_worse", "power_left")


@dataclass(frozen=True)
class Verdict:
    """Says how a network did on validation events."""

    events: int
    scores: dict[str, dict[str, float]]  # by score and method: residual, or made_worse and power_left

    @property
    def reproach(self) -> str:
        """Say in words what the network is worse than; empty where it may subtract."""
        if "residual" in self.scores:
            values = self.scores["residual"]
            mine, beside = values[NETWORK], {NOTHING: 1.0, **values}
            better = [f"{name} ({value:.3g})" for name, value in beside.items() if value < mine]
            much = f"has a residual of {mine:.3g} on {self.events} validation events, worse than "
            return f"{much}{' and '.join(better)}" if better else ""
        worse, left = (self.scores[name][NETWORK] for name in RECORDED)
        words = []
        if worse > SHARE:
            words.append(
                f"makes {worse:.1%} of {self.events} validation windows worse, more than {SHARE:.0%}"
            )
        if left > 1 + WORSE:
            words.append(
                f"leaves {left - 1:.0%} more power in {self.events} validation windows than it found"
            )
        return " and ".join(words)


def judge(run: Opened, threshold: float, settings: Evaluate, interval: Bootstrap) -> Verdict | None:
    """Judge the network of a run; None where no validation event says anything of it.

    threshold: clean.threshold, from which on energies are subtracted.
    """
    dataset = run.dataset
    events = dataset.indices("validation")[:EVENTS]
    if not len(events) or "series" not in dataset:
        return None
    fit = _fit(run, threshold, settings)
    columns = Comparison(dataset, fit, None, True).score(tuple(events.tolist())).columns
    asked = RECORDED if dataset.recorded else ("residual",)
    who = _who(dataset, events, columns[NETWORK], settings.quiet)
    if who is None or not all(SCORES[score].needs <= columns[NETWORK].keys() for score in asked):
        return None
    scores = {
        score: {name: SCORES[score].over(columns, name, who, interval).value for name in columns}
        for score in asked
    }
    known = np.isfinite([value for values in scores.values() for value in values.values()]).all()
    return Verdict(len(events), scores) if known else None


def _who(dataset: Dataset, events: Indices, columns: Columns, quiet: float) -> Who | None:
    """All windows; of simulated events the witnessed families together, None where nothing is witnessed."""
    if dataset.recorded:
        every = np.ones(len(events), bool)
        return Who(every, ~every, ~every, None)
    power = columns.get("transients2", columns.get("witnessed2"))
    if power is None:
        return None
    labels, witnessed = dataset.labels, dataset.witnessed_labels
    ratio = quiet / dataset.config.qplot.span
    rows = families(dataset.events("label", events), labels, witnessed, power >= 1, ratio)
    return next((who for name, who in reversed(rows.items()) if name in ("witnessed", *witnessed)), None)


def refuse(found: Verdict | None, network: object) -> None:
    """Raise `InputError` where validation says that a network does harm."""
    if found and found.reproach:
        raise InputError(f"{network}: {found.reproach}; --force subtracts all the same")


def _fit(run: Opened, threshold: float, settings: Evaluate) -> Fit:
    """The network as `clean` subtracts it, and beside it the linear method, where that can be fitted, or nothing."""
    training = run.basis.training
    learned = not run.dataset.recorded and training is not None and len(training.indices("train"))
    fit = fit_method(run.dataset, run.basis, LINEAR if learned else NOTHING, threshold, settings)
    known = run.methods[NETWORK]
    ready = known if isinstance(known, Subtraction) else Thresholded(Predicted(known), threshold, fit.floor)
    methods = {NETWORK: predicted(NETWORK, known), **fit.methods}
    return replace(fit, methods=methods, fitted={NETWORK: ready, **fit.fitted})
