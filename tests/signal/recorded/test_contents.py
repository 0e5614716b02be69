"""What is in a file: channels and rates, by both libraries of GWF and by each layout of HDF5."""

from importlib.util import find_spec

import h5py
import numpy as np
import pytest
from helpers import needs_gwf

from glitchflow.data.frames import write_frame
from glitchflow.errors import InputError
from glitchflow.signal.recorded import contents as module
from glitchflow.signal.recorded.contents import contents

START = 1_400_000_000


@pytest.mark.parametrize("library", ["gwframe", "lalframe"])
def test_channels_of_a_frame_file(tmp_path, library, monkeypatch):
    needs_gwf()
    if not find_spec(library):
        pytest.skip(f"{library} is not installed")
    path = tmp_path / f"X-X_TEST-{START}-4.gwf"
    values = {"X:STRAIN": np.zeros(4 * 512), "X:SLOW": np.zeros(4 * 16, dtype=np.float32)}
    write_frame(path, START, 4, values, "gwf", "")
    monkeypatch.setattr(module, "find_spec", lambda name: name == library or None)
    assert contents(str(path)) == {"X:SLOW": 16.0, "X:STRAIN": 512.0}


def test_series_of_an_hdf5_file_and_nothing_else(tmp_path):
    path = tmp_path / "frames.hdf5"
    with h5py.File(path, "w") as file:
        for name, (start, step) in {
            "gwpy": ("x0", "dx"),
            "strain/Strain": ("Xstart", "Xspacing"),
            "H1/pycbc": ("start_time", "delta_t"),
        }.items():
            file[name] = np.zeros(64)
            file[name].attrs.update({start: START, step: 1 / 64})
        file["thirds"] = np.zeros(3)
        file["thirds"].attrs.update({"x0": START, "dx": 1 / 3})
        file["complex"] = np.zeros(64, complex)
        file["complex"].attrs.update({"x0": START, "dx": 1 / 64})
        file["image"] = np.zeros((8, 8))
        file["no times"] = np.zeros(64)
    assert contents(str(path)) == {"H1/pycbc": 64.0, "gwpy": 64.0, "strain/Strain": 64.0, "thirds": 3.0}


def test_what_is_no_file_of_series_is_one_line(tmp_path):
    path = tmp_path / "a.hdf5"
    path.write_text("no HDF5")
    with pytest.raises(InputError, match=r"a\.hdf5: cannot be read: .+") as raised:
        contents(str(path))
    assert "\n" not in str(raised.value)


def test_a_damaged_frame_is_told_by_its_checksum_before_a_library_sees_it(tmp_path):
    """gwframe ends the process over some of them."""
    needs_gwf()
    path = tmp_path / f"X-X_TEST-{START}-4.gwf"
    write_frame(path, START, 4, {"X:STRAIN": np.zeros(256)}, "gwf", "")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        contents(str(path))
    assert str(raised.value) == f"{path}: cannot be read: differs from its checksum"
