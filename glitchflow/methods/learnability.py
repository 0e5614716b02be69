"""Whether a dataset can teach, before anything is trained: baselines and oracle on the test split.

Blind methods (zero, constant, mean, median) do not look at the witnesses; `linear` and the Wiener filters do; the
oracle knows the witnessed part of the strain exactly, but not the noise. Where it is not clearly better than the best
blind one, there is nothing to learn.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from glitchflow.config import Baseline, Evaluate, Experiment, Loader
from glitchflow.data.identity import fingerprint
from glitchflow.data.objects import write_text
from glitchflow.data.store import Dataset
from glitchflow.data.view import axes
from glitchflow.errors import InputError
from glitchflow.methods.compare import basis_of, compare
from glitchflow.methods.table import BLIND, ORACLE
from glitchflow.progress import say
from glitchflow.score.clusters import pixel_areas
from glitchflow.score.former_table import Unit, score_events, score_table
from glitchflow.score.levels import cluster_levels, threshold_table
from glitchflow.score.table import Bootstrap, plain, share


@dataclass(frozen=True)
class Terms:
    """Says what a dataset is judged by: what a network would be shown, its loss, and how scores are made."""

    loader: Loader
    loss: str  # train.loss
    evaluate: Evaluate
    baseline: Baseline
    seed: int

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """Take the sections of an experiment that the judgement depends on."""
        e = experiment
        return cls(e.loader, e.train.loss, e.evaluate, e.baseline, e.seed)

    def fingerprint(self, dataset: Dataset) -> str:
        """Hash what the scores depend on: the store as it is, the loader, the loss, the scores' settings."""
        parts = [
            dataset.attributes["config"],
            dataset.provenance["date"],
            len(dataset),
            self.seed,
            self.loader.model_dump(mode="json", include={"normalise", "witnesses", "subset"}),
            self.loss,
            self.evaluate.model_dump(mode="json", include={"area", "mask", "bootstrap"}),
            self.baseline.thresholds,
        ]
        return fingerprint(parts)


def gate(dataset: Dataset, terms: Terms, path: Path) -> None:
    """Say what the dataset can teach; measured anew only where the file at `path` is of other data or terms.

    Raises `InputError` where the oracle is not clearly better than the best blind method and `baseline.refuse` is
    not false.
    """
    if not len(dataset.indices("test")) or not len(dataset.indices("train")):
        say("no events to judge the dataset by: its train or test split is empty")
        return
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("made_from") == terms.fingerprint(dataset):
        say(table(known))
    else:
        known = judge(dataset, terms, path)
    if known["verdict"]["teaches"] is False and terms.baseline.refuse:
        raise InputError(
            f"{dataset.path}: {known['verdict']['words']}; baseline.refuse=false trains on it all the same"
        )


def judge(dataset: Dataset, terms: Terms, path: Path) -> dict[str, Any]:
    """Measure, say the result, and write it to `path`."""
    result = plain(measure(dataset, terms) | {"made_from": terms.fingerprint(dataset)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result, indent=1, allow_nan=False))
    say(table(result))
    return result


def measure(dataset: Dataset, terms: Terms) -> dict[str, Any]:
    """Compute all scores of the methods that need no network, per family, on the test split, and the verdict.

    Raises `InputError` where the train or the test split is empty.
    """
    subset, thresholds = terms.loader.subset, terms.baseline.thresholds
    basis, events = basis_of(dataset, terms.loader), dataset.indices("test")[: subset.test]
    if not len(events):
        raise InputError(f"{dataset.path}: its test split is empty")
    unit = Unit.of(terms.loss, basis.strain)
    sample = compare(dataset, events, basis, unit, subset.train)
    levels = cluster_levels(sample, pixel_areas(*axes(dataset, 0)), terms.evaluate.area)
    masks, quiet = sample.families(dataset.labels, dataset.witnessed_labels), sample.label == 0
    values = score_events(sample, unit, terms.evaluate.mask)
    interval = Bootstrap(terms.seed, terms.evaluate.bootstrap)
    families = score_table(values, masks, dataset.witnessed_labels, interval, ORACLE)
    for name, entry in families.items():
        entry["thresholds"] = threshold_table(levels, quiet, thresholds, masks[name])
    result = {
        "loss": unit.loss,
        "normalisation": basis.normalisation.kind,
        "events": len(events),
        "families": families,
        "thresholds": threshold_table(levels, quiet, thresholds),
    }
    return result | {"verdict": verdict(result)}


def verdict(result: dict[str, Any]) -> dict[str, Any]:
    """Judge whether the data can teach, and say so in words. `teaches` is null where no oracle is known."""
    families = result["families"]
    witnessed = [name for name, entry in families.items() if entry["witnessed"]]
    if not witnessed or ORACLE not in families[witnessed[-1]]["scores"]:
        return {
            "teaches": None,
            "words": "no oracle: nothing says what the witnesses explain of these events",
        }
    entry = families[witnessed[-1]]  # all witnessed families together, or the only one
    scores = entry["scores"]
    best = min(BLIND, key=lambda name: scores[name]["loss"]["value"])
    gain = scores[best]["loss_above_oracle"]
    teaches = gain["low"] > 0
    seeing = [name for name in scores if name not in (*BLIND, ORACLE)]
    removed = ", ".join(f"{name} {share(scores[name]['excess_removed'])}" for name in (*seeing, ORACLE))
    words = (
        f"the data can{'' if teaches else 'not'} teach: over {entry['events']} witnessed test events the oracle's loss"
        f" is {gain['value']:.4f} [{gain['low']:.4f}, {gain['high']:.4f}] below the best blind baseline's ({best})"
        f"{'' if teaches else ', which is not clearly below'}; excess power removed: {removed}"
    )
    return {"teaches": teaches, "best_blind": best, "gain": gain, "words": words}


def table(result: dict[str, Any]) -> str:
    """Write the scores as text: a block per family, a line per baseline."""
    thresholds = result["thresholds"]["thresholds"]
    noise = result["thresholds"]["noise_only"]
    rates = [
        f"{_percent(value)} at {s:g}" if resolvable else f"at most {high:.0%} at {s:g}"
        for s, value, high, resolvable in zip(
            thresholds, *(noise[k] for k in ("value", "high", "resolvable"))
        )
    ]
    columns = " ".join(f"{f'at {s:g}':>7}" for s in thresholds)
    lines = [
        f"test split: {result['events']} events, loss {result['loss']} in {result['normalisation']} units",
        "noise alone has a cluster: " + ", ".join(rates),
    ]
    for family, entry in result["families"].items():
        title = f"{family}, {entry['events']} events"
        lines.append(
            f"  {title:<38} loss  above oracle      excess removed          cleaned {columns}  veto {columns}"
        )
        for name, row in entry["scores"].items():
            above = row.get("loss_above_oracle")
            difference = "" if above is None else f"{above['value']:+.4f}"
            shares = [
                " ".join(f"{_percent(v):>7}" for v in entry["thresholds"][name][score]["value"])
                for score in ("cleaned", "accuracy")
            ]
            lines.append(
                f"    {name:<30}{row['loss']['value']:>10.4f}  {difference:>12}  {share(row['excess_removed']):>24}"
                f"          {shares[0]}         {shares[1]}"
            )
    return "\n".join([*lines, result["verdict"]["words"]])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
