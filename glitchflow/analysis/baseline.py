"""What a dataset can teach, before anything is trained: `baseline.json`. See `methods/learnability.py`."""

from pathlib import Path

from glitchflow.cluster import joins
from glitchflow.config import Experiment
from glitchflow.data.store import open_store
from glitchflow.methods import learnability


@joins
def baseline(experiment: Experiment) -> Path:
    """Write `workdir/baseline.json` and return its path. Raises `InputError` where the store is missing."""
    path = Path(experiment.workdir) / "baseline.json"
    learnability.judge(open_store(experiment.dataset), learnability.Terms.of(experiment), path)
    return path
