"""Events -> Q-plots -> store: one Ray task per missing shard, for simulated and recorded events alike.

    1. the driver chooses the layout from the configuration and writes the store's metadata
    2. each task makes the events of one shard, their Q-plots, and writes the shard whole
    3. the driver adds up the statistics in shard order and marks the store complete

A run that was stopped at any point goes on with the shards that have no done-marker.

Shapes: B event of a block, C channel, F frequency, T time, N sample.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.cluster import available_cpus, session, threads
from glitchflow.config import Experiment, upgrade
from glitchflow.config.sections import Cluster
from glitchflow.data import lease
from glitchflow.data.normalise import reduce_statistics
from glitchflow.data.shard_events import make_block, make_shard, prepare
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError, RunError
from glitchflow.progress import say, track
from glitchflow.signal.qtransform import QTransform
from glitchflow.signal.types import Recipe

CONTENT = {
    "simulate": ("seed", "series", "simulate", "derived", "whiten", "qplot", "store", "split"),
    "ingest": ("seed", "series", "ingest", "derived", "whiten", "qplot", "store", "split"),
}


# -- the stages --------------------------------------------------------------------------------------------------


def generate(
    experiment: Experiment, overwrite: bool = False, shard: int | None = None, verify: bool = False
) -> store.Location:
    """Make the dataset of synthetic events; returns where it is.

    `shard`: make that shard alone, again. `verify`: check every shard first and make damaged ones again. More
    `simulate.events` than the store has extend it: what is there stays as it is.
    Raises `InputError` for a store made from other settings, `RunError` for a disk that refuses and where another
    driver is at work.
    """
    return _make(experiment, "simulate", overwrite, shard, verify)


def ingest(
    experiment: Experiment, overwrite: bool = False, shard: int | None = None, verify: bool = False
) -> store.Location:
    """Make the dataset of recorded events, of another store's series, or of ready Q-plots; returns where it is.

    The list of events is the one found when the store was begun. Events that cannot be used are counted with
    their reasons, which the store keeps. Raises `InputError` besides for files that cannot be read.
    """
    return _make(experiment, "ingest", overwrite, shard, verify)


def _make(
    experiment: Experiment, source: str, overwrite: bool, shard: int | None, verify: bool
) -> store.Location:
    path = experiment.dataset
    if overwrite or not store.exists(path):
        _create(experiment, source)
    with lease.hold(path) as check:
        store.clear_partials(path)
        _same_content(experiment, source)
        layout = store.open_store(path, complete=False).layout
        if shard is not None and not 0 <= shard < layout.shards:
            raise InputError(f"--shard {shard}: the store has shards 0 to {layout.shards - 1}")
        if verify:
            _forget_damaged(path)
        missing = store.missing_shards(path)
        if 0 < len(missing) < layout.shards:
            say(f"{path}: {layout.shards - len(missing)} of {layout.shards} shards are there already")
        wanted = missing if shard is None else [shard]
        make = partial(make_shard, experiment.model_dump_json(), source, str(path))
        run_shards(make, wanted, layout, experiment.cluster, "Q-plots", check)
        left = store.missing_shards(path)
        if not left and (wanted or not store.open_store(path, complete=False).attributes["complete"]):
            _finalise(path, layout)
    return path


def _forget_damaged(path: store.Location) -> None:
    damaged = store.damaged_shards(path)
    for k, reason in damaged.items():
        say(f"{path}: shard {k}: {reason}; it is made again")
    store.forget(path, damaged)


def run_shards(
    make: Callable[[int], None],
    shards: Iterable[int],
    layout: store.Layout,
    cluster: Cluster,
    label: str,
    check: Callable[[], None],
    accelerated: bool = False,
) -> None:
    """Call `make(shard)` in a Ray task per shard, two per CPU in flight, failed workers' tasks retried.

    With `accelerated` each task takes a GPU of its own where the cluster has any.

    `make` writes its shard itself. The first error of a task, or of `check`, ends the run with that error;
    shards already written stay.
    """
    waiting: list[int] = list(shards)
    if not waiting:
        return
    running: dict[Any, int] = {}
    sizes = {k: layout.span(k).stop - layout.span(k).start for k in waiting}
    with session(cluster.address, cluster.cpus), track(sum(sizes.values()), label, "events") as advance:
        import ray

        gpus = int(accelerated and ray.cluster_resources().get("GPU", 0) > 0)
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=3)(_call)
        shared = ray.put(make)
        slots = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            while waiting or running:
                while waiting and len(running) < slots:
                    k = waiting.pop(0)
                    running[task.remote(shared, k)] = k
                ready, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                check()
                for reference in ready:
                    k = running.pop(reference)
                    _result(reference, k)
                    advance(sizes[k])
        except Exception:
            # what is being written is finished first, so that nothing writes behind the caller's back. (Ray's cancel
            # is no help: where it meets a task that is just ending, it takes the whole process down.)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=60.0)
            raise


def on_every_cpu(cluster: Cluster, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What a function returns on as many CPUs as this process would use of the cluster, all at work at once.

    Called once before with the last argument 0, so that imports and constants are not part of it.
    """
    with session(cluster.address, cluster.cpus):
        import ray

        count = max(1, min(available_cpus(), int(ray.cluster_resources().get("CPU", 1))))
        task = ray.remote(num_cpus=1)(function)
        ray.get([task.remote(*arguments[:-1], 0) for _ in range(count)])
        return ray.get([task.remote(*arguments) for _ in range(count)])


