"""A transform for `sgn` pipelines (MPL-2.0, pip install sgn) around the twin: seconds in, cleaned seconds out.

(GPS s, {channel: (n,) of that second, None where it is missing}) --Clean--> `Cleaned` seconds: one, or none yet

clean = Clean(name="clean", line=opened("runs/mine", 0.25, 0.25), source_pad_names=["out"], sink_pad_names=["in"])
Pipeline().insert(source, clean, sink, link_map={"clean:snk:in": "source:src:out", "sink:snk:in": "clean:src:out"})
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from sgn.base import SinkPad, SourcePad, TransformElement
from sgn.frames import Frame

from glitchflow.config import Ingest, Online
from glitchflow.online.line import Cleaned, Line, Memory, advance, start
from glitchflow.online.source import Second
from glitchflow.online.twins import open_twin
from glitchflow.signal.recorded.samples import Samples
from glitchflow.train import checkpoint


def opened(run: str, block: float, settle: float) -> Line:
    """Open the best twin of a run's directory."""
    settings = Online(block=block, settle=settle)
    return open_twin(checkpoint.find(Path(run), run), settings, Ingest()).line


@dataclass
class Clean(TransformElement):
    """Cleans one second after the other; what it remembers is `memory`, which `glitchflow.online.saved` can write."""

    line: Line | None = None
    memory: Memory | None = None
    found: list[Cleaned] = field(default_factory=list)
    ended: bool = False

    def pull(self, pad: SinkPad, frame: Frame) -> None:
        """Take a frame of one second."""
        self.ended, self.found = frame.EOS, []
        if frame.data is None:
            return
        gps, channels = frame.data
        there = {name: values for name, values in channels.items() if values is not None}
        samples = {name: Samples(gps, float(len(v)), np.asarray(v)) for name, v in there.items()}
        second = Second(gps, samples, {})
        if self.memory is None and self.line.strain not in samples:
            return  # it begins with a second of strain
        self.memory, self.found = advance(self.line, self.memory or start(self.line, second), second)

    def new(self, pad: SourcePad) -> Frame:
        """Give the seconds that can be given now."""
        return Frame(EOS=self.ended, is_gap=not self.found, data=self.found)
