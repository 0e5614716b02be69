"""Frame files and trigger tables as disks, detectors and people leave them, each given to `ingest`."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from faults.cases import HARMS, Case, Harm, a_directory

START, RATE, SECONDS = 1381161600, 256, 32  # of each of the three files
TIMES = tuple(START + 4 + 8 * k for k in range(12))
STRAIN, WITNESS = "H1:A", "H1:B"
INGEST = ("ingest", "PLACE/recorded.yaml")
FRAMES = tuple(f"H-H1_AUX-{START + SECONDS * k}-{SECONDS}.h5" for k in range(3))


def configuration(small: dict) -> dict:
    """Of twelve events by a table, four in each file."""
    channels = [{"name": name, "files": ["frames/*.h5"]} for name in (STRAIN, WITNESS)]
    return small | {
        "derived": [],
        "series": {"duration": 6, "sample_rate": RATE},
        "ingest": {"channels": channels, "times": {"file": "times.csv"}},
    }


def write(place: Path) -> None:
    """Three files of noise, with checksums, without which a flipped bit is another sample; and the table of times."""
    (place / "frames").mkdir()
    rng = np.random.default_rng(5)
    for k, name in enumerate(FRAMES):
        with h5py.File(place / "frames" / name, "w") as file:
            for channel in (STRAIN, WITNESS):
                row = file.create_dataset(channel, data=rng.standard_normal(SECONDS * RATE), fletcher32=True)
                row.attrs.update(x0=float(START + SECONDS * k), dx=1 / RATE, xunit="s", name=channel)
                row.attrs.update(channel=channel, unit="")
    rows = "".join(f"{gps},8.5,Blip\n" for gps in TIMES)
    (place / "times.csv").write_text(f"time,snr,label\n{rows}")


def inside(edit: Callable[[h5py.File], object]) -> Harm:
    """Another content of the middle file."""

    def harm(place: Path) -> None:
        with h5py.File(place / "frames" / FRAMES[1], "r+") as file:
            edit(file)

    return harm


def replaced(name: str, values: object) -> Callable[[h5py.File], object]:
    """A channel with other samples, and what else the file says of it."""

    def edit(file: h5py.File) -> None:
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=values).attrs.update(attributes)

    return edit


def said(**attributes: object) -> Callable[[h5py.File], object]:
    return lambda file: file[STRAIN].attrs.update(attributes)


def gap(file: h5py.File) -> None:
    file[STRAIN][RATE * 8 : RATE * 12] = np.nan


def removed(name: str) -> Callable[[h5py.File], object]:
    return lambda file: file.__delitem__(name)


NOISE = np.random.default_rng(6).standard_normal(SECONDS * RATE)
# what the middle file holds instead; the line names what follows
INSIDE: dict[str, Callable[[h5py.File], object]] = {
    "a hole of NaN": gap,
    "all NaN": replaced(STRAIN, np.full(SECONDS * RATE, np.nan)),
    "infinite": replaced(STRAIN, np.full(SECONDS * RATE, np.inf)),
    "no strain": removed(STRAIN),
    "no samples": replaced(STRAIN, np.zeros(0)),
    "half the samples": replaced(STRAIN, NOISE[: SECONDS * RATE // 2]),
    "text for samples": replaced(STRAIN, np.array([b"a"] * 10)),
    "complex samples": replaced(STRAIN, NOISE * 1j),
    "two axes": replaced(STRAIN, NOISE.reshape(2, -1)),
    "another rate": said(dx=2 / RATE),
    "a rate of 0": said(dx=0.0),
    "a negative rate": said(dx=-1 / RATE),
    "a rate of NaN": said(dx=np.nan),
    "another start": said(x0=float(START + 1000)),
    "a start of NaN": said(x0=np.nan),
    "dead": replaced(STRAIN, np.zeros(SECONDS * RATE)),
}
# a table -> what the line names
TABLES: dict[str, tuple[bytes | str, str]] = {
    "empty": ("", "times.csv"),
    "a header alone": ("time,snr\n", "times.csv"),
    "NaN for a time": (f"time\n{TIMES[0]}\nnan\n", "row 2"),
    "infinite time": (f"time\n{TIMES[0]}\ninf\n", "row 2"),
    "text for a time": ("time\nyesterday\n", "yesterday"),
    "a date for a time": ("time\n2023-10-13T16:00:00\n", "2023-10-13T16:00:00"),
    "no times": ("frequency,snr\n100,8\n", "times.csv"),
    "text for an SNR": (f"time,snr\n{TIMES[0]},loud\n", "loud"),
    "binary": (bytes(range(256)), "times.csv"),
    "UTF-16": (f"time\n{TIMES[0]}\n".encode("utf-16"), "times.csv"),
    "ragged rows": (f"time,snr\n{TIMES[0]}\n{TIMES[1]},8,9,10\n", "times.csv"),
    "other separators": (f"time;snr\n{TIMES[0]};8\n", "times.csv"),
    "a page of an error": ("<html><body>404</body></html>\n", "times.csv"),
    "another detector's": (f"time,ifo\n{TIMES[0]},L1\n", "times.csv"),
    "negative times": ("time\n-5\n", "-"),
    "times elsewhere": ("time\n900000000\n", "899999997"),
    "enormous times": ("time\n1e300\n", "row 1"),
    "NUL bytes": (f"time\n{TIMES[0]}\n\0\0\0", "NUL"),
    "a column twice": (f"time,time\n{TIMES[0]},{TIMES[1]}\n", "column time more than once"),
    "times in ns": ("time\n1381161604000000000\n", "row 1"),
}
# an override, and what the line names
ASKED = {
    "ingest.times.file=nowhere.csv": "nowhere.csv",
    "ingest.times.file=frames": "frames",
    "ingest.times.where=[snr >> 8]": "ingest.times.where",
    "ingest.times.where=[nosuch > 8]": "ingest.times.where",
    "ingest.times.where=[snr > 80]": "12 rows",
    "ingest.times.time=nosuch": "ingest.times.time",
    "ingest.times.label=nosuch": "ingest.times.label",
    "ingest.times.format=nosuch": "times.csv",
    "ingest.times.cluster=-1": "ingest.times.cluster",
    "ingest.background=1000": "ingest.background",
    "ingest.segments=nowhere.txt": "nowhere.txt",
    "qplot.frange=[128,128]": "qplot.frange",
}


def table(content: bytes | str) -> Harm:
    content = content.encode() if isinstance(content, str) else content
    return lambda place: (place / "times.csv").write_bytes(content)


def harm_of(name: str, harm: Callable[[Path], object]) -> Harm:
    return lambda place: harm(place / "frames" / name)


# what is left of the others' events is made, and the file's are said to be missing
RECORDED = [
    *(
        Case(
            f"frames: {which} {harm.__name__}", INGEST, "could not be used", harm_of(name, harm), spares=True
        )
        for which, name in zip(("first", "middle", "last"), FRAMES)
        for harm in HARMS
        if harm is not a_directory
    ),
    *(
        Case(f"frames: {name}", INGEST, "could not be used", inside(edit), spares=True)
        for name, edit in INSIDE.items()
    ),
    *(Case(f"table: {name}", INGEST, named, table(content)) for name, (content, named) in TABLES.items()),
    *(Case(f"table: {item}", (*INGEST, item), named) for item, named in ASKED.items()),
]
