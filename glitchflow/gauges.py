"""How a run is getting on, as gauges on Ray's own metrics endpoint: `ray_glitchflow_*`, for Prometheus.

A process that is in no Ray says nothing. The endpoint is the node's, at the port that Ray gives it.
"""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

GAUGES = {
    "done": "of the stage so far, in its unit",
    "left": "parts (shards, files, blocks) that are not done",
    "per_second": "of the stage, in its unit, since it began",
    "loss": "of the training, over the last steps",
    "validation_loss": "of the training, of the last epoch",
    "samples_per_second": "of the training, all workers",
    "waiting_for_data": "share of the training's time",
}


def tell(run: str, values: Mapping[str, float]) -> None:
    """Set the gauges among `values`, with the run's name as their tag `run`; other values are left alone."""
    there = sys.modules.get("ray")  # to import it takes a second
    if there is None or not there.is_initialized():
        return
    for name in GAUGES.keys() & values.keys():
        _gauge(name).set(values[name], {"run": run})


@cache
def _gauge(name: str) -> Any:
    from ray.util.metrics import Gauge

    return Gauge(f"glitchflow_{name}", description=GAUGES[name], tag_keys=("run",))
