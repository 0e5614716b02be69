"""Segments of spans and of clusters; their algebra is the library's."""

import numpy as np
import pytest
from igwn_segments import segment, segmentlist

from glitchflow.score.segments import cluster_spans, deadtime, joined, veto_segments


def test_segments_that_touch_or_overlap_are_one():
    spans = np.array([[4.0, 5.0], [1.0, 2.0], [2.0, 3.0], [4.5, 4.75]])
    assert joined(spans) == segmentlist([segment(1.0, 3.0), segment(4.0, 5.0)])


def test_nothing_stays_nothing():
    nothing, known = joined(np.empty((0, 2))), joined(np.array([[0.0, 4.0]]))
    assert nothing == veto_segments(np.empty((0, 2)), known, padding=1, minimum=1) == segmentlist()
    assert veto_segments(np.array([[0.0, 4.0]]), nothing, padding=1, minimum=1) == segmentlist()
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
    known = joined(np.array([[0.0, 10.0], [20.0, 30.0]]))
    spans = np.array([[2.0, 2.1], [4.0, 5.0], [5.3, 6.0], [9.8, 10.0], [20.0, 20.5]])
    found = veto_segments(spans, known, padding=0.2, minimum=1.0)
    expected = [[1.55, 2.55], [3.8, 6.2], [9.4, 10.0], [20.0, 20.75]]
    np.testing.assert_allclose(np.array(found), expected)
    assert deadtime(found, known) == pytest.approx((1 + 2.4 + 0.6 + 0.75) / 20)
