"""Configurations that stores and checkpoints were made with before, in today's keys."""

from typing import Any

MOVED = {
    "qplot.fduration": "whiten.length",
    "qplot.fftlength": "whiten.fftlength",
    "qplot.highpass": "whiten.highpass",
    "clean.truth": "evaluate.truth",
}

GONE = {f"simulate.detector.coupling.{name}": "simulate.detector.drift" for name in ("drift", "drift_period")}


def upgrade(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration stored by any version so far, with today's keys; one of today's comes back equal.

    Series were float64 where `store.series` was true. Couplings that drifted as a sine are no more; what was made with
    them stays readable.
    """
    tree = {name: dict(value) if isinstance(value, dict) else value for name, value in config.items()}
    for old, new in MOVED.items():
        (was_in, was), (section, name) = old.split("."), new.split(".")
        if was in tree.get(was_in, {}):
            tree.setdefault(section, {})[name] = tree[was_in].pop(was)
    store = tree.get("store", {})
    if isinstance(store.get("series"), bool):
        store["series"] = "float64" if store["series"] else "none"
    if "ingest" in tree and "simulate" not in tree and isinstance(tree.get("split"), dict):
        tree["split"].setdefault("order", "blocks")
    detector = tree.get("simulate", {}).get("detector", {})
    if "drift_period" in detector.get("coupling", {}):
        kept = {
            n: v for n, v in detector["coupling"].items() if f"simulate.detector.coupling.{n}" not in GONE
        }
        tree["simulate"]["detector"] = detector | {"coupling": kept}
    return tree
