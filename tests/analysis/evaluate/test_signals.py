"""One signal in one event: where it is placed, and what masks leave of it."""

import numpy as np
import pytest
import torch

from glitchflow.analysis.evaluate.signals import (
    BANK,
    INSIDE,
    Heard,
    Signal,
    draw,
    examine,
    inside_share,
    place,
)
from glitchflow.config import Harm
from glitchflow.score import matched
from glitchflow.signal.qtransform import QTransform
from glitchflow.twin.estimate import Estimator, Shown

RATE, SECONDS = 256.0, 16.0
SHOWN = Shown(np.geomspace(12, 90, 24), 7 + np.arange(64) / 32)  # 7 to 9 s
HARM = Harm(mass=(20, 30), snr=(10, 20))


@pytest.fixture(scope="module")
def heard():
    """Coloured noise of strain's size, and how it is heard."""
    engine = QTransform(SECONDS, RATE, q=8, frange=(12, 90), fftlength=2)
    white = np.random.default_rng(1).normal(size=int(RATE * SECONDS))
    colour = 1e-21 * (1 + (30 / np.fft.rfftfreq(white.size, 1 / RATE).clip(5)) ** 2)
    return Heard(Estimator(engine, 1.0), np.fft.irfft(np.fft.rfft(white) * colour), SHOWN)


@pytest.fixture(scope="module")
def bank(heard):
    """A signal of SNR 15 and its neighbours in mass."""
    templates = Signal(25.0, 1.0, 15.0, 0.2).bank(heard.time, 15.0)
    own = heard.spectra(templates[0])
    return templates * (15 / np.sqrt(matched.inner(own, own)))


def box(low, high, first, last):
    """Pixels between two frequencies and two times (s from the middle)."""
    rows = (SHOWN.frequency >= low) & (SHOWN.frequency <= high)
    columns = (SHOWN.time >= SECONDS / 2 + first) & (SHOWN.time < SECONDS / 2 + last)
    return rows[:, None] & columns


def mask_takes(heard, bank, masks):
    """What masks (M, F, T) take of the first of a bank's templates."""
    return heard.taken(bank[0], heard.tiles(masks.astype(np.float32)))


@pytest.mark.parametrize("asd", ["dataset", "event"])
def test_what_a_mask_takes_is_what_cleaning_with_the_signal_takes_more(heard, bank, asd):
    """cleaned(strain + h) - cleaned(strain), the long way: the same where both have one filter. One that is estimated
    anew with the signal in it changes what is taken of the noise too, and what is kept of the signal little."""
    if asd == "dataset":
        known = torch.from_numpy(np.sqrt(heard.psd))
        engine = QTransform(SECONDS, RATE, q=8, frange=(12, 90), whiten=known)
        heard = Heard(Estimator(engine, 1.0), heard.strain, SHOWN)
    mask = np.random.default_rng(3).uniform(size=(2, 24, 64)).astype(np.float32)
    taken = heard.taken(bank[0], heard.tiles(mask))
    for m in range(2):
        strain = np.stack([heard.strain + bank[0], heard.strain])
        removed = heard.estimator.tapered(strain, mask[[m, m]], [SHOWN, SHOWN])
        again = removed[0] - removed[1]
        close = np.linalg.norm(again - taken[m]) / np.linalg.norm(taken[m])
        assert close < (1e-4 if asd == "dataset" else 0.2)
        long, short = (
            matched.kept(*heard.spectra(np.stack([bank[0], bank[0] - part]))) for part in (again, taken[m])
        )
        assert long == pytest.approx(short, abs=1e-4 if asd == "dataset" else 0.01)


def test_a_constant_gain_leaves_its_share_and_nothing_is_off(heard, bank):
    """Half of the amplitude everywhere: what is left is half of what is in the window, and all that is not."""
    whole = Shown(SHOWN.frequency, np.arange(512) / 32)
    heard = Heard(heard.estimator, heard.strain, whole)
    half = np.full((1, 24, 512), 0.5, np.float32)
    ((kept, late, turned, heavier, chi2),) = examine(heard, bank, BANK, mask_takes(heard, bank, half))
    assert kept == pytest.approx(0.5, abs=0.01)
    assert (late, turned, heavier) == pytest.approx((0, 0, 0), abs=2e-3)
    assert chi2 == pytest.approx(0, abs=0.01)


def test_a_mask_that_cuts_the_late_part_off_turns_and_cuts_the_signal(heard, bank):
    cut, other = box(0, 100, 0.05, 0.5), box(0, 100, -0.9, -0.7)
    verdicts = examine(heard, bank, BANK, mask_takes(heard, bank, np.stack([cut, other])))
    assert verdicts[0, 0] < 0.6 and verdicts[0, 4] > 0.5
    assert verdicts[0, 1] > 1e-3 or verdicts[0, 3] > 0  # found earlier, or under another mass
    assert verdicts[1, 0] > verdicts[0, 0] and verdicts[1, 4] < verdicts[0, 4]


def test_what_is_in_no_bank_has_no_mass(heard, bank):
    taken = mask_takes(heard, bank, box(0, 100, -1, 1)[None])
    verdicts = examine(heard, bank[:1], np.array([np.nan]), taken)
    assert np.isnan(verdicts[0, 3]) and np.isfinite(np.delete(verdicts[0], 3)).all()


@pytest.mark.parametrize("pixels", [box(0, 100, -0.2, 0.6), box(0, 45, -1.0, 0.3)])
def test_a_signal_is_placed_where_a_mask_of_the_pixels_takes_more_than_half_of_it(heard, pixels):
    placed = [place(heard, heard.inside(pixels), HARM, np.random.default_rng(seed), 8) for seed in range(4)]
    assert len({signal.time for signal in placed}) == 4
    for signal in placed:
        h = signal.bank(heard.time, HARM.start, BANK[:1])
        ((kept, *_),) = examine(heard, h, BANK[:1], mask_takes(heard, h, pixels[None]))
        assert 1 - kept > INSIDE
        assert SHOWN.start <= SECONDS / 2 + signal.time <= SHOWN.stop
        assert HARM.mass[0] <= signal.mass <= HARM.mass[1] and HARM.snr[0] <= signal.snr <= HARM.snr[1]


def test_pixels_that_are_too_few_hold_no_signal(heard):
    assert place(heard, heard.inside(box(50, 60, 0, 0.05)), HARM, np.random.default_rng(1), 4) is None


def test_the_share_of_tiles_inside_tells_what_a_mask_takes_of_a_signal_that_is_moved(heard, bank):
    """Within some per cent: `place` looks at all times by it, and then takes one by the mask itself."""
    part = heard.coefficients(bank[0])
    for pixels in (box(0, 100, -0.2, 0.6), box(0, 45, -1.0, 0.3), box(30, 100, -1.0, 1.0)):
        inside = heard.inside(pixels)
        share = inside_share(part, inside)
        for later in (0.0, 0.25, -0.5):
            moved = np.roll(bank[:1], round(later * RATE), axis=1)
            ((kept, *_),) = examine(heard, moved, BANK[:1], heard.taken(moved[0], inside.tiles))
            assert share[round(later / SECONDS * len(share))] == pytest.approx(1 - kept, abs=0.06)


def test_signals_are_drawn_as_harm_says():
    drawn = [draw(HARM, np.random.default_rng(seed)) for seed in range(50)]
    assert all(HARM.mass[0] <= one.mass <= HARM.mass[1] and abs(one.time) <= HARM.reach for one in drawn)
