"""GlitchFlow: digital twins of gravitational-wave detector noise, from witness Q-plots to the strain's.

The stages as functions of an experiment, and what reads their stores. Imported on first use, so that a command's
`--help` does not wait for torch.
"""

import importlib
from typing import Any

_HOME = {
    "load": "config",
    "generate": "data.generate",
    "ingest": "data.generate",
    "stretch": "data.stretch",
    "open_store": "data.store.dataset",
    "scan": "analysis.scan",
    "fit": "train.fit",
    "infer": "analysis.infer",
    "evaluate": "analysis.evaluate.evaluate",
    "clean": "analysis.clean.clean",
    "open_twin": "analysis.twin",
    "report": "analysis.report",
    "QTransform": "signal.qtransform",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'glitchflow' has no attribute {name!r}")
    return getattr(importlib.import_module(f"glitchflow.{_HOME[name]}"), name)
