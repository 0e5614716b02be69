"""A sweep over settings with Ray Tune, each trial a training run of its own on the same dataset.

    tune/trials/<name>/   trial.json, and what a training run writes: metrics.jsonl, checkpoints/, log.txt
    tune/trials.csv       a line per trial        tune/trials.png   their curves
    tune/best.yaml        the best trial's settings, ready for `glitchflow train`

A trial has a driver, which reserves no CPU, and `train.workers` Ray Train workers running the same function as
`glitchflow train`. All state is in the trials' directories: a sweep that is started again tells Ray Tune what its
trials have reported before, which takes no training, and goes on from their last checkpoints.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from glitchflow.cluster import session
from glitchflow.config import Experiment
from glitchflow.data import lease
from glitchflow.data.identity import recipe
from glitchflow.data.objects import make_directory, write_text
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError, RunError
from glitchflow.progress import say
from glitchflow.score.table import SCORES
from glitchflow.train.fit import HARMLESS, accelerated, clear, launch, resources, room
from glitchflow.train.setup import check
from glitchflow.train.stopping import POLL, flag_is_up, in_thread, raise_flag, until_stopped
from glitchflow.train.tracking import read_metrics
from glitchflow.train.tune import search_space as space
from glitchflow.train.tune.trials import draw_trials, read_trials, write_table

ENVIRONMENT = {
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that blows up ends without a metric
    "RAY_AIR_NEW_OUTPUT": "0",
}
FREE = HARMLESS | {"tune.trials", "tune.concurrent"}  # may change from one part of a sweep to the next


def sweep(
    experiment: Experiment, overwrite: bool = False, gate: Callable[[Experiment], None] | None = None
) -> Path:
    """Run the trials that `tune` asks for; returns the path of the best settings, `workdir/tune/best.yaml`.

    `gate` is called before the first trial, when the settings are known to be right, and may refuse.
    Raises `InputError` before the first trial where the space, the store or the cluster cannot do; `RunError`
    where a signal ended the sweep or no trial finished an epoch.
    """
    directory = Path(experiment.workdir) / "tune"
    space.check(experiment)
    wanted = [] if experiment.tune.search == "optuna" else space.candidates(experiment)
    make_directory(directory)
    with lease.hold(directory):
        if not overwrite:
            _same_sweep(experiment, directory)
        _check(experiment, wanted, directory / "none")
        if gate:
            gate(experiment)
        with session(experiment.cluster.address, experiment.cluster.cpus):
            largest = _largest(experiment)
            gpu = accelerated(largest)
            if overwrite:  # now that nothing can be wrong with what comes in its place
                clear(directory)
            write_text(directory / "sweep.json", json.dumps(_settings(experiment)))
            at_once = room(resources(largest, gpu)) // largest.train.workers
            at_once = min(at_once, experiment.tune.concurrent or at_once)
            say(f"up to {at_once} trials at once, {largest.train.workers} worker(s) each")
            flag = uuid.uuid4().hex
            work = partial(_tune, experiment, wanted, directory, flag, gpu, at_once)
            try:
                until_stopped(work, flag, experiment.train.grace)
            finally:
                shutil.rmtree(directory / "ray", ignore_errors=True)
            stopped = flag_is_up(flag)
        return _conclude(experiment, directory, stopped)


def _check(experiment: Experiment, wanted: list[space.Values], directory: Path) -> None:
    """Raises `InputError` naming the values with which no trial could begin. A number of `train`, as a learning rate,
    decides nothing here, so that of candidates that differ in such one stands for all."""

    def decides(key: str, value: Any) -> bool:
        return not (key.startswith("train.") and isinstance(value, (int, float)))

    kinds = {}
    for values in wanted or space.each_alone(experiment):
        kinds[space.name({k: v for k, v in values.items() if decides(k, v)})] = values
    check(experiment, directory)
    for values in kinds.values():
        try:
            check(space.apply(experiment, values, partly=not wanted), directory)
        except InputError as error:
            raise InputError(f"tune.space: a trial with {values}: {error}") from None


def _largest(experiment: Experiment) -> Experiment:
    """With the most workers and threads that a trial may have: what room there must be for one."""
    settings = experiment.train
    update = {
        key: space.largest(experiment.tune, f"train.{key}", getattr(settings, key))
        for key in ("workers", "threads")
    }
    return experiment.model_copy(update={"train": settings.model_copy(update=update)})


def _tune(
    experiment: Experiment, wanted: list[space.Values], directory: Path, flag: str, gpu: bool, at_once: int
) -> None:
    """Ray Tune over the candidates, or over what Optuna suggests."""
    os.environ |= ENVIRONMENT
    from ray import tune

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what trials fail of is said by the journal

    settings = experiment.tune
    trial = _driver(experiment.model_dump(mode="json"), str(directory), flag, gpu)
    scheduler = tune.schedulers.FIFOScheduler()
    if settings.scheduler == "asha":
        longest = space.largest(settings, "train.epochs", experiment.train.epochs)
        scheduler = tune.schedulers.ASHAScheduler(
            max_t=longest, grace_period=settings.patience, reduction_factor=settings.reduction
        )
    config = tune.TuneConfig(
        metric=settings.metric,
        mode=mode(settings.metric),
        scheduler=scheduler,
        search_alg=_optuna(experiment, directory) if settings.search == "optuna" else None,
        num_samples=settings.trials if settings.search == "optuna" else 1,
        max_concurrent_trials=at_once,
    )
    # Tune wants a reservation: a byte of memory, so that drivers never keep a CPU from their workers
    tune.Tuner(
        tune.with_resources(trial, tune.PlacementGroupFactory([{"memory": 1}])),
        param_space={} if settings.search == "optuna" else {"values": tune.grid_search(wanted)},
        tune_config=config,
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(directory.resolve()),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trials write their own
            callbacks=[_journal(directory, settings.metric, flag)],
        ),
    ).fit()


def mode(metric: str) -> str:
    return {"lower": "min", "higher": "max"}[SCORES[metric.removeprefix("validation_")].better]


def _optuna(experiment: Experiment, directory: Path) -> Any:
    """Optuna's TPE, told first what has been tried: earlier trials report again without training."""
    try:
        from ray.tune.search.optuna import OptunaSearch

        before = [trial.values for trial in read_trials(directory)]
        return OptunaSearch(
            space.domains(experiment.tune),
            metric=experiment.tune.metric,
            mode=mode(experiment.tune.metric),
            points_to_evaluate=before or None,
            seed=experiment.seed + len(before),  # or it would begin with the same suggestions again
        )
    except (AssertionError, ImportError):
        raise InputError("tune.search = optuna: is not installed; pip install 'glitchflow[optuna]'") from None


