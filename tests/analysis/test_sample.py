"""Glitches drawn: what a draw depends on, what a store of them says, and what cannot be asked."""

from pathlib import Path

import numpy as np
import pytest

from glitchflow.analysis import sample as module
from glitchflow.analysis.inspect import inspect
from glitchflow.analysis.sample import LOT, find_twin, sample, wanted_of
from glitchflow.data.store import open_store
from glitchflow.errors import InputError


def asked(run, **changes):
    return run.model_copy(update={"sample": run.sample.model_copy(update=changes)})


@pytest.fixture(scope="module")
def samples(glitches_run):
    return open_store(Path(glitches_run.workdir) / "samples.zarr")


def test_a_store_of_draws_says_what_they_are(samples, glitches_run):
    assert len(samples) == 70 > LOT
    assert samples.attributes["series_are"] == "glitches alone"
    assert samples.attributes["sample_rate"] == 256
    assert samples["series"].shape == (70, 512) and samples["qplot"].shape == (70, 16, 16)
    assert np.array_equal(samples["frequency"][:], open_store(glitches_run.dataset)["frequency"][:])
    norm = np.linalg.norm(samples["series"][:], axis=1)
    np.testing.assert_allclose(norm, samples["snr"][:], rtol=1e-5)
    assert set(samples["label"][:]) <= {1, 2, 3}
    text, intact = inspect(samples.path, verify=True)
    assert intact and "70 events of source sample" in text


def test_the_first_draws_are_the_same_in_every_bit_however_many_are_drawn(samples, glitches_run, tmp_path):
    few = open_store(sample(asked(glitches_run, count=3, path=str(tmp_path / "few.zarr"))))
    for name in ("series", "qplot", "snr", "label"):
        assert np.array_equal(few[name][:], samples[name][:3]), name


@pytest.mark.gpu
def test_a_gpu_draws_what_a_cpu_does(glitches_run, gpu):
    """From the same noise; within a hundredth of the loudest, after as many steps as a draw has."""
    twin = find_twin(glitches_run)
    wanted = wanted_of(glitches_run.sample, 3, twin, twin.normalisation)
    there, here = (module.draw_lot(twin.trained(where), wanted, 0, where) for where in (gpu, "cpu"))
    for name in ("series", "alone", "size"):
        found, expected = getattr(there, name), getattr(here, name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * np.abs(expected).max())


def test_a_shard_made_again_is_the_same_and_another_seed_is_not(samples, glitches_run, tmp_path):
    other = open_store(sample(asked(glitches_run, count=3, seed=9, path=str(tmp_path / "other.zarr"))))
    assert not np.array_equal(other["series"][:], samples["series"][:3])


def test_the_strain_comes_back_from_a_draw(samples, glitches_run):
    white = find_twin(glitches_run).normalisation
    strain = white.undo(samples["series"][:2])
    again = np.stack([np.convolve(white.taps, one)[:512] for one in strain])
    np.testing.assert_allclose(again, samples["series"][:2], atol=1e-4)
    assert samples.attributes["taps"] == white.taps


def test_a_family_and_its_snr_can_be_asked(glitches_run, tmp_path):
    settings = asked(glitches_run, family=["blip"], count=5, snr=(12.0, 13.0), path=str(tmp_path / "x.zarr"))
    found = open_store(sample(settings))
    assert {found.labels[k] for k in found["label"][:]} == {"blip"}
    assert ((found["snr"][:] >= 12) & (found["snr"][:] <= 13)).all()


def test_what_it_was_not_trained_on_is_refused(glitches_run):
    found = find_twin(glitches_run)
    known = found.normalisation
    with pytest.raises(InputError) as error:
        wanted_of(asked(glitches_run, family=["koi"]).sample, 3, found, known)
    assert str(error.value) == (
        f"sample.family = koi: not one that {found.path} was trained on; there are: sine_gaussian, scattered_light,"
        " blip"
    )
    blip = known.labels.index("blip")
    with pytest.raises(InputError) as error:
        wanted_of(asked(glitches_run, family=["blip"], snr=(1.0, 400.0)).sample, 3, found, known)
    low, high = known.snrs[blip][0], known.snrs[blip][-1]
    assert str(error.value) == (
        f"sample.snr = [1, 400]: {found.path} was trained on blip from {low:.3g} to {high:.3g}"
    )


def test_other_draws_are_not_written_over(glitches_run):
    path = Path(glitches_run.workdir) / "samples.zarr"
    for changes, words in (({"seed": 9}, "seed = 3, not 9"), ({"count": 9}, "count = 70, not 9")):
        with pytest.raises(InputError) as error:
            sample(asked(glitches_run, **changes))
        assert str(error.value) == (
            f"{path}: holds draws of sample.{words}; --overwrite it, or choose another sample.path"
        )


def test_another_kind_does_not_draw(trained_run):
    with pytest.raises(InputError) as error:
        sample(trained_run)
    assert str(error.value).endswith(
        "is of the image kind, which does not draw; a network of model.name=flow or posterior does"
    )


def test_families_come_as_often_as_they_were_seen(glitches_run):
    found = find_twin(glitches_run)
    known, wanted = found.normalisation, wanted_of(glitches_run.sample, 3, found, found.normalisation)
    drawn = np.concatenate([module.asked_of(wanted, known, lot)[0].label.numpy() for lot in range(20)])
    share = np.bincount(drawn, minlength=len(known.labels)) / len(drawn)
    np.testing.assert_allclose(share, np.array(known.counts) / sum(known.counts), atol=0.05)
