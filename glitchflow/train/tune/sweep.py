"""A sweep over settings with Ray Tune, each trial a training run of its own on the same dataset.

    tune/trials/<name>/   trial.json, and what a training run writes: metrics.jsonl, checkpoints/, log.txt
    tune/trials.csv       a line per trial        tune/trials.png   their curves
    tune/best.yaml        the best trial's settings, ready for `glitchflow train`

A trial has a driver, which reserves no CPU, and `train.workers` Ray Train workers running the same function as
`glitchflow train`. All state is in the trials' directories: a sweep that is started again tells Ray Tune what its
trials have reported before, which takes no training, and goes on from their last checkpoints.
"""

import json
import logging
import math
import os
import shutil
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from glitchflow.cluster import joins, session
from glitchflow.config import Experiment, Train, Tune
from glitchflow.data import lease
from glitchflow.data.identity import recipe
from glitchflow.data.objects import make_directory, read, write_text
from glitchflow.data.store.dataset import Dataset, open_store
from glitchflow.errors import InputError, RunError
from glitchflow.figures import save
from glitchflow.figures.sweep import draw_trials
from glitchflow.methods.learnability import Terms, gate
from glitchflow.progress import say
from glitchflow.train.begun import HARMLESS
from glitchflow.train.fit import accelerated, clear, enough, resources, room
from glitchflow.train.setup import Training, check, training_of
from glitchflow.train.stopping import flag_is_up, until_stopped
from glitchflow.train.tune import search_space as space
from glitchflow.train.tune.trials import COST, SCORE, Work, mode, read_trials, write_table
from glitchflow.twin import kinds

ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that blows up ends without a metric
    "RAY_AIR_NEW_OUTPUT": "0",
}
FREE = HARMLESS | {"tune.trials", "tune.concurrent"}  # may change from one part of a sweep to the next


@joins
def sweep(experiment: Experiment, overwrite: bool = False) -> Path:
    """Run the trials that `tune` asks for; returns the path of the best settings, `workdir/tune/best.yaml`.

    Before the first trial, and when the settings are known to be right, it says what the dataset can teach.
    Raises `InputError` before the first trial where the space, the store or the cluster cannot do, or the dataset has
    nothing to teach; `RunError` where a signal ended the sweep or no trial finished an epoch.
    """
    directory, settings = Path(experiment.workdir) / "tune", experiment.tune
    kind = kinds.of(experiment.model.name)
    metric = kind.metric if settings.metric == "auto" else settings.metric
    settings = settings.model_copy(update={"metric": metric})
    space.check(experiment, metric)
    wanted = [] if settings.search == "optuna" else space.candidates(experiment)
    make = partial(_trial, experiment)
    make_directory(directory)
    with lease.hold(directory):
        dataset = open_store(experiment.dataset)
        if metric == "validation_residual" and "witnessed" not in dataset:
            raise InputError(
                f"tune.metric = {metric}: takes a dataset that knows the truth, unlike {dataset.path}"
            )
        begun = _begun_with(training_of(experiment), settings, dataset)
        if not overwrite:
            _same_sweep(directory, _begun_with(training_of(Experiment()), Tune(), dataset), begun)
        _check(experiment, wanted, dataset, directory / "none")
        largest = _largest(settings, experiment.train)
        enough(largest, experiment.cluster)
        if not kind.draws:
            gate(dataset, Terms.of(experiment), directory.with_name("baseline.json"))
        with session(experiment.cluster.address, experiment.cluster.cpus):
            gpu = accelerated(largest)
            if overwrite:  # now that nothing can be wrong with what comes in its place
                clear(directory)
            write_text(directory / "sweep.json", json.dumps(begun))
            at_once = room(resources(largest, gpu)) // largest.fewest
            at_once = min(at_once, settings.concurrent or at_once)
            say(f"up to {at_once} trials at once, {largest.workers} worker(s) each")
            work = Work(make, directory, metric, uuid.uuid4().hex, gpu)
            search = partial(_search, settings, experiment.seed, wanted, work, largest.epochs, at_once)
            try:
                until_stopped(search, work.flag, largest.grace)
            finally:
                shutil.rmtree(directory / "ray", ignore_errors=True)
            stopped = flag_is_up(work.flag)
        path = conclude(experiment, directory, metric)
    if stopped:
        raise RunError("the sweep was stopped; the same command goes on from its trials' checkpoints")
    return path


def _trial(experiment: Experiment, values: space.Values) -> Training:
    """The training with a trial's values."""
    return training_of(space.apply(experiment, values))


def _check(experiment: Experiment, wanted: list[space.Values], dataset: Dataset, directory: Path) -> None:
    """Raises `InputError` naming the values with which no trial could begin. A number of `train`, as a learning rate,
    decides nothing here, so that of candidates that differ in such one stands for all."""

    def decides(key: str, value: Any) -> bool:
        return not (key.startswith("train.") and isinstance(value, (int, float)))

    unlike = {}
    for values in wanted or space.each_alone(experiment):
        unlike[space.name({k: v for k, v in values.items() if decides(k, v)})] = values
    check(training_of(experiment), dataset, directory)
    for values in unlike.values():
        try:
            trial = space.apply(experiment, values, partly=not wanted)
            check(training_of(trial), dataset, directory)
        except InputError as error:
            raise InputError(f"tune.space: a trial with {values}: {error}") from None


