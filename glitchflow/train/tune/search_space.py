"""The search space of a sweep: values for keys of the experiment, drawn, enumerated, or left to Optuna.

    tune:
      space:
        train.lr: {loguniform: [1.0e-4, 1.0e-2]}
        train.warmup: {int: [0, 100]}
        model.width: {choice: [8, 16, 32]}

Everything is checked before the first trial: that each key exists and takes each of its values.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from glitchflow.config import Experiment, Section, Tune, parse
from glitchflow.errors import InputError
from glitchflow.signal.streams import generator

KINDS = ("choice", "uniform", "loguniform", "int")
READ = ("seed", "loader", "model", "train")  # what training reads; the dataset is the same for all trials
STREAM = 0x7E5E  # of the random numbers that candidates are drawn with

Values = dict[str, Any]  # full key -> value


def check(experiment: Experiment, metric: str) -> None:
    """Raises `InputError` naming the key of the space that is wrong for a sweep that compares by a metric, and what is
    allowed."""
    settings = experiment.tune
    if not settings.space:
        raise InputError("tune.space: is empty; give keys to vary, as train.lr: {loguniform: [1e-4, 1e-2]}")
    for key, domain in settings.space.items():
        kind, _ = _domain(key, domain)
        if settings.search == "grid" and kind not in ("choice", "int"):
            raise InputError(f"tune.space.{key}: a grid takes choice or int, not {kind}")
        if key.split(".")[0] not in READ:
            raise InputError(f"tune.space.{key}: training does not read it; a sweep varies {', '.join(READ)}")
        if key == "train.device":
            raise InputError("tune.space.train.device: is the same for all trials")
        if metric == "validation_loss" and key in ("train.loss", "loader.normalise"):
            raise InputError(
                f"tune.space.{key}: changes what a loss of 1 means; compare by another tune.metric"
            )
    partly, key = len(settings.space) > 1, "train.workers"
    for alone in each_alone(experiment):
        one = apply(experiment, alone, partly)
        workers = alone.get(key) if key in settings.space else one.train.workers
        if isinstance(workers, list):
            raise InputError(f"{key} = {workers}: a trial takes one number of workers")


def each_alone(experiment: Experiment) -> list[Values]:
    """Every choice and every end of a range, one key at a time."""
    domains = experiment.tune.space.items()
    return [{key: value} for key, domain in domains for value in _domain(key, domain)[1]]


def _domain(key: str, domain: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Kind and values (choices, or low and high) of one key's entry."""
    kind, values = next(iter(domain.items()), ("", None))
    if len(domain) != 1 or kind not in KINDS:
        raise InputError(f"tune.space.{key} = {dict(domain)}: must be one of {', '.join(KINDS)} with a list")
    if not isinstance(values, list) or not values:
        raise InputError(f"tune.space.{key}.{kind} = {values}: must be a list")
    if kind == "choice":
        return kind, values
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if len(values) != 2 or not numbers or not values[0] < values[1]:
        raise InputError(f"tune.space.{key}.{kind} = {values}: must be [low, high] with low < high")
    if kind == "loguniform" and values[0] <= 0:
        raise InputError(f"tune.space.{key}.{kind} = {values}: must have 0 < low")
    if kind == "int" and not all(isinstance(v, int) for v in values):
        raise InputError(f"tune.space.{key}.{kind} = {values}: must be whole numbers")
    return kind, values


def apply(experiment: Experiment, values: Values, partly: bool = False) -> Experiment:
    """The experiment with these values. Raises `InputError` for a key or value that it does not have.

    `partly`: the other keys of the space will change too, so settings that contradict each other may pass.
    """
    tree = experiment.model_dump(mode="json")
    for key, value in values.items():
        *parents, last = key.split(".")
        section = tree
        for part in parents:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise InputError(f"tune.space.{key}: {part} is not a section")
        section[last] = value
    try:
        return parse(tree, "tune.space")
    except InputError:
        if partly and all(_fits(experiment, tree, key.split(".")[0]) for key in values):
            return experiment
        raise


def _fits(experiment: Experiment, tree: dict[str, Any], name: str) -> bool:
    """Whether a section is right in itself, whatever the others say."""
    section = getattr(experiment, name, None)
    try:
        return isinstance(section, Section) and bool(type(section).model_validate(tree[name]))
    except ValidationError:
        return False


def candidates(experiment: Experiment) -> list[Values]:
    """What a random or grid search tries, without repeats: the same list for the same seed, however many trials."""
    settings = experiment.tune
    if settings.search == "grid":
        entries = {key: _domain(key, domain) for key, domain in settings.space.items()}
        lists = [v if kind == "choice" else range(v[0], v[1] + 1) for kind, v in entries.values()]
        found = [dict(zip(entries, values)) for values in itertools.product(*lists)]
    else:
        space = domains(settings)
        # Tune's own random search numbers its trials, repeats values, and draws all anew where more are asked for: here
        # a trial has a generator of its own, and its directory is found again
        rngs = (generator(experiment.seed, STREAM, i) for i in range(20 * settings.trials))
        drawn = ({key: one.sample(random_state=rng) for key, one in space.items()} for rng in rngs)
        unique = {name(values): values for values in drawn}
        found = list(unique.values())[: settings.trials]
    for values in found:
        apply(experiment, values)
    return found


def domains(settings: Tune) -> dict[str, Any]:
    """Makes Ray Tune's domain of each key of the space."""
    from ray import tune

    build = {
        "choice": tune.choice,
        "uniform": lambda v: tune.uniform(*v),
        "loguniform": lambda v: tune.loguniform(*v),
        "int": lambda v: tune.randint(v[0], v[1] + 1),
    }
    entries = {key: _domain(key, domain) for key, domain in settings.space.items()}
    return {key: build[kind](values) for key, (kind, values) in entries.items()}


def name(values: Values) -> str:
    """A trial's name follows from its values: the same trial has the same directory in every attempt."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def largest(settings: Tune, key: str, default: int) -> int:
    """The largest value that a key takes in the sweep."""
    return max(_domain(key, settings.space[key])[1]) if key in settings.space else default
