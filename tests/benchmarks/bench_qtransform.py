"""The Q-transform against gwpy, in one process: `python tests/benchmarks/bench_qtransform.py`.

Prints one table and exits with status 1 where a required ratio is missed. Times are milliseconds per channel: of one
thread CPU time, of several wall-clock time. Each is the median of several rounds in which all contenders take turns, so
that whatever else the machine does meanwhile hits them alike, and a ratio is the median of the rounds' ratios. Ours
needs one untimed call first.

`--gpu` times the transform on a GPU instead, beside one CPU thread and gwpy on that, from series in the host's memory
to Q-plots there, for several sizes of a batch; and tells how much memory it held, as times of a `piece`.

ml4gw is compared where it is installed. ml4gw 0.8.5 wants torch < 2.11, so that takes an environment of its own:

    python -m venv peer && peer/bin/pip install . ml4gw==0.8.5 && peer/bin/python tests/benchmarks/bench_qtransform.py
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from gwpy.timeseries import TimeSeries

from glitchflow.signal.qtransform import QTransform
from glitchflow.signal.qtransform.piece import piece
from glitchflow.signal.whiten import estimate_asd, whiten
from glitchflow.site.probe import cpu_name

try:
    from ml4gw.transforms import QScan
except ImportError:
    QScan = None


@dataclass(frozen=True)
class Geometry:
    """duration s, sample_rate Hz; ours: our options; gwpys: the reference's; required: smallest ratio of theirs."""

    name: str
    duration: int
    sample_rate: int
    events: int
    channels: int
    ours: dict
    gwpys: dict
    required: float
    shape: tuple[int, int]
    scan_at_most: float | None = None
    crop: int | None = None


NOTEBOOK = Geometry(
    name="notebook: 16 s at 500 Hz, 10-150 Hz, Q 4-64, crop 64 x 64",
    duration=16,
    sample_rate=500,
    events=16,
    channels=4,
    ours={"frange": (10, 150), "select": "channel", "crop": 64},
    gwpys={"frange": (10, 150)},
    required=20,
    shape=(280, 1000),
    scan_at_most=5,
    crop=64,
)
DETECTOR = Geometry(
    name="detector: 8 s at 4096 Hz, 8-500 Hz, Q 12, 64 log rows x 257 over 2 s",
    duration=8,
    sample_rate=4096,
    events=8,
    channels=9,
    ours={"frange": (8, 500), "q": 12, "logf": True, "shape": (64, 257), "outseg": (3.0, 5.0)},
    gwpys={
        "frange": (8, 500),
        "qrange": (12, 12),
        "logf": True,
        "fres": 64,
        "tres": 2 / 257,
        "outseg": (3.0, 5.0),
    },
    required=15,
    shape=(64, 257),
)


def series_of(geometry: Geometry) -> torch.Tensor:
    """Red noise of a strain's size with a sine-Gaussian near the middle of every channel."""
    rng = np.random.default_rng(0)
    samples = geometry.duration * geometry.sample_rate
    t = np.arange(samples) / geometry.sample_rate
    noise = rng.normal(size=(geometry.events, geometry.channels, samples))
    noise += 20 * np.exp(-(((t - geometry.duration / 2) / 0.03) ** 2)) * np.sin(2 * np.pi * 60 * t)
    return torch.from_numpy(1e-21 * (noise + 0.05 * noise.cumsum(-1)))


