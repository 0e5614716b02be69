"""Parts of the strain, seen as the strain was: the companion of the transform itself, and sums of parts."""

import numpy as np
import pytest

from glitchflow.signal.qtransform import QTransform, look

RATE, SECONDS = 256.0, 8.0
FIXED = {"q": 8, "outseg": (3, 5), "shape": (16, 32), "logf": True}
PLANES = {"qrange": (5, 20), "outseg": (3, 5), "shape": (16, 32), "logf": True}
CROP = {"q": 8, "outseg": (1, 7), "tres": 0.1, "fres": 2.0, "crop": 12}
GIVEN = {**FIXED, "whiten": np.linspace(1e-21, 3e-21, 129)}


def engine_of(options):
    import torch

    options = {k: torch.from_numpy(v) if k == "whiten" else v for k, v in options.items()}
    return QTransform(SECONDS, RATE, frange=(15, 80), fftlength=2, **options)


@pytest.fixture(scope="module")
def strain():
    return 1e-21 * np.random.default_rng(1).normal(size=(5, int(RATE * SECONDS)))


@pytest.fixture(scope="module")
def parts(strain):
    """Some shares of the strain, and something else."""
    other = 1e-22 * np.random.default_rng(2).normal(size=strain.shape)
    return np.stack([0.3 * strain, other, 0 * strain], axis=1)


@pytest.mark.parametrize("options", [FIXED, PLANES, CROP, GIVEN], ids=["fixed", "planes", "crop", "given"])
def test_energies_are_those_of_the_transforms_own_companion(strain, parts, options):
    engine = engine_of(options)
    seen = look(engine, strain)
    energies = seen.energies(seen.whiten(parts))
    for place in range(3):
        expected = engine(strain[:, None], companion=parts[:, place]).companion.clamp_min(0).numpy()
        np.testing.assert_array_equal(energies[:, place], expected)
    assert not energies[:, 2].any()


def test_whitening_is_linear_so_that_what_is_left_needs_no_second_look(strain, parts):
    seen = look(engine_of(FIXED), strain)
    left = seen.whiten((strain - parts[:, 1])[:, None])[:, 0]
    np.testing.assert_allclose(
        seen.white - seen.whiten(parts)[:, 1], left, atol=1e-5
    )  # the strain itself in float32
    np.testing.assert_allclose(seen.whiten(strain[:, None])[:, 0], seen.white, atol=1e-5)


def test_an_event_does_not_depend_on_its_neighbours(strain, parts):
    engine = engine_of(PLANES)
    seen, alone = look(engine, strain), look(engine, strain[3:4])
    together = seen.energies(seen.whiten(parts))[3:4]
    np.testing.assert_array_equal(alone.energies(alone.whiten(parts[3:4])), together)
