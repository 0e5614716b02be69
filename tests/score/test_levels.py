"""Clusters of every method, and shares of events at every threshold, against counting."""

import numpy as np

from glitchflow.score import levels as module
from glitchflow.score.levels import (
    Levels,
    Rule,
    cleaned_columns,
    confusion,
    generated_columns,
    recorded_columns,
    threshold_table,
)
from glitchflow.score.made import Made

RECORDED, GENERATED = np.array([20.0, 20, 4, 4, 2]), np.array([30.0, 3, 12, 1, 1])
RULE = Rule(np.ones(8), 4.0, 16.0, np.array([8.0, 16, 51, 64]))


def test_vetoes_are_counted_against_the_recorded_clusters():
    left = np.array([2.0, 20, 1, 4, 2])
    own = {"recorded_level": RECORDED, "recorded_loudest": np.zeros(5), "residual_level": left}
    seen = own | {"generated_level": GENERATED, "difference_level": RECORDED}
    levels = Levels.of({"network": seen, "gate": own}, {module.RECORDED: np.zeros((5, 1), np.uint8)})
    quiet = np.array([False, False, False, True, True])
    table = threshold_table(levels, quiet, [3, 10, 25])
    network = table["network"]
    assert network["accuracy"]["value"] == [0.8, 0.6, 0.8]
    assert table["noise_only"]["value"] == [0.5, 0, 0]
    assert network["cleaned"]["hits"] == [3, 4, 5]
    assert network["cleaned_difference"]["hits"] == [1, 3, 5]
    assert table["gate"].keys() == {"cleaned"}, "it generates nothing to veto by"
    some = threshold_table(levels, quiet, [3], np.array([True, False, False, True, False]))
    assert some["network"]["accuracy"]["hits"] == [1]
    assert some["noise_only"]["events"] == [1]


def test_confusion_matrix_by_hand():
    assert confusion(RECORDED, GENERATED, 10) == {"caught": 1, "missed": 1, "false": 1, "quiet": 2}


def glitches():
    energy = np.random.default_rng(0).exponential(1.4, size=(4, 8, 8)).astype(np.float32)
    energy[:, 2:5, 2:5] = 50 + np.arange(4)[:, None, None]
    energy[2, 3, 4] = 99
    return energy


def test_clusters_of_what_is_recorded_and_generated():
    energy = glitches()
    found, covered = recorded_columns(energy, RULE)
    assert covered.tolist() == [[0, 0, 1, 1, 1, 0, 0, 0]] * 4
    assert found["recorded_level"].tolist() == [50, 51, 52, 53]
    assert found["recorded_loudest"].tolist() == [2, 2, 4, 2]
    level, covered = generated_columns(energy, RULE)
    assert level["generated_level"].tolist() == [50, 51, 52, 53]
    assert covered[:, 3].tolist() == [2, 3, 3, 3]
    assert not covered[:, 6].any()
    level, covered = generated_columns(np.broadcast_to(energy[:1], energy.shape), RULE)
    assert level["generated_level"].tolist() == [50] * 4
    assert covered[:, 3].tolist() == [2] * 4


def test_clusters_of_what_is_left():
    def left(cleaned, generated):
        energy = glitches()
        made = Made(energy, generated, cleaned, None, None, None, None, None, np.ones(8), True)
        return {name: values.tolist() for name, values in cleaned_columns(made, RULE).items()}

    perfect = left(glitches() / 50, glitches())
    assert max(perfect["residual_level"]) < 4
    assert perfect["residual_area"] == perfect["difference_level"] == [0] * 4
    assert left(glitches(), 0 * glitches())["residual_area"] == [9] * 4
    gate = left(0 * glitches(), None)
    assert gate == {"residual_level": [0] * 4, "residual_area": [0] * 4}
