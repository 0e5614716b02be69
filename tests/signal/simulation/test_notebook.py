"""Recipe `notebook`: sums of sines, and the original's mistakes, offered."""

import numpy as np
import pytest
from helpers import recipe_of, small

from glitchflow.signal.simulation.notebook import sum_of_sines


def notebook(tmp_path, **settings):
    settings = {"frequency": [15, 80], **settings}
    return recipe_of(
        small(tmp_path, derived=[], simulate={"recipe": "notebook", "events": 9, "notebook": settings})
    )


def test_the_notebooks_strain_is_a_fixed_weighted_sum(tmp_path):
    recipe = notebook(tmp_path, strain_noise=0.0)
    weights = recipe.couplings["weights"]
    assert len(weights) == 3
    assert all(0.5 <= w <= 1.5 for w in weights)
    assert recipe.channels == ["SIM:STRAIN", "SIM:WITNESS_1", "SIM:WITNESS_2", "SIM:WITNESS_3"]
    for index in range(3):
        event = recipe.event(index)
        np.testing.assert_allclose(event.series[0], weights @ event.series[1:], atol=1e-12)
        np.testing.assert_allclose(event.witnessed, event.series[0])


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 8000])
def test_a_sum_of_sines_is_the_sum_of_the_sines(samples):
    rng = np.random.default_rng(1)
    amplitude, frequency, phase = rng.uniform(0.5, 2, 24), rng.uniform(0, 0.5, 24), rng.uniform(0, 7, 24)
    time = np.arange(samples)
    expected = (amplitude[:, None] * np.sin(2 * np.pi * frequency[:, None] * time + phase[:, None])).sum(0)
    np.testing.assert_allclose(sum_of_sines(amplitude, frequency, phase, samples), expected, atol=1e-9)


def test_the_notebooks_noise_and_sines(tmp_path):
    event = notebook(tmp_path, strain_noise=0.1).event(0)
    residual = event.series[0] - event.witnessed
    assert residual.std() == pytest.approx(0.1, rel=0.1)
    bare = notebook(tmp_path, witness_noise=0.0, sines=[1, 1], amplitude=[2, 2], frequency=[32, 32]).event(0)
    power = np.abs(np.fft.rfft(bare.series[1])) * 2 / bare.series.shape[1]
    assert power.argmax() == 32 * 8
    assert power.max() == pytest.approx(2)
    assert np.delete(power, 32 * 8).max() < 1e-9


def test_weights_redrawn_for_every_event(tmp_path):
    recipe = notebook(tmp_path, redraw_weights=True, strain_noise=0.0)
    assert recipe.couplings == {}
    found = [np.linalg.lstsq(e.series[1:].T, e.series[0], rcond=None)[0] for e in map(recipe.event, range(3))]
    assert not np.allclose(found[0], found[1])
    assert not np.allclose(found[1], found[2])


def test_constant_noise_is_one_value_per_series(tmp_path):
    event = notebook(tmp_path, constant_noise=True, strain_noise=0.1).event(0)
    residual = event.series[0] - event.witnessed
    assert np.ptp(residual) < 1e-12
    assert abs(residual[0]) > 1e-6
