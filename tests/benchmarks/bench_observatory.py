"""Time to make an event's series per channel, of a hard detector and an easy one: `bench_observatory.py --events 200`.

The recipes of configs/observatory.yaml and configs/synthetic.yaml, bare: no Q-plots, no Ray, one thread. Their events
are made in turns, so that what else the machine does meets both alike. Prints medians in ms and exits with status 1
where the observatory's is more than 3 times as dear.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from glitchflow.config import load
from glitchflow.signal.simulation.recipe import build_recipe

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = ("synthetic", "observatory")
ALLOWED = 3.0


def main() -> None:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200, help="events of each")
    events = parser.parse_args().events
    torch.set_num_threads(1)  # of the whitening inside products
    made = {name: load(CONFIGS / f"{name}.yaml") for name in NAMES}
    recipes = {name: build_recipe(e.simulate, e.series, e.derived, e.seed) for name, e in made.items()}
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    for index in range(events):
        for name, recipe in recipes.items():
            begin = time.perf_counter()
            recipe.event(index)
            times[name].append(1e3 * (time.perf_counter() - begin) / len(recipe.channels))
    easy, hard = (statistics.median(times[name]) for name in NAMES)
    for name, each in zip(NAMES, (easy, hard)):
        print(f"{name}: {len(recipes[name].channels)} channels, {each:.3f} ms a channel")
    print(f"observatory over synthetic: {hard / easy:.2f} (at most {ALLOWED:g})")
    sys.exit(int(hard > ALLOWED * easy))


if __name__ == "__main__":
    main()
