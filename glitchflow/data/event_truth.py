"""What a recipe says of its events beside their series, checked: a user's own may get it wrong.

Shapes: B event, C channel (the strain first), N sample.
"""

from collections.abc import Sequence

import numpy as np

from glitchflow.errors import InputError
from glitchflow.signal.types import Array, Event


def check_shapes(events: Sequence[Event], indices: range, wanted: tuple[int, int], witnessed: bool) -> None:
    """Raise `InputError` for series that are not of the shape wanted, (C, N), or a witnessed part that is not."""
    for index, event in zip(indices, events):
        if event.series.shape != wanted:
            raise InputError(f"event {index}: series of shape {event.series.shape}, not {wanted}")
        if witnessed and (event.witnessed is None or event.witnessed.shape != wanted[1:]):
            raise InputError(
                f"event {index}: `witnessed` must be of shape {wanted[1:]}, as Recipe.witnessed says"
            )


def transient_series(events: Sequence[Event], indices: range) -> Array:
    """Return what the transients alone put into the strain (B, 1, N), in its unit.

    Nothing in background and in events without data. Raises `InputError` where the recipe does not say.
    """
    for index, event in zip(indices, events):
        if event.transient is None and event.label and not event.skipped:
            raise InputError(
                f"store.transients = true: event {index}: the recipe does not say what transients add to the strain"
            )
    silent = np.zeros(events[0].series.shape[-1])
    return np.stack([silent if event.transient is None else event.transient for event in events])[:, None]
