"""Complex coefficients and their inverse."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gwpy.timeseries import TimeSeries

from glitchflow.signal.qtransform import QTransform


def in_band(series, rate, frange):
    """The series without what lies outside of frange (Hz)."""
    series = np.asarray(series, dtype=float)
    spectrum = np.fft.rfft(series)
    frequency = np.arange(spectrum.shape[-1]) * (rate / series.shape[-1])
    spectrum[..., (frequency < frange[0]) | (frequency > frange[1])] = 0
    return np.fft.irfft(spectrum, series.shape[-1])


def relative(found, expected):
    return np.linalg.norm(np.asarray(found) - expected) / np.linalg.norm(expected)


def sine_gaussian(samples, rate, frequency, width=0.05):
    t = np.arange(samples) / rate
    return np.exp(-(((t - t[-1] / 2) / width) ** 2)) * np.sin(2 * np.pi * frequency * t)


@pytest.mark.parametrize("q", [4.0, 12.0, 45.0])
@pytest.mark.parametrize(("rate", "samples"), [(512, 4096), (500, 8001), (4096, 4 * 4096)])
def test_inverse_of_noise_and_sine_gaussians(rate, samples, q):
    frange = (15, 0.25 * rate)
    transform = QTransform(samples / rate, rate, q=q, frange=frange, whiten=False)
    series = (
        1e-21
        * np.stack([np.random.default_rng(0).normal(size=samples), sine_gaussian(samples, rate, 60)])[None]
    )
    back = transform.inverse(transform.coefficients(series))
    assert back.dtype == torch.float64
    for found, one in zip(back[0], series[0], strict=True):
        assert relative(found, in_band(one, rate, frange)) < 1e-5


def test_inverse_in_float64_is_exact():
    series = np.random.default_rng(1).normal(size=(2, 3, 4096))
    transform = QTransform(8, 512, q=10, frange=(10, 150), whiten=False, dtype=torch.float64)
    back = transform.inverse(transform.coefficients(series))
    assert relative(back, in_band(series, 512, (10, 150))) < 1e-12


def test_inverse_of_whitened_coefficients_is_the_whitened_series_and_undo_colours_it_back():
    rng = np.random.default_rng(2)
    series = rng.normal(size=8192).cumsum() * 1e-22 + 1e-20 * sine_gaussian(8192, 512, 70)
    transform = QTransform(16, 512, q=10, frange=(20, 150))
    coefficients = transform.coefficients(series[None, None])
    back = transform.inverse(coefficients)
    white = coefficients.filters(torch.from_numpy(series)[None, None])
    assert relative(back, in_band(white, 512, (20, 150))) < 1e-5
    coloured = coefficients.filters.undo(back, (20, 150))[0, 0]
    middle = slice(1024, -1024)
    assert relative(coloured[middle], in_band(series, 512, (20, 150))[middle]) < 2e-2


def test_inverse_is_linear_in_the_coefficients():
    series = np.random.default_rng(3).normal(size=(1, 1, 4096))
    transform = QTransform(8, 512, q=10, frange=(10, 150), whiten=False)
    c = transform.coefficients(series)
    half = replace(c, values=tuple(0.5 * v for v in c.values))
    torch.testing.assert_close(transform.inverse(half), 0.5 * transform.inverse(c), rtol=1e-5, atol=1e-6)


def test_squared_coefficients_are_the_energies():
    series = np.random.default_rng(5).normal(size=(1, 2, 4096))
    transform = QTransform(8, 512, q=10, frange=(10, 150), whiten=False)
    spectrum = torch.fft.rfft(torch.from_numpy(series[0])).to(torch.complex64)
    energies, _, _ = transform._plane(0).measure(spectrum)
    for values, energy in zip(transform.coefficients(series).values, energies, strict=True):
        torch.testing.assert_close(values[0].abs().square(), energy, rtol=1e-4, atol=1e-9)


def test_a_plane_is_chosen_by_q_where_there_are_several():
    transform = QTransform(8, 512, qrange=(4, 32), frange=(20, 100), whiten=False)
    series = np.random.default_rng(6).normal(size=(1, 1, 4096))
    with pytest.raises(ValueError, match=r"several planes, of Q .* choose one by q="):
        transform.coefficients(series)
    coefficients = transform.coefficients(series, q=10)
    assert coefficients.q == min(transform.qs.tolist(), key=lambda q: abs(q - 10))
    assert relative(transform.inverse(coefficients), in_band(series, 512, (20, 100))) < 1e-5


def test_coefficients_are_demodulated():
    t = np.arange(4096) / 512
    transform = QTransform(8, 512, q=10, frange=(10, 150), whiten=False)
    frequencies = torch.cat(transform.coefficients(np.sin(60 * t)[None, None]).frequencies)
    row = int((frequencies - 60).abs().argmin())
    # gwpy centres the window one bin above the row's frequency
    tone = np.cos(2 * np.pi * (frequencies[row].item() + 1 / 8) * t + 0.7)
    (values,) = (
        v[0, 0, int((f == frequencies[row]).nonzero())]
        for v, f in zip(
            *(getattr(transform.coefficients(tone[None, None]), n) for n in ("values", "frequencies"))
        )
        if frequencies[row] in f
    )
    torch.testing.assert_close(values.angle(), torch.full_like(values.real, 0.7), rtol=0, atol=1e-4)


DATA = os.environ.get("GLITCHFLOW_TEST_DATA")


@pytest.mark.skipif(not DATA, reason="GLITCHFLOW_TEST_DATA is not set: no detector data")
@pytest.mark.parametrize("whiten", [False, True])
def test_inverse_of_gw150914(whiten):
    path = next(Path(DATA).glob("H-H1_*.hdf5"))
    series = TimeSeries.read(path, format="hdf5.gwosc").value[None, None]
    transform = QTransform(32, 4096, q=8, frange=(20, 500), whiten=whiten)
    coefficients = transform.coefficients(series)
    if whiten:
        series = coefficients.filters(torch.from_numpy(series))
    assert relative(transform.inverse(coefficients), in_band(series, 4096, (20, 500))) < 1e-5
