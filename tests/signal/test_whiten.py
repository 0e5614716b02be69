"""Whitening: gwpy's numbers, and the filter's own promises."""

import numpy as np
import pytest
import torch
from gwpy.frequencyseries import FrequencySeries
from gwpy.timeseries import TimeSeries

from glitchflow.signal.whiten import default_fftlength, design_filter, estimate_asd, whiten


def red_noise(rng, shape, scale=1e-21):
    noise = rng.normal(size=shape)
    return scale * (noise + 0.05 * noise.cumsum(-1))


def relative(found, expected):
    return np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("rate", [256, 500, 501, 4096])
def test_asd_is_gwpys(rate):
    series = red_noise(np.random.default_rng(0), (2, 17 * rate))
    fftlength = default_fftlength(rate)
    found = estimate_asd(torch.from_numpy(series), rate)
    for one, asd in zip(series, found):
        expected = TimeSeries(one, sample_rate=rate).asd(fftlength, fftlength / 2, method="median").value
        np.testing.assert_allclose(asd, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("rate", "samples", "options"),
    [
        (500, 8000, {}),
        (500, 8001, {}),
        (501, 8017, {"fduration": 4}),
        (512, 4096, {"highpass": 15.0}),
        (4096, 8 * 4096, {"fduration": 1}),
        (1024, 64 * 1024, {}),  # long enough for gwpy's overlap-save
        (500, 1000, {"fftlength": 1, "fduration": 1}),
        (500, 2500, {"fftlength": 5}),  # one periodogram
    ],
)
def test_whitened_series_is_gwpys(rate, samples, options):
    series = red_noise(np.random.default_rng(2), (2, samples))
    found, _ = whiten(torch.from_numpy(series), rate, **options)
    fftlength = options.get("fftlength", default_fftlength(rate))
    gwpy = {"overlap": fftlength / 2, **options, "fftlength": fftlength}
    for one, white in zip(series, found):
        expected = TimeSeries(one, sample_rate=rate).whiten(**gwpy).value
        assert relative(white, expected) < 1e-9


def test_given_asd_is_gwpys():
    series = red_noise(np.random.default_rng(3), 8000, scale=1.0)
    asd = 1 / (1 + np.linspace(0, 3, 401))
    found, _ = whiten(torch.from_numpy(series), 500, torch.from_numpy(asd))
    expected = TimeSeries(series, sample_rate=500).whiten(asd=FrequencySeries(asd, df=250 / 400)).value
    assert relative(found, expected) < 1e-9


def test_white_is_of_unit_variance():
    white, _ = whiten(torch.from_numpy(red_noise(np.random.default_rng(4), (4, 64 * 512))), 512)
    assert white[:, 1024:-1024].std(-1).numpy() == pytest.approx(1, abs=0.1)


def test_filter_takes_a_part_of_the_series_as_it_took_the_whole():
    rng = np.random.default_rng(5)
    part, rest = (torch.from_numpy(red_noise(rng, (3, 4096))) for _ in range(2))
    white, filters = whiten(part + rest, 512)
    torch.testing.assert_close(filters(part) + filters(rest), white, rtol=0, atol=1e-9)


def test_undo_returns_the_band_away_from_the_ends():
    rate, t = 1024, np.arange(8 * 1024) / 1024
    series = red_noise(np.random.default_rng(6), t.shape)
    signal = 1e-20 * np.exp(-(((t - 4) / 0.1) ** 2)) * np.sin(2 * np.pi * 100 * t)
    _, filters = whiten(torch.from_numpy(series), rate)
    back = filters.undo(filters(torch.from_numpy(signal)), (20, 400))
    assert relative(back, signal) < 1e-5


def test_a_series_is_whitened_alike_alone_and_in_a_batch():
    series = torch.from_numpy(red_noise(np.random.default_rng(7), (5, 8000)))
    together, _ = whiten(series, 500)
    for one, white in zip(series, together):
        assert torch.equal(whiten(one, 500)[0], white)
        assert torch.equal(whiten(one[None], 500)[0][0], white)


def test_errors_say_what_is_wrong():
    series = torch.randn(1000, dtype=torch.float64)
    with pytest.raises(ValueError, match="2 s is too short for an ASD with fftlength 5 s"):
        whiten(series, 500)
    with pytest.raises(ValueError, match=r"fduration 4 s is longer than the series, 2\.0 s"):
        whiten(series, 500, fftlength=1, fduration=4)
    with pytest.raises(ValueError, match=r"1\.5 s is 751 samples .* even"):
        design_filter(torch.ones(10), 16, 501, fduration=1.5)


def test_vanishing_asd_gives_no_filter_and_no_nan():
    asd = torch.ones(2, 401, dtype=torch.float64)
    asd[1, 7] = 0
    filters = design_filter(asd, 16, 500)
    assert filters.side[0].any()
    assert not filters.side[1].any()
