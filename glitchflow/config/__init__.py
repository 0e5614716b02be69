"""The experiment: one YAML file and `section.key=value` overrides, checked before anything runs.

Every stage reads the same file and its own sections of it (`STAGES`). Unknown keys are refused with the
nearest known one, and settings of different sections that contradict each other are refused with both values.
"""

from glitchflow.config.experiment import Experiment
from glitchflow.config.read import STAGES, describe, import_path, load, named, parse
from glitchflow.config.sections import Derived
from glitchflow.config.upgrade import upgrade

__all__ = [
    "STAGES",
    "Derived",
    "Experiment",
    "describe",
    "import_path",
    "load",
    "named",
    "parse",
    "upgrade",
]
