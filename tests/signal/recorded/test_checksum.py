"""What a flipped byte or a cut does to a frame file is seen before a library sees it."""

import shutil
import subprocess

import h5py
import numpy as np
import pytest
from helpers import needs_gwf

from glitchflow.data.frames import write_frame
from glitchflow.signal.recorded.checksum import damage, posix_sum
from glitchflow.signal.recorded.samples import read_samples

needs_gwf()


@pytest.mark.skipif(not shutil.which("cksum"), reason="cksum is not installed")
@pytest.mark.parametrize("length", [0, 1, 255, 256, 70_000, 2**20 + 3])
def test_the_sum_is_that_of_cksum(length):
    content = np.random.default_rng(length).bytes(length)
    told = subprocess.run(["cksum"], input=content, capture_output=True, check=True).stdout
    assert posix_sum([content]) == int(told.split()[0])
    assert posix_sum([content[:100], content[100:]]) == int(told.split()[0])


def test_a_flipped_byte_or_a_cut_anywhere_is_damage(tmp_path):
    rng, path = np.random.default_rng(1), tmp_path / "S-S-1000000000-1.gwf"
    write_frame(path, 1_000_000_000, 1, {"S:A": rng.standard_normal(512)}, "gwf", "x.format")
    whole = path.read_bytes()
    assert damage(path) == ""
    assert len(read_samples(str(path), "", ["S:A"])["S:A"].values) == 512
    for place in rng.integers(len(whole) - 4, size=200).tolist():
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        assert damage(path)
        told = damage(path)
        assert told
        # which LALFrame would not always outlive
        assert read_samples(str(path), "", ["S:A", "S:B"]) == {"S:A": told, "S:B": told}
        path.write_bytes(whole[:place])
        assert damage(path)


def test_what_is_no_hdf5_file_or_only_half_of_one_is_said(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"nothing")
    assert damage(path) == "is no HDF5 file, or not all of one"
    with h5py.File(path, "w") as file:
        file["S:A"] = np.arange(10000.0)
    assert damage(path) == ""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert damage(path) == "is no HDF5 file, or not all of one"
