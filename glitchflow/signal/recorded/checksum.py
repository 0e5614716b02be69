"""Whether a frame file is whole, before a library reads it: LALFrame ends the process at some flipped bytes.

A GWF file (LIGO-T970130) of version 8 ends with the POSIX checksum of all that comes before it, most significant bit
first, which is zlib's of the same bits the other way round.
"""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import h5py

HDF5 = (".h5", ".hdf5", ".hdf")
MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
MAGIC, VERSION, ORDER = b"IGWD\0", 5, 12  # how a file begins; where its version and its byte order are
EARLIER = (6, 7)  # versions that have no such sum and are still read
END, SIZE = 46, slice(18, 26)  # bytes of the structure that ends a file; where in it the file's length is
CHUNK = 2**20  # bytes that are summed at once


def damage(path: Path) -> str:
    """Say what is wrong with a GWF or HDF5 file; empty where nothing is.

    GWF files of earlier versions, or without a checksum, and values in HDF5 files that keep none are taken as they are.
    Raises `OSError` where it cannot be read.
    """
    if path.suffix.lower() in HDF5:
        return _hdf5_damage(path)
    with path.open("rb") as file:
        size, head = path.stat().st_size, file.read(END)
        if size < END + ORDER or not head.startswith(MAGIC):
            return "is no frame file, or not all of one"
        order: Literal["little", "big"] = "little" if head[ORDER] == 0x34 else "big"
        if head[VERSION] in EARLIER:
            return ""
        file.seek(size - END)
        end = file.read()
        told_size, told = (int.from_bytes(part, order) for part in (end[SIZE], end[-4:]))
        if told_size != size:
            return "is not all of a frame file"
        return "" if told in (0, posix_sum(_chunks(file, size - 4))) else "differs from its checksum"


def is_gwf(path: Path) -> bool:
    """Say whether a file begins as GWF does, whatever it is called. Raises `OSError` where it cannot be read."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file."""
    file.seek(0)
    while size > 0 and (chunk := file.read(min(CHUNK, size))):
        size -= len(chunk)
        yield chunk


def _hdf5_damage(path: Path) -> str:
    """What is wrong with an HDF5 file: one that is still being copied begins like a whole one."""
    try:
        with h5py.File(path) as file:
            file.visit(lambda _: None)
    except (OSError, RuntimeError):
        return "is no HDF5 file, or not all of one"
    return ""


def posix_sum(chunks: Iterable[bytes]) -> int:
    """Return what the command `cksum` says of some bytes, which come in pieces."""
    length, mirrored = 0, 0xFFFFFFFF
    for chunk in chunks:
        length += len(chunk)
        mirrored = zlib.crc32(chunk.translate(MIRRORED), mirrored)
    end = length.to_bytes((length.bit_length() + 7) // 8, "little")
    mirrored = zlib.crc32(end.translate(MIRRORED), mirrored)
    return int(f"{mirrored:032b}"[::-1], 2)
