"""What each stage's task holds, measured in a process of its own: `python stages.py STAGE CONFIG [key=value ...]`.

`make` comes first, which makes what tasks read. Prints the projected and the measured MiB over what a worker holds that
has imported what it needs and done nothing, and the projection's sum. VmHWM, not getrusage's ru_maxrss, which a process
takes over from the one that started it.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gwpy.timeseries  # noqa: F401  what a worker holds
import numpy as np
import ray  # noqa: F401  what a worker holds
from helpers import write_store
from igwn_segments import segment, segmentlist

from glitchflow.analysis import infer, scan, truth
from glitchflow.analysis.clean import clean, line
from glitchflow.analysis.clean import tasks as shared
from glitchflow.analysis.clean.tasks import Tasks
from glitchflow.analysis.evaluate.stretch import Timeline
from glitchflow.analysis.opened import BEFORE, windows_of
from glitchflow.cluster import threads
from glitchflow.config import Experiment, load
from glitchflow.data import generate as making
from glitchflow.data import stretch as writing
from glitchflow.data.build import BASE_MEMORY, MIB
from glitchflow.data.content import Content
from glitchflow.data.memory import Memory, Shape
from glitchflow.data.shard_events import make_factory, make_shard
from glitchflow.data.store import Array, Dataset, Design, Writer, open_store
from glitchflow.data.store.create import create
from glitchflow.errors import InputError
from glitchflow.methods.compare import Comparison, basis_of, fit_methods
from glitchflow.online import replay, watch
from glitchflow.online.line import Line
from glitchflow.online.monitor import Monitor
from glitchflow.online.sink import Outbox
from glitchflow.online.source import Inbox
from glitchflow.signal.simulation.stretch import draw_stretch
from glitchflow.site.memory import of_processes, of_tasks
from glitchflow.site.plan import content_to_plan
from glitchflow.train import loop
from glitchflow.train.setup import training_of
from glitchflow.twin import kinds
from glitchflow.twin.called import Called
from glitchflow.twin.kind import Trained
from glitchflow.twin.step import stepper

Task = Callable[[], Any]


def generate(experiment: Experiment, dataset: Dataset) -> Task:
    other = open_store(experiment.dataset.with_name("other.zarr"), complete=False)
    return lambda: make_shard(other, 0)


def surveyed(experiment: Experiment, dataset: Dataset) -> Task:
    survey = scan.plan_survey(experiment)
    return lambda: scan.score_block(survey, (0, 0))


def compared(experiment: Experiment) -> tuple[Comparison, tuple[int, ...]]:
    """What a task is sent, as `make` fitted it, and the events of one."""
    found: tuple[Comparison, tuple[int, ...]] = pickle.loads(  # noqa: S301  our own, of a moment ago
        Path(experiment.workdir, "comparison").read_bytes()
    )
    return found


def evaluate(experiment: Experiment, dataset: Dataset) -> Task:
    comparison, events = compared(experiment)
    return lambda: comparison.score(events)


def fit(experiment: Experiment, dataset: Dataset) -> Task:
    basis = basis_of(dataset, experiment.loader)
    return lambda: fit_methods(dataset, basis, experiment.clean.threshold)


def on_the_stretch(experiment: Experiment, dataset: Dataset) -> Task:
    comparison, _ = compared(experiment)
    settings = experiment.evaluate
    known = truth.open_truth(dataset, experiment.ingest.channels, settings.truth, experiment.harm)
    assert known is not None, "evaluate.truth is set"
    frames = truth.frames_of(known, dataset)
    comparison = replace(comparison, fit=replace(comparison.fit, truth=frames))
    timeline = Timeline(known, comparison, windows_of(dataset, np.arange(len(dataset))))
    begin = experiment.stretch.start + truth.MARGIN
    return lambda: timeline.measured((begin, begin + truth.BLOCK))


def trained(experiment: Experiment, dataset: Dataset) -> Trained:
    """A network as it is drawn."""
    kind, training = kinds.of(experiment.model.name), training_of(experiment)
    basis = basis_of(dataset, experiment.loader)
    prepared = kind.normalisation(dataset, "log1p", basis.channels, None)
    shape = dataset[kind.array].shape[2:]
    network = kinds.network_of(kind, training.model_settings, prepared, shape)
    return Trained(kind, network.eval(), basis.channels, prepared)


def predict(experiment: Experiment, dataset: Dataset) -> Task:
    network = trained(experiment, dataset)
    infer.load_network = lambda path, called: network  # type: ignore[assignment]
    arrays = network.kind.arrays(dataset)
    arrays |= {own: arrays[name] for name, own in BEFORE.items() if name in arrays}
    arrays |= {n: Array((), (), str(dataset[n].dtype), True) for n in ("gps", "label", "split")}
    arrays["event"] = Array((), (), "int64", True)
    about = {"source": "infer", "checkpoints": {}}
    target = create(Path(experiment.workdir, "p.zarr"), Design(arrays, dataset.layout, about))
    both = {"qplot": "", "untrained": ""}
    return lambda: infer.predict_shard(dataset, target, both, experiment.infer.batch, Called(), 0)


def train(experiment: Experiment, dataset: Dataset) -> Task:
    return lambda: loop.train(training_of(experiment), Path(experiment.workdir, experiment.model.name))


def cleaned(experiment: Experiment, dataset: Dataset) -> Task:
    """With the verdict before it, which refuses a network that learned nothing; in this process, and not by tasks."""
    shared.HERE = math.inf

    def work() -> None:
        with contextlib.suppress(InputError):
            clean.clean(experiment, overwrite=True)
        clean.clean(experiment, overwrite=True, force=True)

    return work


def cleaned_along(experiment: Experiment, dataset: Dataset) -> Task:
    """The time line of the stretch, by a coherent network as it is drawn."""
    network, settings, stretch = trained(experiment, dataset), experiment.clean, experiment.stretch
    steps = stepper(network, settings.block, settings.settle, "clean")
    known = {source.name: source for source in experiment.ingest.channels}
    sources = [known[name] for name in steps.front.channels]
    spans = segmentlist([segment(stretch.start, stretch.stop)])
    directory = Path(experiment.workdir, "along")
    directory.mkdir()

    def work() -> None:
        along = line.open_line(steps, sources, spans)
        alone = Tasks(experiment.cluster, lambda: None, memory=0, channels=0)
        line.clean_line(along, sources[0], ("SIM:CLEAN", "SIM:NOISE"), "", directory, alone)

    return work


class Caught:
    """Stops where nothing is left to be taken."""

    done = False

    def is_set(self) -> bool:
        return self.done

    def wait(self, timeout: float) -> bool:
        self.done = True
        return True


def watched(experiment: Experiment, dataset: Dataset) -> Task:
    """The stretch second by second, by a coherent network as it is drawn."""
    network, settings = trained(experiment, dataset), experiment.online
    steps = stepper(network, settings.block, settings.settle, "online")
    most = line.crops_together(network.kind, len(steps.front.channels), steps.crop)
    steps = replace(steps, lot=min(most, math.ceil(1 / settings.block)))
    strain, directory = steps.front.channels[0], Path(experiment.workdir, "online")
    directory.mkdir()
    inbox = Inbox(Path(settings.source), {name: name for name in steps.front.channels}, settings.wait)
    outbox = Outbox(directory, strain, settings.format, 0, {})
    post = watch.Post(Line(steps), inbox, outbox, settings.keep * watch.HOUR, Monitor(strain))

    def work() -> None:
        watch.follow(post, Caught())
        assert len(list(directory.glob("*.gwf"))) > experiment.stretch.duration - 4, (
            "all but the last came out"
        )

    return work


def stretched(experiment: Experiment, dataset: Dataset) -> Task:
    part = experiment.stretch.start, experiment.stretch.stop
    frames = frames_of(experiment, Path(experiment.workdir, "again"))
    return lambda: writing.make_frames(frames, part)


# stage, as it is called here -> the name that its projection has, and what does it
STAGES: dict[str, tuple[str, Callable[[Experiment, Dataset], Task]]] = {
    "generate": ("generate", generate),
    "ingest": ("ingest", generate),
    "scan": ("scan", surveyed),
    "evaluate": ("baseline, evaluate", evaluate),
    "evaluate, driver": ("evaluate's driver", fit),
    "evaluate, stretch": ("evaluate's stretch", on_the_stretch),
    "infer": ("infer", predict),
    "train": ("a worker of train", train),
    "clean": ("clean", cleaned),
    "clean, line": ("clean", cleaned_along),
    "watch": ("watch", watched),
    "stretch": ("stretch", stretched),
}


def frames_of(experiment: Experiment, path: Path) -> writing.Frames:
    """The frames of an experiment's stretch, before one is made."""
    maker = draw_stretch(
        experiment.simulate.detector, experiment.stretch, experiment.series.sample_rate, experiment.seed
    )
    config = {
        "seed": experiment.seed,
        "series": {"sample_rate": experiment.series.sample_rate},
        "simulate": {"detector": experiment.simulate.detector.model_dump(mode="json")},
        "stretch": experiment.stretch.model_dump(mode="json"),
    }
    return writing.Frames(writing._begin(path, config, False), maker)


