"""A trained twin from Python, opened by what it is: one that cleans gwpy's series, or one that draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from glitchflow import config
from glitchflow.analysis.clean.series import Twin, of_checkpoint
from glitchflow.analysis.sample import LOT, draw_lot, wanted_of
from glitchflow.data.objects import reason
from glitchflow.errors import InputError
from glitchflow.train import checkpoint
from glitchflow.train.checkpoint import Checkpoint
from glitchflow.train.registry import SCHEME
from glitchflow.twin import coherent, generative
from glitchflow.twin.kind import Trained
from glitchflow.twin.white import White

if TYPE_CHECKING:
    from gwpy.timeseries import TimeSeries


@dataclass(frozen=True)
class Drawing:
    """Holds a trained generative twin."""

    found: Checkpoint

    @cached_property
    def _trained(self) -> Trained:
        return self.found.trained()

    @property
    def _white(self) -> White:
        return generative.white_of(self._trained)

    @property
    def strain(self) -> str:
        """Name the channel whose glitches it draws."""
        return self.found.meta.channels[0]

    @property
    def families(self) -> list[str]:
        """Name the families that it has learned."""
        return [name for name, count in zip(self._white.labels, self._white.counts, strict=True) if count]

    def sample(
        self,
        family: str | Sequence[str] = (),
        count: int = 1,
        snr: tuple[float, float] | None = None,
        seed: int = 1,
    ) -> list[TimeSeries]:
        """Draw glitches, in the strain's unit and at the twin's rate: those of `glitchflow sample` by this seed.

        family: one or several of `families`; none: all, as often as the twin saw them. snr: drawn log-uniformly between
        two numbers; None: as the twin saw them. Each series has its family as its name, and 0 in its middle. Of a twin
        that learned from recorded glitches each holds the detector's noise too.

        Raises `InputError` for a family or SNR that the twin was not trained on.
        """
        from gwpy.timeseries import TimeSeries

        names = [family] if isinstance(family, str) else list(family)
        try:
            settings = config.Sample(family=names, count=count, snr=snr)
        except ValidationError as error:
            raise InputError(f"sample: {reason(error)}") from None
        wanted = wanted_of(settings, seed, self.found, self._white)
        found: list[TimeSeries] = []
        for lot in range(-(-count // LOT)):
            drawn = draw_lot(self._trained, wanted, lot)
            white = drawn.series[: count - lot * LOT].astype(np.float64)
            for label, values in zip(drawn.asked.label.tolist(), self._white.undo(white)):
                found.append(
                    TimeSeries(
                        values,
                        t0=-self._white.samples / self._white.rate / 2,
                        sample_rate=self._white.rate,
                        name=self._white.labels[label],
                        channel=self.strain,
                    )
                )
        return found


def open_twin(run: str | Path, block: float = 2.0, settle: float = 1.0, model: str = "") -> Twin | Drawing:
    """Open the twin of a run, the best by validation, or a checkpoint, by its directory.

    A coherent twin comes as a `Twin`, which cleans; a generative one as a `Drawing`, which draws.

    block, settle: `clean.block` and `clean.settle`, in s. model: the import path of a network of your own, for what a
    checkpoint names is not imported else. Raises `InputError` where there is no checkpoint, of another kind of network
    or of code that `model` does not name, and for lengths that the twin cannot have.
    """
    if str(run).startswith(SCHEME):
        raise InputError(
            f"{run}: give the directory that a stage fetched it into, below `registry/` of its workdir"
        )
    found = checkpoint.find(Path(run), str(run)).as_named(model, 'it is named: open_twin(..., model="{}")')
    if found.meta.kind == coherent.KIND.name:
        return of_checkpoint(found, block, settle)
    if found.meta.kind == generative.KIND.name:
        return Drawing(found)
    raise InputError(
        f"{found.path}: is of the {found.meta.kind} kind, with which open_twin neither cleans nor draws; coherent"
        " twins clean, generative ones draw"
    )
