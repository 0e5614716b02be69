"""The main finding in words, first on the page, and the few numbers behind it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from glitchflow.analysis.report.run import Run
from glitchflow.methods.table import METHODS, NETWORK, NOTHING, UNTRAINED
from glitchflow.score.table import SCORES, number, share

# of recorded data nobody knows the residual, nor the skill; without series there is no power left either
HEADLINES = ("residual", "power_left", "skill", "nll")
BOUNDS = {"oracle": "the perfect mask", "reference": "the reference"}
BLIND = {name for name, method in METHODS.items() if method.blind}
NO_RIVALS = {NETWORK, UNTRAINED, *(name for name, method in METHODS.items() if method.truth)}
SIGN = {"lower": 1, "higher": -1}
Tile = tuple[str, str, str]


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
    headline, words = _against_others(name, entry, run.result)
    sentences += [words, *_exceptions(name, run.result)]
    for make in (_headline, _worse, _skill, _removed, _veto, _kept, _drift):
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


def headline_score(entry: dict[str, Any]) -> str | None:
    """Name the score that methods are ranked by: the first of `HEADLINES` that the network has a value of."""
    scores = entry["scores"][NETWORK]
    return next((name for name in HEADLINES if scores.get(name, {}).get("value") is not None), None)


def best_other(entry: dict[str, Any], name: str) -> str | None:
    """Name the best method beside the network, by a score; not those that know the answer, nor the untrained one, nor
    by power those that look at no witness: to take everything leaves none."""
    no_rivals = NO_RIVALS | (BLIND if name == "power_left" else set())
    known = {n: row[name]["value"] for n, row in entry["scores"].items() if n not in no_rivals}
    known = {n: value for n, value in known.items() if value is not None}
    return min(known, key=lambda n: SIGN[SCORES[name].better] * known[n]) if known else None


def _verdict(entry: dict[str, Any], name: str) -> str:
    """How the network stands to doing nothing and to the best other method: words that complete "The network is"."""
    rows = entry["scores"]
    if not _clear(name, rows[NETWORK], rows[NOTHING]):
        worse = _clear(name, rows[NOTHING], rows[NETWORK])
        return "worse than doing nothing" if worse else "not clearly better than doing nothing"
    best = best_other(entry, name)
    if best is None or _clear(name, rows[NETWORK], rows[best]):
        return "better than every other method"
    return f"{'worse' if _clear(name, rows[best], rows[NETWORK]) else 'not clearly better'} than {best}"


def _clear(name: str, first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether the intervals say that the first is better: they are apart."""
    better, worse = (first, second) if SCORES[name].better == "higher" else (second, first)
    low, high = better[name]["low"], worse[name]["high"]
    return low is not None and high is not None and low > high


def _against_others(family: str, entry: dict[str, Any], result: dict[str, Any]) -> tuple[str, str]:
    name = headline_score(entry)
    if name is None:
        return "Nothing says how good the network is", f"No score of {family} has a value."
    rows, best = entry["scores"], best_other(entry, name)
    beside = {NOTHING: "doing nothing", **BOUNDS, UNTRAINED: "itself before training"}
    if best not in (None, NOTHING):
        beside = {str(best): f"the best other method, {best},", **beside}
    known = [
        f"{words} {_short(rows[n][name])}"
        for n, words in beside.items()
        if n in rows and rows[n][name]["value"] is not None
    ]
    which = "witnessed" if family == "witnessed" else f"“{family}”"
    quiet = f", with {result['quiet']:g} s of quiet time beside each glitch" if name == "residual" else ""
    words = (
        f"On {entry['events']} {which} events{quiet}, the network’s {SCORES[name].words} is"
        f" {SCORES[name].form(rows[NETWORK][name])}; {', '.join(known)}."
    )
    return f"The network is {_verdict(entry, name)}", words


