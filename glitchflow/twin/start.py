"""Where a coherent network's bank starts: filters from witnesses to the strain, one for each way that they couple.

    train events, where anything is loud --whose directions are alike?--> groups --path of each, noise taken out-->
    experts, sensors

What one disturbance puts into strain and witnesses at a frequency, its noise made white, points in one direction,
however loud it is: how it couples. Events are sorted into K lines through 0 at each frequency, by turns as k-means is
(k-plane clustering: Bradley & Mangasarian 2000, J. Global Optim. 16, 23); that an event is all of one group joins
frequencies. Neither families nor the witnessed part are known to it: how disturbances couple shows in
recorded data.

Shapes: E event, C input, D = 1 + C channel (the strain first), N sample, F frequency, L loud cell of a frequency, K
group or filter, P tap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glitchflow.data.content import Content
from glitchflow.data.store.dataset import Dataset
from glitchflow.model.bank import Bank, Coherent
from glitchflow.twin import steady
from glitchflow.twin.crops import AFTER, BEFORE, CROP, MARGIN
from glitchflow.twin.front import EDGE, PREPARING, Front, read, slowness, together
from glitchflow.twin.kind import Needs
from glitchflow.twin.made import arranged
from glitchflow.twin.ridge import fit

EVENTS = 2048  # of the train split that are looked at: groups of a dozen loud ones are still found
SPAN = 2.0  # s in the middle of an event: a transient lasts less, and a filter a tenth of it
ROWS = 12.0  # Hz over which loudness is meant where events are chosen: a burst fills about as many
CELL = 2.0  # Hz either way over which it is meant of cells, and that a direction is of: as far as a filter resolves
INPUTS = 24  # at most that take part, those that are loud most often: time grows as their square; others start silent
LOUD = 4.0  # power over the noise's, in any channel, where a cell says something
STARTS = 8  # from groups drawn at random, of which the best is kept: one in four is nearly as good
ROUNDS = 15  # turns of grouping and fitting: later ones move few events
TURNS = 20  # of the power method for a direction
DEAF = 0.005  # of a disturbance's power in the strain, that witnesses hear at least where a path is known
NOTHING = 1e-3  # of the greatest noise: with less, as outside their band, channels are not heard better
SEEN = 2.5  # copies of the spectra that are held at once
MATRICES = 4  # of inputs by inputs at each frequency: cross powers, and what solving them takes
FAINT = 0.1  # of a filter's median response: where it passes less, its noise is not brought to unit variance


def spectra(front: Front, dataset: Dataset, shared: Bank | None = None) -> tuple[Tensor, Tensor]:
    """Transform the middle of train events, in a Hann window, scaled so that unit white noise has E|z|^2 = 1.

    shared: a steady expert's filter, whose estimate is taken out of the strain, as far as it is in it: where it is not,
    nothing else is to make up for it.
    Returns strain and inputs (E, D, F) of the half of them whose inputs are loudest, and the cross power (F, D, D) of
    noise: that of the quietest quarter.
    """
    train = dataset.indices("train")
    events = train[:: max(1, -(-len(train) // EVENTS))]
    length, margin = 2 * round(SPAN / 2 * front.unit), round(MARGIN * front.unit)
    window = torch.hann_window(length, dtype=torch.float64)
    found = []
    for raw in read(front, dataset, events):
        first = max(0, (raw.shape[-1] - length) // 2 - margin)
        prepared = front.prepare(raw[..., first : first + length + 2 * margin])
        chosen = torch.cat([prepared[:, :1], prepared[:, 1 + front.templates :]], dim=1)
        if shared is not None:
            y = shared(chosen[:, 1:].to(shared.taps)).sum(1).to(chosen)
            rest = chosen[:, 0] - y
            chosen[:, 0] = rest - fit(steady.moments(front, y), rest, 1.0)
        chosen = chosen[..., margin : margin + length]
        found.append(
            torch.fft.rfft(chosen * (window / window.square().sum().sqrt()), length).to(torch.complex64)
        )
    whole = torch.cat(found)
    del found
    power = _over(whole[:, 1:].abs().square(), round(ROWS * SPAN / 2))
    order = power.amax(dim=(1, 2)).argsort(descending=True, stable=True)
    loud, quiet = order[: -(-len(order) // 2)], order[-(-len(order) * 3 // 4) :]
    return whole[loud], cross_power(whole[quiet if len(quiet) else order])


def cross_power(quiet: Tensor) -> Tensor:
    """Return the mean cross power (F, D, D) of spectra (E, D, F), over neighbouring frequencies."""
    matrix = torch.einsum("ecf,edf->fcd", quiet, quiet.conj()) / len(quiet)
    return _mean(matrix, round(ROWS * SPAN / 2))


def loudest(seen: Tensor, noise: Tensor) -> Tensor:
    """Choose inputs, ascending: at most `INPUTS`, those that are loud most often in spectra (E, D, F) over their noise
    (F, D, D)."""
    floor = noise.diagonal(dim1=1, dim2=2).real.T
    loud = _over(seen.abs().square(), round(CELL * SPAN)) > LOUD * (floor + NOTHING * floor.amax())
    return loud[:, 1:].sum((0, 2)).argsort(descending=True, stable=True)[:INPUTS].sort().values


@dataclass(frozen=True)
class Cells:
    """Holds where something is loud: of each frequency as many cells as the one with the most has, others of weight 0.

    spectra: (F, L, D), of white noise. event: (F, L). weight: (F, L), one over the power: a direction is as well known
    from any loud cell, and the loudest events do not decide.
    """

    spectra: Tensor
    event: Tensor
    weight: Tensor
    events: int
    width: int  # frequencies either way that a direction is of


def cells(seen: Tensor, whitener: Tensor) -> Cells:
    """Find the loud cells of spectra (E, D, F), made white by (F, D, D)."""
    white = torch.einsum("fcd,edf->fec", whitener, seen)
    width = round(CELL * SPAN)
    loudness = _over(white.abs().square().permute(1, 2, 0), width)  # (E, D, F)
    loud = (loudness.amax(1) > LOUD).T  # (F, E)
    order = loud.int().argsort(dim=1, descending=True, stable=True)[:, : max(1, int(loud.sum(1).max()))]
    weight = torch.where(loud, 1 / loudness.sum(1).T, 0.0).gather(1, order)
    chosen = white.gather(1, order[..., None].expand(*order.shape, white.shape[-1]))
    return Cells(chosen, order, weight, len(seen), width)


def groups(loud: Cells, count: int) -> Tensor:
    """Sort events into at most `count` groups, (E,), those of each with directions of their own: the best of some
    tries."""
    tries = [_sorted(loud, count, torch.Generator().manual_seed(k)) for k in range(STARTS)]
    return max(tries, key=lambda one: one[1])[0]


def _sorted(loud: Cells, count: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Groups (E,) from ones drawn at random, and the power that lies in their directions."""
    group, best = torch.randint(0, count, (loud.events,), generator=generator), 0.0
    for _ in range(ROUNDS):
        before, score = group, loud.weight.new_zeros(count, loud.events)
        for k in group.unique().tolist():
            direction = directions(loud, (group == k)[loud.event] * loud.weight)[0]
            along = torch.einsum("fd,fld->fl", direction.conj(), loud.spectra).abs().square() * loud.weight
            score[k].index_add_(0, loud.event.flatten(), along.flatten())
        group, best = score.argmax(0), float(score.amax(0).sum())
        if torch.equal(group, before):
            break
    return group, best


