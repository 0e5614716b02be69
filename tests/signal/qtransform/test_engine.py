"""The Q-transform that sections describe: by whose ASD it whitens, and how."""

import numpy as np
import pytest
import torch
from scipy.signal import freqz, lfilter

from glitchflow.config.sections import QPlot, Series, Whiten
from glitchflow.errors import InputError
from glitchflow.signal.qtransform import build_engine, read_asd
from glitchflow.signal.whiten import asd_frequencies, estimate_asd

SERIES = Series(duration=8, sample_rate=256)
QPLOT = QPlot(q=8, frange=(12, 90), shape=(16, 16), span=2)
RNG = np.random.default_rng(0)
NOISE = np.cumsum(RNG.standard_normal((3, 2, 2048)), -1) + 5 * RNG.standard_normal((3, 2, 2048))


def energy(given=None, series=NOISE, **whiten):
    return build_engine(SERIES, QPLOT, Whiten(fftlength=2, **whiten), asd=given)(series).energy.numpy()


def test_an_events_own_asd_handed_in_gives_its_own_image():
    asd = estimate_asd(torch.from_numpy(NOISE[1]), 256, 2).numpy()
    assert energy(asd, NOISE[1:2], asd="dataset") == pytest.approx(energy()[1:2], rel=1e-3, abs=1e-3)


def test_data_that_are_white_already_are_left_alone():
    white = RNG.standard_normal((1, 2, 2048))
    left = energy(series=white, asd="none")
    assert left == pytest.approx(energy(series=1e-21 * white, asd="none"), rel=1e-4), "of any unit"
    assert np.median(left) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("columns", [1, 2])
def test_an_asd_in_a_file_is_that_handed_in(tmp_path, columns):
    asd = estimate_asd(torch.from_numpy(NOISE[0]), 256, 2).numpy()[:columns]
    table = np.column_stack([asd_frequencies(256, 2), *asd])
    np.savetxt(tmp_path / "asd.txt", table)
    found = energy(asd="file", file=str(tmp_path / "asd.txt"))
    assert found == pytest.approx(energy(asd if columns == 2 else asd[0], asd="dataset"), rel=1e-3, abs=1e-3)


def test_prediction_makes_the_images_that_zero_phase_makes():
    """Of bursts, away from lines: the filters differ in phase, which energies do not hold."""
    red = lfilter([1], [1, -0.9], RNG.standard_normal((3, 2, 2048)))
    asd = np.abs(freqz([1], [1, -0.9], np.linspace(0, np.pi, 257))[1]) * np.sqrt(2 / 256)
    time = np.arange(2048) / 256 - 4
    burst = red + 5 * np.exp(-((time / 0.1) ** 2)) * np.sin(2 * np.pi * 40 * time)
    first, second = energy(asd, burst, asd="dataset"), energy(asd, burst, asd="dataset", filter="prediction")
    for a, b in zip(first.reshape(6, -1), second.reshape(6, -1)):
        assert np.corrcoef(a, b)[0, 1] > 0.97
        # zero_phase tapers a second at each end, which lowers the row's median and raises everything else
        assert b.max() / np.median(b) == pytest.approx(a.max() / np.median(a), rel=0.2)


@pytest.mark.parametrize("fftlength", [2, 1 + 1 / 256])
def test_the_frequencies_of_an_asd(fftlength):
    assert (
        len(asd_frequencies(256, fftlength))
        == estimate_asd(torch.from_numpy(NOISE), 256, fftlength).shape[-1]
    )
    flat = np.ones(len(asd_frequencies(256, fftlength)))
    engine = build_engine(SERIES, QPLOT, Whiten(asd="dataset", fftlength=fftlength), asd=flat)
    assert torch.equal(torch.as_tensor(engine.whiten), torch.from_numpy(flat))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("words", "cannot be read: "),
        ("10\n20\n", "needs ascending Hz and a column of positive"),
        ("20 1\n10 1\n", "needs ascending Hz and a column of positive"),
        ("10 1\n20 -1\n", "needs ascending Hz and a column of positive"),
    ],
)
def test_a_file_that_holds_no_asd(tmp_path, text, message):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(InputError, match=f"^whiten.file = {tmp_path}/x.txt: {message}"):
        read_asd(str(tmp_path / "x.txt"), 256, 2)
    with pytest.raises(InputError, match=r"whiten\.file = nowhere\.txt: cannot be read"):
        read_asd("nowhere.txt", 256, 2)


def test_asds_of_other_channels_are_refused():
    with pytest.raises(ValueError, match="ASDs of 3 channels, for series of 2"):
        energy(np.ones((3, 257)), asd="dataset")
