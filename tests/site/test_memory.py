"""Memory that `plan` projects for a task of each stage beside what it takes in a process of its own, both over what a
worker holds that has imported what it needs and done nothing."""

import json
import os
import subprocess
import sys

import pytest

# Two processes: one makes what a task is handed, a fresh one does the task. VmHWM, not getrusage's ru_maxrss, which a
# process takes over from the one that started it.
MEASURE = '''
import pickle, sys
from pathlib import Path
import numpy as np
import ray
import gwpy.timeseries
from glitchflow.cluster import threads
from glitchflow.config import load
from helpers import write_predictions
from glitchflow.analysis import infer, scan
from glitchflow.analysis.clean import clean
from glitchflow.data import generate as making
from glitchflow.data import stretch as writing
from glitchflow.data.build import BASE_MEMORY
from glitchflow.data.content import content_of
from glitchflow.data.memory import Shape
from glitchflow.data.shard_events import make_shard
from glitchflow.data.store import Array, Design, Writer, open_store
from glitchflow.data.store.create import create
from glitchflow.methods.compare import Comparison, basis_of, fit_methods
from glitchflow.signal.simulation.stretch import draw_stretch
from glitchflow.site import plan
from glitchflow.train import loop
from glitchflow.train.setup import training_of
from glitchflow.twin import image, kinds
from glitchflow.twin.kind import Trained

class Stages:
    """How each stage's task is made ready, by who has seen the store, and what it does."""

    def generate(self, experiment):
        dataset = open_store(experiment.dataset.with_name("other.zarr"), complete=False)
        return lambda: make_shard(dataset, 0)

    def scan(self, experiment):
        survey = scan.plan_survey(experiment)
        return lambda: scan.score_block(survey, (0, 0))

    def evaluate(self, experiment):
        comparison, events = pickle.loads(Path(experiment.workdir, "comparison").read_bytes())
        return lambda: comparison.score(events)

    def infer(self, experiment):
        dataset = open_store(experiment.dataset)
        basis = basis_of(dataset, experiment.loader)
        shape = dataset["qplot"].shape
        settings = kinds.of("unet"), experiment.model.model_dump() | {"seed": 1}
        network = kinds.build_network(settings[1], shape[1] - 1, shape[2:])
        normalisation = image.normalisation(dataset, "log1p", basis.channels)
        trained = Trained(image.KIND, network.eval(), basis.channels, normalisation)
        infer.load_network = lambda path: trained
        arrays = {name: Array(("frequency", "time"), shape[2:], "float32") for name in ("qplot", "untrained")}
        arrays |= {n: Array((), (), str(dataset[n].dtype), True) for n in ("gps", "label", "split")}
        arrays["event"] = Array((), (), "int64", True)
        about = {"source": "infer", "checkpoints": {}}
        target = create(Path(experiment.workdir, "p.zarr"), Design(arrays, dataset.layout, about))
        both = {"qplot": "", "untrained": ""}
        return lambda: infer.predict_shard(dataset, target, both, experiment.infer.batch, 0)

    def train(self, experiment):
        return lambda: loop.train(training_of(experiment), Path(experiment.workdir, "train"))

    def clean(self, experiment):
        return lambda: clean.clean(experiment)

    def stretch(self, experiment):
        part = experiment.stretch.start, experiment.stretch.stop
        maker = draw_stretch(experiment.simulate.detector, experiment.stretch, experiment.series.sample_rate, 1)
        frames = writing.Frames(writing._begin(Path(experiment.workdir, "frames"), {}, False), maker)
        return lambda: writing.make_frames(frames, part)

def make(experiment):
    content = content_of(experiment, "simulate")
    with Writer.begin(experiment.dataset, lambda: making._design(content), lambda _: None) as writer:
        for shard in writer.missing():
            make_shard(writer.dataset, shard)
        making._finish(writer)
    create(experiment.dataset.with_name("other.zarr"), making._design(content))
    dataset = open_store(experiment.dataset)
    fit = fit_methods(dataset, basis_of(dataset, experiment.loader), experiment.clean.threshold)
    events = tuple(range(min(len(dataset), dataset.layout.shard)))
    write_predictions(experiment, dataset["qplot"][:, 0])
    Path(experiment.workdir, "comparison").write_bytes(pickle.dumps((Comparison(dataset, fit, None, True), events)))

def held(what):
    return int(Path("/proc/self/status").read_text().partition(what)[2].split()[0]) * 1024

threads(1)
idle = held("VmRSS:")
stage, *words = sys.argv[1:]
experiment = load(words[0], words[1:])
if stage == "make":
    make(experiment)
else:
    content = content_of(experiment, "simulate")
    dataset = open_store(experiment.dataset)
    task = getattr(Stages(), stage)(experiment)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: what got the task ready is not part of it
    task()
    measured = held("VmHWM:") - idle
    shape = Shape.of(content, dataset.known.arrays, dataset.layout)
    projected = plan.memory(content, shape) | plan.beside(experiment, content, shape)
    found = next(found for name, found in projected.items() if stage in name)
    print(found.total - BASE_MEMORY, measured, found)
'''
STAGES = ("generate", "scan", "evaluate", "infer", "train", "clean", "stretch")
ROUNDING = 64 * 2**20  # bytes: of sums that are smaller than four times that
SMALL = {"series": {"duration": 16, "sample_rate": 512}, "store": {"series": "float32"}}


def configuration(channels: int) -> dict:
    """Five named witnesses, and as many idle ones as it takes."""
    names = ["SIM:ACC_X", "SIM:ACC_Y", "SIM:MIC", "SIM:SUS", "SIM:ASC"]
    more = [f"SIM:IDLE_{i}" for i in range(channels - len(names))]
    families = {name: {"witnesses": names[:2]} for name in ("sine_gaussian", "ringdown", "whistle")}
    detector = {"witnesses": names + more, "families": families}
    return (
        SMALL
        | {"simulate": {"events": 600 if channels < 50 else 20, "detector": detector}}
        | {
            "stretch": {"duration": 128},
            "train": {"epochs": 1},
            "loader": {"batch": 32 if channels < 50 else 4},
        }
    )


def run(*words: str) -> str:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *words], capture_output=True, text=True, timeout=1500, env=env
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("channels", [5, 500])
def test_a_task_of_each_stage_needs_the_memory_that_was_projected(channels, tmp_path):
    """Within a quarter, or 64 MiB of it where that is more; and under a GiB with all that it imported."""
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(configuration(channels)))
    words = (str(config), f"workdir={tmp_path}")
    run("make", *words)
    for stage in STAGES:
        projected, measured, told = run(stage, *words).splitlines()[-1].split(maxsplit=2)
        print(f"{stage}: {int(measured) / 2**20:.0f} MiB measured; {told}")
        assert 430 * 2**20 + int(measured) < 2**30, stage
        assert int(projected) == pytest.approx(int(measured), rel=0.25, abs=ROUNDING), (stage, told)
