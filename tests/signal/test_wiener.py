"""The multichannel Wiener filter against couplings that are known."""

import tracemalloc

import numpy as np
import pytest

from glitchflow.score.power import in_band
from glitchflow.signal import wiener as module
from glitchflow.signal.recorded.samples import read_samples
from glitchflow.signal.wiener import cross_spectra, fit_wiener, in_parts, inside_of, trimmed_spectra

RATE, N = 256.0, 1024


def world(events=200, seed=0, noise=0.1):
    """Strain = one witness delayed by 5 samples times 2, minus another's derivative; units differ by 1e12."""
    rng = np.random.default_rng(seed)
    witnesses = rng.standard_normal((events, 3, N)) * np.array([1.0, 1e-12, 1.0])[:, None]
    part = 2 * np.roll(witnesses[:, 0], 5, axis=1)
    part -= 1e12 * (np.roll(witnesses[:, 1], -1, axis=1) - np.roll(witnesses[:, 1], 1, axis=1)) / 2
    return part + noise * rng.standard_normal(part.shape), witnesses, part


def test_it_finds_delays_gains_and_filters():
    strain, witnesses, _ = world()
    spectra = cross_spectra([(strain[:100], witnesses[:100]), (strain[100:], witnesses[100:])], 128)
    wiener = fit_wiener(spectra, RATE, (0, 128))
    assert wiener.taps.shape == (3, 128)
    first = wiener.taps[0]
    assert first.argmax() == 64 + 5
    assert first.max() == pytest.approx(2, rel=0.05)
    assert np.abs(np.delete(first, 69)).max() < 0.1
    assert np.abs(wiener.taps[2]).max() < 0.05, "the third witness sees nothing"
    inside = slice(128, -128)
    left = (strain - wiener.predict(witnesses))[:, inside]
    assert left.std() < 0.25  # of 2.1: all but the noise of 0.1, and Hann windows' leakage


def test_a_prediction_is_the_filter_applied():
    strain, witnesses, _ = world(20)
    wiener = fit_wiener(cross_spectra([(strain, witnesses)], 64), RATE, (0, 128))
    centred = witnesses[3] - witnesses[3].mean(axis=1, keepdims=True)
    expected = sum(np.convolve(w, taps)[32 : 32 + N] for w, taps in zip(centred, wiener.taps, strict=True))
    np.testing.assert_allclose(wiener.predict(witnesses)[3], expected, atol=1e-10)


def test_nothing_outside_the_band():
    strain, witnesses, _ = world(50)
    wiener = fit_wiener(cross_spectra([(strain, witnesses)], 128), RATE, (30, 60))
    gain = np.abs(np.fft.rfft(wiener.taps[0], 1024))
    frequency = np.fft.rfftfreq(1024, 1 / RATE)
    assert gain[(frequency > 35) & (frequency < 55)].min() > 1.8
    assert gain[(frequency < 25) | (frequency > 65)].max() < 0.05


def test_what_lies_in_a_band_is_all_that_its_filters_need():
    strain, witnesses, _ = world(50)
    inside = inside_of(128, RATE, (30, 60))
    some, whole = cross_spectra([(strain, witnesses)], 128, inside), cross_spectra([(strain, witnesses)], 128)
    frequency = np.fft.rfftfreq(128, 1 / RATE)[inside]
    assert 30 <= frequency[0] < 32
    assert 58 < frequency[-1] <= 60
    assert len(some.power) == len(frequency) < len(whole.power)
    found, expected = (fit_wiener(one, RATE, (30, 60)).taps for one in (some, whole))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_filters_come_from_some_frequencies_at_a_time(monkeypatch):
    """Of hundreds of witnesses, matrices of all are a GB: a part of them is held at once."""
    strain, witnesses, _ = world(20)
    blocks, inside = (
        [(strain[:9], witnesses[:9]), (strain[9:], witnesses[9:])],
        inside_of(128, RATE, (20, 100)),
    )
    highest = np.array([np.inf, 50.0, np.inf])
    wholes = [cross_spectra(blocks, 128, inside), trimmed_spectra(blocks, 20, 128, RATE, (20, 100))]
    expected = [fit_wiener(one, RATE, (20, 100), highest).taps for one in wholes]
    monkeypatch.setattr(module, "ROOM", 16 * 3**2 * 7)
    parts = in_parts(inside, 3)
    assert parts == [slice(10, 17), slice(17, 24), slice(24, 31), slice(31, 38), slice(38, 45), slice(45, 51)]
    some = [
        (cross_spectra(blocks, 128, part) for part in parts),
        trimmed_spectra(blocks, 20, 128, RATE, (20, 100)),
    ]
    for parted, whole in zip(some, expected):
        found = fit_wiener(parted, RATE, (20, 100), highest).taps
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-12 * np.abs(whole).max())


