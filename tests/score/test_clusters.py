"""Clusters against brute force; ROC against counting."""

import numpy as np
import pytest
from scipy.ndimage import label
from scipy.special import ndtr

from glitchflow.score.clusters import (
    cluster_areas,
    cluster_columns,
    cluster_level,
    loudest_columns,
    pixel_areas,
    roc,
    roc_area,
)
from glitchflow.score.statistics import proportion

F, T = np.geomspace(10, 200, 16), np.linspace(-0.5, 0.5, 21)
AREAS = pixel_areas(F, T)


def noise(events=6, seed=0):
    return np.random.default_rng(seed).exponential(1.443, size=(events, 16, 21)).astype(np.float32)


def flood(mask, areas):
    """Areas of 8-connected regions of one (frequency, time) mask, by flood filling."""
    left, found = set(zip(*np.nonzero(mask))), []
    while left:
        todo, area = [left.pop()], 0.0
        while todo:
            f, t = todo.pop()
            area += areas[f]
            near = {(f + i, t + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            todo += near
        found.append(area)
    return found


def test_pixel_areas_of_linear_and_logarithmic_axes():
    np.testing.assert_allclose(pixel_areas([10, 20, 30], [0, 0.5, 1.0, 1.5]), [5, 5, 5])
    np.testing.assert_allclose(AREAS[1:-1], (F[2:] - F[:-2]) / 2 * 0.05)
    with pytest.raises(ValueError, match="time axis must ascend"):
        pixel_areas([10, 20], [1.0, 0.0])


@pytest.mark.parametrize("minimum_area", [0.0, 0.1, 1.0, 20.0])
def test_level_says_at_which_thresholds_there_is_a_cluster(minimum_area):
    energy = noise()
    level = cluster_level(energy, AREAS, minimum_area)
    for i, event in enumerate(energy):
        brute = max(v for v in np.unique(event) if max(flood(event >= v, AREAS)) >= minimum_area)
        assert level[i] == brute


def test_a_minimum_area_is_met_by_exactly_that_many_pixels():
    areas = np.full(16, 0.1)
    energy = np.zeros((2, 16, 21))
    energy[0, 2, :3], energy[1, 2, :2] = 9.0, 9.0
    assert cluster_level(energy, areas, 0.3).tolist() == [9.0, 0.0]  # 3 x 0.1 is 0.30000000000000004


def test_clusters_are_8_connected_and_never_reach_the_next_event():
    energy = np.zeros((2, 16, 21))
    energy[0, 3, 3] = energy[0, 4, 4] = 5  # diagonal neighbours: one cluster of two pixels
    energy[0, 8, 8] = energy[0, 10, 8] = 7  # a gap: none of two
    energy[1, 3, 3] = 5  # the same pixel in the next event: its own
    assert cluster_level(energy, np.ones(16), 2.0).tolist() == [5.0, 0.0]


def test_roc_points_by_hand():
    curve = roc([3.0, 2.0, 2.0, 1.0], [True, True, False, False])
    assert curve.score.tolist() == [np.inf, 3, 2, 1]
    assert curve.efficiency.hits.tolist() == [0, 1, 2, 2]
    assert curve.false.hits.tolist() == [0, 0, 1, 2]


def area_of(curve):
    return np.trapezoid(curve.efficiency.value, curve.false.value)


def test_the_area_is_that_of_the_curve_and_its_interval_holds_it_as_often_as_it_says():
    """Normal scores a distance d apart: the area is the normal's cumulative share at d / sqrt(2)."""
    generator, distance, held, rounds = np.random.default_rng(5), 1.0, 0, 400
    positive = np.arange(120) < 50
    truth = float(ndtr(distance / np.sqrt(2)))
    for _ in range(rounds):
        score = generator.normal(size=120) + distance * positive
        found = roc_area(score, positive)
        assert found.value == pytest.approx(area_of(roc(score, positive)), abs=1e-12)
        held += found.low <= truth <= found.high
    assert held / rounds == pytest.approx(0.95, abs=0.03)


def test_the_areas_interval_at_its_ends():
    yes = np.array([True] * 20 + [False] * 30)
    apart = roc_area(yes.astype(float), yes)
    assert apart.value == apart.high == 1
    assert apart.low == pytest.approx(float(proportion(20, 20).low)), "as sure as 20 of 20 is"
    assert roc_area(-yes.astype(float), yes).value == 0
    same = roc_area(np.zeros(50), yes)
    assert (same.value, same.low, same.high) == (0.5, 0.5, 0.5), (
        "one score for all: chance, whatever the events"
    )
    assert np.isnan(roc_area(np.zeros(50), np.ones(50, bool)).value)


def test_no_event_and_refusals():
    assert cluster_level(np.zeros((0, 16, 21)), AREAS).shape == (0,)
    assert roc([], []).score.tolist() == [np.inf]
    with pytest.raises(ValueError, match="one per frequency row is needed, 16"):
        cluster_level(noise(), AREAS[:3])
    with pytest.raises(ValueError, match="whole image"):
        cluster_level(noise(), AREAS, 1e6)
    with pytest.raises(ValueError, match="one score and one truth"):
        roc([1.0, 2.0], [True])


def test_columns_under_clusters_at_every_threshold_against_one_at_a_time():
    energy = np.random.default_rng(5).exponential(3.0, size=(7, 12, 10)).astype(np.float32)
    energy[3:, 4:7, 2:5] += 20
    areas, thresholds = np.linspace(0.1, 0.4, 12), np.array([2.0, 3, 5, 8, 13, 21, 34])
    counts = cluster_columns(energy, thresholds, areas, 0.9)
    for i, threshold in enumerate(thresholds):
        for event in range(7):
            covered = np.zeros(10, bool)
            regions, number = label(energy[event] >= threshold, np.ones((3, 3)))
            for region in range(1, number + 1):
                rows, columns = np.nonzero(regions == region)
                if areas[rows].sum() >= 0.9:
                    covered[columns] = True
            assert (counts[event] > i).tolist() == covered.tolist()
    for wrong in (thresholds[::-1], np.arange(256.0)):
        with pytest.raises(
            ValueError, match=f"at most 255 thresholds that ascend are needed, not {len(wrong)}"
        ):
            cluster_columns(energy, wrong, areas, 0.9)


def test_area_and_loudest_column_of_clusters_by_hand():
    energy = np.zeros((2, 4, 10), np.float32)
    energy[0, 1, 2:5] = [20, 25, 21]
    energy[0, 2, 5] = 22  # touches at a corner
    energy[0, 0, 9] = 90  # louder, but too small
    areas = np.array([0.2, 0.5, 0.7, 0.2])
    assert cluster_areas(energy, 20.0, areas, 1.0).tolist() == pytest.approx([2.2, 0])
    assert loudest_columns(energy, 20.0, areas, 1.0).tolist() == [3, -1]
