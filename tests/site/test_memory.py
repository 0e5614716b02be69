"""Memory that `plan` projects for a task of each stage beside what it takes in a process of its own (stages.py), both
over what a worker holds that has imported what it needs and done nothing.

`pytest -s tests/site/test_memory.py -k "5-"` prints the rows of the table in docs/stages.md; what tests read is made
once for all of so many channels.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glitchflow.analysis.clean.memory import judging
from glitchflow.analysis.sample import drawing
from glitchflow.config import parse
from glitchflow.data.build import BASE_MEMORY, MIB, Job
from glitchflow.data.memory import Memory
from glitchflow.errors import InputError
from glitchflow.site.memory import SMALLER, of_processes, of_tasks, refuse_what_does_not_fit
from glitchflow.site.pace import Pace
from glitchflow.site.plan import content_to_plan, measure, plan

ROUNDING = 64  # MiB of sums that are smaller than four times that
IMPORTED = 430  # MiB, of a worker
COHERENT = (
    "model.name=coherent",
    "train.loss=l2",
    "loader.witnesses=[SIM:ACC_X,SIM:ACC_Y,SIM:MIC,SIM:SUS,SIM:ASC]",
)
# case -> the source of its store, the stage as stages.py calls it, and what is set besides
CASES = {
    "generate": ("simulate", "generate"),
    "ingest": ("ingest", "ingest"),
    "scan": ("simulate", "scan"),
    "evaluate": ("simulate", "evaluate"),
    "evaluate, the driver": ("simulate", "evaluate, driver"),
    "evaluate a stretch": ("ingest", "evaluate, stretch"),
    "infer, unet": ("simulate", "infer"),
    "infer, coherent": ("simulate", "infer", *COHERENT),
    "train, unet": ("simulate", "train"),
    "train, coherent": ("simulate", "train", *COHERENT, "train.lr=1e-3"),
    "clean by masks": ("simulate", "clean"),
    "clean by wiener": ("simulate", "clean", "clean.method=wiener"),
    "clean along the time line": ("ingest", "clean, line", *COHERENT),
    "watch": ("ingest", "watch", *COHERENT, "online.source=${workdir}/live"),
    "stretch": ("simulate", "stretch"),
}


def configuration(channels: int) -> dict:
    """Five named witnesses, and as many idle ones as it takes."""
    names = ["SIM:ACC_X", "SIM:ACC_Y", "SIM:MIC", "SIM:SUS", "SIM:ASC"]
    names += [f"SIM:IDLE_{i}" for i in range(channels - len(names))]
    families = {name: {"witnesses": names[:2]} for name in ("sine_gaussian", "ringdown", "whistle")}
    few = channels < 50
    return {
        "series": {"duration": 16, "sample_rate": 512},
        "store": {"series": "float32"},
        "simulate": {"events": 600 if few else 20, "detector": {"witnesses": names, "families": families}},
        "stretch": {"duration": 128},
        "train": {"epochs": 1},
        "loader": {"batch": 16 if few else 4},
    }


def recorded(settings: dict, workdir: Path) -> dict:
    """The same on frames of that detector's stretch."""
    names, start = ["SIM:STRAIN", *settings["simulate"]["detector"]["witnesses"]], 1400000000
    channels = [{"name": name, "files": [f"{workdir}/frames/*.gwf"]} for name in names]
    times = {"start": start + 8, "end": start + 120, "stride": 8}
    return settings | {
        "ingest": {"channels": channels, "times": times},
        "evaluate": {"truth": f"{workdir}/frames/truth"},
    }


