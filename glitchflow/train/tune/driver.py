"""What runs inside Ray Tune: a trial's driver, and what is said of the trials while they run.

A trial's directory holds all there is of it, so that Ray Tune keeps no state of ours.
"""

import contextlib
import json
import time
import uuid
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from glitchflow.data import lease
from glitchflow.data.objects import make_directory, write_text
from glitchflow.progress import say
from glitchflow.train.fit import launch
from glitchflow.train.stopping import POLL, flag_is_up, in_thread, raise_flag
from glitchflow.train.tracking import read_metrics
from glitchflow.train.tune.trials import Work, told, values_of

REASON = 300  # characters of what a failed trial says of it


class Driver(tune.Trainable):
    """A trial's driver, in a process that reserves no CPU: it tells Ray Tune what metrics.jsonl says, epoch by epoch.

    What was there from before is told first. Only then do workers start; they stop at a checkpoint, by a flag of
    the trial's own, when the scheduler has had enough of it, so that their places are free for the next trial.
    """

    def setup(self, config: dict[str, Any], work: Work) -> None:  # type: ignore[override]  # tune.with_parameters
        """Take the trial's directory, once whoever has it is done with it."""
        self.work, self.training = work, work.make(values_of(config))
        self.home = work.home(config)
        self.lease = _in_turn(self.home)
        about = {"values": values_of(config), "epochs": self.training.train.epochs}
        write_text(self.home / "trial.json", json.dumps(about))
        (self.home / "error").unlink(missing_ok=True)  # of an earlier attempt
        self.flag, self.count = uuid.uuid4().hex, 0  # of the epochs that were told
        self.workers: Future[Any] | None = None

    def step(self) -> dict[str, Any]:
        """The metrics of the next epoch, once there are any; `before`: of an earlier attempt."""
        while True:
            over = self.workers is not None and self.workers.done()
            lines = [x for x in read_metrics(self.home / "metrics.jsonl") if x["kind"] == "epoch"]
            if len(lines) > self.count:
                self.count += 1
                last = self.count >= self.training.train.epochs
                about = {"before": self.workers is None, "done": last}
                return {**lines[self.count - 1], **told(lines[: self.count], self.work.metric), **about}
            if over or (self.home / "ended").exists() or flag_is_up(self.work.flag):
                self.finish()
                return {**told(lines[: self.count], self.work.metric), "done": True}
            if self.workers is None:
                self.workers = in_thread(partial(launch, self.training, self.home, self.flag, self.work.gpu))
            time.sleep(POLL)

    def cleanup(self) -> None:
        """End the workers and let go of the directory."""
        try:
            self.finish()
        finally:
            self.lease.close()

    def finish(self) -> None:
        """Wait for the workers; their error, if they had one, is the trial's."""
        raise_flag(self.flag)
        if self.workers is not None:
            self.workers.result(timeout=self.training.train.grace)


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


class Journal(tune.Callback):
    """What is said of the trials, and noted: one that ended by itself or by ASHA does not go on later."""

    def __init__(self, work: Work) -> None:
        self.work, self.metric = work, work.metric

    def on_trial_result(self, iteration, trials, trial, result, **info):
        """Say a new epoch's score."""
        if self.metric in result and not result.get("before"):
            name, score = self.work.home(trial.config).name, result[self.metric]
            say(f"trial {name}: epoch {result['epoch'] + 1}, {self.metric} {score:.4f}")

    def on_trial_complete(self, iteration, trials, trial, **info):
        """Note that it does not go on, unless the whole sweep is being stopped."""
        if not flag_is_up(self.work.flag):
            (self.work.home(trial.config) / "ended").touch()

    def on_trial_error(self, iteration, trials, trial, **info):
        """Say and note what the trial failed of."""
        home = self.work.home(trial.config)
        lines = Path(trial.error_file).read_text().split("\n") if trial.error_file else []
        found = next((line.strip() for line in reversed(lines) if line.strip()), "its driver ended")
        home.mkdir(parents=True, exist_ok=True)
        if not (home / "trial.json").exists():  # its settings are what is wrong with it
            write_text(home / "trial.json", json.dumps({"values": values_of(trial.config), "epochs": 0}))
        write_text(home / "error", found[-REASON:])
        say(f"trial {home.name}: failed: {found[-REASON:]}")
