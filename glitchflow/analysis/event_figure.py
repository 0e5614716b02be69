"""The figure of one event of a store: `glitchflow inspect STORE --event N`.

dataset.zarr      -> the strain above its witnesses
predictions.zarr  -> recorded, generated (before training where it is stored), residual; of a twin that predicts series
                     what is recorded, removed and left, as series and as Q-plots
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glitchflow.analysis.opened import check_whole
from glitchflow.data import store
from glitchflow.data.view import axes, strain_engine
from glitchflow.errors import InputError
from glitchflow.figures import qplots as plots
from glitchflow.figures import save
from glitchflow.figures.subtraction import Subtracted
from glitchflow.figures.subtraction import subtracted as draw_subtracted
from glitchflow.score import metrics
from glitchflow.signal.qtransform import look

SERIES = "removed"  # the array of predictions that only a kind that predicts series has
FAINTEST = 20.0  # a colour scale never ends below, so that noise does not look like a signal


def draw(path: str, event: int | None, figure: str = "") -> Path:
    """Write the figure of an event and return its path, `event-N.png` unless told.

    Raises `InputError`: no such event, or one that nothing was predicted of; no format of that name; the dataset behind
    predictions is not there.
    """
    if event is None:
        raise InputError(f"--figure {figure}: is of one event: give its index with --event N")
    opened = store.open_store(path)
    if not 0 <= event < len(opened):
        raise InputError(f"--event {event}: {path} holds events 0 to {len(opened) - 1}")
    target = Path(figure or f"event-{event}.png")
    formats = FigureCanvasBase.get_supported_filetypes()
    if target.suffix[1:] not in formats:
        raise InputError(f"--figure {figure}: its name must end in one of {', '.join(sorted(formats))}")
    drawn = _response(opened, event) if "checkpoints" in opened.attributes else _channels(opened, event)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save(drawn, target, dpi=150)
    except OSError as error:
        raise InputError(f"--figure {figure}: cannot be written: {error.strerror}") from None
    return target


def _channels(dataset: store.Dataset, event: int) -> Figure:
    energy = np.maximum(np.asarray(dataset["qplot"][event]), 0)
    title, top = _title(dataset, event), loud(energy[0])
    return plots.witnesses_and_strain(
        energy, dataset.channels, *axes(dataset, event), title=title, maximum=top
    )


def _response(predictions: store.Dataset, event: int) -> Figure:
    dataset = _behind(predictions)
    if predictions["split"][event] == store.SPLITS.index("train"):
        check_whole(predictions, f"--event {event}, of the train split")
    if SERIES in predictions:
        return subtracted(dataset, predictions, [event])
    images = response(dataset, predictions, event, untrained=True)
    title, top = _title(dataset, event), loud(images["recorded"])
    return plots.qplot_row(images, *axes(dataset, event), title, top)


def _behind(predictions: store.Dataset) -> store.Dataset:
    """The dataset that predictions are of: where it was, else beside them, as in a run that was moved."""
    known = predictions.attributes["dataset"]
    beside = Path(predictions.path).parent / "dataset.zarr"
    path = known if store.exists(known) else beside
    if not store.exists(path):
        raise InputError(f"{predictions.path}: the dataset it is of is at neither {known} nor {beside}")
    return store.open_store(path)


def response(
    dataset: store.Dataset, predictions: store.Dataset | None, event: int, untrained: bool = False
) -> dict[str, NDArray]:
    """Return the images (F, T) of an event by name: recorded, and with predictions generated and residual."""
    recorded = np.maximum(np.asarray(dataset["qplot"][event, 0]), 0)
    images = {"recorded": recorded}
    if predictions is not None:
        if untrained and "untrained" in predictions:
            images["generated before training"] = np.asarray(predictions["untrained"][event])
        images["generated"] = np.asarray(predictions["qplot"][event])
        images["residual"] = (
            _subtraction(dataset, predictions, event).energies[-1]
            if SERIES in predictions
            else metrics.subtract(recorded[None], images["generated"][None])[0]
        )
    return images


def subtracted(dataset: store.Dataset, predictions: store.Dataset, events: Sequence[int]) -> Figure:
    """Draw events of which series are predicted: recorded, removed and left, as series and as Q-plots."""
    return draw_subtracted([_subtraction(dataset, predictions, event) for event in events])


def _subtraction(dataset: store.Dataset, predictions: store.Dataset, event: int) -> Subtracted:
    """One event before and after: through the strain's own whitening filter, plane and row medians."""
    strain, removed = (
        np.asarray(values, np.float64) for values in (dataset["series"][event, 0], predictions[SERIES][event])
    )
    seen = look(strain_engine(dataset), strain[None])
    taken = seen.whiten(removed[None, None])[0, 0]
    series = np.stack([seen.white[0], taken, seen.white[0] - taken])
    shown = dataset.labels[int(np.asarray(dataset["label"][event]))]
    return Subtracted(
        f"event {event}, {shown}",
        dataset.config.series.sample_rate,
        series,
        seen.energies(series[None])[0],
        *axes(dataset, event),
    )


def loud(strain: NDArray) -> float:
    """Say where a colour scale ends: the strain's loudest pixel."""
    return max(FAINTEST, float(strain.max()))


def _title(dataset: store.Dataset, event: int) -> str:
    label, gps, snr = (float(np.asarray(dataset[name][event])) for name in ("label", "gps", "snr"))
    words = f"event {event}, {dataset.labels[int(label)]}, GPS {gps:.3f}"
    return f"{words}, SNR {snr:.1f}" if snr > 0 else words
