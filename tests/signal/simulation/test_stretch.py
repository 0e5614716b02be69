"""A stretch has no seam, any second of it can be made alone, and its truth adds up."""

import numpy as np
import pytest
from helpers import small
from scipy.signal import welch

from glitchflow.config import Stretch
from glitchflow.errors import InputError
from glitchflow.signal.simulation.noise import channel_asds
from glitchflow.signal.simulation.stretch import BLOCK, Span, Timeline, make_spans, make_timeline

START = 1_400_000_000  # on the grid of blocks, as 1_400_000_064 is
RATE = 256


def timeline(tmp_path, **stretch) -> Timeline:
    experiment = small(tmp_path)
    return make_timeline(experiment.simulate.detector, Stretch(**stretch), RATE, experiment.seed)


def span(line: Timeline, start: int, stop: int) -> Span:
    return next(make_spans(line, [start, stop]))


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    return timeline(tmp_path_factory.mktemp("stretch"), rate=0.1, signals=200)


@pytest.fixture(scope="module")
def whole(line):
    """Five minutes that begin and end inside a block."""
    return span(line, START - 20, START + 280)


def assert_same(a: Span, b: Span) -> None:
    assert (a.start, a.stop, a.transients) == (b.start, b.stop, b.transients)
    for one, other in zip(
        [*a.channels, *a.parts.values(), a.state], [*b.channels, *b.parts.values(), b.state]
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("second", [-20, -1, 0, 63, 64, 150, 279])
def test_a_second_made_alone_is_that_of_the_hour(line, whole, second):
    """The first and last of it, both sides of two seams between blocks, and one amid a block; bit for bit."""
    alone = span(line, START + second, START + second + 1)
    assert len(alone.channels) == 3
    assert [len(c) for c in alone.channels] == [RATE] * 3
    assert_same(alone, whole.cut(START + second, START + second + 1))


def test_pieces_of_any_length_join_to_the_whole(line, whole):
    edges = [START - 20, START - 19, START + 30, START + 31, START + 200, START + 280]
    pieces = list(make_spans(line, edges))
    for i, channel in enumerate(whole.channels):
        np.testing.assert_array_equal(np.concatenate([p.channels[i] for p in pieces]), channel)
    assert [t for p in pieces for t in p.transients] == whole.transients


def test_it_is_another_with_another_seed(line, tmp_path):
    settings = small(tmp_path).simulate.detector
    other = make_timeline(settings, line.stretch, RATE, 4)
    assert not np.array_equal(
        span(other, START, START + 1).channels[0], span(line, START, START + 1).channels[0]
    )


def test_the_strain_is_its_noise_and_what_the_truth_names(line, whole, tmp_path):
    """What is left without the parts is the noise of a stretch without transients, and its PSD is the ASD's square."""
    quiet = span(timeline(tmp_path, rate=0.0), START - 20, START + 280)
    assert not quiet.transients
    assert not any(part.any() for part in quiet.parts.values())
    left = whole.channels[0] - sum(whole.parts.values())
    np.testing.assert_allclose(left, quiet.channels[0], atol=1e-9 * quiet.channels[0].std())
    assert {name for name, part in whole.parts.items() if part.any()} == {
        "witnessed",
        "unwitnessed",
        "signals",
    }


def test_the_noise_has_the_detectors_spectrum_across_seams(tmp_path):
    """Median of periodograms of half an hour, with and without those that lie across a seam, in bands and on a line."""
    experiment = small(tmp_path)
    quiet = span(timeline(tmp_path, rate=0.0), START, START + 28 * BLOCK)
    slopes = np.array(list(make_slopes(experiment)))
    frequency = np.fft.rfftfreq(8 * RATE, 1 / RATE)
    asds, _ = channel_asds(experiment.simulate.detector, frequency, slopes)
    for channel, asd in zip(quiet.channels, asds):
        blocks = channel.reshape(28, BLOCK * RATE)
        seams = np.roll(channel, BLOCK // 2 * RATE)[BLOCK * RATE :].reshape(27, BLOCK * RATE)
        for rows in (blocks, seams[:, 28 * RATE : 36 * RATE]):
            _, psd = welch(rows, RATE, nperseg=8 * RATE, axis=-1)
            ratio = psd.mean(0) / asd**2
            for low, high in ((4, 12), (12, 40), (40, 58), (70, 115)):
                band = (frequency >= low) & (frequency < high)
                count = band.sum() * rows.size / (8 * RATE)
                assert ratio[band].mean() == pytest.approx(1, abs=5 / np.sqrt(count) + 0.01)
    around = np.abs(frequency - 60) < 0.3
    _, psd = welch(quiet.channels[0], RATE, nperseg=8 * RATE)
    assert psd[around].sum() == pytest.approx(np.square(asds[0])[around].sum(), rel=0.15)


def make_slopes(experiment):
    from glitchflow.config import Series
    from glitchflow.signal.simulation.detector import draw_instrument

    _, table = draw_instrument(
        experiment.simulate.detector, Series(duration=8, sample_rate=RATE), experiment.seed
    )
    return table["witness_noise_slopes"].values()


def test_a_matched_filter_finds_the_snr_of_each_row(line, whole):
    """rho^2 = 4 int |h|^2 / S df of what it adds to the strain, for those that nothing overlaps."""
    times = np.array([t.gps for t in whole.transients])
    alone = [
        t
        for t in whole.transients
        if np.sort(np.abs(times - t.gps))[1] > 16 and whole.start + 8 < t.gps < whole.stop - 9
    ]
    assert len(alone) >= 2
    added = sum(whole.parts.values())
    for transient in alone:
        first = (int(transient.gps) - 8 - whole.start) * RATE
        h = np.fft.rfft(added[first : first + 16 * RATE])
        asd, _ = channel_asds(line.settings, np.fft.rfftfreq(16 * RATE, 1 / RATE), np.zeros(2))
        density = np.abs(h / RATE) ** 2 / asd[0] ** 2
        rho = np.sqrt(4 * (density.sum() - density[[0, -1]].sum() / 2) / 16)
        assert transient.snr == pytest.approx(rho, rel=1e-6)


def test_glitches_and_signals_come_at_their_rates(line):
    """Poisson: over 1280 s 128 glitches and 71 signals, within five standard deviations."""
    rows = span(line, START, START + 20 * BLOCK).transients
    signals = [t for t in rows if line.labels[t.label] == "chirp"]
    assert line.labels == ["background", "sine_gaussian", "scattered_light", "blip", "chirp"]
    assert len(signals) == pytest.approx(200 / 3600 * 1280, abs=5 * np.sqrt(71))
    assert len(rows) - len(signals) == pytest.approx(128, abs=5 * np.sqrt(128))
    assert not any(t.witnessed for t in signals)
    assert sorted(t.gps for t in rows) == [t.gps for t in rows]


def test_rates_are_whole_numbers_of_hertz(tmp_path):
    settings = small(tmp_path).simulate.detector
    with pytest.raises(InputError) as refused:
        make_timeline(settings, Stretch(), 256.5, 1)
    assert str(refused.value) == "series.sample_rate = 256.5: a stretch takes whole numbers of Hz"
