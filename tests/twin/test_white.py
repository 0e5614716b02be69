"""What a generative twin knows of a dataset: white noise is N(0, 1), a glitch has its SNR, and both can be undone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.model.flow import Flow
from glitchflow.signal.prediction import PredictionFilter
from glitchflow.twin import white as module
from glitchflow.twin.white import bands_of, build_white, learnable, samples_of


@pytest.fixture(scope="module")
def dataset(glitches_run):
    return open_store(glitches_run.dataset)


@pytest.fixture(scope="module")
def known(dataset):
    return build_white(dataset, "SIM:STRAIN", Flow.multiple)


def test_the_span_is_what_is_drawn_and_what_a_network_takes():
    assert samples_of(256, 2.0, 64) == 512
    assert samples_of(512, 2.1, 64) == 1088  # 2.125 s


def test_the_middle_is_what_the_filter_makes_of_the_whole(dataset, known):
    series = torch.from_numpy(dataset.events("series", np.arange(3), [0])[:, 0])
    whole = PredictionFilter(torch.tensor(known.taps, dtype=torch.float64), known.rate).run(series)
    start = (series.shape[1] - known.samples) // 2
    torch.testing.assert_close(known.of(series), whole[:, start : start + known.samples])


def test_what_is_white_goes_back_to_the_strain(known):
    strain = torch.zeros(1, 8 * 256, dtype=torch.float64)
    middle = slice(4 * 256 - 256, 4 * 256 + 256)
    strain[0, middle] = 1e-21 * torch.randn(
        512, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    back = known.undo(known.of(strain).numpy())
    np.testing.assert_allclose(back[0], strain[0, middle].numpy(), rtol=0, atol=1e-30)


def test_quiet_strain_is_white_and_a_glitch_has_its_snr(dataset, known):
    bare = replace(known, clean=False)
    quiet = np.flatnonzero(dataset["label"][:] == 0)
    noise = torch.cat([*module.read(bare, dataset, quiet)])
    # 17 events: 12 of them the taps are scaled by, and a band has 8 frequencies of each at least
    assert noise.square().mean().item() == pytest.approx(1, abs=0.03)
    assert all(abs(found - 1) < 4 / (8 * len(quiet)) ** 0.5 for found in bands_of(bare, noise, 12.0).values())
    blips = np.flatnonzero(dataset["label"][:] == dataset.labels.index("blip"))
    norms = torch.cat([*module.read(known, dataset, blips)]).norm(dim=1).numpy()
    np.testing.assert_allclose(norms, dataset["snr"][:][blips], rtol=0.15)


def test_families_are_counted_and_their_snrs_known(dataset, known):
    train = dataset.indices("train")
    label, snr = dataset["label"][:][train], dataset["snr"][:][train]
    assert known.counts[0] == 0
    assert known.counts[1:] == [int((label == k).sum()) for k in range(1, len(dataset.labels))]
    blip = dataset.labels.index("blip")
    assert known.snrs[blip][-1] == pytest.approx(snr[label == blip].max(), rel=0.15)
    assert known.clean and known.shares == [1.0] * len(dataset.labels)


def test_of_recorded_strain_the_share_of_an_snr_in_the_window_is_found(dataset, known, monkeypatch):
    """A blip is shorter than the window: all of its SNR is in it."""
    monkeypatch.setattr(module, "TRUTH", "none")
    found = build_white(dataset, "SIM:STRAIN", Flow.multiple)
    assert not found.clean and found.array == "series"
    assert found.shares[dataset.labels.index("blip")] == pytest.approx(1, abs=0.1)


def test_background_and_unknown_snrs_teach_nothing(dataset):
    assert np.array_equal(learnable(dataset), dataset["label"][:] > 0)


def test_a_store_without_series(dataset_run):
    dataset = open_store(dataset_run.dataset)
    bare = replace(dataset, attributes=dataset.attributes)
    known = bare.known.model_copy(
        update={"arrays": {k: v for k, v in bare.known.arrays.items() if k != "series"}}
    )
    with pytest.raises(InputError) as error:
        build_white(replace(bare, known=known), "SIM:STRAIN", 64)
    assert str(error.value) == (
        f"{dataset.path}: kept no series, which a generative twin learns from; set store.series=float32"
    )


@pytest.mark.parametrize(
    "change, wrong",
    [({"taps": [0.0]}, "its numbers must be finite"), ({"counts": [1]}, "is not of its families")],
)
def test_numbers_that_cannot_be(known, change, wrong):
    assert known.problem(1) == ""
    assert replace(known, **change).problem(1) == wrong
