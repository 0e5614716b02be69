"""What must hold for any series: hypothesis draws the noise, the batch and the scale."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glitchflow.signal.qtransform import QTransform

BAND = {"duration": 8, "sample_rate": 256, "frange": (12, 60), "shape": (24, 128)}
WHITENED = QTransform(**BAND, qrange=(4, 20))
RAW = QTransform(**BAND, q=10.0, whiten=False)
seeds = st.integers(0, 2**32 - 1)


def noise(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(*shape, 2048)))


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 6), st.integers(1, 3), st.data())
def test_a_permuted_batch_gives_the_permuted_result(seed, events, channels, data):
    series = noise(seed, events, channels)
    order = data.draw(st.permutations(range(events)))
    energy = WHITENED(series).energy
    assert torch.equal(WHITENED(series[order]).energy, energy[order])
    assert torch.equal(WHITENED(series[order[:1]]).energy, energy[order[:1]])


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(-60, 60), st.floats(1.0, 2.0))
def test_scaling_the_input_leaves_normalised_energies(seed, exponent, factor):
    series = noise(seed, 1, 2)
    for transform in (WHITENED, RAW):
        energy = transform(series).energy
        assert torch.equal(transform(series * 2.0**exponent).energy, energy)
        scaled = transform(series * (factor * 10.0 ** (exponent // 3))).energy
        torch.testing.assert_close(scaled, energy, rtol=1e-4, atol=1e-4 * energy.max().item())


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(0, 127))
def test_a_circular_shift_shifts_the_image(seed, steps):
    # the coarsest row of RAW has 128 tiles, like the image columns: a tile is 16 samples and a column
    coarsest = min(rows.tiles for rows in RAW.planes[0].rows())
    assert 128 % coarsest == 0 or coarsest % 128 == 0
    shift = steps * max(1, 128 // coarsest)
    series = noise(seed, 1, 1)
    shifted = RAW(series.roll(shift * 16, -1)).energy.roll(-shift, -1)
    energy = RAW(series).energy
    # splines are not periodic: away from the ends of either image
    clear = torch.ones(128, dtype=torch.bool)
    for end in (0, 128 - shift):
        clear[[(end + i) % 128 for i in range(-14, 14)]] = False
    torch.testing.assert_close(
        shifted[..., clear], energy[..., clear], rtol=1e-3, atol=1e-4 * energy.max().item()
    )


@settings(max_examples=10, deadline=None)
@given(seeds, st.floats(0.1, 1.0))
def test_energies_of_a_part_grow_with_its_square(seed, share):
    series, part = noise(seed, 1, 2), noise(seed + 1, 1)
    whole, less = (WHITENED(series, companion=c * part).companion for c in (1.0, share))
    torch.testing.assert_close(less, whole * share**2, rtol=1e-4, atol=1e-5 * whole.max().item())
