"""What a task of each stage, and each process that works by itself, is projected to hold, by name; and a refusal of
what this machine has not.

Nothing is made for it: it follows from the configuration, and from what is known of a dataset before there is one.
"""

from collections.abc import Mapping, Sequence

from glitchflow.analysis.clean import memory as cleaning
from glitchflow.analysis.clean.memory import longest_file, sampled
from glitchflow.analysis.evaluate.stretch import on_a_stretch
from glitchflow.analysis.given import drawing as drawing_given
from glitchflow.analysis.infer import predicting
from glitchflow.analysis.sample import drawing
from glitchflow.analysis.scan import surveying
from glitchflow.cluster import available_memory
from glitchflow.config import Experiment
from glitchflow.data.content import Content
from glitchflow.data.loader import choose_channels
from glitchflow.data.memory import Memory, Shape, making
from glitchflow.data.stretch import framing
from glitchflow.device import in_halves
from glitchflow.errors import InputError
from glitchflow.methods.compare import lengths
from glitchflow.methods.memory import fitting, scoring
from glitchflow.methods.table import METHODS, NETWORK
from glitchflow.online.memory import Kept, keeping, watching
from glitchflow.signal.simulation.stretch import channel_rates
from glitchflow.train.memory import learning
from glitchflow.twin import kinds
from glitchflow.twin.kind import Needs

WORKER = "a worker of train"

# the key that makes it smaller, by the stage
SMALLER = {
    "generate": "store.shard_mb",
    "ingest": "store.shard_mb",
    "scan": "scan.block",
    "baseline, evaluate": "store.shard_mb",
    "evaluate's stretch": "store.shard_mb",
    "evaluate's driver": "loader.witnesses (what `scan` has chosen)",
    "infer": "infer.batch",
    "sample": "qplot.span, or series.duration of a posterior twin,",
    WORKER: "loader.batch, model.width or loader.witnesses (what `scan` has chosen)",
    "clean": "loader.witnesses (what `scan` has chosen)",
    "stretch": "stretch.frame",
    "watch": "loader.witnesses (what `scan` has chosen)",
}


def needs_of(experiment: Experiment, content: Content, events: int, names: Sequence[str]) -> Needs:
    """What a training holds that is to be on a dataset of so many events with these channels."""
    train = 1 - content.split.validation - content.split.test
    chosen = [names[place] for place in choose_channels(list(names), experiment.loader.witnesses)]
    return kinds.of(experiment.model.name).needs(content, chosen, round(events * train))


def of_tasks(
    experiment: Experiment, content: Content, shape: Shape, names: Sequence[str]
) -> dict[str, Memory]:
    """Project what a task holds, by stage, of a dataset with these channels; that which makes it comes first.

    Raises `InputError` as these stages would.
    """
    kind, detector = kinds.of(experiment.model.name), content.simulate.detector
    chosen = [names[place] for place in choose_channels(list(names), experiment.loader.witnesses)]
    needs = kind.needs(content, chosen, shape.events)
    found = {
        "generate" if content.source == "simulate" else "ingest": making(shape, content.reads_files),
        "scan": surveying(shape, "qplot", experiment.scan.block),
    }
    if kind.draws:
        given = needs.channels, shape.samples, experiment.sample.draws, needs.given[-1]
        found["sample"] = drawing_given(*given) if kind.upon else drawing(needs.given[-1])
    else:
        written, asked = 1 + experiment.infer.untrained, experiment.infer
        scored = scoring(shape, len(chosen), len(METHODS) + len(experiment.evaluate.methods))
        found["baseline, evaluate"] = scored
        found["infer"] = predicting(kind, shape, needs.channels, written, asked.batch, asked.compile)
    if experiment.evaluate.truth and not kind.draws:
        found["evaluate's stretch"] = on_a_stretch(scored, content.series.sample_rate, len(METHODS))
    if content.source == "simulate" and content.simulate.recipe == "detector":
        heard = sum(1 + one.telling for one in detector.subsystems if one.shared)
        rates = channel_rates(detector, content.series.sample_rate)
        found["stretch"] = framing(rates, heard, experiment.stretch)
    return found


