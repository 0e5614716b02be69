"""Segments against gwpy's (and LIGO's) own algebra."""

import numpy as np
import pytest
from gwpy.segments import Segment, SegmentList

from glitchflow.score.segments import clip, cluster_spans, deadtime, join, veto_segments


def some(seed, count=60):
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 400, count) / 4
    return np.stack([start, start + rng.integers(1, 12, count) / 4], axis=1)


def gwpys(segments):
    return SegmentList(Segment(*s) for s in segments.tolist()).coalesce()


def as_array(segments):
    return np.array([tuple(s) for s in segments]).reshape(-1, 2)


@pytest.mark.parametrize("seed", range(5))
def test_join_and_clip_are_gwpys(seed):
    first, second = some(seed), some(seed + 100, 20)
    np.testing.assert_array_equal(join(first), as_array(gwpys(first)))
    expected = as_array(gwpys(first) & gwpys(second))
    np.testing.assert_array_equal(clip(join(first), join(second)), expected)


def test_nothing_stays_nothing():
    nothing, known = np.empty((0, 2)), np.array([[0.0, 4.0]])
    assert join(nothing).shape == clip(nothing, known).shape == clip(known, nothing).shape == (0, 2)
    assert deadtime(nothing, known) == 0
    assert np.isnan(deadtime(nothing, nothing))


def test_spans_of_clusters():
    energy = np.zeros((3, 4, 10), np.float32)
    energy[0, 1, 2:5] = 20
    energy[0, 2, 5] = 20  # touches at a corner
    energy[0, 0, 9] = 20  # too small
    energy[1, 3, 9] = energy[2, 3, 0] = 20  # neighbours in memory, not in time
    energy[2, 3, 1] = 19.9
    found = cluster_spans(energy, 20.0, np.full(4, 0.5), 1.5)
    np.testing.assert_array_equal(found, [[0, 2, 6]])
    assert len(cluster_spans(energy, 20.0, np.full(4, 0.5), 0.5)) == 4
    assert cluster_spans(energy, 21.0, np.full(4, 0.5), 0.5).shape == (0, 3)


def test_padding_minimum_and_the_analysed_time():
    known = np.array([[0.0, 10.0], [20.0, 30.0]])
    spans = np.array([[2.0, 2.1], [4.0, 5.0], [5.3, 6.0], [9.8, 10.0], [20.0, 20.5]])
    found = veto_segments(spans, known, padding=0.2, minimum=1.0)
    expected = [[1.55, 2.55], [3.8, 6.2], [9.4, 10.0], [20.0, 20.75]]
    np.testing.assert_allclose(found, expected)
    assert deadtime(found, known) == pytest.approx((1 + 2.4 + 0.6 + 0.75) / 20)
