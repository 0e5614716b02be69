"""Events -> Q-plots -> store: one Ray task per missing shard, for simulated and recorded events alike.

    1. the driver chooses the layout from the configuration and writes the store's metadata
    2. each task makes the events of one shard, their Q-plots, and writes the shard whole
    3. the driver adds up the statistics in shard order and marks the store complete

A run that was stopped at any point goes on with the shards that have no done-marker.

Shapes: B event of a block, C channel, F frequency, T time, N sample.
"""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glitchflow.cluster import session, threads
from glitchflow.config import Experiment, InputError, RunError, parse
from glitchflow.config.schema import Cluster
from glitchflow.data import store
from glitchflow.data.normalise import reduce_statistics, statistics
from glitchflow.progress import say, track
from glitchflow.signal import QTransform
from glitchflow.signal.ingest import recorded
from glitchflow.signal.simulate import SPLIT, Event, Recipe, build_recipe, generator

BLOCK = 16  # events whose Q-plots are made at once: a task's memory does not depend on the shard's size
CONTENT = {
    "simulate": ("seed", "series", "simulate", "derived", "qplot", "store", "split"),
    "ingest": ("seed", "series", "ingest", "derived", "qplot", "store", "split"),
}


# -- the stages --------------------------------------------------------------------------------------------------


def generate(experiment: Experiment, overwrite: bool = False, shard: int | None = None) -> Path:
    """Make `workdir/dataset.zarr` of synthetic events; `shard` makes one shard alone. Returns its path.

    Raises `InputError` for a store made from other settings, `RunError` for a disk that refuses.
    """
    return _make(experiment, "simulate", overwrite, shard)


def ingest(experiment: Experiment, overwrite: bool = False, shard: int | None = None) -> Path:
    """Make `workdir/dataset.zarr` of recorded events, or of another store's series. Returns its path.

    Raises `InputError` besides for files that do not hold what the configuration asks of them.
    """
    return _make(experiment, "ingest", overwrite, shard)


def _make(experiment: Experiment, source: str, overwrite: bool, shard: int | None) -> Path:
    path = experiment.dataset
    recipe, engine = _prepare(experiment.model_dump_json(), source)
    if overwrite or not store.exists(path):
        _create(experiment, source, recipe, engine)
    _same_content(experiment, source)
    layout = store.open_store(path, complete=False).layout
    if shard is not None and not 0 <= shard < layout.shards:
        raise InputError(f"--shard {shard}: the store has shards 0 to {layout.shards - 1}")
    missing = store.missing_shards(path)
    wanted = missing if shard is None else [shard]
    if len(missing) < layout.shards:
        say(f"{path}: {layout.shards - len(missing)} of {layout.shards} shards are there already")
    if wanted:
        make = partial(make_shard, experiment.model_dump_json(), source, str(path))
        run_shards(make, wanted, layout, experiment.cluster, "Q-plots")
    if not store.missing_shards(path) and not store.open_store(path, complete=False).attributes["complete"]:
        _finalise(path, layout)
    return path


def run_shards(
    make: Callable[[int], None],
    shards: Iterable[int],
    layout: store.Layout,
    cluster: Cluster,
    label: str,
    accelerated: bool = False,
) -> None:
    """Call `make(shard)` in a Ray task per shard, two per CPU in flight, failed workers' tasks retried.

    With `accelerated` each task takes a GPU of its own where the cluster has any.

    `make` writes its shard itself. The first error of a task ends the run with that error; shards already
    written stay.
    """
    waiting: list[int] = list(shards)
    running: dict[Any, int] = {}
    sizes = {k: layout.span(k).stop - layout.span(k).start for k in waiting}
    with session(cluster), track(sum(sizes.values()), label, "events") as advance:
        import ray

        gpus = int(accelerated and ray.cluster_resources().get("GPU", 0) > 0)
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=3)(_call)
        shared = ray.put(make)
        slots = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            while waiting and len(running) < slots:
                k = waiting.pop(0)
                running[task.remote(shared, k)] = k
            ready, _ = ray.wait(list(running), num_returns=1)
            for reference in ready:
                k = running.pop(reference)
                _result(reference, k)
                advance(sizes[k])


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


