"""Steps along the time line: what comes out is what the twin says of each block, whoever runs it, from wherever."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fronts import FRONT, RATE, First

from glitchflow.errors import InputError
from glitchflow.model import build
from glitchflow.twin import coherent
from glitchflow.twin.guard import LOUDER, edges
from glitchflow.twin.kind import Trained
from glitchflow.twin.step import LEAD, Stepper, begin, several, step, stepper

BLOCK, BLOCKS = 256, 24
FIRST = 2000 * BLOCK  # number of the first sample


@pytest.fixture
def steps() -> Stepper:
    """A twin whose estimate is no part of the strain: it may make it louder."""
    steps = stepper(Trained(coherent.KIND, First(), FRONT.channels, FRONT), 1, 0.25, "clean")
    return replace(steps, louder=np.inf)


def recorded(seed=1) -> np.ndarray:
    """(R, n) noise, and a slow motion."""
    values = np.random.default_rng(seed).standard_normal((3, (BLOCKS + 1) * BLOCK))
    time = np.arange(values.shape[1]) / RATE
    values[2] = 0.25 + 0.3 * np.sin(2 * np.pi * 0.5 * time)
    return values


def run(steps: Stepper, values: np.ndarray, start: int = 0):
    """Every step from block `start` on: blocks come out on the grid."""
    state, said = begin(steps, FIRST + start * BLOCK + steps.settle), []
    for k in range(start, BLOCKS):
        state, one = step(steps, state, values[:, k * BLOCK + steps.settle : (k + 1) * BLOCK + steps.settle])
        said.append(one)
    return said


def joined(said, name: str) -> np.ndarray:
    return np.concatenate([getattr(one, name) for one in said])


def test_blocks_follow_each_other_on_the_grid(steps):
    assert [one.start for one in run(steps, recorded())] == [FIRST + k * BLOCK for k in range(BLOCKS)]


@pytest.mark.parametrize("settle, limit", [(0.25, 0.02), (0.5, 0.01), (1, 0.005)])
def test_the_estimate_is_in_the_strain_what_the_network_says_of_its_white_channels(steps, settle, limit):
    values, steps = recorded(), stepper(steps.trained, 1, settle, "clean")
    out = joined(run(steps, values), "estimate")
    white = FRONT.strain(torch.from_numpy(out)[None])
    wanted = FRONT.prepare(torch.from_numpy(values)[None])[:, 5, : len(out)]
    for _ in range(3):  # as often as what comes out was brought into the band
        wanted = FRONT.limit(wanted)
    inside = slice(8 * BLOCK, -2 * BLOCK)
    left, all_of_it = (white - wanted)[0, inside], wanted[0, inside]
    assert left.std() < limit * all_of_it.std(), "seams, where a crop's end cuts the band's edges"


def test_what_comes_out_does_not_depend_on_where_a_run_began(steps):
    values = recorded()
    early, late = run(steps, values), run(steps, values, start=7)
    for a, b in zip(early[14:], late[7:], strict=True):
        np.testing.assert_array_equal(a.estimate, b.estimate)
        np.testing.assert_array_equal(a.removed, b.removed)


def test_the_estimate_is_blind_to_the_strain_and_the_fit_is_not(steps):
    values, other = recorded(), recorded()
    other[0] = recorded(seed=2)[0]
    a, b = run(steps, values), run(steps, other)
    np.testing.assert_array_equal(joined(a, "estimate"), joined(b, "estimate"))
    assert not np.array_equal(joined(a, "removed"), joined(b, "removed"))


def test_a_gap_in_the_strain_is_passed_through(steps):
    values = recorded()
    values[0, 12 * BLOCK + 10 : 12 * BLOCK + 20] = np.nan
    said = run(steps, values)
    treated = [k for k, one in enumerate(said) if not one.treated]
    # of a block whose crop ends in the gap or LEAD after it; the first ones have not enough before them
    assert treated == [0, 11, 12] and LEAD == 0.5
    assert np.abs(said[11].removed[: steps.fade]).max() > 0, "the one before gives way to nothing"
    assert not said[11].removed[steps.fade :].any() and not said[12].removed.any()
    undisturbed = run(steps, recorded())
    np.testing.assert_array_equal(said[10].removed, undisturbed[10].removed)
    np.testing.assert_array_equal(said[20].removed, undisturbed[20].removed)


def test_where_the_strain_is_missing_the_estimate_is_that_of_witnesses_alone(steps):
    values, undisturbed = recorded(), run(steps, recorded())
    values[0, 8 * BLOCK : 14 * BLOCK] = np.nan
    for k, (one, whole) in enumerate(zip(run(steps, values), undisturbed, strict=True)):
        if 8 <= k < 14:
            np.testing.assert_array_equal(one.estimate, whole.estimate)
            assert not one.treated and not one.removed[steps.fade :].any() and not one.silent
            limited = FRONT.strain(torch.from_numpy(undisturbed[k].estimate)[None])[0].numpy()
            assert np.corrcoef(one.white, limited)[0, 1] > 0.9, "how loud is told of it too"
    values[1:, 8 * BLOCK : 14 * BLOCK] = np.nan
    said = run(steps, values)
    assert not said[10].estimate.any() and not said[10].white.any(), "nobody knows anything"


def test_a_gap_in_a_witness_costs_the_witness(steps):
    values, silent = recorded(), recorded()
    values[1, 12 * BLOCK + 10 : 12 * BLOCK + 20] = np.nan
    silent[1] = 0
    said, without = run(steps, values), run(steps, silent)
    assert all(one.treated for one in said[1:])
    assert [k for k, one in enumerate(said) if one.silent] == [11, 12, 13, 14, 15]
    assert said[12].silent == ("FAST",)
    np.testing.assert_array_equal(said[14].removed, without[14].removed)
    np.testing.assert_array_equal(said[20].removed, run(steps, recorded())[20].removed)


def test_a_burst_that_witnesses_alone_hear_is_told_and_stays_in(steps):
    values, alone = recorded(), slice(12 * BLOCK + 100, 12 * BLOCK + 150)
    values *= [
        [0.44],
        [1e-3],
        [1e-3],
    ]  # a white strain of unit density, and witnesses that are silent but for bursts
    burst = 20 * np.sin(2 * np.pi * 35 * np.arange(50) / RATE) * np.hanning(50)
    values[1, alone] += burst
    both = values.copy()
    both[0] += FRONT.undo(FRONT.prepare(torch.from_numpy(both)[None])[:, 5].numpy())[0]
    said, heard = run(steps, values), run(steps, both)
    assert [k for k, one in enumerate(said) if one.alone] == [12] and not any(one.alone for one in heard)
    np.testing.assert_array_equal(joined(said, "estimate"), joined(heard, "estimate"))
    power = [np.square(joined(one, "removed")[alone]).sum() for one in (said, heard)]
    assert power[0] < 1e-3 * power[1]


def test_what_makes_a_band_louder_is_not_injected_and_comes_back(steps, unasked):
    """A witness goes mad for a while; the strain shows what it showed before, as the witness did."""
    values = recorded()
    white = FRONT.prepare(torch.from_numpy(values)[None])[0, 5].numpy()
    values[0] = FRONT.undo(white) + 0.1 * values[0]
    guarded, free = run(replace(steps, louder=LOUDER), values), run(steps, values)
    np.testing.assert_array_equal(joined(guarded, "removed"), joined(free, "removed"))
    assert not any(one.passed for one in guarded)
    tone = 20 * np.sin(2 * np.pi * 35 * np.arange(BLOCK) / RATE) * np.hanning(BLOCK)
    values[1, 8 * BLOCK : 9 * BLOCK] += tone
    said, injected = run(replace(steps, louder=LOUDER), values), run(steps, values)
    low, high = edges(FRONT.band)[1:3]
    assert {one.passed for one in said[8:]} == {((low, high),)}, "for a minute"
    white = FRONT.strain(torch.from_numpy(np.stack([joined(one, "removed") for one in (injected, said)])))
    power = np.square(np.abs(np.fft.rfft(white.numpy())))
    frequency = np.fft.rfftfreq(BLOCKS * BLOCK, 1 / RATE)
    inside, beside = (frequency > 34) & (frequency < 36), (frequency > 55) & (frequency < 80)
    assert power[1, inside].sum() < 0.02 * power[0, inside].sum()
    assert power[1, beside].sum() == pytest.approx(power[0, beside].sum(), rel=0.02)


class Deep(torch.nn.Module):
    """A network of gates that are half open everywhere, as far as they go: all of it has a say."""

    def __new__(cls):
        network = build("coherent", witnesses=FRONT.seen, shape=(4 * round(RATE),), **coherent.sees(FRONT)[1])
        generator = torch.Generator().manual_seed(1)
        network.draw(generator)
        with torch.no_grad():
            for gates in network.gates:
                gates.head.weight.normal_(0, 0.3, generator=generator)
        return network.eval()


def test_crops_side_by_side_are_as_one_by_one_and_those_beside_them_do_not_matter(steps):
    values = recorded()
    values[0, 12 * BLOCK + 10 : 12 * BLOCK + 20] = np.nan
    blocks = [values[:, k * BLOCK + 64 : (k + 1) * BLOCK + 64] for k in range(BLOCKS)]
    one = replace(steps, trained=replace(steps.trained, network=Deep()))
    lots = replace(one, lot=8)
    state, said = begin(one, FIRST + one.settle), []
    for first in range(0, BLOCKS, 8):
        state, some = several(lots, state, blocks[first : first + 8])
        said += some
    singly = run(one, values)
    assert [(a.start, a.treated, a.silent) for a in said] == [(b.start, b.treated, b.silent) for b in singly]
    rms = np.nanstd(values[0])
    for name in ("estimate", "removed"):
        assert np.std(joined(said, name) - joined(singly, name)) < 1e-6 * rms
    assert joined(said, "estimate").std() > 0.01 * rms
    state = begin(lots, FIRST + 3 * BLOCK + one.settle)
    late = several(lots, state, blocks[3:10])[1]  # in another place of their lot, and beside zeros
    np.testing.assert_array_equal(joined(late[5:], "removed"), joined(said[8:10], "removed"))


def test_no_settling_means_no_fade(steps):
    steps = stepper(steps.trained, 0.5, 0, "online")
    assert steps.fade == 0
    _, said = step(steps, begin(steps, FIRST), recorded()[:, :128])
    assert said.start == FIRST and not said.treated and said.removed.shape == (128,)


@pytest.mark.parametrize(
    "block, settle, message",
    [
        (0.3, 1, "clean.block = 0.3: must be a whole number of samples at 256 Hz"),
        (1, 0.001, "clean.settle = 0.001: must be a whole number of samples at 256 Hz"),
        (3, 1, "clean.block = 3, clean.settle = 1: the twin sees 4 s at once, of which they may take 3.5"),
        (0, 1, "clean.block = 0, clean.settle = 1: the twin sees 4 s at once, of which they may take 3.5"),
    ],
)
def test_what_does_not_fit_a_crop_is_refused(steps, block, settle, message):
    with pytest.raises(InputError) as error:
        stepper(steps.trained, block, settle, "clean")
    assert str(error.value) == message
