"""The sections that a trained twin's stages read: what is scanned, generated, scored, cleaned and shown."""

from typing import Literal

from glitchflow.config.base import Checkpoint, Families, File, Local, Positive, Range, Section, key


class Infer(Section):
    """Says which network `infer` runs, and how."""

    checkpoint: Checkpoint = key(
        "best",
        "best, last, initial (untrained), or a path: a checkpoint directory, or another run's workdir;"
        " or models:/NAME/VERSION, as the MLflow server at mlflow.uri keeps it",
    )
    untrained: bool = key(True, "also store what the network generated before training, for comparison")
    train: bool = key(
        True,
        "also the train split, which no score looks at and `clean.split=all` cleans; most of the time goes there",
    )
    batch: int = key(64, "events per forward pass", gt=0)
    precision: Literal["float32", "tf32", "bfloat16"] = key(
        "float32", "of the network, also where `evaluate` asks it without a witness; as train.precision"
    )
    compile: bool = key(False, "torch.compile the network, of images, there too: once for each process")


class Sample(Section):
    """Says which glitches are drawn from a generative twin."""

    family: Families = key([], "families that are drawn; empty: all, as often as the twin saw them")
    count: int = key(1000, "glitches that are drawn", gt=0)
    draws: int = key(16, "posterior twins: draws for each event of the test split, in place of `count`", gt=0)
    snr: Positive | None = key(None, "SNRs, drawn log-uniformly from [low, high]; null: as the twin saw them")
    seed: int | None = key(None, "other draws; null: the experiment's", ge=0)
    guidance: float = key(
        1.0,
        "times that a family is followed beyond what is common to all; another than 1 draws another distribution",
    )
    path: Local = key("", "where they go; empty: workdir/samples.zarr")
    into: list[float] = key(
        [],
        "GPS times at which the first draws are put into the strain of ingest.channels: workdir/injected,"
        " as clean.format says",
        "s",
    )


class Evaluate(Section):
    """Says which events are scored, at which thresholds, and how sure of what."""

    split: Literal["test", "all"] = key(
        "test", "events that are scored; all: every usable one of a store that the network was not trained on"
    )
    thresholds: list[float] = key(
        [float(s) for s in range(1, 51)], "energies s of clusters and vetoes", min_length=1
    )
    veto: float = key(
        16.0, "energy s at which events are vetoed, in the table of events, ROC and attribution", gt=0
    )
    area: float = key(0.5, "smallest area of a cluster", "s Hz", ge=0)
    quiet: float = key(64.0, "quiet time that stands beside each glitch in `residual`", "s", gt=0)
    band: Range | None = key(
        None, "band in which the power that is left of recorded data is measured; null: qplot.frange", "Hz"
    )
    segment: float | None = key(
        None,
        "length of a Wiener filter, and of the segments it is fitted to; null: ten periods of the lowest frequency of"
        " qplot.frange, and no longer than qplot.span",
        "s",
        gt=0,
    )
    beside: list[str] = key(
        [], "workdirs of other runs, whose networks are scored too: their predictions of this store"
    )
    methods: list[str] = key(
        [], "methods of your own that are compared too: import paths package.module:function of what fits one"
    )
    bootstrap: int = key(1000, "resamples behind each interval", gt=0)
    attribute: int = key(2000, "vetoes at most whose witnesses are left out one by one; 0: none", ge=0)
    groups: dict[str, list[str]] = key(
        {}, "witnesses left out together, by name; empty: each with the channels derived from it"
    )
    truth: File = key(
        "",
        "frames/truth of the `stretch` that the windows are of: what is done to it, by `clean` too, is measured by it;"
        " empty: none",
    )
    drift: float = key(
        0.001,
        "share of the training's events beyond each end of the range a witness is trusted in",
        ge=0,
        lt=0.5,
    )


class Baseline(Section):
    """Says what a dataset is judged by before training."""

    refuse: bool = key(
        True, "train refuses a dataset where the oracle is not clearly better than blind baselines"
    )


