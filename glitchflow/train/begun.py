"""What a run that goes on keeps of how it was begun."""

from pathlib import Path
from typing import Any

from glitchflow.config import Experiment
from glitchflow.errors import InputError
from glitchflow.train import checkpoint
from glitchflow.train.setup import Training, training_of

# keys that change nothing in a result
HARMLESS = {
    "loader.cache_gb",
    "loader.cache_gpu_gb",
    "loader.cache_dir",
    "train.threads",
    "train.timeout",
    "train.restarts",
    "train.checkpoint_every",
    "train.keep",
    "train.keep_best",
    "train.samples",
    "train.grace",
}
# and those that may change, too, from one part of a run to the next
FREE = HARMLESS | {
    "train.epochs",
    "train.workers",
    "train.early_stop",
    "train.autotune",
    "train.init_from",  # counts at the beginning only; the checkpoint may be gone by now
    "train.init_normalisation",
}


def as_begun(experiment: Experiment, directory: Path) -> Experiment:
    """With the lanes that a run there was begun with, where the configuration leaves their number open.

    Raises `InputError` where these workers are more: some would have none.
    """
    found, train = checkpoint.by_step(directory / "checkpoints"), experiment.train
    if experiment.loader.lanes is not None or not found:
        return experiment
    lanes = checkpoint.open_checkpoint(found[-1]).meta.config["loader"]["lanes"]
    if train.range[1] > lanes:
        raise InputError(
            f"train.workers = {train.workers}: must be at most loader.lanes = {lanes}, with which {directory} was"
            " begun; --overwrite it or choose another workdir"
        )
    return experiment.model_copy(update={"loader": experiment.loader.model_copy(update={"lanes": lanes})})


def same_run(training: Training, directory: Path) -> None:
    """Refuse to go on with a run that was begun with other settings."""
    found = checkpoint.by_step(directory / "checkpoints")
    if not found:
        return
    default, before, now = map(
        _keys,
        (
            training_of(Experiment()).to_json(),  # of keys that there were not when it was begun
            checkpoint.open_checkpoint(found[-1]).meta.config,
            training.to_json(),
        ),
    )
    before = default | before
    for key, value in now.items():
        if before[key] != value and key not in FREE:
            raise InputError(
                f"{directory}: was begun with {key} = {before[key]}, not {value};"
                " --overwrite it or choose another workdir"
            )


def _keys(config: dict[str, Any]) -> dict[str, Any]:
    """The seed and the keys of the sections that training reads, as section.key."""
    flat = {
        f"{name}.{key}": value for name in ("loader", "model", "train") for key, value in config[name].items()
    }
    return {"seed": config["seed"], **flat}
