"""Glitches drawn from a trained generative twin, over Ray tasks: `samples.zarr`.

    checkpoint, (seed, index) --family, SNR, noise--> solver (twin/generative.py) --> white series --> Q-plot

A draw depends on the checkpoint, the seed, what is asked and its index alone: draws are made in lots of `LOT`, a shard
each, and a lot that is not wanted whole is made whole, so that neither their count nor who makes them changes a bit.

Shapes: E draw, n sample, F frequency, T time.
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glitchflow import config
from glitchflow.analysis.given import sample_given
from glitchflow.analysis.infer import KERNELS, load_network, weights_of
from glitchflow.analysis.inject import Injection, check, inject
from glitchflow.cluster import joins
from glitchflow.config import Experiment, QPlot, Series, Whiten
from glitchflow.data.build import BASE_MEMORY, Job, run_tasks
from glitchflow.data.generate import sizes
from glitchflow.data.memory import Memory
from glitchflow.data.provenance import provenance
from glitchflow.data.store import Array, Dataset, Design, Fixed, Layout, Writer, open_store, write_shard
from glitchflow.device import device
from glitchflow.errors import InputError
from glitchflow.progress import say
from glitchflow.signal.qtransform import QTransform, build_engine
from glitchflow.signal.streams import DRAWN, generator
from glitchflow.train import checkpoint
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.twin import generative, posterior
from glitchflow.twin.generative import Asked, draw
from glitchflow.twin.kind import Trained
from glitchflow.twin.white import White

LOT = 64  # draws that are made at once; another number is other bits
AT_WORK = 160  # numbers that are held for each sample of a lot, with a network of the usual width; measured


@dataclass(frozen=True)
class Wanted:
    """Says which draws are wanted of a checkpoint: everything that one depends on but its index."""

    checkpoint: str
    seed: int
    labels: tuple[int, ...]  # of the families that are drawn, as often as the train split has them
    snr: tuple[float, float] | None  # even in its logarithm; None: as the train split has it
    guidance: float


@joins
def sample(experiment: Experiment, overwrite: bool = False) -> Path:
    """Write `workdir/samples.zarr`, or `sample.path`; returns its path. Goes on where it stopped. Where `sample.into`
    names times, the strain with draws in it too. Of a posterior twin: see `given.sample_given`.

    Raises `InputError` where the checkpoint is of another kind, where it was not trained on what is asked, and where
    other draws are there already.
    """
    settings, path = experiment.sample, experiment.samples
    found = find_twin(experiment)
    if found.kind.name == posterior.KIND.name:
        return sample_given(experiment, found, overwrite)
    assert isinstance(found.normalisation, White), "a generative twin's"
    wanted = wanted_of(settings, experiment.seed, found, found.normalisation)
    injection = injection_of(experiment)
    if injection:
        check(injection, found.normalisation, settings.count, overwrite)
    design = partial(_design, found, found.normalisation, wanted, settings.count)
    agrees = partial(_agrees, _asked(found, wanted), settings.count)
    with Writer.begin(path, design, agrees, overwrite) as writer:
        missing = writer.missing()
        if missing:
            say(f"drawing from {found.path.name} of {found.meta.model['name']}")
        memory = drawing(found.normalisation.samples).total
        job = Job(partial(draw_shard, writer.dataset, wanted), "draws", memory, accelerated=True)
        run_tasks(job, sizes(writer.layout, missing), experiment.cluster, writer.check)
        if not writer.dataset.complete:
            writer.collect()
            writer.complete()
    if injection:
        inject(open_store(path), injection)
    return path


def injection_of(experiment: Experiment) -> Injection | None:
    """Say where draws are put besides; None where `sample.into` names no time. Raises `InputError` without a strain."""
    channels, form = experiment.ingest.channels, experiment.clean.format
    if not experiment.sample.into:
        return None
    if not channels:
        raise InputError("sample.into: ingest.channels = []: name the strain that draws go into")
    return Injection(experiment.sample.into, channels[0], form, Path(experiment.workdir) / "injected")


def drawing(samples: int) -> Memory:
    """Project what a task holds that draws a lot of glitches of so many samples, and their Q-plots after that."""
    work = 4 * LOT * samples * AT_WORK
    return Memory({"Python and libraries": BASE_MEMORY, "torch's kernels": KERNELS, "a lot at work": work})


def find_twin(experiment: Experiment) -> Checkpoint:
    """Find the twin that `infer.checkpoint` names, one that draws. Raises `InputError` for one of another kind."""
    directory = Path(experiment.workdir) / "train" / "checkpoints"
    found = checkpoint.find(directory, experiment.infer.checkpoint, experiment.mlflow.uri)
    found = found.as_named(experiment.model.name)
    if not found.kind.draws:
        raise InputError(
            f"{found.path}: is of the {found.kind.name} kind, which does not draw; a network of model.name=flow or"
            " posterior does"
        )
    return Checkpoint(found.path.absolute(), found.meta)  # Ray's workers stand elsewhere


def wanted_of(settings: config.Sample, seed: int, found: Checkpoint, white: White) -> Wanted:
    """Say what is wanted. Raises `InputError` for a family, or an SNR, that the twin was not trained on."""
    there = [k for k, count in enumerate(white.counts) if count]
    names = [white.labels[k] for k in there]
    for name in settings.family:
        if name not in names:
            raise InputError(
                f"sample.family = {name}: not one that {found.path} was trained on; there are: {', '.join(names)}"
            )
    labels = [k for k in there if not settings.family or white.labels[k] in settings.family]
    for k, (least, most) in ((k, settings.snr) for k in labels if settings.snr):
        low, high = white.snrs[k][0], white.snrs[k][-1]
        if least < low or most > high:
            raise InputError(
                f"sample.snr = [{least:g}, {most:g}]: {found.path} was trained on"
                f" {white.labels[k]} from {low:.3g} to {high:.3g}"
            )
    seed = seed if settings.seed is None else settings.seed
    return Wanted(str(found.path), seed, tuple(labels), settings.snr, settings.guidance)


def asked_of(wanted: Wanted, white: White, lot: int) -> tuple[Asked, NDArray[np.float32]]:
    """Return what is asked of a twin for a lot of draws, and the noise (`LOT`, n) that a Q-plot shows them in."""
    counts = np.array([white.counts[k] for k in wanted.labels], np.float64)
    labels, snrs, noises, around = [], [], [], []
    for index in range(lot * LOT, (lot + 1) * LOT):
        rng = generator(wanted.seed, DRAWN, index)
        label = int(rng.choice(wanted.labels, p=counts / counts.sum()))
        place = rng.random()
        if wanted.snr:
            snr = float(np.exp(np.interp(place, (0, 1), np.log(wanted.snr))))
        else:
            levels = white.snrs[label]
            snr = float(np.interp(place, np.linspace(0, 1, len(levels)), levels))
        labels.append(label)
        snrs.append(snr)
        noises.append(rng.standard_normal(white.samples, np.float32))
        around.append(rng.standard_normal(white.samples, np.float32))
    noise = torch.from_numpy(np.stack(noises))
    asked = Asked(noise, torch.tensor(labels), torch.tensor(snrs, dtype=torch.float32), wanted.guidance)
    return asked, np.stack(around)


@dataclass(frozen=True)
class Lot:
    """Holds `LOT` draws: white series as such events are learned, the glitches alone, their rms before they were made
    as loud as was asked, and the noise that a Q-plot shows them in."""

    asked: Asked
    series: NDArray[np.float32]  # (LOT, n), as the next
    alone: NDArray[np.float32]
    size: NDArray[np.float32]
    around: NDArray[np.float32]


def draw_lot(trained: Trained, wanted: Wanted, lot: int, where: torch.device | str = "cpu") -> Lot:
    """Draw a lot, on the device that the network is on."""
    asked, around = asked_of(wanted, generative.white_of(trained), lot)
    there = Asked(asked.noise.to(where), asked.label.to(where), asked.snr.to(where), asked.guidance)
    series, alone, size = (part.float().cpu().numpy() for part in draw(trained, there))
    return Lot(asked, series, alone, size, around)


def draw_shard(samples: Dataset, wanted: Wanted, shard: int) -> None:
    """Draw and write one shard."""
    trained = load_network(wanted.checkpoint)
    lot = draw_lot(trained, wanted, shard, device())
    span = samples.layout.span(shard)
    some = slice(0, span.stop - span.start)
    shown = lot.series + lot.around if generative.white_of(trained).clean else lot.series
    values: dict[str, NDArray] = {
        "series": lot.series[some],
        "glitch": lot.alone[some],
        "qplot": images(_engine(wanted.checkpoint), shown[some]),
        "label": lot.asked.label.numpy().astype(np.int16)[some],
        "snr": lot.asked.snr.numpy()[some],
        "size": lot.size[some],
    }
    write_shard(samples, shard, {name: values[name] for name in samples.known.arrays})


def images(engine: QTransform, white: NDArray) -> NDArray[np.float32]:
    """Compute the Q-plots (E, F, T) of white series (E, n), in noise."""
    return engine(white[:, None].astype(np.float64)).energy[:, 0].numpy()


@lru_cache(maxsize=1)
def _engine(path: str) -> QTransform:
    """The Q-transform of what a checkpoint draws."""
    return engine_of(checkpoint.open_checkpoint(Path(path)))


def engine_of(found: Checkpoint) -> QTransform:
    """Build the Q-transform of white series as a twin draws them, with the axes of the dataset that it learned from.

    Raises `InputError` where there is no such transform of series so short.
    """
    white, qplot = found.normalisation, QPlot(**found.meta.geometry["qplot"])
    assert isinstance(white, White), "a generative twin's"
    series = Series(duration=white.samples / white.rate, sample_rate=white.rate)
    return build_engine(series, qplot.model_copy(update={"window": "fixed"}), Whiten(asd="none"))


# -- the driver's part -------------------------------------------------------------------------------------------


def _asked(found: Checkpoint, wanted: Wanted) -> dict[str, Any]:
    """What draws depend on, as a store says it."""
    return {
        "weights": weights_of(found),
        "seed": wanted.seed,
        "family": list(wanted.labels),
        "snr": list(wanted.snr) if wanted.snr else None,
        "guidance": wanted.guidance,
    }


def _design(found: Checkpoint, white: White, wanted: Wanted, count: int) -> Design:
    engine, size = engine_of(found), (white.samples,)
    arrays = {
        "qplot": Array(("frequency", "time"), tuple(found.meta.geometry["qplot"]["shape"]), "float32"),
        "series": Array(("sample",), size, "float32"),
        "label": Array((), (), "int16", column=True),
        "snr": Array((), (), "float32", column=True),
        "size": Array((), (), "float32", column=True),
    }
    if not white.clean:
        arrays["glitch"] = Array(("sample",), size, "float32")
    time = np.asarray(engine.times) - white.samples / white.rate / 2
    fixed: Fixed = {"frequency": (("frequency",), np.asarray(engine.frequencies)), "time": (("time",), time)}
    attributes = {
        "source": "sample",
        "channels": found.meta.channels,
        "labels": white.labels,
        "series_are": "glitches alone" if white.clean else "glitches in N(0, 1)",
        "sample_rate": white.rate,
        "taps": white.taps,
        "sampled": _asked(found, wanted),
        "checkpoint": {"path": str(found.path), "step": found.step},
        "provenance": provenance(),
    }
    return Design(arrays, Layout(count, LOT, LOT), attributes, fixed)


def _agrees(asked: dict[str, Any], count: int, there: Dataset) -> None:
    """Refuse draws of something else, or another number of them."""
    before = there.attributes["sampled"] | {"count": len(there)}
    for key, value in (asked | {"count": count}).items():
        if before[key] != value:
            name = {"weights": "the checkpoint"}.get(key, f"sample.{key}")
            raise InputError(
                f"{there.path}: holds draws of {name} = {before[key]}, not {value}; --overwrite it, or choose another"
                " sample.path"
            )
