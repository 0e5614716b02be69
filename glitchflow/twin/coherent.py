"""The coherent kind: what the witnesses caused in the strain, sample by sample, from their series.

    crop of prepared series (front.py, crops.py) --network (model/bank.py)--> y --templates fitted to strain - y--> q
    y        the estimate: from witnesses alone, with its phase
    y + q    w', what is removed: scattered light has a static phase that no witness knows, and what witnesses alone
             hear (absent.py) is not in the strain

It learns from recorded strain: the loss is the power that is left of it, whose minimum is the mean of the witnessed
part given the witnesses.

Shapes: B, E event (of a batch), R recorded channel, A template, C input, N, n sample (of a crop), F frequency, T time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glitchflow.data.store.dataset import Dataset
from glitchflow.data.store.schema import Array
from glitchflow.data.view import engine_of
from glitchflow.errors import InputError
from glitchflow.model import COHERENT_MODELS
from glitchflow.model.bank import Stft
from glitchflow.signal.qtransform import Seen, look
from glitchflow.signal.types import NOISE_ENERGY, Indices
from glitchflow.twin import absent, levels, scatter, steady
from glitchflow.twin.crops import CROP, by_crops, drops, reads
from glitchflow.twin.front import EDGE, PREPARING, Front, build_front
from glitchflow.twin.geometry import geometry
from glitchflow.twin.kind import Answers, Asking, Exported, Kind, Loss, Prepared, Replaced, Trained, blocks
from glitchflow.twin.ridge import fit, robust
from glitchflow.twin.start import begin, needs

# s before the end that count once more, for the online use: what follows settles there
LATE = (0.55, 0.25)
# the weight of that: at 1 its few, noisy samples have as much of a say as all others, and a training is slower (one
# seed of `synthetic`, validation_left after 283 and 1,132 steps: .29, .116; at 1/4: .21, .107)
LATER = 0.25
# the bank's learning rate over the gates': at 2 it forgets its start (`validation_left` after 275 steps .19, not .16)
PACE = 0.5
BANKS = ("bank.", "steady.")
BETAS = (0.9, 0.98)  # of AdamW: the gradient of rare loud events is remembered for 50 steps
SHOWN = 0.125  # s of the windows of the spectrograms that a training draws
PIECE = 0.125  # s of the pieces that the fit of templates weighs: as long as a loud part of a signal or burst
QUIET = 1.0  # SNR from which what is witnessed in an event is one to be left


def channels(dataset: Dataset, chosen: list[str]) -> list[str]:
    """Name what is read where these are chosen: them, and what the derived ones among them are made from."""
    made = {one.name: one.channels for one in dataset.config.derived}
    return list(dict.fromkeys([*chosen, *(source for name in chosen for source in made.get(name, ()))]))


def front(dataset: Dataset, _name: str, channels: Sequence[str], before: Prepared | None = None) -> Front:
    """Find how these channels are prepared, how scatterers follow theirs, and what is shared; `loader.normalise` is
    about images. A network that was trained with another front has as many experts as that said."""
    found = scatter.known(build_front(dataset, channels), dataset)
    return replace(found, steady=before.steady) if isinstance(before, Front) else steady.known(found, dataset)


def about(dataset: Dataset, channels: Sequence[str]) -> dict[str, Any]:
    """Say how the series are made, and how loud each channel is over the train split, by its image."""
    known = (dataset.normalisation or {}).get("loudness")
    loudness = [known[dataset.channels.index(name)] for name in channels] if known else None
    return {"geometry": geometry(dataset, channels), "loudness": loudness}


def sees(front: Front) -> tuple[int, dict[str, Any]]:
    """Say how many channels a network sees, and what it has to know of them."""
    highest = front.band[1] * (1 + EDGE) * front.slower  # to a network all is played so much faster
    more = {"templates": front.templates, "rate": front.unit, "highest": highest}
    # said where there are any only: a network of a user's own, or a checkpoint of before, knows of none
    return front.seen, more | ({"steady": front.steady} if front.steady else {})


# -- what it learns ----------------------------------------------------------------------------------------------------


def loss(name: str, front: Front) -> Loss:
    """Return the loss of y (B, 1, n), given strain and templates (B, 1 + A, n): the mean power left of the strain.

    What is near the end counts once more. Raises `InputError` for another name than l2.
    """
    if name != "l2":
        raise InputError(f"train.loss = {name}: a coherent twin is trained with l2, the power that it leaves")
    late = slice(*(-round(edge * front.unit) for edge in LATE))

    def power(generated: Tensor, target: Tensor) -> Tensor:
        left = (target[:, 0] - removed(front, generated, target, learning=True)).square()
        return left.mean() + LATER * left[:, late].mean()

    return power


def removed(front: Front, generated: Tensor, target: Tensor, *, learning: bool = False) -> Tensor:
    """Compute w' = y + q (B, n), white, of y (B, 1, n), strain and templates (B, 1 + A, n).

    learning: of a y that the strain does not hear, too; what is passed through would teach nothing.
    """
    y, strain, (low, high) = generated[:, 0], target[:, 0], front.band
    piece, variance = round(PIECE * front.unit), (high - low) / (front.rate / 2)
    q = robust(target[:, 1:], strain - y, front.prior, piece, variance)
    if not (learning or front.steady):  # and q anew, which would hold a part of the y that is passed through
        y = y * absent.heard(y, strain - q, piece, variance)
        q = robust(target[:, 1:], strain - y, front.prior, piece, variance)
    if front.steady:
        q = q + fit(steady.moments(front, y), strain - y - q, 1.0)
    return y + q


def finish(network: nn.Module, front: Front, loss: str) -> None:
    """Do nothing: the network's output is y, whatever the loss."""