def _journal(directory: Path, metric: str, flag: str) -> Any:
    """What the driver says of the trials, and notes: one that ended by itself or by ASHA does not go on later."""
    from ray import tune

    class Journal(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            if metric in result and not result.get("before"):
                label = space.name(_values(trial.config))
                say(f"trial {label}: epoch {result['epoch'] + 1}, {metric} {result[metric]:.4f}")

        def on_trial_complete(self, iteration, trials, trial, **info):
            if not flag_is_up(flag):
                (directory / "trials" / space.name(_values(trial.config)) / "ended").touch()

        def on_trial_error(self, iteration, trials, trial, **info):
            values = _values(trial.config)
            label, home = space.name(values), directory / "trials" / space.name(values)
            lines = Path(trial.error_file).read_text().split("\n") if trial.error_file else []
            reason = next((line.strip() for line in reversed(lines) if line.strip()), "its driver ended")[
                -300:
            ]
            home.mkdir(parents=True, exist_ok=True)
            if not (home / "trial.json").exists():  # its settings are what is wrong with it
                write_text(home / "trial.json", json.dumps({"values": values, "epochs": 0}))
            write_text(home / "error", reason)
            say(f"trial {label}: failed: {reason}")

    return Journal()


def _values(config: Mapping[str, Any]) -> space.Values:
    """A trial's values, as our candidates or as Optuna hands them over."""
    return dict(config.get("values", config))


def _driver(base: dict[str, Any], directory: str, stop_all: str, gpu: bool) -> Any:
    """A trial's driver, in a process that reserves no CPU: it tells Ray Tune what metrics.jsonl says, epoch by epoch.

    What was there from before is told first. Only then do workers start; they stop at a checkpoint, by a flag of
    the trial's own, when the scheduler has had enough of it, so that their places are free for the next trial.
    """
    from ray import tune

    class Driver(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.values = _values(config)
            self.experiment = space.apply(Experiment.model_validate(base), self.values)
            self.home = Path(directory) / "trials" / space.name(self.values)
            self.home.mkdir(parents=True, exist_ok=True)
            self.lease = _in_turn(self.home)
            about = {"values": self.values, "epochs": self.experiment.train.epochs}
            write_text(self.home / "trial.json", json.dumps(about))
            (self.home / "error").unlink(missing_ok=True)  # of an earlier attempt
            self.flag, self.told = uuid.uuid4().hex, 0
            self.training: Future[Any] | None = None

        def step(self) -> dict[str, Any]:
            while True:
                over = self.training is not None and self.training.done()
                lines = [x for x in read_metrics(self.home / "metrics.jsonl") if x["kind"] == "epoch"]
                if len(lines) > self.told:
                    self.told += 1
                    last = self.told >= self.experiment.train.epochs
                    return {**lines[self.told - 1], "before": self.training is None, "done": last}
                if over or (self.home / "ended").exists() or flag_is_up(stop_all):
                    self.finish()
                    return {"done": True}
                if self.training is None:
                    work = partial(launch, self.experiment, self.home, self.flag, gpu)
                    self.training = in_thread(work)
                time.sleep(POLL)

        def cleanup(self) -> None:
            raise_flag(self.flag)
            try:
                self.finish()
            finally:
                self.lease.close()

        def finish(self) -> None:
            """Wait for the workers; their error, if they had one, is the trial's."""
            raise_flag(self.flag)
            if self.training is not None:
                self.training.result(timeout=self.experiment.train.grace)

    return Driver


def _in_turn(home: Path) -> contextlib.ExitStack:
    """The lease of a trial's directory, when it is free: Optuna may suggest the same values twice at a time."""
    stack = contextlib.ExitStack()
    make_directory(home)
    while True:
        try:
            stack.enter_context(lease.hold(home))
            return stack
        except lease.Held:
            time.sleep(lease.WATCH)


def _settings(experiment: Experiment) -> dict[str, Any]:
    """What must stay the same from one part of a sweep to the next."""
    now = experiment.model_dump(mode="json")
    kept = {"seed": now["seed"], "dataset": recipe(open_store(experiment.dataset))}
    for section in ("loader", "model", "train", "tune"):
        kept |= {f"{section}.{key}": value for key, value in now[section].items()}
    return {key: value for key, value in kept.items() if key not in FREE}


def _same_sweep(experiment: Experiment, directory: Path) -> None:
    """Refuse to go on with a sweep that was begun with other settings."""
    found, now = directory / "sweep.json", _settings(experiment)
    before = json.loads(found.read_text()) if found.exists() else now
    for key in now:
        if before.get(key) != now[key]:
            raise InputError(
                f"{directory}: was begun with {key} = {before.get(key)}, not {now[key]};"
                " --overwrite it or choose another workdir"
            )


def _conclude(experiment: Experiment, directory: Path, stopped: bool) -> Path:
    """Table, figure and best settings of the trials so far."""
    metric = experiment.tune.metric
    trials = read_trials(directory, metric, mode(metric))
    write_table(trials, directory / "trials.csv", metric)
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        raise RunError(f"{directory}: no trial has finished an epoch; see the log.txt of each in trials/")
    draw_trials(trials, metric).savefig(directory / "trials.png", dpi=120)
    best, path = scored[0], directory / "best.yaml"
    settings = space.apply(experiment, best.values).model_dump(mode="json", exclude_defaults=True)
    settings.get("cluster", {}).pop("address", None)  # of this sweep's cluster, which may be gone
    settings = {
        "workdir": experiment.workdir,
        **{k: v for k, v in settings.items() if k != "tune" and v != {}},
    }
    write_text(
        path,
        f"# trial {best.name}, {metric} {best.score:.6g} after epoch {best.epoch}\n"
        + OmegaConf.to_yaml(settings),
    )
    say(f"best of {len(trials)} trials: {best.name}, {metric} {best.score:.4f}: {best.values}")
    if stopped:
        raise RunError("the sweep was stopped; the same command goes on from its trials' checkpoints")
    return path
