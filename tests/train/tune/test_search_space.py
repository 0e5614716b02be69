"""The search space: what is refused before the first trial, and what is drawn."""

import pytest
from helpers import small

from glitchflow.config.training import Tune
from glitchflow.errors import InputError
from glitchflow.train.tune import search_space as space

METRIC = "validation_nll"


def experiment(tmp_path, domains, **tune):
    return small(tmp_path, tune={"space": domains, **tune})


@pytest.mark.parametrize(
    ("key", "domain", "words"),
    [
        ("train.lrr", {"uniform": [0, 1]}, r"train.lrr: unknown key; did you mean train.lr\?"),
        ("optimiser.lr", {"uniform": [0, 1]}, r"tune.space.optimiser.lr: training does not read it"),
        (
            "qplot.q",
            {"choice": [8, 12]},
            "tune.space.qplot.q: training does not read it; a sweep varies seed",
        ),
        ("train.lr", {"normal": [0, 1]}, "must be one of choice, uniform, loguniform, int with a list"),
        ("train.lr", {"uniform": [1, 0]}, r"tune.space.train.lr.uniform = \[1, 0\]: must be \[low, high\]"),
        ("train.lr", {"uniform": [-1, 1]}, r"train.lr = -1: input should be greater than 0"),
        ("train.lr", {"loguniform": [0, 1]}, "must have 0 < low"),
        ("train.warmup", {"int": [0.5, 2]}, "must be whole numbers"),
        ("train.lr", {"choice": []}, "must be a list"),
        ("model.norm", {"choice": ["group", "batch"]}, "model.norm = batch: input should be 'group' or"),
        ("train.workers", {"choice": [1, 9]}, "train.workers = 9: must be at most loader.batch = 8"),
        (
            "train.workers",
            {"choice": [2, [1, 2]]},
            r"train.workers = \[1, 2\]: a trial takes one number of workers",
        ),
        (
            "train.loss",
            {"choice": ["l1", "l2"]},
            "changes what a loss of 1 means; compare by another tune.metric",
        ),
    ],
)
def test_refused(tmp_path, key, domain, words):
    with pytest.raises(InputError, match=words):
        space.check(experiment(tmp_path, {key: domain}), "validation_loss")


def test_losses_are_compared_by_what_they_do_not_change(tmp_path):
    space.check(experiment(tmp_path, {"train.loss": {"choice": ["l1", "whittle"]}}), METRIC)


def test_an_empty_space_and_a_grid_of_reals_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"tune.space: is empty; give keys to vary"):
        space.check(experiment(tmp_path, {}), METRIC)
    with pytest.raises(InputError, match=r"tune.space.train.lr: a grid takes choice or int, not uniform"):
        space.check(experiment(tmp_path, {"train.lr": {"uniform": [0.1, 1]}}, search="grid"), METRIC)


def test_settings_that_only_fit_together_are_fine_one_by_one(tmp_path):
    domains = {"train.workers": {"choice": [2, 8]}, "loader.lanes": {"choice": [8]}}
    space.check(experiment(tmp_path, domains), METRIC)
    assert len(space.candidates(experiment(tmp_path, domains, search="grid"))) == 2


def test_a_trials_own_number_of_workers_stands_for_an_elastic_one(tmp_path):
    domains = {"train.workers": {"choice": [1, 4]}, "train.lr": {"choice": [0.1, 0.2]}}
    elastic = small(tmp_path, train={"workers": [2, 8]}, tune={"space": domains, "search": "grid"})
    space.check(elastic, METRIC)
    trials = [space.apply(elastic, values).train.workers for values in space.candidates(elastic)]
    assert sorted(trials) == [1, 1, 4, 4]
    without = {"train.lr": domains["train.lr"], "train.warmup": {"int": [1, 3]}}
    for left in (without, domains | {"train.workers": {"choice": [1, [2, 8]]}}):
        elastic = small(tmp_path, train={"workers": [2, 8]}, tune={"space": left})
        with pytest.raises(
            InputError, match=r"train.workers = \[2, 8\]: a trial takes one number of workers"
        ):
            space.check(elastic, METRIC)


def test_a_grid_is_every_combination(tmp_path):
    domains = {"train.warmup": {"int": [1, 3]}, "model.norm": {"choice": ["group", "instance"]}}
    found = space.candidates(experiment(tmp_path, domains, search="grid"))
    assert len(found) == 6
    assert found[0] == {"train.warmup": 1, "model.norm": "group"}


def test_random_candidates_stay_when_more_are_asked_for(tmp_path):
    domains = {
        "train.lr": {"loguniform": [1e-4, 1e-1]},
        "train.weight_decay": {"uniform": [0, 1]},
        "train.warmup": {"int": [0, 4]},
    }
    few, more = (space.candidates(experiment(tmp_path, domains, trials=n)) for n in (5, 40))
    assert more[:5] == few
    assert all(1e-4 <= v["train.lr"] <= 1e-1 and 0 <= v["train.weight_decay"] <= 1 for v in more)
    assert {v["train.warmup"] for v in more} == {0, 1, 2, 3, 4}
    assert sum(v["train.lr"] < 1e-2 for v in more) > 20  # logarithmically: two decades of three


def test_no_candidate_twice(tmp_path):
    domains = {"model.norm": {"choice": ["group", "instance"]}}
    assert len(space.candidates(experiment(tmp_path, domains, trials=10))) == 2


def test_values_are_applied(tmp_path):
    found = space.apply(small(tmp_path), {"train.lr": 0.5, "model.options.depth": 1})
    assert found.train.lr == 0.5
    assert found.model.options == {"depth": 1}


def test_the_largest_request():
    settings = Tune(space={"train.workers": {"choice": [1, 4, 2]}})
    assert space.largest(settings, "train.workers", 1) == 4
    assert space.largest(settings, "train.threads", 3) == 3