def _result(reference: Any, shard: int) -> None:
    """Wait for a task. Its own one-line errors come through; of others the task's traceback is kept."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError | RunError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"shard {shard}: its task died, and three more after it: {reason}") from None


def _call(make: Callable[[int], None], shard: int) -> None:
    threads(1)
    make(shard)


# -- the driver's part -------------------------------------------------------------------------------------------


def _create(experiment: Experiment, source: str) -> None:
    recipe, engine = prepare(experiment.model_dump_json(), source)
    _, skipped = make_block(
        experiment, recipe, engine, range(1)
    )  # what is wrong shows before anything is replaced
    if skipped and recipe.events == 1:
        raise InputError(skipped[0])
    arrays = store_arrays(experiment, recipe)
    layout = store.choose_layout(recipe.events, arrays, experiment.store.chunk_mb, experiment.store.shard_mb)
    axes = {"channel": np.array(recipe.channels, dtype=object)}
    if experiment.qplot.window == "fixed":
        axes |= _fixed_axes(experiment, engine)
    attributes = {
        "arrays": list(arrays),
        "source": source,
        "recorded": recipe.recorded,
        "config": _content(experiment, source),
        "seed": experiment.seed,
        "channels": recipe.channels,
        "labels": recipe.labels,
        "witnessed_labels": recipe.witnessed,
        "couplings": recipe.couplings,
        "provenance": provenance(),
    }
    if store.exists(experiment.dataset):
        store.remove(experiment.dataset)
    compression = experiment.store.compression
    store.create(experiment.dataset, arrays, layout, axes, attributes, compression, recipe.notes)


def _fixed_axes(experiment: Experiment, engine: QTransform) -> dict[str, np.ndarray]:
    """Frequencies in Hz, and times in s from the window's centre."""
    return {
        "frequency": np.asarray(engine.frequencies),
        "time": np.asarray(engine.times) - experiment.series.duration / 2,
    }


