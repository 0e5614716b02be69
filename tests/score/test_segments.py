"""Segments of spans and of covered columns; their algebra is the library's."""

import numpy as np
import pytest
from igwn_segments import segment, segmentlist

from glitchflow.score import segments
from glitchflow.score.segments import (
    covered_spans,
    deadtime,
    ends,
    joined,
    seconds_before,
    segment_at,
    veto_segments,
)


def test_segments_that_touch_or_overlap_are_one():
    spans = np.array([[4.0, 5.0], [1.0, 2.0], [2.0, 3.0], [4.5, 4.75]])
    assert joined(spans) == segmentlist([segment(1.0, 3.0), segment(4.0, 5.0)])


def test_nothing_stays_nothing():
    nothing, known = joined(np.empty((0, 2))), joined(np.array([[0.0, 4.0]]))
    assert nothing == veto_segments(np.empty((0, 2)), known, padding=1, minimum=1) == segmentlist()
    assert veto_segments(np.array([[0.0, 4.0]]), nothing, padding=1, minimum=1) == segmentlist()
    assert deadtime(nothing, known) == 0
    assert np.isnan(deadtime(nothing, nothing))


@pytest.mark.parametrize("block", [1, 2, 64])
def test_spans_of_covered_columns_end_with_their_window(monkeypatch, block):
    monkeypatch.setattr(segments, "BLOCK", block)
    covered = np.zeros((3, 10), bool)
    covered[0, 2:5] = covered[0, 9] = covered[1, 0] = True
    edges = np.array([[100.0], [101.0], [200.0]]) + np.arange(11) / 10
    spans = [[100.2, 100.5], [100.9, 101.0], [101.0, 101.1]]
    np.testing.assert_allclose(covered_spans(covered, edges), spans)
    assert covered_spans(np.zeros((3, 10), bool), edges).shape == (0, 2)


def test_seconds_before_a_time_and_the_segment_at_it():
    spans, time = np.array([[1.0, 3.0], [5.0, 5.5]]), np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.25, 9.0])
    np.testing.assert_allclose(seconds_before(spans, time), [0, 0, 1, 2, 2, 2.25, 2.5])
    assert segment_at(spans, np.append(time, np.nan)).tolist() == [-1, 0, 0, -1, -1, 1, -1, -1]
    nothing = ends(segmentlist())
    assert seconds_before(nothing, time).tolist() == [0] * 7
    assert segment_at(nothing, time).tolist() == [-1] * 7


def test_padding_minimum_and_the_analysed_time():
    known = joined(np.array([[0.0, 10.0], [20.0, 30.0]]))
    spans = np.array([[2.0, 2.1], [4.0, 5.0], [5.3, 6.0], [9.8, 10.0], [20.0, 20.5]])
    found = veto_segments(spans, known, padding=0.2, minimum=1.0)
    expected = [[1.55, 2.55], [3.8, 6.2], [9.4, 10.0], [20.0, 20.75]]
    np.testing.assert_allclose(np.array(found), expected)
    assert deadtime(found, known) == pytest.approx((1 + 2.4 + 0.6 + 0.75) / 20)
