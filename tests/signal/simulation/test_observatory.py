"""The detector of configs/observatory.yaml: how hard it is, by the sizes of its effects."""

from pathlib import Path

import numpy as np
import pytest

from glitchflow.config import load
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.simulation.recipe import build_recipe
from glitchflow.signal.simulation.timeline import draw_transients, make_happening

LOUD = 8.0  # SNR from which a witness's transient is one that a search would list


@pytest.fixture(scope="module")
def observatory():
    return load(Path(__file__).parents[3] / "configs/observatory.yaml")


@pytest.fixture(scope="module")
def happened(observatory):
    """What happens in half an hour: of each transient its SNRs in the strain and in each witness that hears it."""
    settings = observatory.simulate.detector
    instrument, _ = draw_instrument(settings, observatory.series, observatory.seed)
    slow = {1 + settings.names.index(name) for name in settings.slow}
    found = []
    start = observatory.simulate.start
    for drawn in draw_transients(settings, observatory.seed, start, start + 1800):
        made = make_happening(instrument, drawn)
        for channel, series in made.heard.items():
            if channel not in slow:  # a slow motion's SNR is not in the band
                spectrum, colour = (
                    np.fft.rfft(series),
                    instrument.spectra.colour(slice(channel, channel + 1))[0],
                )
                white = np.divide(spectrum, colour, out=np.zeros_like(spectrum), where=colour > 0)
                loudness = float(np.linalg.norm(np.fft.irfft(white, n=series.size)))
                found.append((made.snr, loudness if drawn.family != "bilinear" else 0.0))
    return np.array(found)


def test_nine_in_ten_of_what_witnesses_see_never_reaches_the_strain(happened):
    """With the strain's SNR below 1; in `synthetic` it is none."""
    strain, witness = happened.T
    assert (witness > LOUD).sum() > 500
    assert np.mean(strain[witness > LOUD] < 1) > 0.9


def test_witnesses_hear_louder_than_the_strain(happened):
    """By 1 to 100, log-uniformly, and what transfer functions add: 6 dB of ripple, couplings that come and go."""
    strain, witness = happened[(happened[:, 0] >= 1) & (happened[:, 1] > 0)].T
    ratio = np.log10(witness / strain)
    assert ratio.size > 8
    assert 0.5 < np.median(ratio) < 2
    assert ratio.min() > -0.7 and ratio.max() < 2.7
    assert np.ptp(ratio) > 0.7


def test_most_of_a_hundred_witnesses_in_ten_subsystems_are_idle(observatory):
    settings = observatory.simulate.detector
    assert len(settings.subsystems) == 10
    assert 90 <= len(settings.names) <= 110
    assert {one.rate for one in settings.subsystems} == {16, 64, 128, 256, 1024, 2048}
    telling = set(settings.slow) | {
        n for one in settings.subsystems for n in settings.sensors(one)[: one.telling]
    }
    assert 8 <= len(telling) <= 12


def test_an_event_is_made_of_all_that_makes_it_hard(observatory):
    recipe = build_recipe(observatory.simulate, observatory.series, observatory.derived, observatory.seed)
    events = [recipe.event(i) for i in range(24)]
    assert np.mean([event.label == 0 for event in events]) > 0.7, "a prior of mostly nothing"
    assert all(event.series.shape == (len(recipe.channels), 8192) for event in events)
    assert all(np.isfinite(event.series).all() for event in events)
    assert not any(event.valid[recipe.channels.index("SIM:VAC_6")] for event in events), "it is dead"
    assert all(event.skipped or event.shared.any() for event in events)
    again = recipe.event(7)
    np.testing.assert_array_equal(again.series, events[7].series)