def of_processes(
    experiment: Experiment, content: Content, shape: Shape, names: Sequence[str]
) -> dict[str, Memory]:
    """Project what a process holds that works by itself: a worker of a training, what fits methods, what cleans.

    Raises `InputError` as these stages would.
    """
    kind, chosen = kinds.of(experiment.model.name), choose_channels(list(names), experiment.loader.witnesses)
    needs, found = needs_of(experiment, content, shape.events, names), dict[str, Memory]()
    wiener = lengths(experiment.evaluate, content.series, content.qplot)
    if not kind.draws:
        found["evaluate's driver"] = fitting(shape, content, len(chosen), wiener)
    if kind.array in shape.arrays:
        found[WORKER] = _training(experiment, content, shape, needs)
    if kind.draws:
        return found
    source = next(iter(content.ingest.channels), None) if content.source == "ingest" else None
    if source or shape.kept_samples:
        longest = longest_file(source) if source else None
        fitted = found["evaluate's driver"]
        cleaned = _cleaning(experiment, shape, needs, fitted, (len(chosen), longest))
        judged = experiment.clean.method == NETWORK and shape.kept_samples
        verdict = cleaning.judging(shape, fitted, len(chosen)) if judged else cleaned
        found["clean"] = max(cleaned, verdict, key=lambda one: one.total)
    if source and _watches(experiment):
        times, twins = (experiment.series.sample_rate, needs.given[-1]), 1 + bool(experiment.online.next)
        found["watch"] = watching(experiment.online, kind, needs.channels, times, sampled(source)[0], twins)
    return found


def on_the_disk(experiment: Experiment, content: Content) -> Kept | None:
    """Say what `watch` keeps; None where an experiment names no frames for it to follow."""
    if not _watches(experiment) or content.source != "ingest" or not content.ingest.channels:
        return None
    return keeping(experiment.online, *sampled(content.ingest.channels[0]))


def _watches(experiment: Experiment) -> bool:
    """Whether `watch` could run: it takes a coherent twin, and frames to follow."""
    kind = kinds.of(experiment.model.name)
    return bool(experiment.online.source) and kind.array == "series" and not kind.draws


def _training(experiment: Experiment, content: Content, shape: Shape, needs: Needs) -> Memory:
    """Of a worker: the network is built, for what it keeps is counted in it."""
    model, loader, train = experiment.model.model_dump() | {"seed": 0}, experiment.loader, experiment.train
    model["options"] = {**model["options"], **needs.options}
    network = kinds.build_network(model, needs.given[0], needs.given[1:])
    loader = loader.model_copy(update={"lanes": loader.lanes_among(*train.range)})
    share = loader.share(train.fewest)
    half, mean = in_halves(train.precision), train.ema > 0
    return learning(shape, content.split, loader, share, network, needs, half, mean)


def _cleaning(
    experiment: Experiment, shape: Shape, needs: Needs, fitted: Memory, sizes: tuple[int, int | None]
) -> Memory:
    """Of the way in which an experiment cleans; sizes: channels, and samples of the longest recorded file."""
    channels, longest = sizes
    kind, settings, samples = kinds.of(experiment.model.name), experiment.clean, longest or shape.samples
    if settings.method != NETWORK:
        return cleaning.by_method(shape, fitted, settings.method, channels, samples)
    if kind.array == "qplot":
        return cleaning.by_masks(shape, longest is not None, samples)
    if longest is None:
        return cleaning.by_series(shape, samples)
    times = experiment.series.sample_rate, needs.given[-1]
    parts = 1 + len(experiment.evaluate.groups) if settings.groups else 0
    return cleaning.along(settings, kind, needs.channels, times, samples, parts)


def refuse_what_does_not_fit(found: Mapping[str, Memory]) -> None:
    """Raise `InputError` for what holds more than this process may, by name, with the key that makes it smaller."""
    there = available_memory()
    for stage, needed in found.items():
        if needed.total > there:
            raise InputError(
                f"{stage}: {needed}; this machine has {there / 2**20:,.0f} MiB; a smaller {SMALLER[stage]} takes less"
            )
