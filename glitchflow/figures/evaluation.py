"""The figures of an evaluation, drawn from its `metrics.json` alone."""

from typing import Any

from matplotlib.figure import Figure

from glitchflow.figures import curves
from glitchflow.methods.table import NETWORK, UNTRAINED

CURVES = (NETWORK, "linear", "mean", UNTRAINED, "oracle", "wiener")  # drawn; all are in the tables


def figures(result: dict[str, Any]) -> dict[str, Figure]:
    """Draws figures by name: removed, accuracy, cleaned, roc, veto, and attribution and drift where given."""
    table = result["thresholds"]
    names = [name for name in CURVES if name in table]
    drawn = {"removed": _removed(result)}
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
    return drawn


def _removed(result: dict[str, Any]) -> Figure:
    bars = {
        family: {n: entry["scores"][n]["removed"] for n in CURVES if n in entry["scores"]}
        for family, entry in result["families"].items()
        if entry["witnessed"] and entry["scores"][NETWORK]["removed"]["value"] is not None
    }
    return curves.excess_by_family(bars)
