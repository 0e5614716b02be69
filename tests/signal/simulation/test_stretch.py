"""A stretch has no seam, any second of it can be made alone, and its truth adds up."""

import numpy as np
import pytest
from helpers import small
from scipy.signal import welch

from glitchflow.config import Detector, Series, Stretch
from glitchflow.errors import InputError
from glitchflow.signal.simulation.faults import KINDS
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.simulation.noise import channel_spectra
from glitchflow.signal.simulation.stretch import (
    BLOCK,
    NO_DATA,
    SCIENCE,
    Span,
    StretchMaker,
    draw_stretch,
    make_spans,
)

START = 1_400_000_000  # on the grid of blocks, as 1_400_000_064 is
RATE = 256


# a subsystem hears bursts and shares noise with the strain; its sensors are slower, and faster, than that
SUBSYSTEMS = [
    {"name": "PEM", "count": 2, "telling": 1, "rate": 64, "bursts": 0.05, "shared": 1.0, "band": [12, 24]},
    {"name": "ASC", "count": 1, "telling": 1, "rate": 512, "bursts": 0.05, "shared": 0.5, "lines": [45.0]},
]
HARD = {"subsystems": SUBSYSTEMS, "unsafe": "SIM:ACC", "drift": {"noise": 0.3, "coupling": 0.3, "away": 0.2}}
FAULTS = {"rate": 60, "dead": ["SIM:PEM_2"], "unlocked": 5}


def detector(tmp_path, **changes) -> Detector:
    settings = small(tmp_path).simulate.detector
    return Detector.model_validate(settings.model_dump() | {"rate": 0.1} | changes)


def maker(tmp_path, signals: float = 200, seed: int = 3, **changes) -> StretchMaker:
    return draw_stretch(detector(tmp_path, **changes), Stretch(signals=signals), RATE, seed)


def span(made: StretchMaker, start: int, stop: int) -> Span:
    return next(make_spans(made, [start, stop]))


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    return maker(tmp_path_factory.mktemp("stretch"))


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    return maker(tmp_path_factory.mktemp("stretch"), **HARD)


@pytest.fixture(scope="module")
def whole(easy):
    """Five minutes that begin and end inside a block."""
    return span(easy, START - 20, START + 280)


@pytest.fixture(scope="module")
def whole_hard(hard):
    """The same of a detector with all that depends on time, and with sensors at other rates."""
    return span(hard, START - 20, START + 280)


