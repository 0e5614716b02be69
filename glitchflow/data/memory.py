"""The memory that a task is projected to hold, as a sum that one can read, and what is refused for it.

Everything is known before anything is made: from the configuration, or from what a store says of itself.

Shapes: C channel, R recorded channel, F frequency, T time, N sample.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from glitchflow.cluster import available_memory
from glitchflow.data.build import BASE_MEMORY, MIB
from glitchflow.data.content import Content
from glitchflow.data.shard_events import block_events
from glitchflow.data.store import Array, Dataset, Layout
from glitchflow.data.store.array import AT_ONCE
from glitchflow.data.store.half import HALF
from glitchflow.errors import InputError
from glitchflow.signal.recorded.recording import RAW, STRETCH

# copies of an array that Zarr holds while it writes a shard: its chunks, and the shard they become
ENCODING = 2
ZARRS = 3  # and while it reads: the object's bytes, the shard that they become, and what it returns
TRANSFORM = 60 * MIB  # what the Q-transform holds of a piece, of a few channels where there are many
MEASURE = 3  # float64 images: clamped, logarithm, its square
MARKER = 1024  # bytes that a driver holds of a shard
EVENT = 24  # bytes that it keeps of an event, beside its channels' columns
LISTED = 300  # and of a recorded one: its place in the list of events, and its line of it in the store


@dataclass(frozen=True)
class Memory:
    """Bytes, by what holds them."""

    parts: Mapping[str, int]

    @cached_property
    def total(self) -> int:
        """The sum."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        told = ((words, size) for words, size in self.parts.items() if size >= MIB)
        return f"{self.total / MIB:,.0f} MiB = " + " + ".join(f"{w} {s / MIB:,.0f}" for w, s in told)


