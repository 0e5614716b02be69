"""Memory that many channels take: `python tests/benchmarks/bench_memory.py [--channels 500] [--rate 4096]`.

Each in a process of its own, the peak of all that it holds (Python and libraries are some 430 MiB of it), in MiB:

- `driver`: what `generate` does before its tasks: the recipe, the ASDs, the first event
- `task`: a shard of one event of 16 s, with its series or without
- `stretch`: drawing a stretch of as many channels at 512 Hz

Ends with status 1 where any of them takes more than 1 GiB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path
from typing import Any

from glitchflow.cluster import threads
from glitchflow.config import Experiment, parse
from glitchflow.data.content import content_of
from glitchflow.data.generate import _design
from glitchflow.data.memory import Shape, making
from glitchflow.data.shard_events import make_factory, make_shard
from glitchflow.data.store import open_store
from glitchflow.data.store.create import create
from glitchflow.signal.simulation.stretch import draw_stretch

ALLOWED = 1024  # MiB
STRETCH_RATE = 512.0


def experiment(workdir: str, channels: int, rate: float, kept: str) -> Experiment:
    """Five witnesses that families name, and as many idle ones as it takes."""
    names = ["SIM:ACC_X", "SIM:ACC_Y", "SIM:MIC", "SIM:SUS", "SIM:ASC"]
    names += [f"SIM:IDLE_{i}" for i in range(channels - 1 - len(names))]
    families = {name: {"witnesses": names[:2]} for name in ("sine_gaussian", "ringdown", "whistle")}
    return parse(
        {
            "workdir": workdir,
            "series": {"duration": 16, "sample_rate": rate},
            "store": {"series": kept},
            "simulate": {"events": 4, "detector": {"witnesses": names, "families": families}},
        }
    )


def driver(workdir: str, *settings: Any) -> None:
    made = experiment(workdir, *settings)
    create(made.dataset, _design(make_factory(content_of(made, "simulate"))))


def task(workdir: str, *settings: Any) -> None:
    make_shard(open_store(experiment(workdir, *settings).dataset, complete=False), 0)


def stretch(workdir: str, channels: int, *_: Any) -> None:
    made = experiment(workdir, channels, STRETCH_RATE, "none")
    draw_stretch(made.simulate.detector, made.stretch, STRETCH_RATE, made.seed)


STEPS = {"driver": driver, "task": task, "stretch": stretch}


def peak(step: str, *settings: Any) -> int:
    """MiB that a process held at most which did nothing else."""
    threads(1)
    STEPS[step](*settings)
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=500)
    parser.add_argument("--rate", type=float, default=4096.0, help="Hz")
    arguments = parser.parse_args()
    found = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for kept in ("none", "float32"):
            with tempfile.TemporaryDirectory() as workdir:
                settings = (workdir, arguments.channels, arguments.rate, kept)
                for step in ("driver", "task"):
                    found.append(pool.apply(peak, (step, *settings)))
                    print(f"{step}, store.series = {kept}: {found[-1]} MiB", flush=True)
                made = experiment(*settings)
                known = open_store(made.dataset, complete=False)
                shape = Shape.of(content_of(made, "simulate"), known.known.arrays, known.layout)
                print(f"  a task is projected to hold {making(shape)}", flush=True)
        found.append(pool.apply(peak, ("stretch", "", arguments.channels)))
        print(f"stretch: {found[-1]} MiB")
    sys.exit(int(max(found) > ALLOWED))


if __name__ == "__main__":
    main()