def test_identical_witnesses_share_the_work():
    strain, witnesses, _ = world(50)
    twice = np.concatenate([witnesses, witnesses[:, :1]], axis=1)
    wiener = fit_wiener(cross_spectra([(strain, twice)], 128), RATE, (0, 128))
    np.testing.assert_allclose(wiener.taps[0], wiener.taps[3], atol=1e-4)
    assert (wiener.taps[0] + wiener.taps[3]).max() == pytest.approx(2, rel=0.05)


def test_filters_of_some_witnesses_come_from_the_spectra_of_all():
    strain, witnesses, _ = world(20)
    spectra = cross_spectra([(strain, witnesses)], 128)
    some = fit_wiener(spectra.of([0, 2]), RATE, (0, 128))
    alone = fit_wiener(cross_spectra([(strain, witnesses[:, [0, 2]])], 128), RATE, (0, 128))
    np.testing.assert_allclose(some.taps, alone.taps, atol=1e-12)


def test_what_cannot_be_fitted_is_said():
    strain, witnesses, _ = world(2)
    with pytest.raises(ValueError, match="a stretch of 1024 samples is shorter than a segment of 2048"):
        cross_spectra([(strain, witnesses)], 2048)
    with pytest.raises(ValueError, match="at least one event"):
        cross_spectra([], 128)


def test_bursts_of_a_witness_alone_do_not_silence_a_robust_filter():
    """A third of the time one witness shows what the strain never sees, and a filter of all of it hardly listens."""
    strain, witnesses, _ = world()
    bursts = witnesses.copy()
    bursts[::3, 0] += 50 * np.random.default_rng(1).standard_normal(bursts[::3, 0].shape)
    naive = fit_wiener(cross_spectra([(strain, bursts)], 128), RATE, (0, 128))
    spectra = trimmed_spectra(
        [(strain[:70], bursts[:70]), (strain[70:], bursts[70:])], len(strain), 128, RATE, (20, 100)
    )
    robust = fit_wiener(spectra, RATE, (20, 100))
    clean = fit_wiener(cross_spectra([(strain, witnesses)], 128), RATE, (20, 100))
    left = [(strain - wiener.predict(witnesses))[:, 128:-128].std() for wiener in (naive, robust, clean)]
    assert left[0] > 1.3 * left[2] and left[1] == pytest.approx(left[2], rel=0.01), left


def test_a_robust_filter_needs_an_event():
    with pytest.raises(ValueError, match=r"^a Wiener filter needs at least one event$"):
        trimmed_spectra([], 0, 128, RATE, (0, 128))


# -- real witnesses ----------------------------------------------------------------------------------------------

SLOW, DAYS = (
    5.0,
    (1014595215, 1014638415, 1014681615, 1014724815, 1014768015, 1014811215),
)  # Hz, GPS of half days
QUAKE, LENGTH, BAND = 1015312208, 2500, (0.005, 0.1)
ENDS = round(1200 * SLOW)  # samples of a day's ends, which were tapered by the source


@pytest.fixture(scope="module")
def seafloor(recorded_data):
    """Reads (C, N) of a file of the seismometer on the sea floor: vertical, horizontals, pressure gauge."""
    directory = recorded_data / "m08a"
    if not directory.is_dir():
        pytest.skip(f"{directory}: not there, no data of the sea floor to test with")

    def read(start, seconds):
        found = read_samples(str(directory / f"O-M08A_R-{start}-{seconds}.hdf5"), "", NAMES)
        return np.stack([found[name].values.astype(float) for name in NAMES])

    return read


NAMES = ["M08A:BHZ", "M08A:BH1", "M08A:BH2", "M08A:BDH"]


