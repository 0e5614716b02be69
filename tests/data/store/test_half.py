"""Energies as float16: of which size, how near, and the same wherever they are read."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import zarr
from helpers import damage_of, shares, small

from glitchflow.data.fresh import fresh
from glitchflow.data.generate import generate
from glitchflow.data.identity import identity, recipe
from glitchflow.data.localcopy import local_copy
from glitchflow.data.normalise import loudness
from glitchflow.data.store.dataset import open_store
from glitchflow.data.store.half import packed, unpacked
from glitchflow.data.store.schema import SPLITS


@pytest.fixture(scope="module")
def stored(dataset_run, tmp_path_factory):
    """The store of `dataset_run`, and the same events with energies of float16."""
    where = tmp_path_factory.mktemp("half")
    experiment = small(where, store={"series": "float64", "qplot": "float16"})
    generate(experiment)
    return open_store(dataset_run.dataset), open_store(experiment.dataset)


def test_what_comes_back():
    energy = np.array([0, -0.3, 1e-3, 0.1, 1, 10, 1e2, 1e3, 1e4, 1e5, 1e9], np.float32)
    kept = packed(energy, "float16")
    assert kept.dtype == np.float16
    found = unpacked(kept)
    assert found.dtype == np.float32
    assert found[0] == 0
    np.testing.assert_allclose(np.log1p(np.abs(found)), np.log1p(np.abs(energy)), rtol=2**-11)
    np.testing.assert_allclose(found, energy, rtol=0.01)
    np.testing.assert_array_equal(packed(found, "float16"), kept)
    np.testing.assert_array_equal(unpacked(energy), energy)


def test_every_number_that_is_kept_comes_back_as_itself():
    kept = np.arange(2**16, dtype=np.uint16).view(np.float16)
    kept = kept[np.isfinite(kept) & (np.abs(kept) < 80)]  # e^88 is the largest float32
    np.testing.assert_array_equal(packed(unpacked(kept), "float16"), kept)


def test_any_shape_is_read():
    kept = packed(np.random.default_rng(1).exponential(10, (3, 5, 70, 80)).astype("f4"), "float16")
    whole = unpacked(kept)
    assert whole.shape == kept.shape
    np.testing.assert_allclose(np.log1p(whole), kept, rtol=1e-6)
    np.testing.assert_array_equal(unpacked(kept[::2, 1:3]), whole[::2, 1:3])
    np.testing.assert_array_equal(unpacked(kept[1, 2, 3, 4]), whole[1, 2, 3, 4])
    assert unpacked(kept[:0]).shape == (0, 5, 70, 80)


def test_a_store_takes_half_the_bytes_and_says_what_it_keeps(stored):
    whole, half = stored
    for name in ("qplot", "witnessed"):
        raw = zarr.open_array(f"{half.path}/{name}", mode="r")
        assert raw.dtype == np.float16
        assert raw.attrs["keeps"] == "sign(x) log(1 + |x|)"
        assert "keeps" not in zarr.open_array(f"{whole.path}/{name}", mode="r").attrs
        assert half.known.arrays[name].event_bytes == whole.known.arrays[name].event_bytes / 2
        assert half[name].dtype == np.float32
        assert half[name].nbytes == whole[name].nbytes
        np.testing.assert_array_equal(half[name][:], unpacked(raw[:]))
        np.testing.assert_array_equal(half[name][:], unpacked(packed(whole[name][:], "float16")))
    np.testing.assert_array_equal(half["series"][:], whole["series"][:])
    assert not damage_of(half.path)


def test_statistics_are_of_what_is_read(stored):
    _, half = stored
    energy = half["qplot"][:]
    valid = half["valid"][:]
    np.testing.assert_allclose(half["loudness"][:][valid], loudness(energy)[valid], atol=1e-6)
    for name, values in shares(energy[half["split"][:] == SPLITS.index("train")]).items():
        np.testing.assert_allclose(half.normalisation[name], values, rtol=1e-6)


def test_a_copy_on_a_local_disk_keeps_what_the_store_keeps(stored, tmp_path, capsys):
    _, half = stored
    copy = local_copy(half, tmp_path)
    np.testing.assert_array_equal(copy[:], half["qplot"][:])
    assert copy.path.stat().st_size < half["qplot"].nbytes * 0.52
    capsys.readouterr()
    np.testing.assert_array_equal(local_copy(half, tmp_path)[3:70], half["qplot"][3:70])
    assert capsys.readouterr().err == "", "the copy that is there is taken"


def test_events_drawn_anew_are_as_the_store_would_keep_them(stored):
    whole, half = stored
    drawn = [fresh(dataset, "qplot", whole.channels)[slice(200, 202), []] for dataset in stored]
    np.testing.assert_array_equal(drawn[1], unpacked(packed(drawn[0], "float16")))
    assert drawn[1].dtype == np.float32
    again = fresh(half, "qplot", half.channels)[slice(0, 2), []]
    np.testing.assert_array_equal(again, half["qplot"][:2])


def test_a_store_of_before_is_the_same_dataset(stored):
    """Which has no `qplot` in its `store`: extended, it is given one."""
    whole, half = stored
    store = {k: v for k, v in whole.attributes["config"]["store"].items() if k != "qplot"}
    older = replace(
        whole, attributes=whole.attributes | {"config": whole.attributes["config"] | {"store": store}}
    )
    assert identity(older) == identity(whole)
    assert recipe(older) == recipe(whole) != recipe(half)


def test_what_is_flipped_is_told(stored, tmp_path):
    _, half = stored
    shutil.copytree(half.path, tmp_path / "dataset.zarr")
    chunk = next(path for path in (tmp_path / "dataset.zarr" / "qplot" / "c").rglob("0") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[7] ^= 1
    chunk.write_bytes(data)
    assert damage_of(tmp_path / "dataset.zarr")
