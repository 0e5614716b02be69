"""The sections of an experiment and their keys: default, meaning, unit and limits of each."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, PositiveInt, model_validator

from glitchflow.config.base import Channel, File, Range, Section, key
from glitchflow.config.recipes import Detector, Notebook


class Series(Section):
    """The stretch of time series behind each event."""

    duration: float = key(16.0, "length of the series around each event", "s", gt=0)
    sample_rate: float = key(512.0, "rate that every channel is simulated at or resampled to", "Hz", gt=0)

    @property
    def samples(self) -> int:
        """Returns the samples of a series."""
        return round(self.duration * self.sample_rate)


class Simulate(Section):
    """Says how many events are simulated, when, and by which recipe."""

    recipe: str = key("detector", "detector, notebook, or an import path package.module:function of your own")
    events: int = key(2500, "number of events", gt=0)
    start: float = key(1_400_000_000.0, "GPS time of the first event", "s")
    stride: float = key(64.0, "GPS time from one event to the next", "s", gt=0)
    detector: Detector = key(Detector(), "settings of the detector recipe")
    notebook: Notebook = key(Notebook(), "settings of the notebook recipe")
    options: dict[str, Any] = key({}, "settings of a recipe of your own")

    def time(self, index: int) -> float:
        """The GPS time of the centre of an event's series, in s."""
        return self.start + index * self.stride


class Derived(Section):
    """A function of recorded witnesses that joins them as one more channel."""

    name: Channel = key(..., "name of the new channel")
    function: Literal["scatter", "product"] = key(
        ..., "scatter: sine of 4 pi n x / wavelength; product: of a whitened one and a slow one"
    )
    channels: list[str] = key(..., "the witnesses it is computed from", min_length=1, max_length=2)
    phase: Literal["sin", "cos"] = key("sin", "scatter: quadrature")
    bounces: int = key(1, "scatter: reflections n", ge=1)
    wavelength: float = key(1.064, "scatter: laser wavelength, in the unit of the witness", "um", gt=0)
    lowpass: float = key(
        8.0,
        "corner of the low-pass on the (product: second) witness, which keeps sensor noise out",
        "Hz",
        gt=0,
    )
    gain: float = key(1.0, "factor on the result", gt=0)
    floor: float = key(0.1, "white noise added, as standard deviation: what the sensor cannot resolve", ge=0)

    @model_validator(mode="after")
    def _count(self) -> Self:
        wanted = {"scatter": 1, "product": 2}[self.function]
        if len(self.channels) != wanted:
            raise ValueError(f"channels: {self.function} takes {wanted}, not {len(self.channels)}")
        return self


class QPlot(Section):
    """Geometry of the Q-plots."""

    q: float | None = key(12.0, "Q of the one plane shown; null: the loudest plane in qrange")
    qrange: Range = key((4.0, 64.0), "range of Q searched where q is null")
    frange: Range = key((10.0, 200.0), "frequency band", "Hz")
    mismatch: float = key(0.2, "largest fractional mismatch between neighbouring tiles", gt=0, lt=1)
    shape: tuple[PositiveInt, PositiveInt] = key((64, 64), "pixels: (frequency, time)")
    log_frequency: bool = key(True, "rows spaced evenly in log frequency")
    window: Literal["fixed", "loudest"] = key(
        "fixed", "fixed: `span` seconds at the event's time; loudest: a crop at the strain's loudest pixel"
    )
    span: float = key(2.0, "length of the fixed window", "s", gt=0)
    tres: float = key(0.016, "loudest: time per pixel of the image that is cropped", "s", gt=0)
    fres: float = key(0.5, "loudest: frequency per pixel of the image that is cropped", "Hz", gt=0)
    select: Literal["strain", "channel"] = key(
        "strain", "where q is null: plane chosen by the strain, or per channel"
    )


