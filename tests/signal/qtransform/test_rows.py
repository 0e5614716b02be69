"""Tiles of Q planes: the loudest, found without ranking every row."""

import numpy as np
import pytest
import torch

from glitchflow.signal import batch_invariant
from glitchflow.signal.qtransform import QTransform
from glitchflow.signal.qtransform.rows import loudest_plane

DURATION, RATE = 8, 256


def spectra():
    """Of six series: noise, quiet noise with one loud burst each at several frequencies, and silence."""
    rng, t = np.random.default_rng(3), np.arange(DURATION * RATE) / RATE
    series = rng.normal(size=(6, t.size))
    for row, frequency in ((1, 15), (2, 40), (3, 70)):
        series[row] += 15 * np.exp(-(((t - 3) / 0.05) ** 2)) * np.sin(2 * np.pi * frequency * t)
    series[5] = 0
    return torch.fft.rfft(torch.from_numpy(series).float())


@pytest.fixture
def planes():
    transform = QTransform(DURATION, RATE, frange=(10, 80), whiten=False)
    return [transform._plane(p) for p in range(len(transform.planes))]


def by_ranking_all(plane, spectrum, limit):
    energies, units, _ = plane.measure(spectrum)
    rows = torch.cat([energy.amax(-1) for energy in energies], 1) * units
    return (rows * (torch.from_numpy(plane.frequencies) <= limit)).amax(1)


@pytest.mark.parametrize("limit", [np.inf, 30.0])
@pytest.mark.parametrize("kernel", ["numpy", "torch"])
def test_the_loudest_tile_is_that_of_all_rows(planes, limit, kernel, monkeypatch):
    if kernel == "torch":
        monkeypatch.setattr(batch_invariant, "on_cpu", lambda x: False)
    spectrum, zeros = spectra(), torch.zeros(6)
    limits = torch.full((6,), limit)
    wanted = torch.stack([by_ranking_all(plane, spectrum, limit) for plane in planes])
    for plane, energy in zip(planes, wanted):
        assert torch.equal(plane.loudest_energy(spectrum, zeros, limits), energy)
        assert torch.equal(plane.loudest_energy(spectrum, energy + 1, limits), energy + 1)
    assert torch.equal(loudest_plane(planes, spectrum, limits), wanted.argmax(0))
    assert len(wanted.argmax(0).unique()) > 1, "the series show several planes"


def test_few_rows_are_ranked(planes, monkeypatch):
    ranked = []
    median = batch_invariant.median
    monkeypatch.setattr(
        "glitchflow.signal.qtransform.rows.median", lambda x: ranked.append(x[..., 0].numel()) or median(x)
    )
    spectrum = spectra()[:5]
    loudest_plane(planes, spectrum)
    assert sum(ranked) < len(spectrum) * sum(len(plane.frequencies) for plane in planes) / 3