def gwpy_event(
    geometry: Geometry, event: np.ndarray, outseg: tuple[float, float] | None = None
) -> np.ndarray:
    """One event as the notebook does it: each channel's whole image, then the crop around the strain's peak."""
    options = geometry.gwpys if outseg is None else {**geometry.gwpys, "outseg": outseg}
    if outseg is not None:
        options["tres"] = (outseg[1] - outseg[0]) / (geometry.crop or 1)
    images = [
        TimeSeries(channel, sample_rate=geometry.sample_rate).q_transform(**options).value
        for channel in event
    ]
    if geometry.crop is None or outseg is not None:
        return np.stack([image.T for image in images])
    first = [
        min(max(int(at) - geometry.crop // 2, 0), size - geometry.crop)
        for at, size in zip(
            np.unravel_index(images[0].argmax(), images[0].shape), images[0].shape, strict=True
        )
    ]
    window = tuple(slice(start, start + geometry.crop) for start in first)
    return np.stack([image[window].T for image in images])


def contenders(geometry: Geometry, series: torch.Tensor) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed: name -> (call, number of channels it works on)."""
    transform = QTransform(geometry.duration, geometry.sample_rate, **geometry.ours)
    asd = estimate_asd(series.mean((0, 1)), geometry.sample_rate)
    given = QTransform(geometry.duration, geometry.sample_rate, whiten=asd, **geometry.ours)
    every = geometry.events * geometry.channels
    plot = transform(series)
    step, _ = transform._piece(*series.shape[:2])
    piece = series[:step]  # as many events as the transform takes at once
    conditioned, _, _ = transform._condition(piece, 0)
    spectrum = transform._spectrum(conditioned, transform._scale(conditioned))
    planes = [transform._plane(p) for p in range(len(transform.planes))]
    count = len(piece) * geometry.channels
    blocks = [
        torch.randn(count, rows.count, rows.tiles, dtype=torch.complex64) for p in planes for rows in p.rows()
    ]
    event = series[0].numpy()
    found: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (lambda: transform(series), every),
        "gwpy, as the notebook calls it": (lambda: gwpy_event(geometry, event), geometry.channels),
        "ours, by an ASD that is given": (lambda: given(series), every),
        "our whitening alone": (lambda: whiten(series, geometry.sample_rate), every),
        "bare FFT of as many tiles": (lambda: [torch.fft.ifft(block) for block in blocks], count),
    }
    if len(planes) > 1:
        found["our scan alone"] = (lambda: transform._choose(spectrum), count)
    if geometry.crop is not None:
        start = float(plot.times[0, 0])
        outseg = (start, start + geometry.crop * geometry.duration / 1000)
        found["gwpy, outseg cut to the crop"] = (
            lambda: gwpy_event(geometry, event, outseg),
            geometry.channels,
        )
    if QScan is not None:
        options = {
            "qrange": [12, 12.1] if "q" in geometry.ours else [4, 64],
            "frange": list(geometry.ours["frange"]),
        }
        scan = QScan(geometry.duration, geometry.sample_rate, list(geometry.shape), **options)
        single = series.float() / series.std()
        found["ml4gw QScan (other numbers, not whitened)"] = (lambda: scan(single), every)
    return found


def measure(
    calls: dict[str, tuple[Callable[[], object], int]], rounds: int, clock: Callable[[], float]
) -> dict[str, np.ndarray]:
    """Milliseconds per channel of each contender in each round, by a clock in s, after one untimed round."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, (call, channels) in calls.items():
            begin = clock()
            call()
            if turn:
                spent[name].append(1e3 * (clock() - begin) / channels)
    return {name: np.array(values) for name, values in spent.items()}


def error(geometry: Geometry, series: torch.Tensor) -> float:
    """Largest difference of the first event from gwpy's, over gwpy's largest energy."""
    ours = QTransform(geometry.duration, geometry.sample_rate, **geometry.ours)(series[:1]).energy[0].numpy()
    theirs = gwpy_event(geometry, series[0].numpy())
    return float(np.abs(ours - theirs[..., : ours.shape[-1]]).max() / theirs.max())


def report(geometry: Geometry, threads: int, rounds: int) -> bool:
    """Rows of one geometry; whether everything required of it was met."""
    torch.set_num_threads(threads)
    series = series_of(geometry)
    kind, clock = ("CPU", time.process_time) if threads == 1 else ("wall", time.perf_counter)
    times = measure(contenders(geometry, series), rounds, clock)
    print(f"\n{geometry.name}; {geometry.channels} channels; {threads} thread(s), {kind} time")
    for name, values in times.items():
        ratio = np.median(values / times["ours"])
        print(f"  {name:44s} {np.median(values):9.3f} ms/channel   {ratio:7.2f} x ours")
    if threads > 1:
        return True
    speedup = float(np.median(times["gwpy, as the notebook calls it"] / times["ours"]))
    checks = [
        ("gwpy / ours", speedup, ">=", geometry.required),
        ("error", error(geometry, series), "<=", 1e-4),
    ]
    if geometry.scan_at_most is not None:
        scan = float(np.median(times["our scan alone"] / times["bare FFT of as many tiles"]))
        checks.append(("scan / bare FFT", scan, "<=", geometry.scan_at_most))
    met = True
    for name, value, sign, limit in checks:
        good = value >= limit if sign == ">=" else value <= limit
        met &= good
        print(f"  required: {name} {sign} {limit:g}; is {value:.3g}: {'met' if good else 'MISSED'}")
    return met


def taken_by_cuda() -> None:
    """What a process that transforms on a GPU takes of the host's memory and of the GPU's, beside its tensors."""
    series = series_of(NOTEBOOK)[:1]
    transform = QTransform(NOTEBOOK.duration, NOTEBOOK.sample_rate, **NOTEBOOK.ours)
    transform(series)
    before = resident()
    transform.cuda()(series).cpu()
    free, whole = torch.cuda.mem_get_info()  # also what others take of it
    host, device = resident() - before, whole - free - torch.cuda.memory_reserved()
    print(f"CUDA takes {host / 2**20:,.0f} MiB of the host's memory, {device / 2**20:,.0f} MiB of the GPU's")


def resident() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def on_gpu(geometry: Geometry, rounds: int) -> None:
    """Rows of one geometry: events per second by gwpy, by one CPU thread, and by a GPU."""
    few = series_of(geometry)
    transform = QTransform(geometry.duration, geometry.sample_rate, **geometry.ours)
    on_device = QTransform(geometry.duration, geometry.sample_rate, **geometry.ours).cuda()

    def call(series: torch.Tensor) -> object:
        plot = on_device(series).cpu()
        torch.cuda.synchronize()
        return plot

    event = few[0].numpy()
    calls = {
        "gwpy, one thread": (lambda: gwpy_event(geometry, event), 1),
        "ours, one CPU thread": (lambda: transform(few), len(few)),
    }
    for size in (16, 64, 256, 1024):
        series = few.repeat(-(-size // len(few)), 1, 1)[:size]
        calls[f"ours, GPU, {size} events"] = (partial(call, series), size)
    times = measure(calls, rounds, time.perf_counter)
    print(f"\n{geometry.name}; {geometry.channels} channels; wall time")
    cpu = times["ours, one CPU thread"]
    for name, values in times.items():
        print(
            f"  {name:28s} {1e3 / np.median(values):10.1f} events/s {np.median(cpu / values):9.2f} x one thread"
        )
    found, wanted = call(few).energy, transform(few).energy
    error = float(((found - wanted).abs().amax((2, 3)) / wanted.amax((2, 3))).max())
    step, _ = on_device._piece(1024, geometry.channels)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(few.repeat(-(-step // len(few)), 1, 1)[: min(step, 1024)])
    held = (torch.cuda.max_memory_allocated() - before) / min(step, 1024)
    of_piece = piece(on_device.times.device) / step
    print(f"  largest difference from the CPU, of a channel's largest energy: {error:.1e}")
    print(
        f"  held {held / 2**20:.2f} MiB an event, {held / of_piece:.1f} times of a piece; {step} events a piece"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="rounds to take the median of")
    parser.add_argument(
        "--gpu", action="store_true", help="the transform alone on a GPU, and nothing required"
    )
    arguments = parser.parse_args()
    rounds = arguments.rounds
    if arguments.gpu:
        torch.set_num_threads(1)
        print(f"{torch.cuda.get_device_name()}; {cpu_name()}; torch {torch.__version__}")
        taken_by_cuda()
        for geometry in (NOTEBOOK, DETECTOR):
            on_gpu(geometry, rounds)
        return 0
    every = torch.get_num_threads()
    print(f"{cpu_name()}; torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    print("ml4gw: not installed, not compared" if QScan is None else f"ml4gw {version('ml4gw')}")
    met = True
    for threads in sorted({1, every}):
        for geometry in (NOTEBOOK, DETECTOR):
            met &= report(geometry, threads, rounds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