class Scan(Section):
    """Says what counts as a coincidence, and how its chance is found."""

    source: Literal["auto", "qplot", "series", "files"] = key(
        "auto",
        "qplot or series of the dataset, or the files of `ingest`; auto: qplot where there is a dataset, else files",
    )
    threshold: float = key(16.0, "normalised energy of a peak", gt=0)
    time_tolerance: float = key(0.1, "largest distance in time of peaks that coincide", "s", ge=0)
    frequency_tolerance: float = key(
        0.1, "largest distance in frequency of peaks that coincide, as a share of the frequency", ge=0, lt=1
    )
    alpha: float = key(0.01, "largest chance that the channels chosen hold a false one", gt=0, lt=1)
    block: int = key(32, "neighbouring events among which witnesses are shifted", gt=1)
    draws: int = key(10_000, "draws of shifts behind each p-value; more where there are many channels", gt=0)
    bootstrap: int = key(1000, "resamples behind each interval", gt=0)
    signals: list[str] = key(
        ["chirp", "blip"],
        "families that are signals, injected in the hardware or simulated: a witness that shows them is unsafe",
    )


class Clean(Section):
    """Says what is subtracted from which events, and how it is written."""

    threshold: float = key(
        16.0, "generated energy from which a pixel is subtracted; below, the strain stays as it is", gt=0
    )
    method: str = key(
        "network",
        "what is subtracted: the network's, or that of a method that `evaluate` compares, as wiener_robust",
    )
    split: Literal["all", "train", "validation", "test"] = key("all", "events that are cleaned and vetoed")
    block: float = key(2.0, "a coherent twin: samples of the time line that are treated at once", "s", gt=0)
    settle: float = key(
        1.0,
        "a coherent twin: what it has to see of the time after a block before it says what to remove",
        "s",
        ge=0,
    )
    format: Literal["", "gwf", "hdf5"] = key(
        "", "of the cleaned strain; empty: GWF where it was read from GWF"
    )
    groups: bool = key(
        False,
        "a coherent twin: of each group of `evaluate.groups`, and of OTHER witnesses, what it puts into NAME_NOISE is a"
        " channel too",
    )


class Online(Section):
    """Says which frames `watch` follows, how soon it answers, and for how long what it writes is kept."""

    source: File = key("", "directory in which the frames appear, of all of `ingest.channels`")
    block: float = key(0.25, "samples of the time line that are treated at once", "s", gt=0)
    settle: float = key(
        0.25,
        "what the twin has to see of the time after a block before it says what to remove",
        "s",
        ge=0,
    )
    wait: float = key(10.0, "how long what is late, missing or damaged is waited for", "s", ge=0)
    keep: float = key(24.0, "how long the cleaned frames are kept", "h", gt=0)
    format: Literal["gwf", "hdf5"] = key("gwf", "of the cleaned frames; gwf needs the extra [gwf]")
    next: File = key(
        "",
        "a run's directory, or a checkpoint, whose best one runs in shadow where it is another; empty: none",
    )
    better: float | None = key(
        None,
        "share by which the power that it leaves has to be lower over ten minutes for it to take over; null: by hand",
        ge=0,
        lt=1,
    )
    port: int = key(0, "of /metrics, /healthz and a page on 127.0.0.1; 0: none", ge=0, lt=65536)


class Veto(Section):
    """Segments around the clusters that are vetoed; `evaluate.veto` and `evaluate.area` say which those are."""

    padding: float = key(0.05, "added at each end of a veto segment", "s", ge=0)
    minimum: float = key(0.1, "shorter veto segments are widened to this", "s", ge=0)
    tag: str = key("GLITCHFLOW-VETO", "name of the flag, between detector and version", pattern=r"^[^:/]+$")
    version: int = key(1, "version of the flag", ge=1)


class Harm(Section):
    """Compact-binary signals that `evaluate` injects in the strain alone, to see what cleaning leaves of them."""

    signals: int = key(
        1000, "signals injected on glitches at least, and as many in quiet events; 0: none", ge=0
    )
    mass: Positive = key((8.0, 30.0), "chirp mass of two equal masses, drawn log-uniformly", "solar masses")
    snr: Positive = key((8.0, 30.0), "matched-filter SNR, drawn log-uniformly")
    start: float = key(15.0, "frequency at which the inspiral fades in", "Hz", gt=0)
    reach: float = key(0.3, "largest distance of the coalescence from the window's centre", "s", ge=0)
    thresholds: list[float] = key(
        [], "values of clean.threshold to try on the validation split, for choosing one"
    )


class Report(Section):
    """Says how much of a run the page shows."""

    gallery: int = key(3, "events drawn per family", ge=1)
    figures: int = key(
        300, "most telling events whose figures are in the page: best, worst, missed, false", ge=0
    )
    events: int = key(100_000, "events listed at most; those of the test split come first", gt=0)