class Whiten(Section):
    """How series are whitened before anything looks at them, in Q-plots and in every kind of twin."""

    asd: Literal["event", "dataset", "file", "none"] = key(
        "event",
        "by the ASD of each event, of quiet events of the dataset, of a file; none: data that are white already",
    )
    filter: Literal["zero_phase", "prediction"] = key(
        "zero_phase", "zero_phase: gwpy's FIR; prediction: causal, undone exactly"
    )
    length: float = key(
        2.0,
        "length of the filter (prediction: 0.25 unless given); half of it (prediction: all) is not shown at each end",
        "s",
        gt=0,
    )
    fftlength: float | None = key(
        None, "segment length of the ASD; null: gwpy's default for the rate", "s", gt=0
    )
    highpass: float | None = key(None, "zero_phase: high-pass corner of the filter", "Hz", gt=0)
    file: File = key("", "text: a column of Hz, then one of 1/sqrt(Hz) for all channels, or one for each")

    @property
    def given(self) -> bool:
        """Whether one ASD serves all events; a store keeps it."""
        return self.asd in ("dataset", "file")

    @property
    def settle(self) -> float:
        """Seconds at each end of a series that the filter spoils."""
        shares = {
            "zero_phase": 0.5,
            "prediction": 1.0,
        }  # a causal filter lacks its whole length, at the start
        return 0.0 if self.asd == "none" else shares[self.filter] * self.length

    @model_validator(mode="before")
    @classmethod
    def _length(cls, value: Any) -> Any:
        causal = isinstance(value, dict) and value.get("filter") == "prediction"
        return {"length": 0.25, **value} if causal else value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.asd == "file") != bool(self.file):
            raise ValueError(f"file: asd = {self.asd} takes {'one' if self.asd == 'file' else 'none'}")
        if self.filter == "prediction" and self.highpass:
            raise ValueError(f"highpass = {self.highpass:g}: filter = prediction has none")
        return self


def _kept(value: Any) -> Any:
    """YAML's true and false of `store.series`."""
    return {True: "float32", False: "none"}[value] if isinstance(value, bool) else value


class Store(Section):
    path: File = key("", "where the dataset goes, a path or s3://bucket/...; empty: workdir/dataset.zarr")
    compression: Literal["none", "zstd"] = key("none", "compression of the arrays")
    chunk_mb: float = key(2.0, "size of a chunk of `qplot`, the unit of reading", "MiB", gt=0)
    shard_mb: float = key(64.0, "size of a shard over all arrays, the unit of writing", "MiB", gt=0)
    qplot: Literal["float32", "float16"] = key(
        "float32", "energies in this precision; float16: log(1 + energy) of them, in half the bytes"
    )
    series: Annotated[Literal["none", "float32", "float64"], BeforeValidator(_kept)] = key(
        "none", "keep the time series beside the Q-plots, in this precision; true is float32"
    )
    transients: bool = key(
        False,
        "simulated: keep what the transients alone put into the strain: a generative twin then learns from that",
    )
    quota_gb: float | None = key(None, "`plan` warns of a dataset beyond this size", "GB", gt=0)
    quota_files: int | None = key(None, "`plan` warns of more files and directories than this", gt=0)


class Generate(Section):
    """Says where `generate` and `ingest` make Q-plots."""

    device: Literal["auto", "cpu", "gpu"] = key(
        "cpu",
        "what Q-plots are made on; auto: GPUs where the cluster has them. A GPU's agree with a CPU's within rounding,"
        " not to the last bit",
    )


class Split(Section):
    """Shares events among train, validation and test."""

    validation: float = key(0.1, "share of events for validation", ge=0, lt=1)
    test: float = key(0.15, "share of events for testing", ge=0, lt=1)
    order: Literal["time", "blocks"] = key(
        "time",
        "recorded data; time: the first train, the last test; blocks: blocks of time in a random order",
    )
    guard: float | None = key(
        None,
        "events within so much before one of another split are in none; null: series.duration",
        "s",
        ge=0,
    )
    block: float = key(256.0, "blocks: neighbours inside a block of this length share a split", "s", gt=0)
    groups: list[tuple[float, float, Literal["train", "validation", "test"]]] = key(
        [],
        "recorded data: [GPS start, stop, split] of pieces of time, in place of shares; the rest is in none",
        "s",
    )

    @model_validator(mode="after")
    def _sum(self) -> Self:
        for start, stop, name in self.groups:
            if stop <= start:
                raise ValueError(
                    f"groups = [{start:g}, {stop:g}, {name}]: must be [start, stop, split], start < stop"
                )
        for before, after in pairwise(sorted(self.groups)):
            if after[0] < before[1] and after[2] != before[2]:
                raise ValueError(
                    f"groups: [{before[0]:g}, {before[1]:g}, {before[2]}] and [{after[0]:g}, {after[1]:g}, {after[2]}]:"
                    " must not overlap, or samples would be in two splits"
                )
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test = {self.validation + self.test:g} leaves nothing to train on"
            )
        return self


class Cluster(Section):
    """Says which Ray runs the tasks."""

    address: str = key("", "running Ray cluster; empty: RAY_ADDRESS, else an embedded local Ray")
    cpus: int | None = key(None, "CPUs of the embedded Ray; null: those this process may use", gt=0)
    tasks_per_gpu: int = key(
        16,
        "tasks that share a GPU, of stages that use one, but no more than there are CPUs for each: every task has work"
        " for a core too",
        gt=0,
    )