def pieces(days):
    """Pieces of 1000 s, as events are handed in: strain (E, N), witnesses (E, W, N)."""
    for day in days:
        inner = day[:, ENDS : day.shape[1] - ENDS]
        whole = inner[:, : inner.shape[1] // 5000 * 5000].reshape(4, -1, 5000)
        yield whole[0], whole[1:].swapaxes(0, 1)


@pytest.fixture(scope="module")
def filters(seafloor):
    """The third day, and filters of the first two: of all of them, and of what these explain best."""
    first, second, third = (
        np.concatenate([seafloor(start, 43200) for start in DAYS[i : i + 2]], axis=1) for i in (0, 2, 4)
    )
    naive = fit_wiener(cross_spectra(pieces([first, second]), LENGTH), SLOW, BAND)
    both = list(pieces([first, second]))
    events = sum(len(strain) for strain, _ in both)
    spectra = trimmed_spectra(both, events, LENGTH, SLOW, BAND)
    return third, naive, fit_wiener(spectra, SLOW, BAND)


def test_on_the_sea_floor_bursts_of_the_gauge_cost_a_filter_most_of_what_it_could_remove(filters):
    third, *both = filters
    before = in_band(third[0], SLOW, (0.02, 0.05))[ENDS:-ENDS]
    left = [
        in_band(third[0] - wiener.predict(third[None, 1:])[0], SLOW, (0.02, 0.05))[ENDS:-ENDS]
        for wiener in both
    ]
    naive, robust = (np.square(after).sum() / np.square(before).sum() for after in left)
    assert 0.1 < naive < 0.3
    assert robust < 0.01


def test_an_earthquake_stands_out_of_what_is_left(filters, seafloor):
    """The surface wave of 2012-03-09, hardly above the noise at 10-20 mHz before, is tens of times its rms after."""
    quake, _, robust = seafloor(QUAKE, 7200), *filters[1:]
    wave, quiet = (slice(round(a * SLOW), round(b * SLOW)) for a, b in ((2100, 2700), (3300, 6600)))
    series = quake[0], quake[0] - robust.predict(quake[None, 1:])[0]
    found = [in_band(one, SLOW, (0.01, 0.02)) for one in series]
    before, after = (np.abs(one[wave]).max() / one[quiet].std() for one in found)
    assert before < 3
    assert after > 40
    np.testing.assert_allclose(np.abs(found[1][wave]).max(), np.abs(found[0][wave]).max(), rtol=0.2)


def test_a_witness_says_nothing_above_what_its_own_rate_holds():
    """Witnesses that end at 40 Hz, but for rounding, beside one that tells: the others must not be made loud."""
    rng = np.random.default_rng(7)
    strain, told = (rng.standard_normal((40, 2048)) for _ in range(2))
    slow = np.fft.rfft(rng.standard_normal((40, 6, 2048)))
    slow[..., np.fft.rfftfreq(2048, 1 / RATE) > 40] *= 1e-7
    witnesses = np.concatenate([told[:, None], np.fft.irfft(slow, 2048)], axis=1)
    strain = strain + 2 * told
    spectra = cross_spectra([(strain[:30], witnesses[:30])], 128)
    highest = np.array([np.inf, *[32.0] * 6])
    naive, whole = (fit_wiener(spectra, RATE, (10, 120), limit) for limit in (None, highest))
    alone = fit_wiener(spectra.of([0]), RATE, (10, 120))
    left = [
        np.var(strain[30:] - wiener.predict(some))
        for wiener, some in (
            (naive, witnesses[30:]),
            (whole, witnesses[30:]),
            (alone, witnesses[30:, :1]),
        )
    ]
    assert left[0] > 3 * left[2] and left[1] < 1.1 * left[2]


def test_cross_spectra_hold_little_more_than_their_sum():
    witnesses, length = 120, 256
    rng = np.random.default_rng(1)
    blocks = [(rng.standard_normal((1, 512)), rng.standard_normal((1, witnesses, 512))) for _ in range(2)]
    tracemalloc.start()
    found = cross_spectra(blocks, length)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.power.nbytes == 16 * 129 * witnesses**2
    assert peak < 1.5 * found.power.nbytes
