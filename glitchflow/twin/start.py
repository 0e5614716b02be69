"""Where a coherent network's bank starts: filters from witnesses to the strain, one for each way that they couple.

    loud train events --which filter leaves least of each?--> groups --path of each, noise taken out--> experts, sensors

A mixture of regressions (Quandt & Ramsey 1978, J. Am. Stat. Assoc. 73, 730) whose components are multichannel Wiener
filters (Allen, Hua & Ottewill 1999, arXiv:gr-qc/9909083), each event of one component, fitted by turns as k-means is.
Neither families nor the witnessed part are known to it: how disturbances couple shows in recorded data.

Shapes: E event, C input, N sample, F frequency, K filter, P tap.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from glitchflow.data.content import Content
from glitchflow.data.store.dataset import Dataset
from glitchflow.model.bank import Bank, Coherent
from glitchflow.twin import steady
from glitchflow.twin.crops import AFTER, BEFORE, CROP, MARGIN
from glitchflow.twin.front import EDGE, PREPARING, Front, arranged, read, slowness, together
from glitchflow.twin.kind import Needs
from glitchflow.twin.ridge import fit

EVENTS = 2048  # of the train split that are looked at: groups of a dozen loud ones are still found
SPAN = 2.0  # s in the middle of an event: a transient lasts less, and a filter a tenth of it
ROWS = 12.0  # Hz over which loudness is meant: a burst fills about as many
ROUNDS = 6  # turns of grouping and fitting for each number of groups: later ones move few events
WORST = 6  # a new group starts with one event of so many, those of which the most is left
RIDGE = 0.05  # of the witnesses' noise, in every event: what few events say nothing of is not made up
LOUD = 3.0  # power over the noise's where a disturbance decides what is seen
# of the power that groups' own filters explain, what a common one may leave: in a store of `synthetic` parts of one
# family differ by 0 to .05, families by .13 to 1.5
ALIKE = 0.08
NOTHING = (
    1e-3  # of the greatest noise: where inputs have less, outside their band, there is nothing to be heard
)
SILENT = 0.1  # power of a disturbance over the noise below which nothing is known of its path
SEEN = 2.5  # copies of the spectra that are held at once
MATRICES = 4  # of inputs by inputs at each frequency: cross powers, and what solving them takes
FAINT = 0.1  # of a filter's median response: where it passes less, its noise is not brought to unit variance


def spectra(front: Front, dataset: Dataset, shared: Bank | None = None) -> tuple[Tensor, Tensor]:
    """Transform the middle of train events, in a Hann window, scaled so that unit white noise has E|z|^2 = 1.

    shared: a steady expert's filter, whose estimate is taken out of the strain, as far as it is in it: where it is not,
    nothing else is to make up for it.
    Returns strain and inputs (E, 1 + C, F) of the half of them whose inputs are loudest, and the power (C, F) of the
    inputs of the quietest quarter, which is noise.
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
    power = _smooth(whole[:, 1:])
    order = power.amax(dim=(1, 2)).argsort(descending=True, stable=True)
    loud, quiet = order[: -(-len(order) // 2)], order[-(-len(order) * 3 // 4) :]
    return whole[loud], power[quiet if len(quiet) else order].mean(0)


def groups(seen: Tensor, count: int, ahead: int, taps: int) -> Tensor:
    """Sort the spectra (E, 1 + C, F) of events into at most `count` groups: (E,).

    The events of each share a filter (C, P) that leaves less of them than any other group's. Groups are added one by
    one, until the next one would be empty.
    """
    filters, size = [_wiener(seen, ahead, taps)], 0
    while True:
        for _ in range(ROUNDS):
            left = torch.stack([_left(seen, one, ahead) for one in filters])
            group = left.argmin(0)
            filters = [_wiener(seen[group == k], ahead, taps) for k in group.unique().tolist()]
        if len(filters) == count or len(filters) <= size:
            return group
        size = len(filters)
        worst = left.amin(0).argsort(descending=True, stable=True)[: max(1, len(seen) // WORST)]
        filters.append(_wiener(seen[worst], ahead, taps))


def merged(seen: Tensor, noise: Tensor, group: Tensor, ahead: int, taps: int) -> Tensor:
    """Join groups (E,) of the spectra of events that one filter serves as well as their own.

    Bursts fill few frequencies, and a Wiener filter that passes no others leaves less: one way to couple falls into
    several groups. Looked at only where inputs are loud over their noise (C, F), they agree; and so looked at, each
    event chooses its group once more.
    """
    loud = seen * (_smooth(seen[:, 1:]) > LOUD * _floor(noise)).any(1, keepdim=True)
    parts = [group == k for k in group.unique().tolist()]

    def explained(part: Tensor) -> tuple[float, float]:
        some = loud[part]
        left = float(_left(some, _wiener(some, ahead, taps), ahead).sum())
        return left, float(some[:, 0].abs().square().sum()) - left

    while len(parts) > 1:
        own, costs = [explained(part) for part in parts], {}
        for i, j in combinations(range(len(parts)), 2):
            more = explained(parts[i] | parts[j])[0] - own[i][0] - own[j][0]
            worth = min(own[i][1], own[j][1])
            costs[i, j] = more / worth if worth > 0 else 0.0  # a group that explains nothing keeps no filter
        i, j = min(costs, key=costs.__getitem__)
        if not costs[i, j] < ALIKE:
            break
        parts[i] = parts[i] | parts.pop(j)
    group = torch.stack(parts).int().argmax(0)
    for _ in range(ROUNDS):
        filters = [_wiener(loud[group == k], ahead, taps) for k in group.unique().tolist()]
        group = torch.stack([_left(loud, one, ahead) for one in filters]).argmin(0)
    return group


def path(seen: Tensor, noise: Tensor, ahead: int, taps: int) -> Tensor:
    """Find the filter (C, P) that brings a disturbance from the inputs to the strain in full, of events (E, 1 + C, F)
    that it dominates.

    One disturbance makes the inputs' cross-power, less their noise (C, F), of rank one: its eigenvector is how the
    inputs hear it. A Wiener filter takes a part of it only, for most events say nothing at most frequencies; to let
    through less where there is noise is what gates are for.
    """
    strain, inputs = seen[:, 0], seen[:, 1:]
    scale = _floor(noise).sqrt().T[..., None].to(torch.complex128)  # (F, C, 1)
    power = torch.einsum("ecf,edf->fcd", inputs.conj(), inputs).to(torch.complex128) / (
        len(seen) * scale * scale.mT
    )
    both = torch.einsum("ecf,ef->fc", inputs.conj(), strain).to(torch.complex128)[..., None] / (
        len(seen) * scale
    )
    values, vectors = torch.linalg.eigh(power)
    loudness, first = values[:, -1, None, None] - 1, vectors[..., -1:]
    response = first * (first.mH @ both) * (loudness > SILENT) / (loudness.clamp_min(SILENT) * scale)
    return _taps(response[..., 0].T, ahead, taps)


def _smooth(spectra: Tensor) -> Tensor:
    """The power (..., C, F) of spectra, over neighbouring frequencies."""
    rows = round(ROWS * SPAN / 2)
    power = spectra.abs().square()
    return torch.nn.functional.avg_pool1d(power, 2 * rows + 1, 1, rows, count_include_pad=False)


def _floor(noise: Tensor) -> Tensor:
    """Noise (C, F) that can be divided by: inputs have nothing outside their band."""
    return noise + NOTHING * noise.amax()


def _wiener(seen: Tensor, ahead: int, taps: int) -> Tensor:
    """The filter (C, P) that leaves the least of these events' strain, as far as it reaches."""
    strain, inputs = seen[:, 0], seen[:, 1:]
    power = torch.einsum("ecf,edf->fcd", inputs.conj(), inputs).to(torch.complex128)
    power += torch.eye(power.shape[-1]) * (RIDGE * len(seen))
    both = torch.einsum("ecf,ef->fc", inputs.conj(), strain).to(torch.complex128)
    return _taps(torch.linalg.solve(power, both).T, ahead, taps)


def _taps(response: Tensor, ahead: int, taps: int) -> Tensor:
    """The taps (..., P), the one of `ahead` samples later first, of a response (..., F); other lags are left out."""
    return torch.fft.irfft(response).roll(ahead, -1)[..., :taps]


def _response(filters: Tensor, size: int, ahead: int) -> Tensor:
    """The response (..., F) of taps (..., P) at the frequencies of a series of `size` samples."""
    return torch.fft.rfft(torch.nn.functional.pad(filters, (0, size - filters.shape[-1])).roll(-ahead, -1))


def _left(seen: Tensor, filters: Tensor, ahead: int) -> Tensor:
    """The power (E,) that a filter (C, P) leaves of each event's strain."""
    response = _response(filters, 2 * (seen.shape[-1] - 1), ahead).to(torch.complex64)
    return (seen[:, 0] - (response * seen[:, 1:]).sum(1)).abs().square().sum(-1)


def of_unit_noise(filters: Tensor, size: int, ahead: int) -> Tensor:
    """Scale filters (K, C, P) at each frequency so that unit white noise in all inputs comes out with unit variance.

    What comes out of each is then as likely as its power says, and groups are told apart by comparing powers.
    """
    response = _response(filters, size, ahead)
    gain = response.abs().square().sum(1, keepdim=True).sqrt()
    least = FAINT * gain.median(dim=-1, keepdim=True).values
    return _taps(response / torch.maximum(gain, least), ahead, filters.shape[-1])


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

    Groups that were joined come first, then those before. What is left keeps what was drawn; so does a network of a
    user's own. A steady expert gets the Wiener filter of quiet time, and what it takes out of the strain is no part of
    what the others start from.
    """
    if not isinstance(network, Coherent):
        return
    if network.steady is not None:
        network.steady.taps[0] = steady.taps(front, dataset).to(network.steady.taps)
    bank, experts = network.bank, network.experts - front.steady
    ahead, taps = bank.ahead, bank.taps.shape[-1]
    seen, noise = spectra(front, dataset, network.steady)
    fine = groups(seen, experts, ahead, taps)
    coarse = merged(seen, noise, fine, ahead, taps)
    members = [which == k for which in (coarse, fine) for k in which.unique().tolist()]
    paths = torch.stack([path(seen[some], noise, ahead, taps) for some in members[:experts]])
    noisy = of_unit_noise(paths, 2 * (seen.shape[-1] - 1), ahead)[: len(bank.taps) - experts]
    bank.taps[: len(paths)] = paths.to(bank.taps)
    bank.taps[experts : experts + len(noisy)] = noisy.to(bank.taps)
