"""The figures of an evaluation, drawn from its `metrics.json` alone."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from glitchflow.figures import curves
from glitchflow.methods.table import NETWORK, UNTRAINED
from glitchflow.score.table import SCORES

# those that are drawn, of as many as can be told apart; all are in the tables
CURVES = (NETWORK, "linear", "mean", UNTRAINED, "oracle", "wiener")
SUBTRACTING = (NETWORK, "wiener", "wiener_derived", "oracle", "reference")
BARS = (NETWORK, UNTRAINED, "linear", "wiener", "loudest_witness", "constant", "oracle", "reference")


def figures(result: dict[str, Any]) -> dict[str, Figure]:
    """Draws figures by name: headline, left, price, accuracy, cleaned, noise_only, roc, veto, and attribution, drift,
    chance where there are any."""
    table = result["thresholds"]
    names = [name for name in CURVES if name in table]
    drawn = _headline(result) | _left(result) | _price(result)
    for score, words in (("accuracy", "veto accuracy"), ("cleaned", "events without a cluster")):
        shares = {name: table[name][score] for name in names if score in table[name]}
        drawn[score] = curves.against_threshold(table["thresholds"], shares, words)
    drawn["noise_only"] = curves.against_threshold(
        table["thresholds"], {"background": table["noise_only"]}, "noise alone has a cluster"
    )
    drawn["roc"] = curves.roc({name: result["roc"][name] for name in names if name in result["roc"]})
    vetoes = result["veto"]["methods"]
    drawn["veto"] = curves.veto({name: vetoes[name] for name in names if name in vetoes})
    if result["attribution"]:
        drawn["attribution"] = curves.attribution(result["attribution"])
    if result["drift"]:
        drawn["drift"] = curves.drift(result["drift"])
    if result.get("chance"):
        drawn["chance"] = curves.reliability(result["chance"]["reliability"])
    return drawn


def _headline(result: dict[str, Any]) -> dict[str, Figure]:
    """The residual per family; of recorded data the power left, and the skill where a store has no series."""
    for score, nothing in (("residual", 1.0), ("power_left", 1.0), ("skill", 0.0)):
        if bars := _bars(result, score, BARS):
            return {"headline": curves.by_family(bars, SCORES[score].words, nothing, nothing > 0)}
    return {}


def _left(result: dict[str, Any]) -> dict[str, Figure]:
    """What is left of glitches per family, where there are series: quiet time does not hide it."""
    bars = _bars(result, "left", SUBTRACTING)
    return {"left": curves.by_family(bars, SCORES["left"].words, 1.0, True)} if bars else {}


def _bars(result: dict[str, Any], score: str, methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A score by family and method, of the families for which the network has one, witnessed ones where any is."""
    witnessed = any(entry["witnessed"] for entry in result["families"].values())
    return {
        family: {n: entry["scores"][n][score] for n in methods if n in entry["scores"]}
        for family, entry in result["families"].items()
        if entry["witnessed"] >= witnessed and entry["scores"][NETWORK][score]["value"] is not None
    }


def _price(result: dict[str, Any]) -> dict[str, Figure]:
    """What each method gets against what it costs, over all witnessed families, or the last one."""
    for entry in [entry for entry in result["families"].values() if entry["witnessed"]][-1:]:
        for score, cost in (("left", "noise_added"), ("removed", "destroyed")):
            rows = {name: (row[cost]["value"], row[score]["value"]) for name, row in entry["scores"].items()}
            points = {name: point for name, point in rows.items() if None not in point}
            if points:
                words = SCORES[cost].words, SCORES[score].words
                return {"price": curves.prices(points, *words, SCORES[score].better == "lower", NETWORK)}
    return {}
