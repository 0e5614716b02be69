"""Whether trained twins hear signals through an unsafe witness: `python tests/benchmarks/safety.py [key=value ...]`.

Two datasets of configs/quickstart.yaml, made small, that differ by `simulate.detector.unsafe` alone. A twin of each
kind is trained, with the same seed, on the one that leaks, on the same without the unsafe witness
(`loader.witnesses`), and on the one that does not; signals are injected into their test events as `evaluate` does, and
the last one is asked of the leaking detector too, which it never saw. Prints the effects as markdown, with what is left
of the loss on validation, and leaves them as JSON in the working directory. What is there already is kept. Exits with
status 1 where a twin without the unsafe witness is moved at all, or one that was trained with it is called safe.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from glitchflow.analysis.evaluate.safety import inject
from glitchflow.cluster import session, threads
from glitchflow.config import Experiment, load
from glitchflow.data.generate import generate
from glitchflow.data.store import open_store
from glitchflow.score.statistics import Bootstrap
from glitchflow.train import checkpoint
from glitchflow.train.loop import train
from glitchflow.train.setup import training_of

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
UNSAFE = "SIM:ACC_Y"
SMALL = (
    "simulate.events=1200",
    "series.duration=8",
    "series.sample_rate=256",
    "qplot.frange=[12, 100]",
    "simulate.detector.families.sine_gaussian.frequency=[20, 90]",
    "simulate.detector.families.blip.frequency=[30, 90]",
    "qplot.shape=[32, 32]",
    "train.workers=1",
    "train.samples=0",
    "train.warmup=20",
    "model.width=8",
)
KINDS = {
    "image": ("model.name=unet", "train.loss=whittle", "train.lr=2.0e-3", "train.epochs=6"),
    "coherent": ("model.name=coherent", "train.loss=l2", "train.lr=3.0e-3", "train.epochs=3"),
}
LEAKS, SAFE = "leaks", "safe"
LEFT_OUT = "left out"
TWINS = {LEAKS: LEAKS, LEFT_OUT: LEAKS, SAFE: SAFE}  # and the dataset that each is trained on
ASKED = ((LEAKS, LEAKS), (LEFT_OUT, LEAKS), (SAFE, SAFE), (SAFE, LEAKS))  # twin, dataset
WORDS = {
    (LEAKS, LEAKS): "with the leak",
    (LEFT_OUT, LEAKS): "with it, the unsafe witness left out of `loader.witnesses`",
    (SAFE, SAFE): "without",
    (SAFE, LEAKS): "trained without, asked with it",
}


def dataset_of(home: Path, which: str, overrides: list[str]) -> Experiment:
    """The experiment of one of the two datasets, which is made where it is not there."""
    leak = [f"simulate.detector.unsafe={UNSAFE}"] if which == LEAKS else []
    experiment = load(str(CONFIG), [*SMALL, *leak, *overrides, f"workdir={home / which}"])
    if not Path(experiment.dataset).exists():
        with session():
            generate(experiment)
    return experiment


def trained(home: Path, kind: str, twin: str, overrides: list[str]) -> dict[str, Any]:
    """Where the checkpoint of a twin is, its steps and its validation loss; it is trained where it is not there."""
    workdir, done = home / f"{kind}_{twin.replace(' ', '_')}", home / f"{kind}_{twin.replace(' ', '_')}.json"
    if not done.exists():
        dataset = home / TWINS[twin]
        names = [name for name in open_store(dataset / "dataset.zarr").channels[1:] if name != UNSAFE]
        chosen = [f"loader.witnesses=[{', '.join(names)}]"] if twin == LEFT_OUT else []
        keys = [*SMALL, *KINDS[kind], *chosen, *overrides]
        keys += [f"workdir={workdir}", f"store.path={dataset / 'dataset.zarr'}"]
        began = time.process_time()
        metrics = train(training_of(load(str(CONFIG), keys)), workdir / "train")
        found = checkpoint.find(workdir / "train" / "checkpoints", "best")
        done.write_text(
            json.dumps({"path": str(found.path), "cpu_s": time.process_time() - began, "metrics": metrics})
        )
    return json.loads(done.read_text())


def asked(experiment: Experiment, networks: dict[str, str]) -> dict[str, Any]:
    """What signals that are injected into the test events of a dataset move in these networks."""
    dataset = open_store(experiment.dataset)
    run = SimpleNamespace(dataset=dataset, networks={name: Path(path) for name, path in networks.items()})
    interval = Bootstrap(experiment.seed, experiment.evaluate.bootstrap)
    return inject(run, dataset.indices("test"), None, experiment.harm, experiment.scan.alpha, interval)  # type: ignore[arg-type]


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown: a row a pair of twin and dataset, a column a kind."""
    lines = [f"| the detector | {' | '.join(KINDS)} |", "|---" * (1 + len(KINDS)) + "|"]
    for pair in ASKED:
        cells = []
        for kind in KINDS:
            told = results[kind][" on ".join(pair)]
            low, value, high = (told["effect"][key] for key in ("low", "value", "high"))
            shown = (
                f"{value:.3g} [{low:.3g}, {high:.3g}]" if told["events"] and (low or high) else f"{value:g}"
            )
            cells.append(shown + (", unsafe" if told["unsafe"] else ""))
        lines.append(f"| {WORDS[pair]} | {' | '.join(cells)} |")
    return lines


def wrong(results: dict[str, dict[str, Any]]) -> list[str]:
    """What is not as it has to be."""
    found = []
    for kind, told in results.items():
        for pair in ((LEFT_OUT, LEAKS), (SAFE, SAFE)):
            if any(told[" on ".join(pair)]["effect"].values()):
                found.append(f"{kind}: {WORDS[pair]}: a signal moves it, which no witness of it hears")
        if not told[f"{LEAKS} on {LEAKS}"]["unsafe"]:
            found.append(f"{kind}: {WORDS[LEAKS, LEAKS]}: called safe")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=Path, default=Path("runs/safety"))
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    home = arguments.workdir.resolve()
    datasets = {which: dataset_of(home, which, arguments.overrides) for which in (LEAKS, SAFE)}
    threads(1)
    known = home / "safety.json"
    results: dict[str, dict[str, Any]] = json.loads(known.read_text()) if known.exists() else {}
    for kind in [kind for kind in KINDS if kind not in results]:
        twins = {twin: trained(home, kind, twin, arguments.overrides) for twin in TWINS}
        for twin, one in twins.items():
            print(f"{kind}, {twin}: {one['cpu_s']:.0f} CPU-s, {json.dumps(one['metrics'])}", flush=True)
        results[kind] = {}
        for which, experiment in datasets.items():
            paths = {twin: twins[twin]["path"] for twin, there in ASKED if there == which}
            told = asked(experiment, paths)
            results[kind] |= {f"{twin} on {which}": one for twin, one in told.items()}
        known.write_text(json.dumps(results, indent=1))
    print("\n".join(table(results)))
    failed = wrong(results)
    print("\n".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
