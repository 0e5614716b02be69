"""What is in a file of series, by its table of contents: nobody knows the names of a site's channels by heart."""

import math
from importlib.util import find_spec
from pathlib import Path

import h5py

from glitchflow.errors import InputError
from glitchflow.signal.recorded.checksum import damage, is_gwf
from glitchflow.signal.recorded.samples import GWF, LAYOUTS, read_samples


def contents(path: str) -> dict[str, float]:
    """Returns the channels of a GWF or HDF5 file that are series, with their rates in Hz, by name.

    Channels that are complex, and datasets that do not say their times, are left out. Raises `InputError` for a file
    that cannot be read.
    """
    try:
        # GWF first by its sum: its readers end the whole process over some damaged files
        if (gwf := is_gwf(Path(path))) and (why := damage(Path(path))):
            raise InputError(why)
        rates = _of_gwf(path) if gwf else _of_hdf5(path)
    except Exception as error:  # noqa: BLE001  h5py and the readers of GWF raise anything on a bad file
        raise InputError(
            f"{path}: cannot be read: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    return dict(sorted(rates.items()))


def _of_gwf(path: str) -> dict[str, float]:
    if find_spec("gwframe"):
        import gwframe

        with gwframe.FrameReader(path) as file:
            return {
                one.name: float(one.sample_rate) for one in file.channel_details() if one.dtype.kind in "fiu"
            }
    from gwpy.io.gwf import get_channel_names

    found = read_samples(path, GWF[0], get_channel_names(path), stop=math.inf)
    return {name: one.rate for name, one in found.items() if not isinstance(one, str)}


def _of_hdf5(path: str) -> dict[str, float]:
    rates: dict[str, float] = {}

    def look(name: str, item: object) -> None:
        if not isinstance(item, h5py.Dataset) or item.ndim != 1 or item.dtype.kind not in "fiu":
            return
        for start, step in LAYOUTS:
            if start in item.attrs and step in item.attrs:
                rates[name] = round(1 / float(item.attrs[step]), 6)
                return

    with h5py.File(path) as file:
        file.visititems(look)
    return rates
