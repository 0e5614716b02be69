"""What is left of signals: pooled over the events of a family, drawn event by event."""

import numpy as np
import pytest

from glitchflow.score import survival
from glitchflow.score.made import Who
from glitchflow.score.statistics import Bootstrap, bootstrap_pooled_quantile

NONE = np.nan
FAMILY = np.array([True, True, False, True])
WHO = Who(FAMILY, FAMILY, ~FAMILY, 32.0)
KEPT = np.array(
    [[0.2, NONE], [0.4, 0.6], [0.0, 0.0], [NONE, NONE]]
)  # an event with one, two, two, no signals
COLUMNS = {"kept": KEPT, "late": KEPT / 10, "turned": KEPT, "heavier": NONE * KEPT, "chi2": 10 * KEPT}
BOOTSTRAP = Bootstrap(1, 200)


def test_signals_of_the_familys_events_count_alike():
    measured = {"method": COLUMNS}
    assert survival.snr_kept_median(measured, "method", WHO, BOOTSTRAP).value == 0.4
    assert survival.snr_kept_p1(measured, "method", WHO, BOOTSTRAP).value == 0.2
    assert survival.bias_time(measured, "method", WHO, BOOTSTRAP).value == pytest.approx(0.04)
    assert survival.chi2(measured, "method", WHO, BOOTSTRAP).value == pytest.approx(4)


def test_what_no_signal_has_is_null():
    nobody = Who(~FAMILY & False, FAMILY, FAMILY, 32.0)
    for score in (survival.snr_kept_median, survival.snr_kept_p1, survival.bias_phase, survival.chi2):
        assert np.isnan(score({"method": COLUMNS}, "method", nobody, BOOTSTRAP).value)
    assert np.isnan(survival.bias_mass({"method": COLUMNS}, "method", WHO, BOOTSTRAP).value)


def test_a_pooled_quantile_draws_an_event_with_all_its_numbers():
    rng = np.random.default_rng(1)
    alike = np.repeat(rng.normal(size=(200, 1)), 10, axis=1)  # ten signals of an event say what one says
    ten = bootstrap_pooled_quantile(alike, 0.5, 1, 400)
    one = bootstrap_pooled_quantile(alike[:, :1], 0.5, 1, 400)
    assert ten == one
    several = bootstrap_pooled_quantile(rng.normal(size=(200, 10)), 0.5, 1, 400)
    assert several.high - several.low < 0.6 * (one.high - one.low)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_a_pooled_quantile_is_numpys_of_all_numbers(share):
    values = np.random.default_rng(2).normal(size=(40, 3))
    values[::3, 1:] = np.nan
    found = bootstrap_pooled_quantile(values, share, 1, 50)
    assert found.value == np.nanquantile(values, share, method="inverted_cdf")
    assert found.low <= found.value <= found.high
    assert np.isnan(bootstrap_pooled_quantile(np.full((3, 2), np.nan), share, 1, 50).value)