def assert_same(a: Span, b: Span) -> None:
    assert (a.start, a.stop, a.rows, a.faults) == (b.start, b.stop, b.rows, b.faults)
    for one, other in zip(
        [*a.channels, *a.parts.values(), a.state], [*b.channels, *b.parts.values(), b.state]
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("second", [-20, -1, 0, 63, 64, 150, 279])
@pytest.mark.parametrize("detector", ["easy", "hard"])
def test_a_second_made_alone_is_that_of_the_hour(easy, hard, whole, whole_hard, detector, second):
    """The first and last of it, both sides of two seams between blocks, and one amid a block; bit for bit."""
    made, hour = (easy, whole) if detector == "easy" else (hard, whole_hard)
    alone = span(made, START + second, START + second + 1)
    assert [len(c) for c in alone.channels] == made.rates
    assert_same(alone, hour.cut(START + second, START + second + 1))


def test_pieces_of_any_length_join_to_the_whole(easy, whole):
    edges = [START - 20, START - 19, START + 30, START + 31, START + 200, START + 280]
    pieces = list(make_spans(easy, edges))
    for i, channel in enumerate(whole.channels):
        np.testing.assert_array_equal(np.concatenate([p.channels[i] for p in pieces]), channel)
    assert [row for p in pieces for row in p.rows] == whole.rows


def test_it_is_another_with_another_seed(easy, tmp_path):
    other = span(maker(tmp_path, seed=4), START, START + 1)
    assert not np.array_equal(other.channels[0], span(easy, START, START + 1).channels[0])


def test_the_strain_is_its_noise_and_what_the_truth_names(whole_hard, tmp_path):
    """What is left without the parts is the noise of a stretch without transients or shared noise."""
    subsystems = [one | {"bursts": 0, "shared": 0} for one in SUBSYSTEMS]
    quiet = span(maker(tmp_path, 0, rate=0, **HARD | {"subsystems": subsystems}), START - 20, START + 280)
    assert not quiet.rows
    assert not any(part.any() for part in quiet.parts.values())
    left = whole_hard.channels[0] - sum(whole_hard.parts.values())
    np.testing.assert_allclose(left, quiet.channels[0], atol=1e-9 * quiet.channels[0].std())
    assert all(part.any() for part in whole_hard.parts.values())


def test_shared_noise_goes_on_across_seams(tmp_path):
    """Where two blocks meet neither the strain's part nor a sensor's at another rate has a step or an edge."""
    quiet = maker(tmp_path, 0, rate=0, subsystems=[one | {"bursts": 0} for one in SUBSYSTEMS])
    two = span(quiet, START, START + 2 * BLOCK)
    without = maker(tmp_path, 0, rate=0, subsystems=[one | {"bursts": 0, "shared": 0} for one in SUBSYSTEMS])
    bare = span(without, START, START + 2 * BLOCK)
    for rate, a, b in zip(quiet.rates, two.channels, bare.channels):
        heard = a - b
        if heard.any():
            bend = np.abs(np.diff(heard, 2))
            assert bend[BLOCK * rate - 2 : BLOCK * rate + 1].max() <= bend.max()
            assert np.std(heard[: BLOCK * rate]) == pytest.approx(np.std(heard[BLOCK * rate :]), rel=0.2)


def test_bursts_of_a_subsystem_reach_its_sensors_alone(hard, whole_hard):
    bursts = [row for row in whole_hard.rows if row.subsystem]
    assert {row.subsystem for row in bursts} == {"PEM", "ASC"}
    assert not any(row.snr or row.witnessed for row in bursts)


def test_a_sensor_knows_nothing_beyond_half_of_its_own_rate(hard, whole_hard):
    assert hard.rates == [256, 256, 256, 64, 64, 512]
    assert [len(c) / 300 for c in whole_hard.channels] == hard.rates
    _, psd = welch(whole_hard.channels[-1], 512, nperseg=512)
    assert psd[140:250].min() > 0  # its own noise goes on where the strain ends


def test_faults_lie_where_the_truth_says_and_nowhere_else(hard, tmp_path):
    faulty = maker(tmp_path, **HARD, faults=FAULTS)
    spoiled, whole = (span(one, START - 20, START + 700) for one in (faulty, hard))
    assert {one.kind for one in spoiled.faults} == {*KINDS}
    for name, rate, a, b in zip(faulty.names, faulty.rates, spoiled.channels, whole.channels):
        time, near = START - 20 + np.arange(len(a)) / rate, np.zeros(len(a), bool)
        for one in spoiled.faults:
            near |= (one.channel == name) & (time > one.start - 1 / rate) & (time < one.end + 1 / rate)
        np.testing.assert_array_equal(a[~near], b[~near])
        assert near.any() == any(one.channel == name for one in spoiled.faults)
    off = (spoiled.state & SCIENCE) == 0
    assert 0 < off.mean() < 1
    assert (spoiled.state[off] == NO_DATA).all()
    inside = off[1:-1] & off[:-2] & off[2:]
    assert not spoiled.channels[0].reshape(-1, RATE // 16)[1:-1][inside].any()
    made, cut = span(faulty, START + 63, START + 65), spoiled.cut(START + 63, START + 65)
    assert_same(made, cut)


def test_noise_changes_by_the_hour(tmp_path):
    """The ratio of two hours' power is that of the levels that the drift gives for them."""
    made = maker(tmp_path, 0, rate=0, drift={"noise": 0.5})
    first, later = (span(made, start, start + BLOCK) for start in (START, START + 600 * BLOCK))
    changes = []
    for i, (a, b) in enumerate(zip(first.channels[:2], later.channels[:2])):
        gain = [made.instrument.levels.at(s.start + np.arange(BLOCK) + 0.5)[i] for s in (first, later)]
        expected = np.log(np.square(gain[1]).mean() / np.square(gain[0]).mean())
        bands = [welch(x, RATE, nperseg=RATE)[1][20:50].mean() for x in (a, b)]
        assert np.log(bands[1] / bands[0]) == pytest.approx(expected, abs=0.15)
        changes.append(abs(expected))
    assert max(changes) > 0.2


def test_the_noise_has_the_detectors_spectrum_across_seams(tmp_path):
    """Median of periodograms of half an hour, with and without those that lie across a seam, in bands and on a line."""
    experiment = small(tmp_path)
    quiet = span(maker(tmp_path, 0, rate=0), START, START + 28 * BLOCK)
    _, table = draw_instrument(experiment.simulate.detector, Series(duration=8, sample_rate=RATE), 3)
    slopes = np.array(list(table["witness_noise_slopes"].values()))
    frequency = np.fft.rfftfreq(8 * RATE, 1 / RATE)
    asds = channel_spectra(experiment.simulate.detector, frequency, slopes, 2.0).colour()
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


def test_a_matched_filter_finds_the_snr_of_each_row(tmp_path):
    """rho^2 = 4 int |h|^2 / S df of what it adds to the strain, for those that nothing overlaps."""
    easy = maker(tmp_path, signals=36, rate=0.02)
    whole = span(easy, START - 20, START + 600)
    times = np.array([t.gps for t in whole.rows])
    alone = [
        t
        for t in whole.rows
        if np.sort(np.abs(times - t.gps))[1] > 16 and whole.start + 8 < t.gps < whole.stop - 9
    ]
    assert len(alone) >= 3
    added = sum(whole.parts.values())
    for transient in alone:
        first = (int(transient.gps) - 8 - whole.start) * RATE
        h = np.fft.rfft(added[first : first + 16 * RATE])
        asd = channel_spectra(easy.settings, np.fft.rfftfreq(16 * RATE, 1 / RATE), np.zeros(2), 2.0).colour()
        density = np.abs(h / RATE) ** 2 / asd[0] ** 2
        rho = np.sqrt(4 * (density.sum() - density[[0, -1]].sum() / 2) / 16)
        assert transient.snr == pytest.approx(rho, rel=1e-6)


def test_glitches_and_signals_come_at_their_rates(easy):
    """Poisson: over 1280 s 128 glitches and 71 signals, within five standard deviations."""
    rows = span(easy, START, START + 20 * BLOCK).rows
    signals = [row for row in rows if row.family == "chirp"]
    assert len(signals) == pytest.approx(200 / 3600 * 1280, abs=5 * np.sqrt(71))
    assert len(rows) - len(signals) == pytest.approx(128, abs=5 * np.sqrt(128))
    assert {row.family for row in rows} == {"sine_gaussian", "scattered_light", "blip", "chirp"}
    assert {row.part for row in signals} == {"signals"}
    assert sorted(row.gps for row in rows) == [row.gps for row in rows]


def test_a_signal_leaks_into_the_unsafe_witness(tmp_path):
    safe, unsafe = (maker(tmp_path, 300, rate=0, unsafe=name) for name in ("", "SIM:ACC"))
    a, b = (span(one, START, START + BLOCK) for one in (safe, unsafe))
    assert [np.array_equal(x, y) for x, y in zip(a.channels, b.channels)] == [True, False, True]


def test_rates_are_whole_numbers_of_hertz(tmp_path):
    with pytest.raises(InputError) as refused:
        draw_stretch(detector(tmp_path), Stretch(), 256.5, 1)
    assert str(refused.value) == "SIM:STRAIN: a stretch takes rates of whole numbers of Hz, not 256.5"
