"""Whether a dataset can teach, before anything is trained: every method that needs no network, on the validation split.

Blind methods (nothing, constant, mean) do not look at the witnesses; the oracle knows the witnessed part of the strain
exactly, but not the noise. Where its likelihood is not clearly better than the best blind one, there is nothing to
learn. The test split is left alone.
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from glitchflow.config import Baseline, Cluster, Evaluate, Experiment, Loader
from glitchflow.data.identity import fingerprint
from glitchflow.data.objects import write_text
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.methods.compare import basis_of, compare, fit_methods
from glitchflow.methods.table import GUESSES, ORACLE
from glitchflow.progress import say
from glitchflow.score.lines import method_lines
from glitchflow.score.made import Measured, Who
from glitchflow.score.statistics import Bootstrap, bootstrap_difference
from glitchflow.score.table import plain, score_table

EVENTS = 512  # that a dataset is judged by at most: its verdict is about thousands of pixels each


@dataclass(frozen=True)
class Terms:
    """Says what a dataset is judged by: what a network would be shown, and how scores are made."""

    loader: Loader
    evaluate: Evaluate
    threshold: float  # clean.threshold
    baseline: Baseline
    cluster: Cluster
    seed: int

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        """Take the sections of an experiment that the judgement depends on."""
        e = experiment
        return cls(e.loader, e.evaluate, e.clean.threshold, e.baseline, e.cluster, e.seed)

    def fingerprint(self, dataset: Dataset) -> str:
        """Hash what the scores depend on: the store as it is, the loader, the scores' settings."""
        parts = [
            dataset.attributes["config"],
            dataset.provenance["date"],
            len(dataset),
            self.seed,
            self.loader.model_dump(mode="json", include={"witnesses", "subset"}),
            self.evaluate.model_dump(mode="json", include={"quiet", "bootstrap", "band", "segment"}),
            self.threshold,
        ]
        return fingerprint(parts)


def gate(dataset: Dataset, terms: Terms, path: Path) -> None:
    """Say what the dataset can teach; measured anew only where the file at `path` is of other data or terms.

    Raises `InputError` where the oracle is not clearly better than the best blind method and `baseline.refuse` is
    not false.
    """
    if not len(dataset.indices("validation")) or not len(dataset.indices("train")):
        say("no events to judge the dataset by: its train or validation split is empty")
        return
    known = _known(path)
    if known.get("made_from") == terms.fingerprint(dataset):
        say(table(known))
    else:
        known = judge(dataset, terms, path)
    if known["verdict"]["teaches"] is False and terms.baseline.refuse:
        raise InputError(
            f"{dataset.path}: {known['verdict']['words']}; baseline.refuse=false trains on it all the same"
        )


def _known(path: Path) -> dict[str, Any]:
    """What was measured before; nothing where a file is damaged, for it is measured anew then."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = json.loads(path.read_text())
        return found if isinstance(found, dict) else {}
    return {}


def judge(dataset: Dataset, terms: Terms, path: Path) -> dict[str, Any]:
    """Measure, say the result, and write it to `path`."""
    result = plain(measure(dataset, terms) | {"made_from": terms.fingerprint(dataset)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(result, indent=1, allow_nan=False))
    say(table(result))
    return result


def measure(dataset: Dataset, terms: Terms) -> dict[str, Any]:
    """Compute all scores of the methods that need no network, per family, on the validation split, and the verdict.

    Raises `InputError` where the train or the validation split is empty.
    """
    subset = terms.loader.subset
    basis, events = basis_of(dataset, terms.loader), dataset.indices("validation")[: subset.validation]
    if not len(events):
        raise InputError(f"{dataset.path}: its validation split is empty")
    fit = fit_methods(dataset, basis, terms.threshold, subset.train, settings=terms.evaluate)
    scored = compare(dataset, events[:EVENTS], fit, None, terms.cluster)
    interval = Bootstrap(terms.seed, terms.evaluate.bootstrap)
    witnessed = dataset.witnessed_labels
    families = scored.families(dataset.labels, witnessed, terms.evaluate.quiet / dataset.config.qplot.span)
    return {
        "events": len(scored.events),
        "families": score_table(scored.columns, families, witnessed, interval),
        "verdict": verdict(scored.columns, families, witnessed, interval),
    }


def verdict(
    measured: Measured, families: dict[str, Who], witnessed: list[str], interval: Bootstrap
) -> dict[str, Any]:
    """Judge whether the data can teach, and say so in words. `teaches` is null where no oracle is known."""
    together = families.get("witnessed") or next((families[n] for n in witnessed if n in families), None)
    if together is None or ORACLE not in measured:
        return {
            "teaches": None,
            "words": "no oracle: nothing says what the witnesses explain of these events",
        }
    some = together.family | together.quiet
    nll = {name: measured[name]["nll"][some] for name in (*GUESSES, ORACLE)}
    best = min(GUESSES, key=lambda name: nll[name].mean())
    gain = bootstrap_difference(nll[best], nll[ORACLE], *interval)
    teaches = gain.low > 0
    words = (
        f"the data can{'' if teaches else 'not'} teach: over {int(together.family.sum())} witnessed and"
        f" {int(together.quiet.sum())} quiet validation events the oracle's NLL per pixel is {gain.value:.4f}"
        f" [{gain.low:.4f}, {gain.high:.4f}] below the best blind method's ({best})"
        f"{'' if teaches else ', which is not clearly below'}"
    )
    return {"teaches": teaches, "best_blind": best, "gain": asdict(gain), "words": words}


def table(result: dict[str, Any]) -> str:
    """Write the scores as text: a block per family, a line per method."""
    lines = [f"validation split: {result['events']} events"]
    for family, entry in result["families"].items():
        lines.append(f"  {family}, {entry['events']} events, {entry['glitches']} glitches")
        lines += [f"    {line}" for line in method_lines(entry["scores"])]
    return "\n".join([*lines, result["verdict"]["words"]])