def _create(experiment: Experiment, source: str, recipe: Recipe, engine: QTransform) -> None:
    _make_block(
        experiment, recipe, engine, range(1)
    )  # what is wrong shows before anything is made or replaced
    arrays = _arrays(experiment, recipe)
    layout = store.choose_layout(recipe.events, arrays, experiment.store.chunk_mb, experiment.store.shard_mb)
    axes = {"channel": np.array(recipe.channels, dtype=object)}
    if experiment.qplot.window == "fixed":
        centre = experiment.series.duration / 2
        axes |= {"frequency": np.asarray(engine.frequencies), "time": np.asarray(engine.times) - centre}
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
    store.create(experiment.dataset, arrays, layout, axes, attributes, experiment.store.compression)


def _arrays(experiment: Experiment, recipe: Recipe) -> dict[str, store.Array]:
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
    if experiment.store.series:
        arrays["series"] = store.Array(("channel", "sample"), (channels, samples), "float64")
        if recipe.witnessed:
            arrays["witnessed_series"] = store.Array(("sample",), (samples,), "float64")
    return arrays


def _content(experiment: Experiment, source: str) -> dict[str, Any]:
    """The part of the configuration that a store's bytes depend on."""
    return experiment.model_dump(mode="json", include=set(CONTENT[source]))


def _same_content(experiment: Experiment, source: str) -> None:
    path = experiment.dataset
    stored = store.open_store(path, complete=False).attributes["config"]
    differing = sorted(_differences(stored, _content(experiment, source)))
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


def _finalise(path: Path, layout: store.Layout) -> None:
    shares = [store.marker(path, k)["statistics"] for k in range(layout.shards)]
    try:
        normalisation = reduce_statistics(shares)
    except ValueError:
        normalisation = None  # a handful of recorded events need not hold any for training
    store.finalise(path, {"normalisation": normalisation})


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
    """The git revision of the source tree that runs, where it runs from one."""
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# -- a task's part -----------------------------------------------------------------------------------------------


def make_shard(experiment_json: str, source: str, path: str, shard: int) -> None:
    """Make and write one shard: its content depends on the experiment and the event indices alone."""
    recipe, engine = _prepare(experiment_json, source)
    experiment = _parse(experiment_json)
    dataset = store.open_store(path, complete=False)
    span = dataset.layout.span(shard)
    names = dataset.attributes["arrays"]
    values = {name: _empty(dataset, name, span) for name in names}
    for start in range(span.start, span.stop, BLOCK):
        indices = range(start, min(start + BLOCK, span.stop))
        block = _make_block(experiment, recipe, engine, indices)
        for name in names:
            values[name][start - span.start : indices.stop - span.start] = block[name]
    train = values["split"] == store.SPLITS.index("train")
    store.write_shard(path, shard, values, statistics(values["qplot"][train]))


def _make_block(
    experiment: Experiment, recipe: Recipe, engine: QTransform, indices: range
) -> dict[str, NDArray]:
    """The arrays of some events."""
    events = [recipe.event(i) for i in indices]
    _check_shapes(events, indices, (len(recipe.channels), experiment.series.samples), bool(recipe.witnessed))
    series = np.stack([event.series for event in events])
    explained = np.stack([event.witnessed for event in events]) if recipe.witnessed else None  # type: ignore[misc]
    try:
        plot = engine(series, companion=explained)
    except ValueError as error:
        raise InputError(f"Q-plots of the events from {indices.start} on: {error}") from None
    gps = np.array([event.gps for event in events])
    block: dict[str, Any] = {
        "qplot": plot.energy.numpy(),
        "gps": gps,
        "q": plot.q.numpy(),
        "label": np.array([event.label for event in events], dtype=np.int8),
        "split": np.array([_split(experiment, recipe.split_key(i)) for i in indices], dtype=np.int8),
        "snr": np.array([event.snr for event in events]),
        "series": series,
    }
    if experiment.qplot.window == "loudest":
        block["frequency0"] = np.asarray(plot.frequencies)[:, 0]
        block["time0"] = np.asarray(plot.times)[:, 0] + gps - experiment.series.duration / 2
    if explained is not None:
        block |= {"witnessed": plot.companion.numpy(), "witnessed_series": explained}
    return block


def _check_shapes(events: list[Event], indices: range, wanted: tuple[int, int], witnessed: bool) -> None:
    """A recipe of a user's own may get them wrong."""
    for index, event in zip(indices, events):
        if event.series.shape != wanted:
            raise InputError(f"event {index}: series of shape {event.series.shape}, not {wanted}")
        if witnessed and (event.witnessed is None or event.witnessed.shape != wanted[1:]):
            raise InputError(
                f"event {index}: `witnessed` must be of shape {wanted[1:]}, as Recipe.witnessed says"
            )


