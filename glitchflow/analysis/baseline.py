"""What a dataset can teach, before anything is trained: baselines and oracle on the test split.

Blind baselines (zero, constant, mean, median) do not look at the witnesses; `linear` and the Wiener filters do; the
oracle knows the witnessed part of the strain exactly, but not the noise. Where it is not clearly better than the best
blind baseline, there is nothing to learn.

Shapes: E event of the test split, C channel, F frequency, T time, N sample.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from glitchflow.analysis.evaluate import event_scores as scores
from glitchflow.analysis.evaluate import scored as collect
from glitchflow.analysis.evaluate import veto_scores as decide
from glitchflow.analysis.evaluate.event_scores import share
from glitchflow.config import Experiment
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError
from glitchflow.methods.wiener import add_wiener
from glitchflow.progress import say

BLIND = ("zero", "constant", "mean", "median")
ORACLE = "oracle"


def baseline(experiment: Experiment) -> Path:
    """Write `workdir/baseline.json` and return its path. Raises `InputError` where the store is missing."""
    dataset = store.open_store(experiment.dataset)
    path = Path(experiment.workdir) / "baseline.json"
    result = collect.plain(measure(experiment, dataset) | {"made_from": _fingerprint(experiment, dataset)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1, allow_nan=False))
    say(table(result))
    return path


def gate(experiment: Experiment) -> None:
    """Say what the dataset can teach; measured anew only where `baseline.json` is of another dataset or loss.

    Raises `InputError` where the oracle is not clearly better than the best blind baseline and `baseline.refuse`
    is not false.
    """
    dataset = store.open_store(experiment.dataset)
    if not len(dataset.indices("test")) or not len(dataset.indices("train")):
        say("no events to judge the dataset by: its train or test split is empty")
        return
    path = Path(experiment.workdir) / "baseline.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("made_from") == _fingerprint(experiment, dataset):
        say(table(known))
    else:
        known = json.loads(baseline(experiment).read_text())
    if known["verdict"]["teaches"] is False and experiment.baseline.refuse:
        raise InputError(
            f"{experiment.dataset}: {known['verdict']['words']}; baseline.refuse=false trains on it all the same"
        )


def measure(experiment: Experiment, dataset: store.Dataset) -> dict[str, Any]:
    """All scores of the baselines, per family, and the verdict."""
    settings = experiment.evaluate.model_copy(
        update={"thresholds": experiment.baseline.thresholds, "split": "test"}
    )
    experiment = experiment.model_copy(update={"evaluate": settings})
    basis = collect.find_basis(experiment, dataset)
    sample = collect.collect(experiment, dataset, None, basis)
    say(f"scoring {len(sample.events)} test events")
    add_wiener(experiment, dataset, basis, sample)
    levels = decide.cluster_levels(experiment, sample, collect.pixel_areas(dataset))
    masks, known = scores.families(dataset, sample), dataset.attributes["witnessed_labels"]
    each, excess = scores.event_scores(experiment, sample, basis.strain), scores.excess_scores(sample)
    families = scores.score_table(experiment, sample, masks, known, each, excess, ORACLE)
    for name, entry in families.items():
        entry["thresholds"] = decide.threshold_table(experiment, sample, levels, masks[name])
    result = {
        "loss": collect.loss_kind(experiment),
        "normalisation": basis.normalisation.kind,
        "events": len(sample.events),
        "families": families,
        "thresholds": decide.threshold_table(experiment, sample, levels),
    }
    return result | {"verdict": verdict(result)}


def verdict(result: dict[str, Any]) -> dict[str, Any]:
    """Whether the data can teach, and the words for it. `teaches` is null where no oracle is known."""
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
    """The scores as text: a block per family, a line per baseline."""
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


def _fingerprint(experiment: Experiment, dataset: store.Dataset) -> str:
    """What the scores depend on, as a hash: the store as it is, the loader, the loss, the scores' settings."""
    parts = [
        dataset.attributes["config"],
        dataset.attributes["provenance"]["date"],
        len(dataset),
        experiment.seed,
        experiment.loader.model_dump(mode="json", include={"normalise", "witnesses", "subset"}),
        collect.loss_kind(experiment),
        experiment.evaluate.model_dump(mode="json", include={"area", "mask", "bootstrap"}),
        experiment.baseline.thresholds,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