def _exceptions(subject: str, result: dict[str, Any]) -> Iterator[str]:
    """Witnessed families on which the network is not clearly better than doing nothing."""
    behind = []
    for family, entry in result["families"].items():
        name = headline_score(entry)
        if entry["witnessed"] and family != subject and name is not None:
            rows = entry["scores"]
            if not _clear(name, rows[NETWORK], rows[NOTHING]):
                behind.append(f"{family} ({name} {SCORES[name].form(rows[NETWORK][name])})")
    if behind:
        yield f"It is not clearly better than doing nothing on {', '.join(behind)}."


def _headline(run: Run, entry: dict[str, Any]) -> tuple[str, Tile] | None:
    name = headline_score(entry)
    if name is None or entry["scores"][NETWORK]["left"]["value"] is None:
        return None
    row = entry["scores"][NETWORK]
    words = (
        f"It leaves {share(row['left'])} of the glitches’ power, and adds {share(row['noise_added'])} of the strain’s"
        " own noise to quiet time."
    )
    nothing = f"doing nothing: {_short(entry['scores'][NOTHING][name])}"
    return words, (_short(row[name]), SCORES[name].words, nothing)


def _worse(run: Run, entry: dict[str, Any]) -> tuple[str, Tile] | None:
    row = entry["scores"][NETWORK]
    if row["power_left"]["value"] is None:
        return None
    words = (
        f"Of the median window it leaves {number(row['power_left_median'])} of the power in the band, and"
        f" makes {share(row['made_worse'])} of the windows worse. What no witness sees stays."
    )
    return words, (
        _percent(row["made_worse"]),
        "of windows made worse",
        f"power left: {_short(row['power_left'])}",
    )


def _removed(run: Run, entry: dict[str, Any]) -> tuple[str, Tile] | None:
    rows = entry["scores"]
    if rows[NETWORK]["removed"]["value"] is None:
        return None
    # what is removed, never without what it costs
    pairs = {n: (_percent(row["removed"]), _percent(row["destroyed"])) for n, row in rows.items()}
    others = "; ".join(f"{n} {' for '.join(pairs[n])}" for n in ("constant", "gate", "linear") if n in pairs)
    removed, destroyed = pairs[NETWORK]
    words = f"It removes {removed} of their energy and destroys {destroyed} where no witness sees anything ({others})."
    return words, (removed, "of the glitches’ energy removed", f"{destroyed} destroyed beside them")


def _skill(run: Run, entry: dict[str, Any]) -> tuple[str, Tile] | None:
    skill = entry["scores"][NETWORK]["skill"]
    if skill["value"] is None:
        return None
    words = f"Its likelihood of the energies has a skill of {number(skill)}: 0 is the best blind guess, 1 the truth."
    return words, (f"{skill['value']:.2f}", "skill", f"95 %: {skill['low']:.2f} to {skill['high']:.2f}")


def _veto(run: Run, entry: dict[str, Any]) -> tuple[str, Tile] | None:
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


def _kept(run: Run, entry: dict[str, Any]) -> tuple[str, Tile] | None:
    median, least = (entry["scores"][NETWORK].get(f"snr_kept_{name}") for name in ("median", "p1"))
    if not median or not least or median["value"] is None:
        return None
    words = (
        f"Of signals on top of glitches cleaning keeps {share(median)} of the signal-to-noise ratio (median; 1st"
        f" percentile {_percent(least)})."
    )
    return words, (
        _percent(median),
        "of a signal’s SNR kept on glitches",
        f"1st percentile {_percent(least)}",
    )


def _drift(run: Run, entry: dict[str, Any]) -> tuple[str, Tile] | None:
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


def _short(value: dict[str, Any]) -> str:
    found = value["value"]
    return "–" if found is None else f"{found:.2g}" if 0 < found < 0.1 else f"{found:.2f}"


def _percent(value: dict[str, Any]) -> str:
    return "–" if value["value"] is None else f"{round(value['value'], 3) + 0.0:.1%}"


def _range(value: dict[str, Any]) -> str:
    low, high = (round(value[k], 3) + 0.0 for k in ("low", "high"))
    return f"{low:.1%} to {high:.1%}"
