"""The main finding in words, first on the page, and the few numbers behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from glitchflow.analysis.report.run import Run
from glitchflow.methods.table import NETWORK, ORACLE, UNTRAINED
from glitchflow.score.table import share


@dataclass(frozen=True)
class Finding:
    """Holds a headline, what it rests on, and numbers as (value, what it is, its interval or condition)."""

    headline: str
    sentences: list[str]
    numbers: list[tuple[str, str, str]]


def finding(run: Run) -> Finding:
    """Say what the run shows so far."""
    if not run.result:
        return Finding("Nothing is scored yet", list(_so_far(run)), [])
    name, entry = subject(run.result)
    sentences, numbers = [], []
    headline, words = _against_baselines(name, entry, run.result)
    sentences += [words, *_exceptions(name, run.result)]
    for make in (_excess, _veto, _harm, _drift):
        found = make(run, entry)
        if found:
            sentences.append(found[0])
            numbers.append(found[1])
    return Finding(headline, sentences, numbers)


def subject(result: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Choose the family that the finding is about: all witnessed ones together, else the largest that is no
    background."""
    families = result["families"]
    witnessed = [name for name, entry in families.items() if entry["witnessed"]]
    glitches = [name for name in families if name != "background"] or list(families)
    name = witnessed[-1] if witnessed else max(glitches, key=lambda n: families[n]["events"])
    return name, families[name]


def best_baseline(entry: dict[str, Any]) -> str:
    """Name the baseline of the lowest loss."""
    return min(baselines(entry), key=lambda n: entry["scores"][n]["loss"]["value"])


def baselines(entry: dict[str, Any]) -> list[str]:
    """List what the network is compared with; the oracle, which knows the answer, is no baseline."""
    return [name for name in entry["scores"] if name not in (NETWORK, UNTRAINED, ORACLE)]


def _against_baselines(family: str, entry: dict[str, Any], result: dict[str, Any]) -> tuple[str, str]:
    best = best_baseline(entry)
    gain = entry["scores"][best][f"loss_above_{NETWORK}"]
    if gain["low"] > 0:
        headline = "The network is better than every baseline"
    elif gain["high"] < 0:
        headline = f"The network is worse than the {best} baseline"
    else:
        headline = f"The network is not clearly better than the {best} baseline"
    which = "witnessed" if family == "witnessed" else f"“{family}”"
    words = (
        f"On {entry['events']} {which} test events the network’s loss is {_distance(gain)} that of the best baseline,"
        f" {best} ({result['loss']} per pixel, {result['normalisation']} units)."
    )
    return headline, words


def _distance(gain: dict[str, Any]) -> str:
    """How far the network's loss is below another one's, or above it."""
    if gain["value"] >= 0:
        return f"{gain['value']:.4f} [{gain['low']:.4f}, {gain['high']:.4f}] below"
    return f"{-gain['value']:.4f} [{-gain['high']:.4f}, {-gain['low']:.4f}] above"


def _exceptions(subject: str, result: dict[str, Any]) -> Iterator[str]:
    """Witnessed families on which the network is not clearly better than the best baseline."""
    behind = []
    for name, entry in result["families"].items():
        best = best_baseline(entry)
        gain = entry["scores"][best][f"loss_above_{NETWORK}"]
        if entry["witnessed"] and name != subject and not gain["low"] > 0:
            behind.append(f"{name} ({_distance(gain)} {best})")
    if behind:
        yield f"It is not clearly better on {', '.join(behind)}."


def _excess(run: Run, entry: dict[str, Any]) -> tuple[str, tuple[str, str, str]] | None:
    scores = entry["scores"]
    removed = scores[NETWORK]["excess_removed"]
    if removed["value"] is None:
        return None
    best = best_baseline(entry)
    others = f"{best} {_percent(scores[best]['excess_removed'])}"
    if ORACLE in scores:
        others += f", the oracle {_percent(scores[ORACLE]['excess_removed'])}"
    words = f"Subtraction removes {share(removed)} of their excess power; {others}."
    more = {n: scores[n]["excess_removed"] for n in baselines(entry)}
    more = {n: v for n, v in more.items() if v["value"] is not None and v["value"] > removed["value"]}
    if more:
        words += f" More than the network: {', '.join(f'{n} {share(v)}' for n, v in more.items())}."
    return words, (_percent(removed), "of the excess power removed", f"95 %: {_range(removed)}")