def groups(network: nn.Module) -> list[dict[str, Any]]:
    """Share out the weights to be trained: the gates, and the bank, at a pace of its own and not drawn to 0."""
    gates = [weight for name, weight in network.named_parameters() if not name.startswith(BANKS)]
    bank = [weight for name, weight in network.named_parameters() if name.startswith(BANKS)]
    filters = {"params": bank, "factor": PACE, "weight_decay": 0.0, "betas": BETAS}
    return [{"params": gates, "betas": BETAS}, *([filters] if bank else [])]


# -- how a training is scored ------------------------------------------------------------------------------------

TALLIED = ("left", "witnessed", "added", "quiet")


def energies(front: Front, value: Tensor) -> Tensor:
    """Compute the energies (B, F, T) of a strain as recorded or generated (B, ..., n), on the CPU: those of a short
    Fourier transform, in units of a Q-plot's."""
    spectra = Stft(round(SHOWN / 2 * front.unit)).to(value.device)(value[:, 0].float())
    return (spectra.abs().square() * NOISE_ENERGY).cpu()


def axes(front: Front) -> tuple[NDArray, NDArray]:
    """Return frequencies (F,) in Hz and times (T,) in s from the event of what `energies` gives of a crop."""
    hop, half = round(SHOWN / 2 * front.unit), CROP / 2 * front.slower
    frames = -(-round(CROP * front.unit) // hop)
    return np.arange(hop) * (front.rate / (2 * hop)), np.arange(frames) * (hop / front.rate) - half


def tally(front: Front, generated: Tensor, target: Tensor, parts: Sequence[Tensor]) -> dict[str, float]:
    """Sum over a batch, in the span that is judged; 0 where nobody knows the witnessed part w.

    parts: (B, N) in the strain's unit, of transients, then of stationary noise that witnesses share.
    left, witnessed: (w - w')^2 and w^2 where a transient is witnessed; added, quiet: (w - w')^2 and s^2 elsewhere.
    """
    if not parts:
        return dict.fromkeys(TALLIED, 0.0)
    strain, taken = target[:, 0].double().cpu(), removed(front, generated, target).double().cpu()
    transients, *shared = (front.strain(part.double()) for part in parts)
    half, middle, centre = (
        round(x / 2) for x in (front.span * front.rate, CROP * front.unit, transients.shape[-1])
    )
    shown, there = slice(middle - half, middle + half), slice(centre - half, centre + half)
    w = sum(shared, transients)[:, there]
    loud = transients[:, there].square().sum(-1) >= QUIET**2
    missed, power, noise = (one.square().sum(-1) for one in (w - taken[:, shown], w, strain[:, shown]))
    sums = missed[loud], power[loud], missed[~loud], noise[~loud]
    return {name: float(one.sum()) for name, one in zip(TALLIED, sums, strict=True)}


def scores(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the scores of a validation, without those that no event defines; see docs/scores.md.

    validation_left   sum (w - w')^2 / sum w^2 over events where something is witnessed: 1 for nothing removed
    validation_added  rms of w' over that of the strain, in other events; with shared noise: of what is wrong in w'
    """
    ratios = {"validation_left": ("left", "witnessed"), "validation_added": ("added", "quiet")}
    found = {name: sums[a] / sums[b] for name, (a, b) in ratios.items() if sums[b] > 0}
    if "validation_added" in found:
        found["validation_added"] = math.sqrt(found["validation_added"])
    return found


# -- what it predicts --------------------------------------------------------------------------------------------


def generate(
    network: nn.Module, front: Front, values: Tensor, groups: Tensor | None = None
) -> dict[str, Tensor]:
    """Generate, of prepared crops (B, 1 + A + C, n): `estimate` y and `removed` w', white (B, n) each.

    groups: (G, C) of 0 and 1; what each of them puts into y is `parts` (B, G, n).
    """
    given, more = values[:, 1:], {}
    if groups is None:
        y = network(given)
    else:  # y is the part of all inputs: the gates, which are most of the work, are asked once
        parts = network.parts(given, torch.cat([torch.ones_like(groups[:1]), groups]))  # type: ignore[operator]
        y, more = parts[:, :1], {"parts": parts[:, 1:]}
    return {"estimate": y[:, 0], "removed": removed(front, y, values[:, : 1 + front.templates]), **more}


def arrays(dataset: Dataset) -> dict[str, Array]:
    """Describe what `infer` gives: series in the strain's unit, and their Q-plots as the strain's is made."""
    image = Array(("frequency", "time"), dataset["qplot"].shape[2:], "float32")
    series = Array(("sample",), (dataset["series"].shape[-1],), "float32")
    return {"qplot": image, "estimate_qplot": image, "estimate": series, "removed": series}


def predict(
    trained: Trained, block: NDArray, channels: Sequence[str], batch: int, replaced: Replaced = None
) -> dict[str, NDArray]:
    """Predict `estimate` and `removed` (E, N) float64, in the strain's unit, of recorded series (E, channel, N).

    They reach a little beyond the span that is judged, and are 0 further out. Witnesses that are replaced are silent,
    whatever they show instead, and all that is made of them; one that is derived is none of those that are read.
    """
    front, parts = _front(trained), []
    places = [channels.index(name) for name in front.channels]
    silent = [trained.channels[1 + place] for place in replaced or ()]
    for start in range(0, len(block), batch):
        raw = torch.from_numpy(block[start : start + batch][:, places].astype(np.float64))
        raw[:, [k for k, name in enumerate(front.channels) if name in silent]] = 0
        parts.append(
            {name: front.undo(white) for name, white in white_of(trained, front.prepare(raw)).items()}
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def infer(asked: Sequence[Asking], dataset: Dataset, events: Indices, batch: int) -> Answers:
    """Predict ascending events of a dataset: `arrays`, (B, ...) each. `qplot` is that of what is removed."""
    channels = list(dict.fromkeys(name for one in asked for name in _front(one.trained).channels))
    places = [dataset.recorded_channels.index(name) for name in channels]
    engine = engine_of(dataset, dataset.channels[:1], "mask")  # a strain out of lock shows nothing
    for raw in blocks(dataset, "series", events, places, batch):
        seen = look(engine, raw[:, 0].astype(np.float64))
        for one in asked:
            yield _shown(seen, predict(one.trained, raw, channels, batch, one.replaced))


def _shown(seen: Seen, series: dict[str, NDArray]) -> dict[str, NDArray[np.float32]]:
    """Add to what is predicted how it looks where it was recorded."""
    energies = seen.energies(seen.whiten(np.stack([series["removed"], series["estimate"]], axis=1)))
    found = {"qplot": energies[:, 0], "estimate_qplot": energies[:, 1], **series}
    return {name: value.astype(np.float32) for name, value in found.items()}


def quiet(_dataset: Dataset, _front: Front, channels: Sequence[str], _events: Indices) -> NDArray[np.float32]:
    """Say what each witness shows when nothing happens (W, 1): nothing."""
    return np.zeros((len(channels) - 1, 1), np.float32)


def _front(trained: Trained) -> Front:
    assert isinstance(trained.normalisation, Front), "a coherent twin's"
    return trained.normalisation


@torch.inference_mode()
def white_of(trained: Trained, prepared: Tensor) -> dict[str, NDArray]:
    """Predict the middle of whole prepared series (B, 1 + A + C, N), white: (B, N) each."""
    front, weight = _front(trained), next(trained.network.parameters())
    return by_crops(front, prepared, lambda crops: generate(trained.network, front, crops.to(weight)))


def fitted(front: Front, series: NDArray, estimate: NDArray) -> NDArray:
    """Compute w' = y + q (B, N), in the strain's unit, of recorded series (B, R, N) and y (B, N) that is known.

    It is what `predict` says, and of another strain what it would say.
    """
    prepared = front.prepare(torch.from_numpy(series))[:, : 1 + front.templates]
    y = front.strain(torch.from_numpy(estimate))
    given = torch.cat([y[:, None], prepared], dim=1)
    fits = by_crops(front, given, lambda one: {"fit": removed(front, one[:, :1], one[:, 1:]) - one[:, 0]})
    return estimate + front.undo(fits["fit"])


# -- as a program ------------------------------------------------------------------------------------------------


class Program(nn.Module):
    """A network with its front: recorded series (B, R, n), the strain first -> white y and w' (B, 2, n)."""

    def __init__(self, network: nn.Module, front: Front) -> None:
        super().__init__()
        self.network, self.front = network, front

    def forward(self, series: Tensor) -> Tensor:
        """Map recorded series (B, R, n) float64 to y and w' (B, 2, n) float32."""
        dtype = next(self.network.parameters()).dtype
        found = generate(self.network, self.front, self.front.prepare(series.double()).to(dtype))
        return torch.stack([found["estimate"], found["removed"]], dim=1).float()


def example(events: int, shape: Sequence[int]) -> Tensor:
    """Make noise with a loud moment in all channels; `shape` is (R, n) of one event."""
    values = torch.randn(events, *shape, generator=torch.Generator().manual_seed(events), dtype=torch.float64)
    values[..., shape[1] // 2 : shape[1] // 2 + shape[1] // 16] *= 20
    return values


def program_shape(front: Front, _shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape (R, n) of what a program takes of one event."""
    return len(front.channels), round(CROP * front.unit)


KIND = Kind(
    name="coherent",
    models=COHERENT_MODELS,
    array="series",
    truth=("witnessed_series", "shared_series"),
    channels=channels,
    normalisation=front,
    about=about,
    levels=levels.known,
    sees=sees,
    reads=reads,
    drops=drops,
    loss=loss,
    start=begin,
    finish=finish,
    groups=groups,
    predict=predict,
    infer=infer,
    quiet=quiet,
    arrays=arrays,
    needs=needs,
    outputs=5,
    activations=80,  # measured with the default network, five witnesses, and 32 events of 16 s at once
    preparing=2 * PREPARING,  # float64
    energies=energies,
    axes=lambda _dataset, front: axes(front),
    tallied=TALLIED,
    tally=tally,
    scores=scores,
    metric="validation_loss",
    exported=Exported(
        Program,
        example,
        program_shape,
        lambda front: {
            "channels": front.channels,
            "rate": front.rate,
            "taps": front.taps[0],
            "input": ["event", "channel", "sample"],
            "output": ["event", "estimate, removed", "sample"],
            "unit": "the strain whitened by `taps` (scipy.signal.lfilter([1], taps, x) undoes it) within qplot.frange;"
            f" the first {CROP / 8 * front.slower:g} s of a crop, whose past is not known, are of no use; float32",
        },
    ),
)