def _empty(dataset: store.Dataset, name: str, span: slice) -> NDArray:
    array = dataset[name]
    return np.empty((span.stop - span.start, *array.shape[1:]), dtype=array.dtype)


def _split(experiment: Experiment, key: int) -> int:
    """The split of an event, by its own random number: later events never change it."""
    draw = generator(experiment.seed, SPLIT, key).random()
    test, validation = experiment.split.test, experiment.split.validation
    return store.SPLITS.index(
        "test" if draw < test else "validation" if draw < test + validation else "train"
    )


@lru_cache(maxsize=2)
def _parse(experiment_json: str) -> Experiment:
    return Experiment.model_validate_json(experiment_json)


@lru_cache(maxsize=2)
def _prepare(experiment_json: str, source: str) -> tuple[Recipe, QTransform]:
    """The recipe and the engine of an experiment, built once per process."""
    experiment = _parse(experiment_json)
    if source == "ingest" and experiment.ingest.series_from:
        recipe = _stored_series(experiment)
    else:
        recipe = {"simulate": build_recipe, "ingest": recorded}[source](experiment)
    return recipe, build_engine(experiment)


def build_engine(experiment: Experiment) -> QTransform:
    """The Q-transform that `qplot` and `series` describe. Raises `InputError` where it does not exist."""
    series, qplot = experiment.series, experiment.qplot
    same = ("frange", "mismatch", "select", "fduration", "fftlength", "highpass")
    settings = {name: getattr(qplot, name) for name in same} | _image(experiment)
    settings |= {"qrange": qplot.qrange} if qplot.q is None else {"q": qplot.q}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a band cut short, which is refused here
            engine = QTransform(duration=series.duration, sample_rate=series.sample_rate, **settings)
    except ValueError as error:
        raise InputError(f"qplot: {error}") from None
    low, high = qplot.frange
    if engine.frange[1] < high:
        raise InputError(
            f"qplot.frange = [{low:g}, {high:g}]: the lowest Q, {float(engine.qs[0]):.3g}, reaches"
            f" {engine.frange[1]:g} Hz at series.sample_rate = {series.sample_rate:g}"
        )
    return engine


def _image(experiment: Experiment) -> dict[str, Any]:
    """The engine's settings for what of the whole Q-plot is shown."""
    duration, qplot = experiment.series.duration, experiment.qplot
    if qplot.window == "fixed":
        start = (duration - qplot.span) / 2
        return {"outseg": (start, start + qplot.span), "shape": qplot.shape, "logf": qplot.log_frequency}
    settle = qplot.fduration / 2  # half the whitening filter at each end is never shown
    outseg = (settle, duration - settle)
    return {"outseg": outseg, "tres": qplot.tres, "fres": qplot.fres, "crop": qplot.shape}


def _stored_series(experiment: Experiment) -> Recipe:
    """The events of a store that kept its series: to make their Q-plots anew with other settings."""
    path = experiment.ingest.series_from
    old = store.open_store(path)
    if "series" not in old:
        raise InputError(f"ingest.series_from = {path}: has no series; generate it with store.series=true")
    before = parse(old.attributes["config"], path)
    if before.series != experiment.series:
        raise InputError(
            f"ingest.series_from = {path}: has series of {before.series}, not {experiment.series}"
        )
    if before.derived != experiment.derived:
        raise InputError(
            f"ingest.series_from = {path}: holds derived channels already; take its `derived` over as it is"
        )
    if Path(path) == experiment.dataset:
        raise InputError(f"ingest.series_from = {path}: is what would be written; choose another workdir")
    gps, block = np.asarray(old["gps"][:]), experiment.split.block
    recorded = old.attributes["recorded"]
    return Recipe(
        events=len(old),
        channels=old.channels,
        labels=old.labels,
        witnessed=old.attributes["witnessed_labels"],
        couplings=old.attributes["couplings"],
        event=partial(_stored_event, old),
        split_key=(lambda i: int(gps[i] // block)) if recorded else int,
        recorded=recorded,
    )


def _stored_event(old: store.Dataset, index: int) -> Event:
    known = "witnessed_series" in old
    return Event(
        series=np.asarray(old["series"][index]),
        witnessed=np.asarray(old["witnessed_series"][index]) if known else None,
        label=int(np.asarray(old["label"][index])),
        gps=float(np.asarray(old["gps"][index])),
        snr=float(np.asarray(old["snr"][index])),
    )