def _largest(settings: Tune, train: Train) -> Train:
    """With the most workers, threads and epochs that a trial may have: what room there must be for one."""
    keys = ("workers", "threads", "epochs")
    update = {key: space.largest(settings, f"train.{key}", getattr(train, key)) for key in keys}
    return train.model_copy(update=update)


def _search(
    settings: Tune, seed: int, wanted: list[space.Values], work: Work, longest: int, at_once: int
) -> None:
    """Ray Tune over the candidates `wanted`, or over what Optuna suggests; `longest`: epochs of a trial."""
    os.environ |= ENVIRONMENT
    from ray import tune

    from glitchflow.train.tune.driver import Driver, Journal

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what trials fail of is said by the journal
    scheduler = tune.schedulers.FIFOScheduler()
    if settings.scheduler == "asha":
        scheduler = tune.schedulers.ASHAScheduler(
            max_t=longest, grace_period=settings.patience, reduction_factor=settings.reduction
        )
    suggested = settings.search == "optuna"
    both = suggested and settings.cost != "none"  # Tune itself compares by one number, Optuna by two
    # Tune wants a reservation: a byte of memory, so that drivers never keep a CPU from their workers
    reserved = tune.PlacementGroupFactory([{"memory": 1}])
    tune.Tuner(
        tune.with_resources(tune.with_parameters(Driver, work=work), reserved),
        param_space={} if suggested else {"values": tune.grid_search(wanted)},
        tune_config=tune.TuneConfig(
            metric=None if both else settings.metric,
            mode=None if both else mode(settings.metric),
            scheduler=scheduler,
            search_alg=_optuna(settings, seed, work.directory) if suggested else None,
            num_samples=settings.trials if suggested else 1,
            max_concurrent_trials=at_once,
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(work.directory.resolve()),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trials write their own
            callbacks=[Journal(work)],
        ),
    ).fit()


def _optuna(settings: Tune, seed: int, directory: Path) -> Any:
    """Optuna's TPE, told first what has been tried: earlier trials report again without training."""
    try:
        from ray.tune.search.optuna import OptunaSearch

        before = [trial.values for trial in read_trials(directory, settings.metric)]
        aims = {SCORE: mode(settings.metric)} | ({COST: "min"} if settings.cost != "none" else {})

        class Search(OptunaSearch):
            """Of a trial that ended without a number for each aim it says that it failed: Optuna takes no other."""

            def on_trial_complete(self, trial_id, result=None, error=False):
                known = all(math.isfinite((result or {}).get(aim, math.nan)) for aim in aims)
                super().on_trial_complete(trial_id, result if known else None, error or not known)

        several = len(aims) > 1
        return Search(
            space.domains(settings),
            metric=list(aims) if several else SCORE,
            mode=list(aims.values()) if several else aims[SCORE],
            points_to_evaluate=before or None,
            seed=seed + len(before),  # or it would begin with the same suggestions again
        )
    except (AssertionError, ImportError):
        raise InputError("tune.search = optuna: is not installed; pip install 'glitchflow[optuna]'") from None


def _begun_with(training: Training, settings: Tune, dataset: Dataset) -> dict[str, Any]:
    """What must stay the same from one part of a sweep to the next."""
    sections = {**training.to_json(), "tune": settings.model_dump(mode="json")}
    kept = {"seed": sections.pop("seed"), "dataset": recipe(dataset)}
    for section, keys in sections.items():
        kept |= {f"{section}.{key}": value for key, value in keys.items()}
    return {key: value for key, value in kept.items() if key not in FREE}


def _same_sweep(directory: Path, default: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a sweep that was begun with other settings. default: of keys that there were not then."""
    before = default | (read(directory, "sweep.json", dict[str, Any]) or now)
    for key in now:
        if before[key] != now[key]:
            raise InputError(
                f"{directory}: was begun with {key} = {before[key]}, not {now[key]};"
                " --overwrite it or choose another workdir"
            )


def conclude(experiment: Experiment, directory: Path, metric: str) -> Path:
    """Write table, figure and best settings of the trials so far, compared by a metric; returns the settings' path.

    Raises `RunError` where no trial has finished an epoch.
    """
    trials = read_trials(directory, metric)
    write_table(trials, directory / "trials.csv", metric)
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        raise RunError(f"{directory}: no trial has finished an epoch; see the log.txt of each in trials/")
    save(draw_trials(trials, metric), directory / "trials.png", dpi=120)
    best, path = scored[0], directory / "best.yaml"
    settings = space.apply(experiment, best.values).model_dump(mode="json", exclude_defaults=True)
    settings.get("cluster", {}).pop("address", None)  # of this sweep's cluster, which may be gone
    kept = {name: values for name, values in settings.items() if name != "tune" and values != {}}
    words = f"# trial {best.name}, {metric} {best.score:.6g} after epoch {best.epoch}\n"
    write_text(path, words + OmegaConf.to_yaml({"workdir": experiment.workdir, **kept}))
    say(f"best of {len(trials)} trials: {best.name}, {metric} {best.score:.4f}: {best.values}")
    return path