def run(*words: str) -> str:
    env = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    script = str(Path(__file__).with_name("stages.py"))
    done = subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, timeout=1500, env=env
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes what the cases of so many channels read, once for each source of a store."""
    known: dict[tuple[int, str], tuple[str, ...]] = {}

    def ready(channels: int, source: str) -> tuple[str, ...]:
        if (channels, source) not in known:
            workdir = tmp_path_factory.mktemp(source)
            settings = configuration(channels)
            (workdir / "config.yaml").write_text(
                json.dumps(settings if source == "simulate" else recorded(settings, workdir))
            )
            known[channels, source] = (str(workdir / "config.yaml"), f"workdir={workdir}")
            run("make", *known[channels, source])
        return known[channels, source]

    return ready


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("channels", "case"), [(channels, case) for channels in (5, 500) for case in CASES])
def test_a_task_of_each_stage_needs_the_memory_that_was_projected(channels, case, made):
    """Within a quarter, or 64 MiB of it where that is more; and under a GiB with all that it imported."""
    source, stage, *settings = CASES[case]
    projected, measured, told = (
        run(stage, *made(channels, source), *settings).splitlines()[-1].split(maxsplit=2)
    )
    print(
        f"| {case} | {channels} | {projected} | {measured} | {int(projected) / max(1, int(measured)):.2f} | {told}"
    )
    assert int(projected) == pytest.approx(int(measured), rel=0.25, abs=ROUNDING), told
    assert IMPORTED + int(measured) < 1024


def test_what_a_machine_has_not_is_refused_by_stage_and_key():
    fits, too_much = Memory({"all": 2**20}), Memory({"a batch at work": 2**60})
    refuse_what_does_not_fit({"scan": fits})
    with pytest.raises(
        InputError,
        match=r"^infer: 1,099,511,627,776 MiB = a batch at work 1,099,511,627,776; this machine has [\d,]+ MiB;"
        r" a smaller infer.batch takes less$",
    ):
        refuse_what_does_not_fit({"scan": fits, "infer": too_much})


def test_the_verdict_before_a_network_cleans_is_in_its_sum(tmp_path):
    """To score a block of events by it and the linear method takes more than to clean by its masks."""
    experiment = parse(configuration(20) | {"workdir": str(tmp_path)})
    content = content_to_plan(experiment)
    size = measure(content)
    found = of_processes(experiment, content, size.shape, size.channels)
    assert found["clean"] == judging(size.shape, found["evaluate's driver"], len(size.channels))
    assert "methods as fitted" in found["clean"].parts


def test_every_stage_has_its_sum(tmp_path):
    settings = configuration(20) | {
        "workdir": str(tmp_path),
        "model": {"name": "coherent"},
        "train": {"loss": "l2"},
        "loader": {"batch": 64},  # what it starts from is less than these
    }
    experiment = parse(settings)
    size = measure(content_to_plan(experiment))
    asked = experiment, content_to_plan(experiment), size.shape, size.channels
    assert list(of_tasks(*asked)) == ["generate", "scan", "baseline, evaluate", "infer", "stretch"]
    found = of_processes(*asked)
    assert list(found) == ["evaluate's driver", "a worker of train", "clean"]
    assert "activations" in found["a worker of train"].parts
    assert {*of_tasks(*asked), *found} < SMALLER.keys()


def test_a_split_counts_once_a_host_and_not_in_what_the_calibration_takes(tmp_path, monkeypatch):
    asked = list[int]()

    def calibrated(job: Job, _):
        asked.append(job.memory)
        return [Pace(1, 1) if job.smaller == "loader.batch" else 1.0]

    monkeypatch.setattr("glitchflow.site.plan.on_every_cpu", calibrated)
    settings = {"workdir": str(tmp_path), "loader": {"batch": 64}, "train": {"workers": 4}}
    experiment = parse(configuration(20) | settings)
    for nodes, there in ((1, 4), (2, 2), (4, 1)):
        processes = plan(experiment, nodes=nodes).processes
        alone = processes["a worker of train"]
        splits = alone.parts["splits in memory"]
        assert splits > 0
        assert asked.pop() == alone.total - splits, "steps are of made numbers"
        together = [one for name, one in processes.items() if name == f"{there} workers of train on a node"]
        assert [one.total for one in together] == [splits + there * (alone.total - splits)] * (there > 1)


def test_a_twin_that_draws_is_planned_for_what_it_does(tmp_path):
    settings = configuration(5) | {"workdir": str(tmp_path), "model": {"name": "flow"}}
    experiment = parse(settings | {"train": {"loss": "l2"}}, "here")
    content = content_to_plan(experiment)
    size = measure(content)
    tasks, processes = (of(experiment, content, size.shape, size.channels) for of in (of_tasks, of_processes))
    assert list(tasks) == ["generate", "scan", "sample", "stretch"]
    assert list(processes) == ["a worker of train"]
    # a lot of 64 draws of 2 s took 75 MiB, of 8 s 192, measured as the process's peak while it drew
    samples = {n: drawing(n).total / MIB - BASE_MEMORY / MIB for n in (1024, 4096)}
    assert samples == {1024: pytest.approx(75, rel=0.3), 4096: pytest.approx(192, rel=0.3)}
