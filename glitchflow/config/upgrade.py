"""Configurations that stores and checkpoints were made with before, in today's keys."""

from typing import Any

MOVED = {
    "qplot.fduration": "whiten.length",
    "qplot.fftlength": "whiten.fftlength",
    "qplot.highpass": "whiten.highpass",
}


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
    coupling = tree.get("simulate", {}).get("detector", {}).get("coupling", {})
    if "drift_period" in coupling:
        kept = {name: value for name, value in coupling.items() if name not in ("drift", "drift_period")}
        tree["simulate"]["detector"] = tree["simulate"]["detector"] | {"coupling": kept}
    return tree