def make(experiment: Experiment) -> None:
    """Make the frames where there are none and a store is to be made of them, the store, predictions that no network
    made, and fitted methods."""
    content = content_to_plan(experiment)
    if content.source == "ingest" and not (directory := Path(experiment.workdir, "frames")).exists():
        frames = frames_of(experiment, directory)
        writing.make_frames(frames, (experiment.stretch.start, experiment.stretch.stop))
        starts = range(experiment.stretch.start, experiment.stretch.stop, experiment.stretch.frame)
        writing._write_tables(frames, list(starts))
        writing._put_root(frames.path, writing.Root(config={}, complete=True))
        frames.path.rename(directory)
        replay.replay(directory, replay.Replay(Path(experiment.workdir, "live"), speed=0, cut=1))
    with Writer.begin(
        experiment.dataset, lambda: making._design(make_factory(content)), lambda _: None
    ) as writer:
        for shard in writer.missing():
            make_shard(writer.dataset, shard)
        making._finish(writer)
    create(experiment.dataset.with_name("other.zarr"), making._design(make_factory(content)))
    dataset = open_store(experiment.dataset)
    basis = basis_of(dataset, experiment.loader)
    fitted = fit_methods(dataset, basis, experiment.clean.threshold)
    events = tuple(range(min(len(dataset), dataset.layout.shard)))
    about = {
        "source": "infer",
        "checkpoints": {"qplot": {"path": "none"}},
        "network": {"channels": basis.channels},
    }
    write_store(experiment.predictions, {"qplot": dataset["qplot"][:, 0]}, dataset.layout, **about)
    Path(experiment.workdir, "comparison").write_bytes(
        pickle.dumps((Comparison(dataset, fitted, None, True), events))
    )