def directions(loud: Cells, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the directions (F, D), of length 1, in which cells have the most power, by their weights (F, L); and the
    strain's power (F,) in them, with as many cells around."""
    power = torch.einsum("fl,flc,fld->fcd", weight.to(loud.spectra), loud.spectra, loud.spectra.conj())
    matrix = _mean(power, loud.width)
    # from the column of the loudest channel, which is in no other direction's null space but by chance
    loudest = matrix.diagonal(dim1=1, dim2=2).real.argmax(1)
    found = matrix[torch.arange(len(matrix)), :, loudest]
    for _ in range(TURNS):
        found = torch.nn.functional.normalize((matrix @ found[..., None])[..., 0], dim=1)
    return found, matrix[:, 0, 0].real * (2 * loud.width + 1)


def paths(loud: Cells, group: Tensor, whitener: Tensor, ahead: int, taps: int) -> Tensor:
    """Find the filters (K, C, P) that bring each group's disturbance from the inputs to the strain in full.

    The best linear unbiased estimate from how inputs hear it, times how the strain does. A Wiener filter takes a part
    of it only, for most events say nothing at most frequencies; to let through less where there is noise is what gates
    are for. Where witnesses hear less than `DEAF`, or no more than what noise in so many cells would seem to, less
    comes out.
    """
    found = []
    for k in group.unique().tolist():
        direction, strain = directions(loud, (group == k)[loud.event] * (loud.weight > 0))
        own, heard = direction[:, :1], direction[:, 1:]
        power = heard.abs().square().sum(1)
        luck = heard.shape[1] / strain.clamp_min(1.0)
        certain = (1 - luck / power.clamp_min(torch.finfo(power.dtype).tiny)).clamp_min(0)
        gain = own * heard.conj() * (certain / power.clamp_min(DEAF))[:, None]
        # inputs are made white, the strain is brought back from there
        back = torch.where(whitener[:, 0, 0] == 0, 0, 1 / whitener[:, 0, 0])
        response = (gain[:, None] @ whitener[:, 1:, 1:])[:, 0] * back[:, None]
        found.append(_taps(response.T.to(torch.complex128), ahead, taps))
    return torch.stack(found)


def whiteners(noise: Tensor) -> Tensor:
    """Return what makes noise of cross power (F, D, D) white: (F, D, D), the strain by itself.

    Where there is none, outside the band, nothing comes out.
    """
    floor = NOTHING * noise.diagonal(dim1=1, dim2=2).real.amax()
    known = noise.to(torch.complex128) + floor * torch.eye(noise.shape[-1])
    known[:, 0, 1:] = known[:, 1:, 0] = 0
    lower = torch.linalg.cholesky(known)
    unit = torch.eye(known.shape[-1], dtype=known.dtype).expand_as(known)
    there = noise[:, 0, 0].real > floor
    return (torch.linalg.solve_triangular(lower, unit, upper=False) * there[:, None, None]).to(
        torch.complex64
    )


def _mean(matrices: Tensor, width: int) -> Tensor:
    """The mean of complex matrices (F, D, D) over so many neighbouring frequencies either way."""
    rows = torch.view_as_real(matrices).reshape(len(matrices), -1).T[None]
    return torch.view_as_complex(_over(rows, width)[0].T.reshape(*matrices.shape, 2).contiguous())


def _over(values: Tensor, width: int) -> Tensor:
    """The mean of (..., C, F) over so many neighbouring frequencies either way."""
    return torch.nn.functional.avg_pool1d(values, 2 * width + 1, 1, width, count_include_pad=False)


def _taps(response: Tensor, ahead: int, taps: int) -> Tensor:
    """The taps (..., P), the one of `ahead` samples later first, of a response (..., F); other lags are left out."""
    return torch.fft.irfft(response).roll(ahead, -1)[..., :taps]


def _response(filters: Tensor, size: int, ahead: int) -> Tensor:
    """The response (..., F) of taps (..., P) at the frequencies of a series of `size` samples."""
    return torch.fft.rfft(torch.nn.functional.pad(filters, (0, size - filters.shape[-1])).roll(-ahead, -1))


def of_unit_noise(filters: Tensor, size: int, ahead: int) -> Tensor:
    """Scale filters (K, C, P) at each frequency so that unit white noise in all inputs comes out with unit variance.

    What comes out of each is then as likely as its power says, and groups are told apart by comparing powers.
    """
    response = _response(filters, size, ahead)
    gain = response.abs().square().sum(1, keepdim=True).sqrt()
    least = FAINT * gain.median(dim=-1, keepdim=True).values
    least = torch.maximum(gain, least).clamp_min(torch.finfo(gain.dtype).tiny)
    return _taps(response / least, ahead, filters.shape[-1])


def starting(events: int, channels: int, inputs: int, samples: int, rate: float) -> int:
    """Count the bytes that are held until a bank has its first taps, of so many train events of recorded channels."""
    rows, looked = round(SPAN / 2 * rate) + 1, min(events, EVENTS)
    prepared = PREPARING * 8 * min(together(channels, samples), events) * channels * samples
    seen = 8 * looked * (1 + inputs) * rows
    quiet = steady.holds(events, inputs, round(CROP * rate))
    return max(int(SEEN * seen) + MATRICES * 16 * rows * inputs**2, max(seen, quiet) + prepared)


def needs(content: Content, channels: Sequence[str], train: int) -> Needs:
    """Say what a training on series of these channels will hold: crops, and what a bank starts from."""
    derived = {one.name: one for one in content.derived if one.name in channels}
    names, series = [name for name in channels if name not in derived], content.series
    inputs, products, scatters = arranged(names, list(derived.values()))
    templates, taken = sum(2 * len(one.scales) for one in scatters), len(inputs) + len(products)
    slower = slowness(content.qplot.frange[0], series.duration)
    unit = series.sample_rate * slower
    crop, reach = (round(seconds * unit) for seconds in (CROP, BEFORE + AFTER))
    options = {
        "templates": templates,
        "rate": unit,
        "highest": content.qplot.frange[1] * (1 + EDGE) * slower,
    }
    seen = templates + taken
    return Needs(
        array="series",
        channels=len(names),
        given=(seen, crop),
        options=options,
        kept=(1 + seen) * reach,
        batch=(1 + seen) * (reach + crop),
        start=starting(train, len(names), taken, series.samples, unit),
    )


@torch.no_grad()
def begin(network: nn.Module, front: Front, dataset: Dataset) -> None:
    """Give a network's bank its first taps: the path of each group to an expert, and the same of unit noise to sensors.

    What is left keeps what was drawn; so does a network of a user's own. A steady expert gets the Wiener filter of
    quiet time, and what it takes out of the strain is no part of what the others start from.
    """
    if not isinstance(network, Coherent):
        return
    if network.steady is not None:
        network.steady.taps[0] = steady.taps(front, dataset).to(network.steady.taps)
    bank, experts = network.bank, network.experts - front.steady
    ahead, taps = bank.ahead, bank.taps.shape[-1]
    seen, noise = spectra(front, dataset, network.steady)
    some = loudest(seen, noise)
    both = torch.cat([some.new_zeros(1), 1 + some])
    whitener = whiteners(noise[:, both][:, :, both])
    loud = cells(seen[:, both], whitener)
    known = paths(loud, groups(loud, experts), whitener, ahead, taps)
    found = known.new_zeros(len(known), seen.shape[1] - 1, taps).index_copy_(1, some, known)
    noisy = of_unit_noise(found, 2 * (seen.shape[-1] - 1), ahead)[: len(bank.taps) - experts]
    bank.taps[: len(found)] = found.to(bank.taps)
    bank.taps[experts : experts + len(noisy)] = noisy.to(bank.taps)
