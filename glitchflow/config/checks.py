"""Settings of different sections that contradict each other.

Each check raises ValueError("key = value: what is allowed").
"""

import difflib
import math

from glitchflow.config.families import LINEAR, SHOWN
from glitchflow.config.recipes import Detector
from glitchflow.config.recorded import Ingest
from glitchflow.config.sections import Derived, QPlot, Series, Simulate, Whiten
from glitchflow.config.training import Loader, Train

# standard deviations of a burst of motion that a series is long: at its ends 1e-2 of the sensor's noise are left, where
# eight leave twice that noise
WHOLE = 10
TOLD = 12  # names that a message lists: of more, those most like the one that is wrong


def band(qplot: QPlot, series: Series) -> None:
    """The Q-plot's band and Q exist at this rate."""
    low, high = qplot.frange
    nyquist = series.sample_rate / 2
    if not 0 < low < high:
        raise ValueError(f"qplot.frange = [{low:g}, {high:g}]: must be 0 < low < high, in Hz")
    if high > nyquist:
        raise ValueError(
            f"qplot.frange = [{low:g}, {high:g}]: beyond {nyquist:g} Hz, half of series.sample_rate"
            f" = {series.sample_rate:g}"
        )
    name, smallest = ("qplot.qrange", qplot.qrange[0]) if qplot.q is None else ("qplot.q", qplot.q)
    if smallest < 11**0.5:  # below it gwpy's windows would reach beyond zero frequency
        raise ValueError(f"{name} = {smallest:g}: Q must be at least sqrt(11) = 3.317")


def window(qplot: QPlot, series: Series, whiten: Whiten) -> None:
    """The window fits into what whitening leaves of a series, and that is a whole number of samples."""
    usable = series.duration - 2 * whiten.settle
    if qplot.window == "fixed" and qplot.span > usable:
        raise ValueError(
            f"qplot.span = {qplot.span:g}: longer than the {usable:g} s that series.duration ="
            f" {series.duration:g} leaves after whiten.length = {whiten.length:g}"
        )
    # a store keeps ASDs all the same; whoever whitens by one is told by the Q-transform
    segment = whiten.fftlength or max(2, math.ceil(2048 / series.sample_rate))  # gwpy's
    if whiten.asd == "none" and segment > series.duration:
        told = "null" if whiten.fftlength is None else f"{whiten.fftlength:g}"
        raise ValueError(
            f"whiten.fftlength = {told}: segments of {segment:g} s are longer than series.duration ="
            f" {series.duration:g}, of which there is no ASD"
        )
    if whiten.highpass and whiten.highpass >= series.sample_rate / 2:
        raise ValueError(
            f"whiten.highpass = {whiten.highpass:g}: must lie below {series.sample_rate / 2:g} Hz, half of"
            f" series.sample_rate = {series.sample_rate:g}"
        )
    if abs(series.samples - series.duration * series.sample_rate) > 1e-6:
        raise ValueError(
            f"series.duration = {series.duration:g}: must be a whole number of samples at {series.sample_rate:g} Hz"
        )


def transients(simulate: Simulate, qplot: QPlot, series: Series) -> None:
    """Every family that is simulated can be seen: in the Q-plot's band, and inside its window."""
    low, high = qplot.frange
    bands = {}
    if simulate.recipe == "notebook" and not simulate.notebook.out_of_band:
        bands["simulate.notebook.frequency"] = simulate.notebook.frequency
    if simulate.recipe == "detector":
        where = "simulate.detector.families"
        bands = {
            f"{where}.{name}.{key}": getattr(settings, key)
            for name, settings in simulate.detector.families
            for key, info in type(settings).model_fields.items()
            if settings.weight and SHOWN in info.metadata
        }
    for name, reached in bands.items():
        if not low <= reached[0] <= reached[1] <= high:
            raise ValueError(
                f"{name} = [{reached[0]:g}, {reached[1]:g}]: must lie inside qplot.frange = [{low:g}, {high:g}]:"
                " no Q-plot shows the rest"
            )
    if simulate.recipe == "detector" and simulate.detector.timeline:
        _timeline(simulate, qplot, series)
    if simulate.recipe == "detector" and simulate.detector.coupling.taps > series.samples:
        raise ValueError(
            f"simulate.detector.coupling.taps = {simulate.detector.coupling.taps}: longer than the {series.samples}"
            " samples of a series, which would cut it off"
        )
    jitter = simulate.detector.jitter if simulate.recipe == "detector" else 0.0
    if qplot.window == "fixed" and 2 * jitter > qplot.span:
        raise ValueError(
            f"simulate.detector.jitter = {jitter:g}: would put transients outside qplot.span = {qplot.span:g}"
        )


def _timeline(simulate: Simulate, qplot: QPlot, series: Series) -> None:
    """Events of a detector with a time line lie on its seconds, and what their images show gives them their label."""
    for name in ("start", "stride"):
        value = getattr(simulate, name)
        if value != round(value):
            raise ValueError(
                f"simulate.{name} = {value}: must be whole seconds where transients come at any time"
            )
    window = simulate.detector.window
    if qplot.window == "fixed" and window < qplot.span:
        raise ValueError(
            f"simulate.detector.window = {window:g}: shorter than qplot.span = {qplot.span:g}, which would show"
            " transients without a label"
        )
    light = simulate.detector.families.scattered_light
    if simulate.detector.rate and light.weight and series.duration < WHOLE * light.length[1]:
        raise ValueError(
            f"series.duration = {series.duration:g}: must be at least {WHOLE * light.length[1]:g} s where transients"
            f" come at any time: {WHOLE} times the greatest simulate.detector.families.scattered_light.length, or"
            " motions begin with a step"
        )