def store_arrays(experiment: Experiment, recipe: Recipe) -> dict[str, store.Array]:
    """The arrays that a dataset of this recipe has."""
    channels, (f, t), samples = len(recipe.channels), experiment.qplot.shape, experiment.series.samples
    arrays = {
        "qplot": store.Array(("channel", "frequency", "time"), (channels, f, t), "float32"),
        "gps": store.Array((), (), "float64"),
        "q": store.Array(("channel",), (channels,), "float32"),
        "label": store.Array((), (), "int8"),
        "split": store.Array((), (), "int8"),
        "snr": store.Array((), (), "float32"),
    }
    if experiment.qplot.window == "loudest":
        arrays |= {"frequency0": store.Array((), (), "float64"), "time0": store.Array((), (), "float64")}
    if recipe.witnessed:
        arrays["witnessed"] = store.Array(("frequency", "time"), (f, t), "float32")
    kept = experiment.store.series
    if kept != "none" and not (recipe.recorded and experiment.ingest.qplots_from):
        arrays["series"] = store.Array(("channel", "sample"), (channels, samples), kept)
        if recipe.witnessed:
            arrays["witnessed_series"] = store.Array(("sample",), (samples,), kept)
    return arrays


def _content(experiment: Experiment, source: str) -> dict[str, Any]:
    """The part of the configuration that a store's bytes depend on."""
    content = experiment.model_dump(mode="json", include=set(CONTENT[source]))
    for name in ("path", "quota_gb", "quota_files"):
        del content["store"][name]
    return content


def _same_content(experiment: Experiment, source: str) -> None:
    """Refuse a store made from other settings; where only events were added, extend it."""
    path, wanted = experiment.dataset, _content(experiment, source)
    dataset = store.open_store(path, complete=False)
    stored, events = upgrade(dataset.attributes["config"]), experiment.simulate.events
    if source == "simulate" and stored.get("simulate", {}).get("events", events) < events:
        grown = stored | {"simulate": stored["simulate"] | {"events": events}}
        if not list(_differences(grown, wanted)):
            say(f"{path}: extended from {len(dataset)} to {events} events")
            store.grow(path, events, {"config": wanted})
            return
    differing = sorted(_differences(stored, wanted))
    if differing:
        raise InputError(
            f"{path}: was made with other settings ({'; '.join(differing[:4])}"
            f"{', ...' if len(differing) > 4 else ''}); choose another workdir or --overwrite it"
        )


def _differences(old: Any, new: Any, name: str = "") -> Iterable[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif old != new:
        yield f"{name} = {old} there, {new} here"


def _finalise(path: store.Location, layout: store.Layout) -> None:
    markers = [store.marker(path, k) for k in range(layout.shards)]
    skipped = {int(i): reason for marker in markers for i, reason in marker["skipped"].items()}
    if skipped:
        _say_skipped(path, skipped, layout.events)
    try:
        normalisation = reduce_statistics(marker["statistics"] for marker in markers)
    except ValueError:
        normalisation = None  # a handful of recorded events need not hold any for training
    store.finalise(path, {"normalisation": normalisation, "skipped": sorted(skipped.items())})


def _say_skipped(path: store.Location, skipped: dict[int, str], events: int) -> None:
    """How many events were left out, by channel and kind of reason, with an example of each."""
    kinds = Counter(reason.split(" GPS ")[0] for reason in skipped.values())
    say(f"{path}: {len(skipped)} of {events} events could not be used; the store's attributes list them")
    for kind, count in kinds.most_common(5):
        example = next(i for i, reason in skipped.items() if reason.startswith(kind))
        say(f"  {count} x {kind} (event {example}: {skipped[example]})")
    if len(skipped) == events:
        raise RunError(f"{path}: none of its {events} events could be used: {skipped[min(skipped)]}")


def provenance() -> dict[str, Any]:
    """Where, when and with what a file was made; never part of what is compared."""
    packages = ("glitchflow", "torch", "numpy", "scipy", "gwpy", "zarr", "ray")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "revision": _revision(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _revision() -> str | None:
    """The git revision of the image or the source tree that runs, where it runs from one."""
    if image := os.environ.get("GLITCHFLOW_REVISION"):  # set in our containers
        return image
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
