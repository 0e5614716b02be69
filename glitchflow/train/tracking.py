"""Metrics of a run: `metrics.jsonl`, one JSON object a line, TensorBoard beside it, figures in `figures/`.

The file is the record; everything else (TensorBoard, MLflow, Ray's metrics endpoint, reports) shows what is in it.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pydantic import ConfigDict
from typing_extensions import TypedDict

from glitchflow.data.objects import parse, write_text
from glitchflow.gauges import tell
from glitchflow.train.board import Board

ENDS = ("failed", "stopped")  # kinds of a run's last line, which a resumed run takes back


class Line(TypedDict):
    """What every line of metrics says of itself, beside its numbers."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    kind: str
    step: int


class Tracker:
    """Appends to a run's metrics. After a resume, lines beyond the step and epoch resumed from are dropped first."""

    def __init__(self, directory: Path, step: int, epoch: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "metrics.jsonl"
        kept = [
            line
            for line in read_metrics(self.path)
            if line["step"] <= step
            and line["kind"] not in ENDS
            and not (line["kind"] == "epoch" and line["epoch"] >= epoch)
        ]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.board = Board(directory / "tensorboard", step + 1 if step else None)
        self.figures = directory / "figures"
        self.artist, self.drawing = ThreadPoolExecutor(1), Future[None]()
        self.drawing.set_result(None)

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """One line, flushed: a killed run keeps what it has reported."""
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self.board.number(f"{kind}/{name}", value, step)
        tell("train", values)
        self.board.flush()

    def draw(self, name: str, step: int, figure: Figure) -> None:
        """Write a figure, in a thread: the other workers do not wait for matplotlib."""
        self.drawing.result()
        self.drawing = self.artist.submit(self._draw, name, step, figure)

    def _draw(self, name: str, step: int, figure: Figure) -> None:
        self.figures.mkdir(exist_ok=True)
        canvas = FigureCanvasAgg(figure)
        canvas.print_png(str(self.figures / f"{name}-{step:08d}.png"))
        self.board.picture(name, np.asarray(canvas.buffer_rgba())[..., :3], step)

    def close(self) -> None:
        """Wait for the last figure, and close the TensorBoard file."""
        self.drawing.result()
        self.artist.shutdown()
        self.board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; none where there is no file, and a last line cut off is left out.

    Raises `RunError` naming a line that is none of a run's metrics.
    """
    *lines, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [parse(path, f"line {number}", line, Line) for number, line in enumerate(lines, 1)]
