"""The experiment: one YAML file and `section.key=value` overrides, checked before anything runs.

In: YAML and overrides (`read.py`), or a dictionary that a store or checkpoint keeps (`upgrade.py`). Out: a frozen
`Experiment` of sections, whose keys stand in `sections.py`, `training.py`, `families.py`, `recipes.py`, `stretch.py`
and `analysis.py`; unknown keys and settings that contradict each other (`checks.py`) are refused in one line. Every
stage reads the same file and sees its own part of it (`reads.py`). Start with `experiment.py`.
"""

from glitchflow.config.analysis import Baseline, Clean, Evaluate, Harm, Online, Report, Sample, Scan, Veto
from glitchflow.config.base import Section, every
from glitchflow.config.experiment import Experiment
from glitchflow.config.families import ScatteredLight
from glitchflow.config.read import NO_IMPORTS, import_path, load, named, parse
from glitchflow.config.reads import Reads, describe, listed
from glitchflow.config.recipes import Detector, Noise
from glitchflow.config.recorded import Ingest, Segments, Source, Times
from glitchflow.config.sections import (
    Cluster,
    Derived,
    Generate,
    QPlot,
    Series,
    Simulate,
    Split,
    Store,
    Whiten,
)
from glitchflow.config.stretch import Stretch
from glitchflow.config.training import Loader, Mlflow, Model, Train, Tune
from glitchflow.config.upgrade import upgrade

__all__ = [
    "NO_IMPORTS",
    "Baseline",
    "Clean",
    "Cluster",
    "Derived",
    "Detector",
    "Evaluate",
    "Experiment",
    "Generate",
    "Harm",
    "Ingest",
    "Loader",
    "Mlflow",
    "Model",
    "Noise",
    "Online",
    "QPlot",
    "Reads",
    "Report",
    "Sample",
    "Scan",
    "ScatteredLight",
    "Section",
    "Segments",
    "Series",
    "Simulate",
    "Source",
    "Split",
    "Store",
    "Stretch",
    "Times",
    "Train",
    "Tune",
    "Veto",
    "Whiten",
    "describe",
    "every",
    "import_path",
    "listed",
    "load",
    "named",
    "parse",
    "upgrade",
]
