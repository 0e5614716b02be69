"""A configuration to begin with: of a simulated detector, or of the channels that frame files hold.

What is written is a file as those in configs/, with what its keys are for, and is read once before it is kept.
"""

import fnmatch
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from glitchflow.config import load
from glitchflow.config.recorded import Source
from glitchflow.data.objects import make_directory
from glitchflow.errors import InputError, printable
from glitchflow.signal.recorded.contents import contents
from glitchflow.signal.recorded.frames import coverage, find_files

RATE, DURATION, BAND, SPAN = 512.0, 16.0, (10.0, 200.0), 2.0  # of strain that is recorded at `RATE` or more
TREND = 8.0  # Hz below which a channel is one, or a sixteenth of the series' rate where that is less
STATES = ("STATE", "STATE_VECTOR", "DQMASK", "DQmask")  # how the names of state channels end


def init(
    config: Path,
    frames: Sequence[str] = (),
    strain: str = "",
    witnesses: Sequence[str] = (),
    triggers: str = "",
    overwrite: bool = False,
) -> Path:
    """Write a configuration: of the simulated detector, or of recorded data where `frames` are given.

    frames: patterns of GWF or HDF5 files, of which the first file each is looked into. strain: the channel to be
    cleaned. witnesses: names or patterns as "H1:PEM-*"; none: all others. triggers: a table of when to look; none:
    windows side by side over what the strain's files cover. Raises `InputError`: one line.
    """
    if config.is_dir():
        raise InputError(f"{config}: is a directory; name the file to write")
    if config.exists() and not overwrite:
        raise InputError(f"{config}: is there; --overwrite replaces it")
    if not frames and (strain or witnesses or triggers):
        raise InputError(
            "--strain, --witness and --triggers are of recorded data: give its files with --frames"
        )
    known = _recorded(frames, strain, witnesses, triggers) if frames else {}
    page = Environment(
        loader=PackageLoader("glitchflow.site"),
        autoescape=False,  # YAML: texts go through `tojson`
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    ).get_template("recorded.yaml" if frames else "synthetic.yaml")
    make_directory(config.parent)
    _write(config, page.render(workdir=f"runs/{config.stem}", **known))
    return config


def _write(config: Path, text: str) -> None:
    """Keep what can be read, and nothing else."""
    handle, name = tempfile.mkstemp(dir=config.parent, prefix=f".{config.stem}-", suffix=".yaml")
    made = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        try:
            load(made)
        except InputError as error:
            raise InputError(f"{config}: {str(error).removeprefix(f'{made}: ')}") from None
        made.chmod(0o666 & ~_umask())
        made.replace(config)
    finally:
        made.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _recorded(frames: Sequence[str], strain: str, wanted: Sequence[str], triggers: str) -> dict[str, Any]:
    """What the template of recorded data is filled with."""
    rates: dict[str, float] = {}
    place: dict[str, int] = {}  # of the pattern whose files a channel is in
    for k, pattern in enumerate(frames):
        for name, rate in contents(find_files([pattern], "--frames")[0]).items():
            rates.setdefault(name, rate)
            place.setdefault(name, k)
    if strain not in rates:
        asked = f"{strain}: is not in the files" if strain else "name the channel that is to be cleaned"
        raise InputError(f"--strain {asked}; there are {_some(rates)}")
    if triggers:
        find_files([triggers], "--triggers")
    scale = max(1.0, RATE / rates[strain])
    kept, slow = _witnesses(rates, strain, wanted, RATE / scale, BAND[0] / scale)
    start, end = _covered(strain, frames[place[strain]], DURATION * scale)
    named, rows = set[int](), []
    for name in [strain, *kept]:
        k = place[name]
        files = f"*files_{k}" if k in named else f"&files_{k} [{json.dumps(frames[k])}]"
        named.add(k)
        rows.append({"name": name, "rate": f"{rates[name]:g}", "files": files})
    return {
        "strain": printable(strain),
        "channels": rows,
        "slow": [printable(name) for name in slow],
        "state": next((name for name in rates if name.endswith(STATES)), "..."),
        "table": triggers,
        "start": start,
        "end": end,
        "duration": f"{DURATION * scale:g}",
        "rate": f"{RATE / scale:g}",
        "band": ", ".join(f"{edge / scale:.3g}" for edge in BAND),
        "span": f"{SPAN * scale:g}",
    }


def _witnesses(
    rates: dict[str, float], strain: str, wanted: Sequence[str], rate: float, low: float
) -> tuple[list[str], list[str]]:
    """Those of the files that are wanted, and those of them that are too slow for a band from `low` Hz on.

    Raises `InputError` for a pattern that matches none, for one too slow that was asked for by name, and where none is
    left.
    """
    names = [name for name in rates if name != strain]
    for pattern in wanted:
        if not fnmatch.filter(names, pattern):
            raise InputError(f"--witness {pattern}: is not in the files; there are {_some(names)}")
    found = [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in wanted)]
    found = found if wanted else [name for name in names if not name.endswith(STATES)]
    slow = [name for name in found if rates[name] < min(TREND, rate / 16) or rates[name] / 2 <= low]
    if refused := [name for name in wanted if name in slow]:
        raise InputError(
            f"--witness {refused[0]}: is recorded at {rates[refused[0]]:g} Hz, and the twin's band begins at {low:g} Hz"
        )
    kept = [name for name in found if name not in slow]
    if not kept:
        raise InputError(f"--frames: no witness of {strain} is left; there are {_some(rates)}")
    return kept, sorted(slow)


def _covered(strain: str, pattern: str, duration: float) -> tuple[int, int]:
    """From where to where windows lie whose series are within what the strain's files cover, GPS s."""
    stretches = coverage(Source(name=strain, files=[pattern]))
    start = math.ceil(stretches[0][0] + duration / 2)
    end = math.floor(stretches[-1][1] - duration / 2)
    if end <= start:
        raise InputError(
            f"--frames {pattern}: covers {stretches[-1][1] - stretches[0][0]:g} s, and one event takes {duration:g} s"
        )
    return start, end


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return (", ".join(listed[:8]) or "no series") + more
