"""The Q-transform engine's own promises; parity with gwpy is in test_qtransform_parity.py."""

import copy

import numpy as np
import pytest
import torch

from glitchflow.signal import batch_invariant as kernels
from glitchflow.signal.qtransform import QPlot, QTransform
from glitchflow.signal.qtransform.piece import PIECE

NOTEBOOK = {"duration": 16, "sample_rate": 500, "frange": (10, 150)}
SMALL = {"duration": 8, "sample_rate": 256, "frange": (10, 60), "qrange": (4, 32)}


def coloured(seed, events, channels, samples=2048, rate=256, scale=1e-21):
    """Red noise with a sine-Gaussian in every channel, each at its own time and frequency."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / rate
    noise = rng.normal(size=(events, channels, samples))
    at = t[-1] * rng.uniform(0.3, 0.7, (events, channels, 1))
    frequency = rng.uniform(15, 50, (events, channels, 1))
    noise += 20 * np.exp(-(((t - at) / 0.05) ** 2)) * np.sin(2 * np.pi * frequency * t)
    return torch.from_numpy(scale * (noise + 0.05 * noise.cumsum(-1)))


def tensors(plot: QPlot, event=slice(None)):
    """Everything of a plot that belongs to some events, as one list."""
    found = [plot.energy, plot.q, plot.valid, plot.peak.energy, plot.peak.time, plot.peak.frequency]
    if plot.companion is not None:
        found.append(plot.companion)
    if plot.times.ndim == 2:
        found += [plot.times, plot.frequencies]
    return [x[event] for x in found]


def same_bits(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# -- windows and planes


@pytest.mark.parametrize("crop", [64, (40, 100)])
@pytest.mark.parametrize("select", ["strain", "channel"])
def test_crop_is_the_window_around_the_strains_loudest_pixel(crop, select):
    series = coloured(2, 3, 3, 8000, 500)
    whole = QTransform(**NOTEBOOK, select=select)(series)
    cropped = QTransform(**NOTEBOOK, select=select, crop=crop)(series)
    height, width = (crop, crop) if isinstance(crop, int) else crop
    assert cropped.energy.shape == (3, 3, height, width)
    for event in range(3):
        image = whole.energy[event, 0].numpy()
        row, column = np.unravel_index(image.argmax(), image.shape)
        row, column = (
            min(max(i - n // 2, 0), m - n) for i, n, m in zip((row, column), (height, width), image.shape)
        )
        expected = whole.energy[event, :, row : row + height, column : column + width]
        torch.testing.assert_close(cropped.energy[event], expected, rtol=1e-5, atol=1e-6 * image.max())
        assert torch.equal(cropped.frequencies[event], whole.frequencies[row : row + height])
        assert torch.equal(cropped.times[event], whole.times[column : column + width])
    assert same_bits(tensors(whole)[1:6], tensors(cropped)[1:6])


@pytest.mark.parametrize("at", [0.3, 7.7])
def test_crop_moves_inside_at_the_edges(at):
    t = np.arange(2048) / 256
    series = np.random.default_rng(0).normal(size=2048) + 50 * np.exp(-(((t - at) / 0.03) ** 2)) * np.sin(
        90 * t
    )
    plot = QTransform(**SMALL, whiten=False, crop=(8, 200))(series[None, None])
    assert plot.energy.shape == (1, 1, 8, 200)
    assert plot.times[0, 0 if at < 1 else -1].item() == pytest.approx(0 if at < 1 else 8 * 0.999)


def test_one_plane_for_an_event_or_one_for_each_channel():
    series = coloured(4, 6, 3)
    by_strain = QTransform(**SMALL)(series)
    by_channel = QTransform(**SMALL, select="channel")(series)
    assert (by_strain.q == by_strain.q[:, :1]).all()
    assert (by_channel.q != by_channel.q[:, :1]).any()
    assert torch.equal(by_strain.q[:, 0], by_channel.q[:, 0])
    assert torch.equal(by_strain.energy[:, 0], by_channel.energy[:, 0])
    one_by_one = QTransform(**SMALL)(series[:, 1:2])
    assert torch.equal(one_by_one.energy[:, 0], by_channel.energy[:, 1])


def test_fixed_q_is_a_range_of_no_width():
    series = coloured(5, 2, 2)
    options = {k: v for k, v in SMALL.items() if k != "qrange"}
    fixed, ranged = QTransform(**options, q=12)(series), QTransform(**options, qrange=(12, 12))(series)
    assert (fixed.q == 12).all()
    assert same_bits(tensors(fixed), tensors(ranged))


def test_an_asd_for_each_channel():
    series = coloured(5, 2, 2, scale=1.0)
    asds = torch.stack([torch.linspace(1, 2, 129), torch.linspace(3, 1, 129)])
    both = QTransform(**SMALL, select="channel", whiten=asds)(series)
    for channel in range(2):
        one = QTransform(**SMALL, whiten=asds[channel])(series[:, channel : channel + 1])
        assert torch.equal(one.energy[:, 0], both.energy[:, channel])


# -- companion


@pytest.mark.parametrize("options", [{}, {"crop": (16, 48)}, {"whiten": False}])
def test_companion_has_the_strains_units(options):
    series = coloured(3, 3, 2)
    plot = QTransform(**SMALL, **options)(series, companion=0.5 * series[:, 0])
    peak = plot.energy.max().item()
    torch.testing.assert_close(plot.companion, plot.energy[:, 0] / 4, rtol=1e-5, atol=1e-6 * peak)


def test_companion_of_a_silent_part_is_zero():
    series = coloured(3, 2, 2)
    plot = QTransform(**SMALL)(series, companion=torch.zeros(2, 2048))
    assert not plot.companion.any()


# -- independence of the batch


CASES = {
    "notebook": ({**NOTEBOOK, "select": "channel", "crop": 64}, 4),
    "strain": ({**SMALL, "crop": 16}, 3),
    "one channel": ({**SMALL, "fftlength": 2}, 1),
    "odd, not whitened": ({**SMALL, "duration": 2049 / 256, "whiten": False}, 2),
    "fixed axes": ({**SMALL, "shape": (32, 40), "outseg": (3.0, 5.0), "logf": True, "q": 9.0}, 5),
    "float64": ({**SMALL, "dtype": torch.float64}, 2),
}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", CASES)
def test_an_event_has_the_same_bits_alone_in_a_batch_and_in_any_order(case, threads, monkeypatch):
    options, channels = CASES[case]
    transform = QTransform(**options)
    series = coloured(6, 5, channels, transform.samples, options["sample_rate"])
    part = coloured(7, 5, 1, transform.samples, options["sample_rate"])[:, 0]
    threads(1)
    reference = transform(series, part)
    order = [3, 0, 4, 1, 2]
    for count in (1, 2):
        threads(count)
        for piece in (1, 2**30):
            monkeypatch.setitem(PIECE, "cpu", piece)
            assert same_bits(tensors(transform(series, part)), tensors(reference))
            assert same_bits(tensors(transform(series[order], part[order])), tensors(reference, order))
        assert same_bits(tensors(transform(series[2:3], part[2:3])), tensors(reference, slice(2, 3)))


def test_memory_is_bounded_by_pieces(monkeypatch):
    seen = []
    original = QTransform._transform
    monkeypatch.setattr(
        QTransform, "_transform", lambda self, s, *a: seen.append(len(s)) or original(self, s, *a)
    )
    transform = QTransform(**SMALL, crop=16)
    transform(coloured(8, 600, 1))
    assert len(seen) > 1 and sum(seen) == 600
    assert max(seen) * 8 * 2048 <= PIECE["cpu"]


# -- dead channels, wrong input


def test_dead_channels_are_named():
    series = coloured(9, 5, 3)
    series[3, 1] = 7.0
    with pytest.raises(ValueError, match=r"event 3, channel 1: constant over 8 s"):
        QTransform(**SMALL)(series)
    series[2, 2, 100] = float("nan")
    with pytest.raises(ValueError, match=r"event 2, channel 2: NaN or infinite samples"):
        QTransform(**SMALL)(series[:3])
    sparse = coloured(9, 1, 2)
    sparse[0, 1] = 0
    sparse[0, 1, 7] = 1e-21  # its median spectrum vanishes
    with pytest.raises(ValueError, match="event 0, channel 1: no power in the band"):
        QTransform(**SMALL, fftlength=1, fduration=1)(sparse)


def test_dead_channels_are_numbered_in_the_whole_batch(monkeypatch):
    monkeypatch.setitem(PIECE, "cpu", 1)
    series = coloured(9, 4, 1)
    series[3] = 0
    with pytest.raises(ValueError, match="event 3, channel 0"):
        QTransform(**SMALL)(series)


@pytest.mark.parametrize("options", [{}, {"crop": 16}, {"whiten": False}, {"select": "channel"}])
def test_dead_channels_can_be_masked(options):
    series = coloured(9, 3, 2)
    expected = QTransform(**SMALL, **options)(series)
    series[1, 1] = float("inf")
    series[2, 0] = -1.0
    plot = QTransform(**SMALL, **options, invalid="mask")(series)
    assert plot.valid.tolist() == [[True, True], [True, False], [False, True]]
    assert not plot.energy[~plot.valid].any()
    assert all(torch.isfinite(x.double()).all() for x in tensors(plot))
    assert torch.equal(plot.energy[0], expected.energy[0])
    assert torch.equal(plot.energy[1, 0], expected.energy[1, 0])


def test_wrong_input_is_refused_in_words():
    transform = QTransform(**SMALL)
    with pytest.raises(
        ValueError, match=r"\(1, 2, 2000\): \(event, channel, sample\) with 2048 samples \(8 s at 256 Hz\)"
    ):
        transform(torch.zeros(1, 2, 2000))
    with pytest.raises(ValueError, match=r"\(event, channel, sample\)"):
        transform(torch.zeros(2, 2048))
    with pytest.raises(ValueError, match="companion has 1 events, series 2"):
        transform(coloured(0, 2, 1), companion=torch.zeros(1, 2048))
    with pytest.raises(ValueError, match="event 1: the companion has NaN"):
        transform(coloured(0, 2, 1), companion=torch.tensor([[0.0], [float("nan")]]).expand(2, 2048))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"q": 3.0}, r"sqrt\(11\)"),
        ({"qrange": (3.3, 64)}, r"sqrt\(11\)"),
        ({"qrange": (64, 4)}, "must ascend"),
        ({"frange": (60, 10)}, "leaves no band"),
        ({"frange": (0.01, 60)}, "begins below the lowest frequency"),
        ({"frange": (20, 21), "q": 4.0}, "rows, 4 are needed"),
        ({"mismatch": 0.9}, "mismatch"),
        ({"select": "batch"}, "select 'batch'"),
        ({"outseg": (3, 9)}, "within the series, 0 to 8 s"),
        ({"crop": (200, 64)}, r"crop \(200, 64\) is larger than the image, \(100, 1000\)"),
        ({"fftlength": 9}, "too short for an ASD"),
    ],
)
def test_wrong_options_are_refused_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        QTransform(**{**SMALL, **options})


def test_too_high_a_frequency_warns_and_is_truncated_as_gwpy_does():
    with pytest.warns(UserWarning, match=r"upper frequency of 500\.0 Hz is too high for the given Q range"):
        transform = QTransform(**{**SMALL, "frange": (10, 500)})
    lowest = transform.qs.min().item()
    assert transform.frange[1] == pytest.approx(128 / (1 + 11**0.5 / lowest))


# -- types and devices


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types(dtype):
    series = coloured(1, 2, 2, scale=1.0)
    plot = QTransform(**SMALL, dtype=dtype)(series)
    assert plot.energy.dtype == dtype
    assert torch.equal(QTransform(**SMALL, dtype=dtype)(series.numpy()).energy, plot.energy)
    single = QTransform(**SMALL, dtype=dtype)(series.float())
    torch.testing.assert_close(single.energy, plot.energy, rtol=1e-3, atol=1e-3)


def test_autocast_changes_nothing():
    series = coloured(1, 2, 2)
    transform = QTransform(**SMALL, crop=16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plot = transform(series)
    assert same_bits(tensors(plot), tensors(transform(series)))


@pytest.mark.ci
def test_compiled_gives_the_same():
    series = coloured(1, 2, 2)
    transform = QTransform(**SMALL, q=None, crop=16)
    compiled = torch.compile(transform, backend="eager")
    assert same_bits(tensors(compiled(series)), tensors(transform(series)))


def test_a_copy_gives_the_same():
    series = coloured(1, 2, 2)
    transform = QTransform(**SMALL, crop=16)
    assert same_bits(tensors(copy.deepcopy(transform)(series)), tensors(transform(series)))


DEVICE_CASES = [
    {},
    {"crop": 16, "select": "channel"},
    {"fftlength": 1, "fduration": 1},
    {"whiten": False},
    {"select": "channel", "limits": np.array([np.inf, 32, 20])},
    {"whiten": torch.linspace(1, 2, 513), "kind": "prediction", "fduration": 0.25},
]


@pytest.mark.parametrize("options", DEVICE_CASES)
def test_what_a_gpu_does_gives_the_same_on_a_cpu(options, monkeypatch):
    series = coloured(1, 4, 3)
    transform = QTransform(**SMALL, **options)
    expected = transform(series, series[:, 0])
    monkeypatch.setattr(kernels, "on_cpu", lambda x: False)
    found = transform(series, series[:, 0])
    for ours, theirs in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * float(theirs.double().max()))


def test_nothing_is_stored_in_a_state_dict():
    assert not QTransform(**SMALL).state_dict()


@pytest.mark.gpu
@pytest.mark.parametrize("options", DEVICE_CASES)
def test_gpu_agrees_with_cpu(options):
    series = coloured(1, 4, 3)
    transform = QTransform(**SMALL, **options)
    expected = transform(series, series[:, 0])
    found = transform.cuda()(series, series[:, 0])
    assert found.energy.is_cuda
    for ours, theirs in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-5 * float(theirs.double().max()))


@pytest.mark.parametrize("options", [{}, {"select": "channel"}, {"crop": 16, "select": "channel"}])
def test_no_bit_depends_on_how_many_channels_are_worked_on_at_once(options, monkeypatch):
    series = coloured(3, 3, 5)
    limits = np.array([np.inf, 32, np.inf, 20, 5])
    transform = QTransform(**SMALL, **options, limits=limits)
    whole = transform(series, companion=0.3 * series[:, 0])
    monkeypatch.setitem(PIECE, "cpu", 1)
    assert transform._piece(3, 5) == (1, 1)
    for a, b in zip(tensors(whole), tensors(transform(series, companion=0.3 * series[:, 0])), strict=True):
        assert torch.equal(a, b)
    frequencies = whole.frequencies[..., None, :].expand(3, 5, -1)
    assert torch.equal(whole.energy.any(-1), frequencies <= torch.as_tensor(limits)[:, None])


def test_no_row_above_a_limit_chooses_the_plane():
    """Of a channel that is loud above 40 Hz in one plane, and below in another."""
    time = np.arange(round(SMALL["duration"] * SMALL["sample_rate"])) / SMALL["sample_rate"]
    series = coloured(4, 1, 2)
    low, high = (
        np.exp(-np.square((time - SMALL["duration"] / 2) * 2 * np.pi * f / q)) * np.cos(2 * np.pi * f * time)
        for f, q in ((20, 5), (50, 30))
    )
    scale = float(series[0, 1].std())
    series[0, 1] += torch.from_numpy(scale * (20 * low + 200 * high))
    free = QTransform(**SMALL, select="channel")(series)
    held = QTransform(**SMALL, select="channel", limits=np.array([np.inf, 40]))(series)
    assert held.q[0, 1] < free.q[0, 1]
    assert held.q[0, 0] == free.q[0, 0]
    with pytest.raises(ValueError, match="limits of 3 channels, for series of 2"):
        QTransform(**SMALL, limits=np.ones(3))(series)
