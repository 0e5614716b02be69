"""Whether a frame file is whole, before a library reads it: LALFrame ends the process at some flipped bytes.

A GWF file (LIGO-T970130) of version 8 ends with the POSIX checksum of all that comes before it, most significant bit
first, which is zlib's of the same bits the other way round.
"""

import zlib
from pathlib import Path
from typing import Literal

import h5py

from glitchflow.signal.recorded.samples import FORMATS

MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
MAGIC, VERSION, ORDER = b"IGWD\0", 5, 12  # how a file begins; where its version and its byte order are
EARLIER = (6, 7)  # versions that have no such sum and are still read
END, SIZE = 46, slice(18, 26)  # bytes of the structure that ends a file; where in it the file's length is


def damage(path: Path) -> str:
    """Say what is wrong with a GWF or HDF5 file; empty where nothing is.

    GWF files of earlier versions, or without a checksum, and values in HDF5 files that keep none are taken as they are.
    Raises `OSError` where it cannot be read.
    """
    if FORMATS.get(path.suffix.lower()) == "hdf5":
        return _hdf5_damage(path)
    content = path.read_bytes()
    if len(content) < END + ORDER or not content.startswith(MAGIC):
        return "is no frame file, or not all of one"
    order: Literal["little", "big"] = "little" if content[ORDER] == 0x34 else "big"
    if content[VERSION] in EARLIER:
        return ""
    size, told = (int.from_bytes(part, order) for part in (content[-END:][SIZE], content[-4:]))
    if size != len(content):
        return "is not all of a frame file"
    return "" if told in (0, posix_sum(content[:-4])) else "differs from its checksum"


def _hdf5_damage(path: Path) -> str:
    """What is wrong with an HDF5 file: one that is still being copied begins like a whole one."""
    try:
        with h5py.File(path) as file:
            file.visit(lambda _: None)
    except (OSError, RuntimeError):
        return "is no HDF5 file, or not all of one"
    return ""


def posix_sum(content: bytes) -> int:
    """Return what the command `cksum` says of some bytes."""
    length = len(content)
    content += length.to_bytes((length.bit_length() + 7) // 8, "little")
    mirrored = zlib.crc32(content.translate(MIRRORED), 0xFFFFFFFF)
    return int(f"{mirrored:032b}"[::-1], 2)
