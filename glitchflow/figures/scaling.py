"""How training speeds up with workers: speed, efficiency, and where the time of a step goes."""

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from glitchflow.figures import drawn
from glitchflow.figures.colours import COLOURS

MODES = ("strong", "weak")


@dataclass(frozen=True)
class Measurement:
    """Of one number of workers; seconds are per step, the slowest worker's, medians over the rounds."""

    mode: str
    workers: int
    batch: int  # global
    samples_per_second: float
    efficiency: float  # against the fewest workers measured, per worker
    step: float
    computation: float
    communication: float  # not hidden behind computation
    waiting: float  # for data


@drawn
def draw_scaling(found: list[Measurement], title: str) -> Figure:
    """Speed, efficiency, and where the time of a step goes, against the number of workers."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    speed, efficiency, parts = figure.subplots(1, 3)
    for index, mode in enumerate(MODES):
        rows = [m for m in found if m.mode == mode]
        x, look = [m.workers for m in rows], {"color": COLOURS[index], "marker": "os"[index]}
        speed.plot(x, [m.samples_per_second for m in rows], label=mode, **look)
        efficiency.plot(x, [m.efficiency for m in rows], label=mode, **look)
    first, last = found[0], max(found, key=lambda m: m.workers)
    ideal = [first.samples_per_second, first.samples_per_second * last.workers / first.workers]
    speed.plot([first.workers, last.workers], ideal, color="#999999", linestyle=":", label="ideal")
    speed.set(xlabel="workers", ylabel="events/s", ylim=(0, None))
    efficiency.axhline(1, color="#999999", linestyle=":")
    efficiency.set(xlabel="workers", ylabel="efficiency", ylim=(0, 1.1))
    efficiency.yaxis.set_major_formatter(PercentFormatter(1.0))
    labels = [f"{m.mode}\n{m.workers}" for m in found]
    bottom = [0.0] * len(found)
    for colour, part in zip(
        (COLOURS[0], COLOURS[1], COLOURS[4]), ("computation", "communication", "waiting")
    ):
        heights = [1e3 * getattr(m, part) for m in found]
        parts.bar(labels, heights, bottom=bottom, label=part, color=colour)
        bottom = [a + b for a, b in zip(bottom, heights)]
    parts.set(xlabel="workers", ylabel="a step [ms]")
    for axis in (speed, efficiency):
        axis.set_xticks(sorted({m.workers for m in found}))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.legend(frameon=False)
    parts.legend(frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure
