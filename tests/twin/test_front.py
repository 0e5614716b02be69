"""What recorded channels become before a coherent network sees them, against closed forms, and the fit of templates."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fronts import FRONT, SAMPLES, TAPS, TIME, recorded
from scipy.signal import lfilter

from glitchflow.config import Derived
from glitchflow.data.store.dataset import open_store
from glitchflow.errors import InputError
from glitchflow.signal.prediction import design_prediction, without_lines
from glitchflow.twin import coherent, kinds
from glitchflow.twin import front as module
from glitchflow.twin.front import Front, build_front
from glitchflow.twin.made import Product
from glitchflow.twin.ridge import WIDTHS

MIDDLE = slice(512, -512)


def limited(series):
    return FRONT.limit(series)


def test_strain_and_inputs_are_filtered_by_their_own_taps_within_the_band():
    given = recorded()
    found = FRONT.prepare(given)
    assert found.shape == (2, 1 + 4 + 2, SAMPLES)
    white = torch.from_numpy(lfilter(TAPS[0], [1.0], given[:, 0].numpy()))
    white[:, :2] = 0
    torch.testing.assert_close(found[:, 0], limited(white), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(FRONT.strain(given[:, 0]), found[:, 0], rtol=1e-10, atol=1e-10)
    fast = 4 * given[:, 1]
    fast[:, :2] = 0
    torch.testing.assert_close(found[:, 5], limited(fast), rtol=1e-10, atol=1e-10)


def test_the_band_keeps_what_is_inside_and_twice_is_once():
    for frequency, kept in ((20.0, 1.0), (50.0, 1.0), (90.0, 1.0), (18.5, 0.0), (96.0, 0.0)):
        tone = torch.sin(2 * torch.pi * frequency * TIME)
        torch.testing.assert_close(limited(tone)[MIDDLE], kept * tone[MIDDLE], rtol=0, atol=0.02)
    noise = limited(recorded()[:, 0])
    power = (limited(noise) - noise).square().mean() / noise.square().mean()
    assert power < 0.01  # of the edges alone


def test_what_is_white_comes_back_into_the_strain_s_unit():
    given = limited(recorded()[:, 0] * torch.hann_window(SAMPLES, dtype=torch.float64))
    back = FRONT.undo(FRONT.strain(given).numpy())
    off = np.square(back - given.numpy()).sum() / np.square(given.numpy()).sum()
    assert off < 0.01


def test_products_and_templates_are_of_the_slow_channel():
    given = recorded()
    found, slow = FRONT.prepare(given), 0.3 * torch.sin(2 * torch.pi * 0.5 * TIME)
    product = limited(4 * given[:, 1] * slow / 0.5)
    torch.testing.assert_close(found[:, 6, MIDDLE], product[:, MIDDLE], rtol=0, atol=0.02)
    own = replace(FRONT, products=[replace(FRONT.products[0], taps=(8.0, 0.0, 0.0))])
    torch.testing.assert_close(own.prepare(given)[:, 6], 2 * found[:, 6])
    for place, (bounce, scale, function) in enumerate(
        [(1, 2.0, torch.sin), (1, 2.0, torch.cos), (2, 3.0, torch.sin), (2, 3.0, torch.cos)], 1
    ):
        arch = function(bounce * 4 * torch.pi * (0.25 + slow))
        wanted = limited(torch.from_numpy(lfilter(TAPS[0], [1.0], arch.numpy())) / scale)
        torch.testing.assert_close(found[0, place, MIDDLE], wanted[MIDDLE], rtol=0, atol=0.02)


def test_only_the_strain_sees_the_strain():
    given, other = recorded(), recorded()
    other[:, 0] = 1e6 * recorded(2)[:, 0]
    assert torch.equal(FRONT.prepare(given)[:, 1:], FRONT.prepare(other)[:, 1:])


def test_a_channel_without_data_is_silent():
    given = recorded()
    given[:, 1] = torch.nan
    found = FRONT.prepare(given)
    assert not found[:, 5:].any() and torch.isfinite(found).all()


@pytest.mark.parametrize(
    "low, duration, wanted",
    [(10, 16, 1), (10, 4, 1), (20, 16, 1), (5, 16, 2), (5, 12, 1.5), (0.005, 3600, 450), (0.005, 1e6, 2000)],
)
def test_lengths_grow_with_the_longest_period_as_far_as_series_go(low, duration, wanted):
    assert module.slowness(low, duration) == wanted


def test_a_band_from_lower_is_one_from_10_hz_played_slower():
    """Sample by sample: a network cannot tell a band of 0.02-0.09 Hz from one of 20-90 Hz."""
    slow = replace(FRONT, rate=FRONT.rate / 1000, band=(0.02, 0.09), span=2000.0, slower=1000.0)
    given = recorded()
    assert slow.unit == FRONT.unit
    torch.testing.assert_close(slow.prepare(given), FRONT.prepare(given))
    white = FRONT.prepare(given)[:, 5].numpy()
    np.testing.assert_allclose(slow.undo(white), FRONT.undo(white))
    (_, more), (_, wanted) = coherent.sees(slow), coherent.sees(FRONT)
    assert more == pytest.approx(wanted)
    found, known = (coherent.axes(one) for one in (slow, FRONT))
    np.testing.assert_allclose(found[0] * 1000, known[0])
    np.testing.assert_allclose(found[1] / 1000, known[1])
    strain, y = FRONT.prepare(given)[:, :1, :1024], torch.zeros(2, 1, 1024)
    one, other = (coherent.loss("l2", replace(front, scatters=[]))(y, strain) for front in (slow, FRONT))
    assert one == other
    crops = [
        coherent.by_crops(front, FRONT.prepare(given), lambda crop: {"y": crop[:, 5]})["y"]
        for front in (slow, FRONT)
    ]
    np.testing.assert_array_equal(*crops)


@pytest.fixture(scope="module")
def dataset(dataset_run):
    return open_store(dataset_run.dataset)


@pytest.fixture(scope="module")
def built(dataset):
    return build_front(dataset, dataset.channels)


def test_what_is_made_of_a_store(built):
    assert built.channels == ["SIM:STRAIN", "SIM:ACC", "SIM:SUS"]
    assert built.inputs == [1] and not built.products  # a scatterer that nothing else needs is no input
    assert [(one.motion, one.wavelength, len(one.scales)) for one in built.scatters] == [(2, 1.064, 2)]
    assert built.seen == 5 and built.problem(4) == "" and built.slower == 1
    assert WIDTHS[0] <= built.prior <= WIDTHS[-1]


def test_the_fast_channel_of_a_product_keeps_its_lines(dataset):
    pair = Derived(name="PAIR", function="product", channels=["SIM:ACC", "SIM:SUS"])
    found = module._unscaled(dataset, ["SIM:STRAIN", "SIM:ACC", "SIM:SUS"], [pair])
    (product,) = found.products
    asd = torch.from_numpy(dataset["asd"][1])
    made = dataset.config.series
    plain = design_prediction(
        without_lines(asd, made.sample_rate, 10.0), made.duration, made.sample_rate, 0.25
    )
    assert list(product.taps) == plain.taps.tolist() != found.taps[1]
    assert found.inputs == [1] and found.problem(2) == ""


def test_what_a_chosen_channel_is_derived_from_is_read_too(dataset):
    chosen = ["SIM:STRAIN", "SIM:ACC", "SIM:FRINGE"]
    assert kinds.KINDS["coherent"].channels(dataset, chosen) == [*chosen, "SIM:SUS"]
    assert kinds.KINDS["image"].channels(dataset, chosen) == chosen
    assert build_front(dataset, [*chosen, "SIM:SUS"]).channels == ["SIM:STRAIN", "SIM:ACC", "SIM:SUS"]


def test_what_is_made_of_a_store_is_white_and_scaled(built, dataset):
    events = dataset.indices("train")
    prepared = built.prepare(torch.cat([*module.read(built, dataset, events)]))
    quiet = prepared[torch.from_numpy(dataset.events("label", events) == 0)]
    share = (built.band[1] - built.band[0]) / (built.rate / 2)
    power = quiet[:, :, 256:].square().mean((0, 2))
    assert float(power[0]) == pytest.approx(share, rel=0.2)
    assert float(power[5]) == pytest.approx(share, rel=0.2)
    pairs = prepared[:, 1:5].square().mean((0, 2)).unflatten(0, (2, 2)).mean(1)
    torch.testing.assert_close(pairs, torch.ones(2, dtype=pairs.dtype))


def test_a_front_is_written_and_read_whole(built):
    from pydantic import TypeAdapter

    assert TypeAdapter(Front).validate_json(TypeAdapter(Front).dump_json(built)) == built


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"inputs": [3]}, "is not of its channels"),
        ({"offsets": [0.0]}, "is not of its channels"),
        ({"prior": float("nan")}, "its numbers must be finite, and a scale not 0"),
        ({"products": [Product(1, 2, 0.0)]}, "its numbers must be finite, and a scale not 0"),
    ],
)
def test_numbers_that_cannot_be(changes, said):
    assert FRONT.problem(3) == ""
    assert replace(FRONT, **changes).problem(3) == said


def test_a_derived_channel_without_its_source(dataset):
    with pytest.raises(
        InputError,
        match=r"^loader.witnesses: SIM:FRINGE is derived from SIM:SUS, which has to be there, and recorded$",
    ):
        build_front(dataset, ["SIM:STRAIN", "SIM:ACC", "SIM:FRINGE"])
