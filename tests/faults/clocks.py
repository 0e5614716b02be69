"""Clocks that are set while a stage works, and places that another clock left."""

import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from faults.cases import changed
from faults.interruptions import GIVEN, MORE, PATIENCE, again_unless_whole, copy, essence, files, words

SET = Path(__file__).parent / "clock"  # on PYTHONPATH: a clock that a file sets
HOUR, DAY = 3600.0, 86400.0  # s
# what is done: how far the clock is ahead at first and then, in s, and whether the stage is killed then (-9)
STEPS = {
    "an hour back": (0.0, -HOUR, False),
    "a day on": (0.0, DAY, False),
    "to before 1970": (0.0, -time.time() - DAY, False),
    "among files of tomorrow": (-DAY, -DAY, False),
    "killed tomorrow": (DAY, DAY, True),
}


@dataclass(frozen=True)
class Step:
    """A stage, what its clock does, and the seed of when."""

    stage: str
    step: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.stage}: clock {self.step}, seed {self.seed}"


CLOCKS = [
    Step(stage, step, seed)
    for seed, (stage, step) in enumerate((stage, step) for stage in GIVEN for step in STEPS)
]


def judge(case: Step, places: dict[str, Path], whole: Path, directory: Path) -> str:
    """What is wrong with how a stage meets a clock that is set; empty where nothing is.

    It ends with status 0 (or is killed), what it was given is as it was, and the same command, given again by the true
    clock, leaves every file of a run that nobody disturbed, and no other but `MORE`.
    """
    first, then, kill = STEPS[case.step]
    place = copy(case.stage, places, directory / "place")
    given, end = essence(place), essence(whole)
    wanted = 1 + int(random.Random(case.seed).random() * (len(end) - len(given)))
    clock, said = directory / "clock", directory / "said"
    clock.write_text(str(first))
    there = set(files(place))
    with said.open("w") as output:
        running = subprocess.Popen(
            [sys.executable, "-c", "from glitchflow.cli import main; main()", *words(case.stage)],
            stdout=subprocess.DEVNULL,
            stderr=output,
            cwd=place,
            env=environment(clock),
        )
        until = time.monotonic() + PATIENCE
        while running.poll() is None and len(set(files(place)) - there) < wanted:
            assert time.monotonic() < until
            time.sleep(0.01)
        new = clock.with_suffix(".new")
        new.write_text(str(then))
        new.replace(clock)
        if kill:
            running.kill()
        status = running.wait(PATIENCE)
    text = said.read_text()
    if status not in ((0, -9) if kill else (0,)) or "Traceback" in text:
        return f"status {status}: {text[-800:]}"
    after = essence(place)
    lost = changed(given, {name: after.get(name, "") for name in given})
    problem = lost or again_unless_whole(case.stage, place)
    after = essence(place)
    return problem or changed(end, {n: v for n, v in after.items() if n in end or not MORE.search(n)})


def environment(clock: Path) -> dict[str, str]:
    """That of a process with a Ray and a clock of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    paths = os.pathsep.join(filter(None, (str(SET), kept.get("PYTHONPATH"))))
    return kept | {"PYTHONPATH": paths, "GLITCHFLOW_CLOCK": str(clock)}
