"""How fast a coherent twin cleans: `python tests/benchmarks/bench_clean.py [--seconds 60]`.

Steps of `twin/step.py` along noise of 512 Hz, one thread, networks as they are drawn (an untrained one costs what a
trained one does): seconds of data per second of CPU for 5, 16 and 100 witnesses in blocks of `clean.block`, eight side
by side as `clean` does, and of a quarter second, one by one as they come online, each the median of rounds that take
turns; and the shares of network, front and undoing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from unittest.mock import patch

import numpy as np

from glitchflow.cluster import threads
from glitchflow.config import Model
from glitchflow.twin import coherent, kinds, step
from glitchflow.twin.front import Front
from glitchflow.twin.kind import Trained
from glitchflow.twin.made import Scatter

RATE, TAPS, ROUNDS = 512.0, 128, 3
WITNESSES = (5, 16, 100)
BLOCKS = ((2.0, 1.0, 8), (0.25, 0.25, 1))  # s, with what it settles, and how many come at once
PARTS = {"network": (step, "generate"), "front": (Front, "prepare"), "undone": (Front, "undo")}


def stepper(witnesses: int, block: float, settle: float, lot: int = 1) -> step.Stepper:
    """A twin of so many witnesses, the last of which is a scatterer."""
    names = ["S", *(f"W{i}" for i in range(witnesses))]
    taps = np.zeros((len(names), TAPS + 1))
    taps[:, 0], taps[:, 1] = 1.0, -0.5
    scatter = Scatter(witnesses, 1.0, (1.0, 1.0))
    inputs = [*range(1, witnesses)]
    offsets = [0.0] * len(names)
    front = Front(RATE, (10.0, 200.0), 2.0, names, taps.tolist(), inputs, [], [scatter], offsets)
    settings = Model(name="coherent").model_dump() | {"seed": 1}
    network = kinds.network_of(coherent.KIND, settings, front, (round(4 * RATE),)).eval()
    return replace(
        step.stepper(Trained(coherent.KIND, network, names, front), block, settle, "clean"), lot=lot
    )


def along(steps: step.Stepper, blocks: int) -> dict[str, float]:
    """CPU seconds of so many steps, all in all and by part."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((len(steps.front.channels), steps.block))
    state, spent = step.begin(steps, 0), dict.fromkeys(PARTS, 0.0)

    def timed(name: str, function: Callable) -> Callable:
        def call(*given):
            began = time.process_time()
            found = function(*given)
            spent[name] += time.process_time() - began
            return found

        return call

    for _ in range(-(-steps.reach // steps.block)):  # until a crop is whole
        state, _ = step.step(steps, state, values)
    with ExitStack() as stack:
        for name, (owner, attribute) in PARTS.items():
            stack.enter_context(patch.object(owner, attribute, timed(name, getattr(owner, attribute))))
        began = time.process_time()
        for _ in range(blocks // steps.lot):
            state, _ = step.several(steps, state, [values] * steps.lot)
        return {"all": time.process_time() - began, **spent}


def blocks(seconds: float, block: float, lot: int) -> int:
    """Whole lots of blocks in so many seconds, one at least."""
    return max(1, round(seconds / block / lot)) * lot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of data in each round")
    seconds = parser.parse_args().seconds
    threads(1)
    cases = {(w, *b): stepper(w, *b) for b in BLOCKS for w in WITNESSES}
    found: dict[tuple, list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for case, steps in cases.items():
            found[case].append(along(steps, blocks(seconds, case[1], steps.lot)))
    print("| witnesses | block, s | data per CPU s | network | front | undone |\n|---|---|---|---|---|---|")
    for (witnesses, block, _, lot), rounds in found.items():
        speed = statistics.median(blocks(seconds, block, lot) * block / one["all"] for one in rounds)
        shares = [statistics.median(one[name] / one["all"] for one in rounds) for name in PARTS]
        print(
            f"| {witnesses} | {block:g} | {speed:.0f} | {' | '.join(f'{s:.0%}' for s in shares)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
