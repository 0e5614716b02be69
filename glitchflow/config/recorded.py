"""The section `ingest` and those inside it: which recorded data are read, and when."""

from typing import Any, Self

from pydantic import model_validator

from glitchflow.config.base import Channel, File, Files, Names, Range, Section, key


class Source(Section):
    """One recorded channel."""

    name: Channel = key(..., "channel name in the store and, unless `channel` says otherwise, in the files")
    files: list[File] = key(..., "HDF5 or GWF files, or glob patterns", min_length=1)
    channel: str = key("", "channel (GWF) or dataset (HDF5) inside the files; empty: `name`")
    format: str = key("", "gwpy's name of the file format, as hdf5.gwosc; empty: as gwpy guesses")


class Times(Section):
    """When to look: a list, a trigger table, or a stretch to slide over; a plain list in YAML is `gps`."""

    gps: list[float] = key([], "GPS times of the events", "s")
    file: Files = key(
        [],
        "trigger tables, or glob patterns, or caches of them: CSV (Gravity Spy), HDF5, ROOT, LIGO_LW (Omicron) ...,"
        " read by gwpy",
    )
    format: str = key("", "gwpy's name of the table's format; empty: as gwpy guesses")
    table: str = key(
        "", "the table inside the file: LIGO_LW tablename, HDF5 path, ROOT treename; empty: the usual"
    )
    time: str = key("", "the table's column of GPS times; empty: the usual names")
    label: str = key("", "the table's column of families; empty: the usual names")
    snr: str = key("", "the table's column of SNRs; empty: the usual names")
    where: list[str] = key([], "conditions on the table's columns, as `snr > 10`, `frequency < 100`")
    cluster: float | None = key(
        None,
        "tables: of rows that follow each other within so much, take the one of the greatest SNR",
        "s",
        gt=0,
    )
    start: float | None = key(None, "stretch: GPS time of its begin", "s")
    end: float | None = key(None, "stretch: GPS time of its end", "s")
    stride: float | None = key(None, "stretch: from one window to the next; null: qplot.span", "s", gt=0)

    @model_validator(mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return {"gps": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.gps) + bool(self.file) + (self.start is not None or self.end is not None) > 1:
            raise ValueError(
                "give a list, or a file, or a start and an end, not several; on the command line"
                " ingest.times=[...] or ingest.times={...} takes the place of all that the file says"
            )
        if (self.start is None) != (self.end is None):
            raise ValueError("a stretch takes both start and end")
        return self


class Segments(Section):
    """Stretches of time; in YAML a plain list is `gps`, a plain text is `file`."""

    gps: list[Range] = key([], "[start, stop] of each, GPS times", "s")
    file: File = key("", "DataQualityFlag file (HDF5, JSON, LIGO_LW XML) or list of segments, read by gwpy")
    channel: str = key(
        "", "state channel in the strain's files, as SIM:GLITCHFLOW_STATE; GWOSC's is quality/simple/DQmask"
    )
    bits: list[int | str] = key(
        [0], "bits of the state channel that are all set then, GWOSC's by name as CBC_CAT3", min_length=1
    )

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return (
            {"gps": value}
            if isinstance(value, list)
            else {"file": value}
            if isinstance(value, str)
            else value
        )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if bool(self.gps) + bool(self.file) + bool(self.channel) > 1:
            raise ValueError("give a list, or a file, or a channel, not several")
        if not all(isinstance(bit, str) or 0 <= bit < 63 for bit in self.bits):
            raise ValueError(f"bits = {self.bits}: must be 0 to 62, or names")
        return self

    @property
    def given(self) -> bool:
        """Whether any were given; a file may hold none."""
        return bool(self.gps or self.file or self.channel)


class Ingest(Section):
    """Says what is read of recorded data, and at which times."""

    channels: list[Source] = key([], "the strain first, then the witnesses")
    witnesses: Names = key(
        [],
        "those of `channels`, and of `derived`, to take: names, or a file of them as `scan` writes; empty: all",
    )
    times: Times = key(Times(), "the events")
    labels: list[str] = key([], "family of each event of a plain list; empty: all `recorded`")
    background: int = key(0, "quiet times added to the events, labelled `background`", ge=0)
    quiet: float = key(16.0, "smallest distance of a quiet time from every event", "s", ge=0)
    segments: Segments = key(Segments(), "science-mode time: windows that reach out of it are not made")
    leave_out: Segments = key(Segments(), "time of which no window is made, within `segments` or anywhere")
    series_from: File = key(
        "", "path of a store with `series`: make its Q-plots anew instead of reading files"
    )
    qplots_from: File = key("", "HDF5 file of ready Q-plots (event, channel, time, frequency), strain first")
    qplots_dataset: str = key("virgo_dataset", "the dataset in that file")
