"""Scores of what was removed, against closed forms, and what no method can win by."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from glitchflow.score import metrics, subtraction
from glitchflow.score.made import Made, Who
from glitchflow.score.statistics import Bootstrap

B = metrics.NOISE_ENERGY
ONE = Bootstrap(0, 2)
NO_PIXEL = np.zeros((8, 1, 1), np.float32)
GLITCH = np.arange(8) < 3
WHO = Who(GLITCH, GLITCH, ~GLITCH, 32.0)
SEEDS, MORE = some.integers(0, 2**32 - 1), some.floats(1.001, 10)


def made(truth, removed, strain=None):
    energies = dict.fromkeys(("recorded", "cleaned"), np.zeros((len(truth), 1, 1), np.float32))
    strain = np.ones_like(truth) if strain is None else strain
    series = {"strain": strain, "truth": truth, "removed": removed}
    return Made(
        **energies, **series, generated=None, wanted=None, witnessed=None, floor=np.ones(1), seeing=False
    )


def score(function, truth, removed, who=WHO, strain=None, interval=ONE):
    return function({"it": subtraction.series_sums(made(truth, removed, strain))}, "it", who, interval)


def glitches(seed=0, events=8, glitch=GLITCH):
    return np.random.default_rng(seed).normal(size=(events, 16)) * glitch[:, None]


def test_residual_by_hand():
    """Glitches of energy 4, 4, 4 halved, and 1 / 16 added to each of five quiet events: k = 32 * 3 / 5."""
    truth, removed = np.zeros((8, 16)), np.full((8, 16), 1 / 16)
    truth[:3, :4] = 1.0
    removed[:3] = truth[:3] / 2
    k = 32 * 3 / 5
    assert score(subtraction.residual, truth, removed).value == pytest.approx((3 + k * 5 / 16) / 12)
    stretch = replace(WHO, ratio=None)
    assert score(subtraction.residual, truth, removed, stretch).value == pytest.approx((3 + 5 / 16) / 12)
    assert score(subtraction.left, truth, removed).value == pytest.approx(1 / 4)
    assert score(subtraction.noise_added, truth, removed).value == pytest.approx(1 / 16)
    assert score(subtraction.snr_left_median, truth, removed).value == pytest.approx(1)


def test_nothing_is_one_and_the_truth_is_nothing_left():
    truth = glitches()
    for function in (subtraction.residual, subtraction.left):
        for interval in (score(function, truth, 0 * truth), score(function, truth, truth)):
            assert interval.low == interval.value == interval.high
        assert score(function, truth, 0 * truth).value == 1
        assert score(function, truth, truth).value == 0


def test_what_only_stands_in_quiet_time_is_counted_k_times():
    """Removing all of the strain costs 32 spans of noise a glitch: the gate, on white noise."""
    rng, truth = np.random.default_rng(1), glitches()
    noise = rng.normal(size=truth.shape)
    found = score(subtraction.residual, truth, truth + noise, strain=truth + noise).value
    per_event = np.square(noise).sum(axis=1)
    expected = (per_event[:3].sum() + 32 * 3 * per_event[3:].mean()) / np.square(truth).sum()
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("gain", [0.0, 0.3, 1.0])
def test_a_constant_gain(gain):
    """It takes its share of everything. Glitches of energy 32 in even samples, noise of energy 8 in odd ones."""
    truth, noise = np.zeros((8, 16)), np.zeros((8, 16))
    truth[:3, ::2], noise[:, 1::2] = 2.0, np.random.default_rng(0).choice([-1.0, 1.0], (8, 8))
    strain = truth + noise
    of_noise = gain**2 * 8 / 32
    expected = {
        "left": (1 - gain) ** 2 + of_noise,
        "residual": (1 - gain) ** 2 + of_noise * (1 + 32),
        "noise_added": gain,
        "noise_above_3": 0.0,
        "snr_left_median": np.sqrt(32 * (1 - gain) ** 2 + 8 * gain**2),
    }
    for name, value in expected.items():
        found = score(getattr(subtraction, name), truth, gain * strain, strain=strain)
        assert found.value == pytest.approx(value), name


@pytest.mark.parametrize("times", [2, 5])
def test_how_many_quiet_events_there_are_changes_nothing(times):
    truth, rng = glitches(), np.random.default_rng(2)
    removed = truth + rng.normal(size=truth.shape)
    again = (
        np.concatenate([truth, *[truth[3:]] * (times - 1)]),
        np.concatenate([removed, *[removed[3:]] * (times - 1)]),
    )
    glitch = np.arange(len(again[0])) < 3
    once = score(subtraction.residual, truth, removed).value
    assert score(subtraction.residual, *again, Who(glitch, glitch, ~glitch, 32.0)).value == pytest.approx(
        once
    )


def test_intervals_weigh_each_resample_as_the_whole():
    """Quiet events that are all alike and glitches that are all alike: no resample differs, however many it has."""
    truth, removed = np.zeros((8, 16)), np.full((8, 16), 0.1)
    truth[:3] = 1.0
    interval = score(subtraction.residual, truth, removed, interval=Bootstrap(0, 500))
    assert interval.low == pytest.approx(interval.value) == pytest.approx(interval.high)


@given(SEEDS, MORE, MORE)
def test_taking_out_more_than_all_never_helps(seed, a, more):
    truth = glitches(seed)
    for function in (subtraction.residual, subtraction.left):
        less = score(function, truth, a * truth).value
        assert score(function, truth, a * more * truth).value > less > 0


@settings(max_examples=25)
@given(SEEDS, some.floats(0.01, 3), some.floats(1.01, 3))
def test_added_noise_never_helps_in_expectation(seed, gain, scale):
    """Noise as often with either sign, so that its product with what is left is 0 on average."""
    rng, truth = np.random.default_rng(seed), glitches(seed)
    removed, noise = gain * truth, rng.normal(size=truth.shape)

    def average(function, size):
        return np.mean([score(function, truth, removed + sign * size * noise).value for sign in (-1, 1)])

    for function in (subtraction.residual, subtraction.left, subtraction.noise_added):
        assert average(function, 0) <= average(function, 1) < average(function, scale)


def test_quiet_events_given_a_glitch():
    """Of five quiet events one is given an SNR of 4 and one of 6."""
    truth, removed = np.zeros((8, 16)), np.zeros((8, 16))
    removed[3, 0], removed[4, :4] = 4.0, 3.0
    three, five = (score(f, truth, removed) for f in (subtraction.noise_above_3, subtraction.noise_above_5))
    assert (three.value, five.value) == (0.4, 0.2)
    assert 0 < five.low < 0.2 < five.high < 1
    none = score(subtraction.noise_above_3, truth, 0 * removed)
    assert (none.value, none.low) == (
        0,
        0,
    ) and 0.3 < none.high < 0.6  # five events do not say that there are none


def test_quantiles_of_what_is_left():
    glitch = np.ones(11, bool)
    truth = np.zeros((11, 4))
    truth[:, 0] = np.arange(11)
    who = Who(glitch, glitch, ~glitch, 32.0)
    assert score(subtraction.snr_left_median, truth, 0 * truth, who).value == 5
    assert score(subtraction.snr_left_p90, truth, 0 * truth, who).value == 9


def test_what_is_left_by_the_snr_of_what_was_there():
    """Of glitches of SNR 11, 12, 34, 35 and 36 a tenth, two, three, four and five tenths of the amplitude."""
    glitch, truth = np.arange(6) < 5, np.zeros((6, 4))
    truth[:5, 0] = 11, 12, 34, 35, 36
    removed = truth * (1 - np.arange(1, 7) / 10)[:, None]
    who = Who(glitch, glitch, ~glitch, 32.0)
    for name, expected in (
        ("left_below_12", 0.01),
        ("left_12_20", 0.04),
        ("left_20_35", 0.09),
        ("left_above_35", (0.16 * 35**2 + 0.25 * 36**2) / (35**2 + 36**2)),
    ):
        assert score(getattr(subtraction, name), truth, removed, who).value == pytest.approx(expected), name


@pytest.mark.parametrize(
    ("who", "undefined"),
    [
        (
            replace(WHO, glitch=np.zeros(8, bool)),
            ("residual", "left", "snr_left_median", "removed", "destroyed"),
        ),
        (replace(WHO, quiet=np.zeros(8, bool)), ("residual", "noise_added", "noise_above_3")),
    ],
)
def test_nobody_to_score(who, undefined):
    truth = glitches()
    columns = subtraction.series_sums(made(truth, truth)) | energy_columns(
        np.ones((8, 2, 2)), np.ones((8, 2, 2))
    )
    for name in undefined:
        interval = getattr(subtraction, name)({"it": columns}, "it", who, ONE)
        assert np.isnan([interval.value, interval.low, interval.high]).all(), name


def test_a_sum_that_is_not_a_number_has_no_value():
    truth = glitches()
    truth[0] = np.nan
    for name in ("residual", "left", "snr_left_median"):
        score(getattr(subtraction, name), truth, 0 * truth)
    removed = glitches()
    removed[5] = np.nan
    for name in ("residual", "noise_added", "noise_above_3"):
        assert np.isnan(score(getattr(subtraction, name), glitches(), removed).value), name


def energy_columns(witnessed, generated, recorded=None):
    """Columns of a method that is judged by energies alone."""
    w, g = np.float32(witnessed), np.float32(generated)
    t = np.float32(w + B if recorded is None else recorded)
    left, wanted = metrics.subtract(t, g), metrics.wanted(t, w)
    return subtraction.energy_sums(Made(t, g, left, wanted, w, None, None, None, np.ones(t.shape[1]), True))


def test_removed_and_destroyed_by_hand():
    """Two pixels: one of W = 9 b, which is brought from 10 b to 2 b and not to b, one where no witness sees anything,
    which is halved."""
    w, t = np.zeros((8, 1, 2)), np.full((8, 1, 2), B)
    w[..., 0], t[..., 0] = 9 * B, 10 * B
    columns = energy_columns(w, np.broadcast_to([5 * B, 2 * B], t.shape), t)
    found = subtraction.removed({"it": columns}, "it", WHO, ONE)
    assert found.value == pytest.approx(1 - 1.5 / 9)
    assert subtraction.destroyed({"it": columns}, "it", WHO, ONE).value == pytest.approx(0.5)


def test_removed_of_nothing_of_all_and_of_the_right_thing():
    w = np.random.default_rng(0).exponential(5, (8, 6, 6)) * (np.arange(6) < 3)
    cases = {"nothing": np.zeros_like(w), "right": w + B, "all": np.full_like(w, 1e9)}
    removed, destroyed = (
        {name: f({"it": energy_columns(w, g)}, "it", WHO, ONE).value for name, g in cases.items()}
        for f in (subtraction.removed, subtraction.destroyed)
    )
    assert removed["nothing"] == pytest.approx(0, abs=1e-6) and removed["right"] == pytest.approx(1, abs=1e-6)
    # all: every pixel's b is missing, of W above it that was to go
    assert removed["all"] == pytest.approx(1 - 36 * 3 * B / w[:3].sum(), rel=1e-5)
    assert 0 < destroyed["nothing"] < 0.01  # what is left of W < 0.1 b, which was to go
    assert destroyed["right"] == pytest.approx(0, abs=1e-6)
    assert destroyed["all"] == pytest.approx(1, rel=1e-6)


@settings(max_examples=50)
@given(SEEDS, MORE, MORE)
def test_generating_more_than_what_is_there_never_removes_more(seed, a, more):
    rng = np.random.default_rng(seed)
    w, t = rng.exponential(10, (8, 4, 4)), rng.exponential(10, (8, 4, 4))
    removed, destroyed = (
        [f({"it": energy_columns(w, (w + B) * g, t)}, "it", WHO, ONE).value for g in (1, a, a * more)]
        for f in (subtraction.removed, subtraction.destroyed)
    )
    assert removed[0] > removed[1] > removed[2]
    assert np.isnan(destroyed).all() or destroyed[0] <= destroyed[1] <= destroyed[2]