def channels(ingest: Ingest, simulate: Simulate, derived: list[Derived], witnesses: list[str] | str) -> None:
    """Channels that are named exist, once each; `witnesses`: those of `loader.witnesses`."""
    if ingest.series_from and not ingest.channels:
        return  # that store knows its channels
    where, names = _names(ingest, simulate)
    if not names:
        return  # a recipe of a user's own
    for item in derived:
        for channel in item.channels:
            _known("derived.channels", channel, names[1:], where)
        names.append(item.name)
    if len(set(names)) != len(names):
        raise ValueError(f"{where}: channel names must differ: {', '.join(names)}")
    for key, chosen in (("loader.witnesses", witnesses), ("ingest.witnesses", ingest.witnesses)):
        for name in chosen if isinstance(chosen, list) else ():  # a file that is not there yet names none
            _known(key, name, names[1:], where)
    if ingest.witnesses and (ingest.series_from or ingest.qplots_from):
        raise ValueError(
            "ingest.witnesses: chooses among the files of ingest.channels; of a store's channels, loader.witnesses does"
        )
    if ingest.labels and len(ingest.labels) != len(ingest.times.gps):
        raise ValueError(f"ingest.labels: {len(ingest.labels)} for {len(ingest.times.gps)} ingest.times")


def _names(ingest: Ingest, simulate: Simulate) -> tuple[str, list[str]]:
    """The section that says which channels there are, and their names, strain first."""
    if ingest.channels:
        return "ingest.channels", [source.name for source in ingest.channels]
    if simulate.recipe == "detector":
        return "simulate.detector", [simulate.detector.strain, *simulate.detector.names]
    if simulate.recipe == "notebook":
        return "simulate.notebook", [simulate.notebook.strain, *simulate.notebook.names]
    return "", []


def detector(detector: Detector) -> None:
    """The witnesses that families name exist, once each, and no family counts as witnessed that nothing sees."""
    where, families = "simulate.detector.families", detector.families
    names = [detector.strain, *detector.names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"simulate.detector: channel names must differ: {', '.join(twice)}")
    if detector.background < 1 and not any(family.weight for _, family in families):
        raise ValueError(f"{where}: every weight is 0; set one, or simulate.detector.background=1")
    if families.scattered_light.weight:
        name = families.scattered_light.witness
        _known(f"{where}.scattered_light.witness", name, detector.names, "simulate.detector")
    _hard(detector)
    for family, settings in families:
        if not settings.weight or not hasattr(settings, "witnesses"):
            continue
        for name in settings.witnesses:
            _known(f"{where}.{family}.witnesses", name, detector.names, "simulate.detector")
        if not detector.seeing(family):
            raise ValueError(
                f"{where}.{family}.witnesses = []: means all but those of slow motions, and"
                " simulate.detector.witnesses has no other"
            )
    _apart(detector)


def _hard(detector: Detector) -> None:
    """What subsystems name exists."""
    where, every = "simulate.detector", detector.every
    for key, names in (
        ("only", detector.only),
        ("unsafe", [detector.unsafe] if detector.unsafe else []),
        ("faults.dead", detector.faults.dead),
    ):
        for name in names:
            _known(f"{where}.{key}", name, every, where)
    for one in detector.subsystems:
        for name in one.hears:
            if name not in LINEAR:
                raise ValueError(
                    f"{where}.subsystems.{one.name}.hears = {name}: not a family that witnesses see linearly;"
                    f" there are: {', '.join(LINEAR)}"
                )
    if detector.rate and not any(family.weight for _, family in detector.families):
        raise ValueError(f"{where}.rate = {detector.rate:g}: every weight of {where}.families is 0; set one")


def _apart(detector: Detector) -> None:
    """What a family's draws must not mix up."""
    where, families = "simulate.detector.families", detector.families
    vibration, swing = families.bilinear.witnesses
    if families.bilinear.weight and (vibration in detector.slow or swing == families.scattered_light.witness):
        raise ValueError(
            f"{where}.bilinear.witnesses = [{vibration}, {swing}]: must be two, and neither that of scattered light"
        )
    low, high = families.whistle.low, families.whistle.high
    if families.whistle.weight and low[1] >= high[0]:
        raise ValueError(
            f"{where}.whistle.low = [{low[0]:g}, {low[1]:g}]: must lie below whistle.high = [{high[0]:g}, {high[1]:g}]"
        )


def _known(where: str, name: str, names: list[str], source: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, TOLD)
        told = names if len(names) <= TOLD else [*(near or names[:TOLD]), f"... ({len(names)})"]
        raise ValueError(
            f"{where} = {name}: not a witness of {source}; there are: {', '.join(told) or 'none'}"
        )


def batches(loader: Loader, train: Train) -> None:
    """Each lane gives as much to a batch, and each worker serves whole lanes."""
    key, most = ("batch", loader.batch) if loader.lanes is None else ("lanes", loader.lanes)
    if train.range[1] > most:
        raise ValueError(f"train.workers = {train.workers}: must be at most loader.{key} = {most}")
    if loader.lanes and loader.batch % loader.lanes:
        raise ValueError(
            f"loader.batch = {loader.batch}: must be a multiple of loader.lanes = {loader.lanes}"
        )