@dataclass(frozen=True)
class Shape:
    """What a dataset is like, as far as memory goes."""

    channels: int
    image: int  # F x T
    samples: int
    events: int
    chunk: int  # events
    shard: int
    recorded: int  # channels whose series are kept
    arrays: Mapping[str, int]  # bytes of an event
    apart: bool  # whether each channel has chunks of its own
    half: frozenset[str] = frozenset()  # the arrays that are kept in half the bytes that are read of them

    @classmethod
    def of(cls, content: Content, arrays: Mapping[str, Array], layout: Layout) -> "Shape":
        """Of a dataset that is to be made."""
        channels, *image = arrays["qplot"].shape
        sizes = {name: array.read_bytes for name, array in arrays.items()}
        shard = min(layout.shard, layout.events)
        apart = arrays["qplot"].apart
        recorded = channels - len(content.derived)
        pixels, samples = image[0] * image[1], content.series.samples
        half = frozenset(name for name, array in arrays.items() if array.dtype == HALF)
        return cls(
            channels, pixels, samples, layout.events, layout.chunk, shard, recorded, sizes, apart, half
        )

    @classmethod
    def stored(cls, dataset: Dataset) -> "Shape":
        """Of one that is there."""
        sizes = {name: dataset[name].nbytes // len(dataset) for name in dataset.known.arrays}
        _, channels, f, t = dataset["qplot"].shape
        shard = min(dataset.layout.shard, len(dataset))
        recorded, apart = len(dataset.recorded_channels), dataset["qplot"].apart
        layout, samples = dataset.layout, dataset.config.series.samples
        half = frozenset(name for name in sizes if dataset[name].array.dtype == HALF)
        return cls(channels, f * t, samples, layout.events, layout.chunk, shard, recorded, sizes, apart, half)

    @property
    def kept_samples(self) -> int:
        """Samples of a channel's series; 0 where a dataset keeps none."""
        return self.samples if "series" in self.arrays else 0

    def part(self, name: str) -> int:
        """Numbers of one channel of an event in an array."""
        return self.samples if name == "series" else self.image

    def read(self, name: str, channels: int) -> int:
        """Bytes that it takes to read some channels of a shard: all are, where they are not apart, and compared with a
        checksum whole. What is kept in half the bytes is there twice while float32 is made of it."""
        few = self.apart and channels < self._all(name)
        some = self.shard * (self._some(name, channels) if few else self.arrays[name])
        if name in self.half:
            return 2 * some
        return some + ZARRS * min(some, AT_ONCE) if few else ZARRS * some

    def block(self, name: str, channels: int) -> int:
        """Bytes of an event as it is read with its neighbours: with all channels, where they are not apart."""
        return self._some(name, channels) if self.apart else self.arrays[name]

    def _some(self, name: str, channels: int) -> int:
        return self.arrays[name] * min(channels, self._all(name)) // self._all(name)

    def _all(self, name: str) -> int:
        return self.recorded if name == "series" else self.channels


def making(shape: Shape, recorded: bool = False, gpu: bool = False) -> Memory:
    """Of a task that makes a shard: its arrays, and the block at work or, when all are made, Zarr's encoding of the
    largest array, whichever is larger.

    recorded: whether it reads files, of which it keeps a stretch of time, what was decoded last, and what is at work;
    no more than its events last, at the dataset's rate. gpu: whether Q-plots are made on one.
    """
    arrays = [shape.shard * size for size in shape.arrays.values()]
    series = 8 * shape.channels * shape.samples
    whole = shape.shard * series
    block = min(block_events(shape.channels, shape.samples, gpu), shape.shard)
    at_work = {
        "series at work": (1 + (block > 1)) * block * series,  # one event's are not stacked
        "Q-transform": 0 if gpu else TRANSFORM,
        "images at work": MEASURE * 8 * block * shape.channels * shape.image,
    }
    encoding = {"its encoding": ENCODING * max(arrays)}
    return Memory(
        {
            "Python and libraries": BASE_MEMORY,
            "the recording": max(series, min(STRETCH, whole)) + 2 * min(RAW, whole) if recorded else 0,
            "the shard": sum(arrays),
            **(at_work if sum(at_work.values()) > sum(encoding.values()) else encoding),
        }
    )


def refuse_oversize(content: Content) -> None:
    """Raise `InputError` for what no machine like this one can make, before anything of it is built: the driver makes
    the first event itself, and holds what is kept of each.

    It looks at the largest parts alone, each by the key that it follows from.
    """
    channels, (f, t), qplot = channels_at_least(content), content.qplot.shape, content.qplot
    samples = content.series.duration * content.series.sample_rate
    pixels = f * t
    if qplot.window == "loudest":  # the image that crops are cut from
        low, high = qplot.frange
        pixels += int((high - low) / qplot.fres * content.series.duration / qplot.tres)
    there = available_memory()
    for key, value, what, size in (
        ("series.duration", f"{content.series.duration:g}", "an event's series", 24 * channels * samples),
        ("qplot.shape", f"{[f, t]}", "an event's images", 4 * (1 + MEASURE) * channels * pixels),
        *_counted(content, channels),
    ):
        if size > there - BASE_MEMORY:
            raise InputError(
                f"{key} = {value}: {what} would take {size / 2**30:,.0f} GiB, and this machine has"
                f" {there / 2**30:,.0f} GiB"
            )


def _counted(content: Content, channels: int) -> Iterator[tuple[str, str, str, float]]:
    """What the driver keeps of events, by the key that says how many: the key, its value, what is kept, its bytes."""
    each, recorded = EVENT + 5 * channels, LISTED + EVENT + 5 * channels
    if content.source == "simulate":
        events = content.simulate.events
        yield "simulate.events", f"{events:g}", "what the driver keeps of them", each * events
    if content.reads_files:
        times, background = content.ingest.times, content.ingest.background
        yield "ingest.background", f"{background:g}", "what the driver keeps of them", recorded * background
        if times.start is not None and times.end is not None:
            windows = (times.end - times.start) / (times.stride or content.qplot.span)
            yield "ingest.times.end", f"{times.end:g}", f"a list of {windows:.2g} windows", recorded * windows


def channels_at_least(content: Content) -> int:
    """How many channels there are, at least: before a file is looked at."""
    detector, notebook = content.simulate.detector, content.simulate.notebook
    if content.source == "ingest":
        wanted, there = content.ingest.witnesses, content.ingest.channels
        return max(2, len(wanted if wanted and isinstance(wanted, list) else there)) + len(content.derived)
    names = {"detector": detector.names, "notebook": notebook.names}.get(content.simulate.recipe, [""])
    return 1 + len(names) + len(content.derived)
