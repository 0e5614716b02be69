"""Shares of events at every threshold against counting."""

import numpy as np

from glitchflow.score.levels import Levels, cluster_levels, threshold_table
from glitchflow.score.sample import Sample


def test_vetoes_are_counted_against_the_recorded_clusters():
    recorded, generated = np.array([20.0, 20, 4, 4, 2]), {"network": np.array([30.0, 3, 12, 1, 1])}
    left = {"network": np.array([2.0, 20, 1, 4, 2])}
    levels = Levels(recorded, generated, left, {"network": recorded})
    quiet = np.array([False, False, False, True, True])
    table = threshold_table(levels, quiet, [3, 10, 25])
    network = table["network"]
    assert network["accuracy"]["value"] == [0.8, 0.6, 0.8]
    assert network["efficiency"]["hits"] == [3, 1, 0]
    assert network["efficiency"]["events"] == [4, 2, 0]
    assert network["efficiency"]["value"][:2] == [0.75, 0.5] and np.isnan(network["efficiency"]["value"][2])
    assert network["background_veto_fraction"]["hits"] == [0, 0, 0]
    assert table["noise_only"]["value"] == [0.5, 0, 0]
    assert network["cleaned"]["hits"] == [3, 4, 5]
    assert network["cleaned_difference"]["hits"] == [1, 3, 5]
    some = threshold_table(levels, quiet, [3], np.array([True, False, False, True, False]))
    assert some["network"]["accuracy"]["hits"] == [1]
    assert some["noise_only"]["events"] == [1]


def test_levels_of_every_method_and_of_what_it_leaves():
    energy = np.random.default_rng(0).exponential(1.4, size=(4, 8, 8)).astype(np.float32)
    energy[:, 2:5, 2:5] = 50 + np.arange(4)[:, None, None]
    same = np.broadcast_to(energy[:1], energy.shape)
    label = np.ones(4, np.int8)
    about = (np.arange(4), label, np.arange(4.0), label * 9.0, np.zeros((4, 0)))
    sample = Sample(*about, energy, None, {"perfect": energy, "same": same})
    levels = cluster_levels(sample, np.ones(8), 4.0)
    assert levels.recorded.tolist() == [50, 51, 52, 53]
    assert levels.generated["same"].tolist() == [50] * 4
    assert (levels.residual["perfect"] < 4).all()
    assert levels.difference["perfect"].tolist() == [0] * 4
