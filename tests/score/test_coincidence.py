"""Coincidence of loud pixels: against scipy and numpy over all pairs, and what must not pass for coincidence."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, grey_dilation

from glitchflow.score.coincidence import (
    Tolerance,
    block_scores,
    find_peaks,
    pair_correlation,
    pair_overlap,
    shift_sums,
    stack,
    widen,
)
from glitchflow.score.significance import shift_test

FREQUENCY = np.geomspace(10, 200, 32)
TOLERANCE = Tolerance(threshold=6, time=0.1, frequency=0.1)
STEP = 2 / 32


def noise(rng, events, channels, size=32):
    """Energies (event, channel, size, size) of smooth Gaussian noise, mean 1 / ln 2."""
    parts = [rng.standard_normal((events, channels, size, size)) for _ in range(2)]
    energy = sum(gaussian_filter(x, (0, 0, 0.8, 0.8), mode="wrap") ** 2 for x in parts)
    return energy / energy.mean() / np.log(2)


def blob(energy, event, channel, row, column, height=30):
    energy[event, channel, row - 1 : row + 2, column - 1 : column + 2] = height


def scores_of(energy, tolerance=TOLERANCE):
    return block_scores(stack([find_peaks(e, FREQUENCY, STEP, tolerance) for e in energy]))


def sums_of(scores):
    return np.array([[s.shifted_overlap, s.shifted_correlation] for s in scores])


def test_widening_is_scipys_grey_dilation():
    energy = noise(np.random.default_rng(0), 1, 3)[0]
    rows = np.arange(100.0, 132)  # 4 % of 100-131 Hz, half to each side: two rows
    found = widen(energy, rows, 0.1, Tolerance(1, 0.62, 0.04))
    np.testing.assert_array_equal(found, grey_dilation(energy, size=(1, 5, 7), mode="nearest"))
    np.testing.assert_array_equal(widen(energy, rows, 0.1, Tolerance(1, 0, 0)), energy)


def test_the_reach_in_frequency_is_a_share_of_it():
    energy = np.zeros((1, 32, 5))
    energy[0, 16, 2] = 9
    wide = widen(energy, FREQUENCY, 1.0, Tolerance(1, 0, 0.4))
    loud = FREQUENCY[wide[0, :, 2] == 9]
    middle = FREQUENCY[16]
    reached = (middle >= FREQUENCY * 0.8) & (middle <= FREQUENCY * 1.2)
    np.testing.assert_array_equal(loud, FREQUENCY[reached])
    assert reached.sum() > 3
    assert not wide[0, :, [0, 1, 3, 4]].any()


def test_iou_and_correlation_of_every_pair():
    rng = np.random.default_rng(1)
    first, second = (rng.random((4, 6, 8)) < 0.3 for _ in range(2))
    iou, overlap = pair_overlap(first, second)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert iou[i, j] == pytest.approx((a & b).sum() / (a | b).sum())
            centred = [m - m.mean(axis=1, keepdims=True) for m in (a, b)]
            assert overlap[i, j] == pytest.approx(np.corrcoef(*(c.ravel() for c in centred))[0, 1])
    lines = rng.random((2, 4, 8))
    expected = np.corrcoef(lines[0], lines[1])[:4, 4:]
    np.testing.assert_allclose(pair_correlation(*lines), expected, atol=1e-12)


def test_shifts_inside_the_event_give_nothing_on_average():
    """The mean over all circular shifts of one side is zero, of masks of any size and of lines."""
    rng = np.random.default_rng(2)
    first, second = rng.random((2, 6, 8)) < 0.2, rng.random((2, 6, 8)) < 0.7
    shifted = [pair_overlap(first, np.roll(second, k, axis=2))[1] for k in range(8)]
    np.testing.assert_allclose(np.mean(shifted, axis=0), 0, atol=1e-12)
    lines = rng.random((2, 3, 8))
    shifted = [pair_correlation(lines[0], np.roll(lines[1], k, axis=1)) for k in range(8)]
    np.testing.assert_allclose(np.mean(shifted, axis=0), 0, atol=1e-12)


def test_empty_masks_full_ones_and_constant_lines_score_nothing():
    empty, full = np.zeros((2, 3, 4), bool), np.ones((2, 3, 4), bool)
    for a, b in ((empty, full), (full, empty), (empty, empty)):
        for scores in pair_overlap(a, b):
            np.testing.assert_array_equal(scores, 0)
    np.testing.assert_array_equal(pair_overlap(full, full)[0], 1)
    np.testing.assert_array_equal(pair_overlap(full, full)[1], 0)
    np.testing.assert_array_equal(
        pair_correlation(np.ones((2, 4)), np.random.default_rng(0).random((2, 4))), 0
    )


def test_sums_over_shifted_pairs():
    pairs = np.arange(25.0).reshape(5, 5)
    np.testing.assert_array_equal(shift_sums(pairs), [np.trace(np.roll(pairs, -k, axis=1)) for k in range(5)])


def test_peaks_within_the_tolerances_coincide_and_others_do_not():
    energy = np.ones((4, 5, 32, 32))
    for event in range(4):
        row, column = 8 + 4 * event, 10 + 3 * event
        blob(energy, event, 0, row, column)
        blob(energy, event, 1, row, column)  # the same place
        blob(energy, event, 2, row, column + 12)  # another time
        blob(energy, event, 3, (row + 12) % 30 + 1, column)  # another frequency
    same, time, frequency, quiet = scores_of(energy)
    np.testing.assert_allclose(same.iou, 1)
    np.testing.assert_allclose(same.correlation, 1)
    assert same.shifted_overlap[0] == pytest.approx(4)
    assert abs(same.shifted_overlap[1:]).max() < 1
    np.testing.assert_array_equal([time.iou, frequency.iou, quiet.iou], 0)
    np.testing.assert_allclose(frequency.correlation, 1)  # the line does not know the frequency
    assert (time.correlation < 0).all()
    np.testing.assert_array_equal([same.loud, quiet.loud], [[1] * 4, [0] * 4])


def test_events_without_a_peak_in_the_strain_or_a_dead_witness_decide_nothing():
    energy = np.ones((3, 2, 32, 32))
    for event, channel in ((0, 0), (0, 1), (1, 1), (2, 0)):
        blob(energy, event, channel, 9, 9)
    energy[2, 1] = 0
    (scores,) = scores_of(energy)
    np.testing.assert_array_equal(scores.iou, [1, np.nan, np.nan])
    np.testing.assert_allclose(scores.correlation, [1, np.nan, np.nan], rtol=1e-6)
    assert scores.shifted_iou[0] == 1
    assert scores.shifted_iou.sum() == pytest.approx(4)  # strains 0 and 2 with witnesses 0 and 1


# -- false alarms ----------------------------------------------------------------------------------------------------


def middle(energy, rng):
    """All channels have loud transients in the middle of the window, each in events of its own choice."""
    for event, channel in np.argwhere(rng.random(energy.shape[:2]) < 0.4):
        blob(energy, event, channel, rng.integers(3, 29), 16 + rng.integers(-3, 4))


def lines(energy, rng):
    """All channels have the same loud line, as loud as each other, in events of all kinds."""
    energy[:, :, 20] *= rng.uniform(1, 6, len(energy))[:, None, None]


def edges(energy, rng):
    """All channels are louder towards the window's edges."""
    energy *= 1 + 2 * np.abs(np.linspace(-1, 1, 32)) ** 3


def hours(energy, rng):
    """All channels are loud in the same events, slowly changing, at no common time inside them."""
    energy *= np.exp(0.7 * np.sin(np.arange(len(energy)) / 5 + rng.uniform(0, 6)))[:, None, None, None]


@pytest.mark.parametrize("disturb", [middle, lines, edges, hours], ids=lambda f: f.__name__)
def test_what_all_channels_share_is_no_coincidence(disturb):
    """20 witnesses, 3 times: p-values of at most 0.05 are about 5 in 100, with whatever the channels share."""
    p = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        energy = noise(rng, 64, 21)
        disturb(energy, rng)
        p += shift_test([sums_of(scores_of(half)) for half in np.split(energy, 2)], rng, 400).p.tolist()
    assert len(p) == 60
    assert np.mean(np.array(p) <= 0.05) <= 0.135  # 5 % and three standard deviations
    assert 0.3 < np.mean(p) < 0.7
