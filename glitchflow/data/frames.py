"""Frame files, GWF and HDF5, written through gwpy or gwframe: whole or not at all, with names that say what they cover.

Shapes: n = rate x length, one for each channel.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.errors import RunError

ENDINGS = {"gwf": ".gwf", "hdf5": ".h5"}


def frame_name(channel: str, description: str, start: int, seconds: int, form: str) -> str:
    """The name of a frame file of the detector that a channel belongs to, as LIGO-T050017 asks.

    S-D-G-T.ext: the detector's letter, the detector and what is in it, GPS start and length in whole seconds.
    """
    detector = channel.partition(":")[0]
    return f"{detector[0]}-{detector}_{description}-{start}-{seconds}{ENDINGS[form]}"


def write_frame(
    path: Path, start: int, seconds: int, series: Mapping[str, NDArray], form: str, key: str
) -> None:
    """Write series (n,) by channel, all of which begin at GPS `start`, as one file, under another name first.

    form: gwf or hdf5. key: the configuration's for it. Raises `RunError` where no library here writes GWF, or the
    file system refuses.
    """
    from gwpy.timeseries import TimeSeries, TimeSeriesDict

    made: Any = TimeSeriesDict()
    for name, values in series.items():
        rate = len(values) / seconds
        made[name] = TimeSeries(values, t0=start, sample_rate=rate, name=name, channel=name)
    temporary = path.with_name(f"{path.name}.partial")
    temporary.unlink(missing_ok=True)
    with said(path, key):
        if form == "gwf":
            write_gwf(made, temporary)
        else:
            made.write(str(temporary), format=form)
        temporary.replace(path)


def write_gwf(series: Any, path: Path) -> None:
    """Write a dictionary of gwpy's time series, which begin together, as one frame: by gwframe, else as gwpy can.

    Raises what they raise; see `said`.
    """
    if not find_spec("gwframe"):
        series.write(str(path), format="gwf")
        return
    import gwframe

    first = next(iter(series))
    gwframe.write(
        path,
        {name: np.ascontiguousarray(one.value) for name, one in series.items()},
        start=float(series[first].t0.value),
        sample_rate={name: float(one.sample_rate.value) for name, one in series.items()},
        unit={name: str(one.unit) for name, one in series.items()},
        name=first.partition(":")[0],
    )


@contextmanager
def said(path: Path, key: str) -> Iterator[None]:
    """Say in one line what keeps gwpy from writing a file; key: the configuration's for its format.

    Raises `RunError` where no library here writes GWF, or the file system refuses.
    """
    try:
        yield
    except ImportError as error:
        raise RunError(
            f"{path}: no library here writes GWF ({error}); install the extra [gwf], or {key}=hdf5"
        ) from None
    except (OSError, RuntimeError) as error:  # lalframe and gwframe raise the latter
        raise RunError(f"{path}: cannot be written: {error}") from None
