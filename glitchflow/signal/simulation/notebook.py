"""Recipe `notebook`: the original notebook's sums of sines, with its mistakes offered and not inherited.

Shapes: C channel (the strain first), N sample, W witness.
"""

import math
from functools import partial

import numpy as np

from glitchflow.config import Derived, Series, Simulate
from glitchflow.signal.derive import append_derived
from glitchflow.signal.streams import COUPLINGS, DERIVED, EVENTS, generator
from glitchflow.signal.types import Array, Event, Recipe


def notebook(simulate: Simulate, series: Series, derived: list[Derived], seed: int) -> Recipe:
    """Makes the original notebook's recipe: witnesses are sums of sines, the strain their weighted sum, plus noise."""
    settings = simulate.notebook
    weights = generator(seed, COUPLINGS).uniform(*settings.weights, settings.witnesses)
    return Recipe(
        events=simulate.events,
        channels=[settings.strain, *settings.names, *(d.name for d in derived)],
        labels=["background", "sines"],
        witnessed=["sines"],
        couplings={} if settings.redraw_weights else {"weights": weights.tolist()},
        event=partial(_event, simulate, series, derived, seed, weights),
        split_key=int,
        label=lambda _: 1,
    )


def _event(
    simulate: Simulate, series: Series, derived: list[Derived], seed: int, weights: Array, index: int
) -> Event:
    """One event; weights: (W,)."""
    settings, rng = simulate.notebook, generator(seed, EVENTS, index)
    noise_samples = 1 if settings.constant_noise else series.samples
    if settings.redraw_weights:
        weights = rng.uniform(*settings.weights, settings.witnesses)
    witnesses = np.empty((settings.witnesses, series.samples))
    for row in witnesses:
        count = rng.integers(settings.sines[0], settings.sines[1] + 1)
        amplitude = rng.uniform(*settings.amplitude, count)
        frequency = rng.uniform(*settings.frequency, count)
        phase = rng.uniform(0, 2 * np.pi, count)
        row[:] = sum_of_sines(amplitude, frequency / series.sample_rate, phase, series.samples)
        row += settings.witness_noise * rng.standard_normal(noise_samples)
    witnessed = weights @ witnesses
    strain = witnessed + settings.strain_noise * rng.standard_normal(noise_samples)
    snr = float(np.linalg.norm(witnessed) / settings.strain_noise) if settings.strain_noise else float("inf")
    values = np.vstack([strain, witnesses])
    floor = generator(seed, DERIVED, index)
    values = append_derived(values, ["", *settings.names], derived, series.sample_rate, floor)
    return Event(values, witnessed, 1, simulate.time(index), snr)


def sum_of_sines(amplitude: Array, frequency: Array, phase: Array, samples: int) -> Array:
    """Sums over k amplitude_k sin(2 pi frequency_k n + phase_k) at n = 0 .. samples - 1; frequency per sample.

    With n = i m + j, e^(i w n) is a product of a factor of i and one of j, so the sum is one small matrix product of
    2 sqrt(samples) exponentials a sine, instead of `samples` of them.
    """
    fine = math.isqrt(samples) + 1
    turn = 2j * np.pi * frequency
    coarse = np.exp(turn * (fine * np.arange(-(-samples // fine)))[:, None])
    # einsum adds in one fixed order; a BLAS may choose its own by the number of threads
    product = np.einsum(
        "ik,kj->ij", coarse * (amplitude * np.exp(1j * phase)), np.exp(np.outer(turn, np.arange(fine)))
    )
    return product.imag.reshape(-1)[:samples]