def projected(stage: str, experiment: Experiment, content: Content, dataset: Dataset) -> Memory:
    """The projection of a stage."""
    shape = Shape.of(content, dataset.known.arrays, dataset.layout)
    words, found = STAGES[stage][0], {}
    for of in (of_tasks, of_processes):
        found |= of(experiment, content, shape, dataset.channels)
    return found[words]


def held(what: str) -> int:
    """Bytes that this process holds (VmRSS:), or held at most (VmHWM:)."""
    return int(Path("/proc/self/status").read_text().partition(what)[2].split()[0]) * 1024


def main(stage: str, config: str, *overrides: str) -> None:
    """Make, or measure one stage."""
    threads(1)
    idle = held("VmRSS:")
    experiment = load(config, list(overrides))
    if stage == "make":
        make(experiment)
        return
    content, dataset = content_to_plan(experiment), open_store(experiment.dataset)
    task = STAGES[stage][1](experiment, dataset)
    Path("/proc/self/clear_refs").write_text(
        "5"
    )  # the peak begins anew: what got the task ready is not part of it
    task()
    measured = held("VmHWM:") - idle
    found = projected(stage, experiment, content, dataset)
    print((found.total - BASE_MEMORY) // MIB, measured // MIB, found)


if __name__ == "__main__":
    main(*sys.argv[1:])