def _veto(run: Run, entry: dict[str, Any]) -> tuple[str, tuple[str, str, str]] | None:
    table = run.result["veto"]
    row, s = table["methods"][NETWORK]["at_veto"], table["truth"]
    efficiency, deadtime = row["efficiency"], row["deadtime"]
    words = f"As a veto at s = {s:g} it has a deadtime of {share(deadtime)}."
    if efficiency["value"] is None:
        return words, (_percent(deadtime), f"deadtime of vetoes at s = {s:g}", f"95 %: {_range(deadtime)}")
    words = (
        f"As a veto at s = {s:g} it catches {share(efficiency)} of {table['glitches']} glitches, unwitnessed ones"
        f" included, for a deadtime of {share(deadtime)}; chance would catch {row['chance']['expected']:.1f}."
    )
    return words, (_percent(efficiency), f"of glitches vetoed at s = {s:g}", f"95 %: {_range(efficiency)}")


def _harm(run: Run, entry: dict[str, Any]) -> tuple[str, tuple[str, str, str]] | None:
    harm = run.result.get("do_no_harm", {})
    kept = harm.get("kept", {}).get("alone", {})
    if kept.get("median") is None:
        return None
    words = (
        f"Cleaning keeps {kept['median']:.1%} (median; 1st percentile {kept['p01']:.1%}) of the signal-to-noise ratio"
        f" of {kept['events']} signals that no witness sees, at a mask that removes"
        f" {share(harm['excess_removed'])} of the witnessed excess power."
    )
    under = harm["kept"].get("on_glitches", {})
    if under.get("median") is not None:
        lost = f"{under['median']:.1%} ({under['p01']:.1%})"
        words += f" Of {under['events']} signals on top of glitches it keeps {lost}."
    return words, (f"{kept['median']:.1%}", "of a signal’s SNR kept", f"1st percentile {kept['p01']:.1%}")


def _drift(run: Run, entry: dict[str, Any]) -> tuple[str, tuple[str, str, str]] | None:
    drift = run.result.get("drift")
    if not drift or not drift["events"]:
        return None
    part = drift["flagged"] / drift["events"]
    words = (
        f"In {drift['flagged']} of {drift['events']} events a witness is out of the range that the network was"
        " trained on: their vetoes are not to be trusted."
    )
    return words, (
        f"{part:.1%}",
        "of events out of the trained range",
        f"{drift['flagged']} of {drift['events']}",
    )


def _so_far(run: Run) -> Iterator[str]:
    """What is known of a run without scores."""
    dataset = run.dataset
    yield f"The dataset holds {len(dataset)} events of {len(dataset.channels)} channels."
    if run.baseline:
        words = run.baseline["verdict"]["words"]
        yield f"{words[:1].upper()}{words[1:]}."
    if run.epochs:
        best = min(e["validation_loss"] for e in run.epochs)
        yield f"A network was trained for {len(run.epochs)} epochs; its best validation loss is {best:.4f}."
    if run.predictions is not None:
        yield "Its Q-plots are generated; `glitchflow evaluate` scores them."


# -- numbers -----------------------------------------------------------------------------------------------------


def nearest(thresholds: list[float], s: float) -> int:
    """Find the place of the threshold next to s."""
    return min(range(len(thresholds)), key=lambda i: abs(thresholds[i] - s))


def at(shares: dict[str, list[Any]], i: int) -> dict[str, Any]:
    """Return one threshold's share with its interval."""
    return {key: values[i] for key, values in shares.items()}


def _percent(value: dict[str, Any]) -> str:
    return "–" if value["value"] is None else f"{round(value['value'], 3) + 0.0:.1%}"


def _range(value: dict[str, Any]) -> str:
    low, high = (round(value[k], 3) + 0.0 for k in ("low", "high"))
    return f"{low:.1%} to {high:.1%}"
