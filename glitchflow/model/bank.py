"""The coherent network: a bank of learned filters, gated in time and frequency, from witnesses' series to the strain's.

    inputs --bank of FIR filters--> K experts, M sensors (and S steady experts, of longer filters)
    templates, inputs, bank --STFT--> log(1 + power), frequency --U-Net--> K gates in 0..1     for each resolution
    y = sum over resolutions of iSTFT(sum over experts of gate x STFT(expert))

How a witness reaches the strain differs by disturbance, so that no one filter per witness will do: experts are
filters, gates choose among them by what all channels show at that time and frequency. y is a sum of filtered inputs,
weighted by numbers from 0 to 1: where no witness shows anything, nothing comes out. A steady expert is let through
unless something speaks against it: noise that witnesses and strain share all the time. Once all inputs have said where
gates are open, y is linear in them, and so is the sum of what each group of inputs puts into it.

Shapes: B event, C input, G group of inputs, A template, K expert (the S steady ones come before), M sensor, N sample,
P tap, F frequency and T frame of an STFT.
Units: all series are white, of unit variance in quiet time; lengths in s, rates in Hz.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glitchflow.model.layers import at_least_one
from glitchflow.signal.fir import joined, pieces

GROUPS = 4  # of a group normalisation
LEVELS = (1, 2, 4, 4)  # channels of a U-Net's levels, in units of its width
# s of the STFTs' windows, and by how much of log(1 + P), P the power that an expert's sensor hears, its gates start
# lifted, as Wiener's would be: the finer one only refines. From closed everywhere no gate learns to open to the few
# bursts that witnesses hardly hear
RESOLUTIONS = {0.25: 1.0, 0.0625: 0.0}
CLOSED = -4.0  # where gates start in silence
# How experts start to share what is let through, for a burst may look like several of the ways to couple that are
# known: by RIVALRY log(1 + P), less MODESTY log(1 + Q / LOUD) where an expert makes as much as Q of it: of a burst that
# one way leaves as it is and another makes a thousand times as loud, it is seldom the second
RIVALRY, MODESTY, LOUD = 4.0, 4.0, 300.0
OPEN = 4.0  # where a steady expert's gate starts at the coarsest resolution; at the others it is what is lacking to 1
PAST, AHEAD = 0.21875, 0.03125  # s that a filter reaches: a witness may lag the strain by a little
STEADY = 0.5  # s that a steady expert's filter reaches either way: lines and slow couplings need it
SMALL = 0.1  # initial filters: what comes out is small beside the noise, as the gates are still half open


class Bank(nn.Module):
    """Filters C inputs into K + M outputs, (B, C, N) -> (B, K + M, N), with zeros beyond both ends.

    taps (K + M, C, P): the one of `ahead` samples later first. Linear, without bias.
    """

    def __init__(self, inputs: int, outputs: int, rate: float, past: float = PAST, ahead: float = AHEAD):
        super().__init__()
        self.ahead = round(ahead * rate)
        lags = torch.arange(-self.ahead, round(past * rate) + 1, dtype=torch.float64, device="cpu")
        # Hann^4 about no delay: centred on the taps instead, a bank learns half as fast
        window = torch.cos((torch.pi * lags / len(lags)).clamp(-torch.pi / 2, torch.pi / 2)) ** 8
        self.register_buffer("window", window.float(), persistent=False)
        self.taps = nn.Parameter(torch.empty(outputs, inputs, len(lags)))
        if not self.taps.is_meta:  # made for its shapes alone
            self.draw(torch.Generator())

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw the taps anew."""
        drawn = torch.randn(self.taps.shape, generator=generator, dtype=torch.float64)
        window: Tensor = self.get_buffer("window")
        self.taps.copy_(drawn * window.double() * (SMALL / self.taps.shape[1] ** 0.5))

    def forward(self, inputs: Tensor, groups: Tensor | None = None) -> Tensor:
        """Filter (B, C, N) into (B, K + M, N); of groups (G, C), 1 where an input is in one, each alone:
        (B, G, K + M, N)."""
        count = self.taps.shape[-1]
        cut = pieces(inputs, count, self.ahead)
        size = cut.shape[-1]
        spectra, filters = torch.fft.rfft(cut), torch.fft.rfft(self.taps, size)
        with torch.autocast(inputs.device.type, enabled=False):
            if groups is None:
                product = _product(spectra, filters)
            else:  # one by one, so that a group of all inputs has the bits of these
                some = [_product(spectra * one[:, None, None], filters) for one in groups]
                product = torch.stack(some, dim=1)
        return joined(product, size, count, inputs.shape[-1])


class Stft(nn.Module):
    """Short spectra with half-overlapping sqrt-Hann windows of `hop` x 2 samples, scaled so that unit white noise has
    E|z|^2 = 1, and back.

    Frame t covers samples [t, t + 2) hop: the last one ends a hop of zeros after the series, so that its end is whole
    and its first hop fades in. Frequencies are the first `rows` of those below Nyquist: what is above is left out.
    """

    def __init__(self, hop: int, rows: int | None = None):
        super().__init__()
        self.hop, self.rows = hop, min(hop, rows or hop)
        window = torch.hann_window(2 * hop, dtype=torch.float64, device="cpu").sqrt().float()
        self.register_buffer("window", window, persistent=False)

    def forward(self, series: Tensor) -> Tensor:
        """Transform (..., N) into (..., F, T), complex: T = N / hop, rounded up."""
        samples, hop = series.shape[-1], self.hop
        frames = -(-samples // hop)
        hops = F.pad(series, (0, (frames + 1) * hop - samples)).unflatten(-1, (frames + 1, hop))
        window: Tensor = self.get_buffer("window")
        pieces = torch.cat([hops[..., :-1, :], hops[..., 1:, :]], dim=-1) * (window * hop**-0.5)
        return torch.fft.rfft(pieces)[..., : self.rows].transpose(-1, -2)

    def inverse(self, spectra: Tensor, samples: int) -> Tensor:
        """Bring (..., F, T) back to (..., N), by the same windows: squared, two of them add up to 1."""
        window: Tensor = self.get_buffer("window")
        pieces = torch.fft.irfft(spectra.transpose(-1, -2), 2 * self.hop) * (window * self.hop**0.5)
        first, second = pieces.split(self.hop, -1)
        joined = first + F.pad(second, (0, 0, 1, 0))[..., :-1, :]
        return joined.flatten(-2)[..., :samples]


class Gates(nn.Module):
    """A U-Net from features (B, features, F, T) to K gates (B, K, F, T) in 0..1, of any size.

    Ronneberger et al. 2015, arXiv:1505.04597, with average pooling and group normalisation, which depends on no other
    event.
    """

    def __init__(self, features: int, gates: int, width: int, apart: int = 0):
        super().__init__()
        sizes = [width * level for level in LEVELS]
        self.down = nn.ModuleList(_level(a, b) for a, b in zip([features, *sizes], sizes))
        self.up = nn.ModuleList(_level(a + b, b) for a, b in zip(sizes[1:], sizes))
        self.head = nn.Conv2d(width, 2 * gates, 1)
        self.lift = nn.Parameter(torch.zeros(gates - apart, 1, 1))
        self.rivalry = nn.Parameter(torch.tensor([RIVALRY, MODESTY]))
        # a CPU's convolutions are half as fast again
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, heard: Tensor, made: Tensor) -> Tensor:
        """Map features (B, features, F, T) to gates (B, S + K, F, T), of which the last K share.

        heard: (B, K, F, T) log(1 + power) of each expert's sensor, made: power of what each makes of it.
        """
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.avg_pool2d(x, 2, ceil_mode=True) if skips else x)
            skips.append(x)
        for skip, block in zip(skips[-2::-1], list(self.up)[::-1]):
            x = F.interpolate(x, size=skip.shape[-2:], mode="nearest")
            x = block(torch.cat([x, skip], dim=1))
        x = self.head(x)
        # what they weight is in float32
        opened, chosen = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=1)
        apart = opened.shape[1] - heard.shape[1]
        rivalry, modesty = self.rivalry
        share = torch.softmax(chosen[:, apart:] + rivalry * heard - modesty * (made / LOUD).log1p(), dim=1)
        lifted = opened[:, apart:] + self.lift * heard
        return torch.cat([opened[:, :apart].sigmoid(), lifted.sigmoid() * share], dim=1)


def _level(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with a group normalisation and SiLU."""
    layers: list[nn.Module] = []
    for size in (inputs, outputs):
        layers += [nn.Conv2d(size, outputs, 3, padding=1), Norm(GROUPS, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


class Norm(nn.GroupNorm):
    """A group normalisation in float32: a CPU goes back through one of bfloat16 with channels last five times as
    slowly."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, F, T)."""
        return super().forward(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype)


class Coherent(nn.Module):
    """Predicts the witnessed part y of the white strain from white witnesses: (B, A + C, N) -> (B, 1, N).

    `steady` experts are of longer filters, whose gates start open, `experts` of the bank, whose gates start closed.
    The first `templates` channels are shown to the gates alone: series whose phase in the strain no witness knows. y
    has nothing above `highest` Hz, which None leaves at Nyquist.
    Under autocast the gates' convolutions alone are of low precision. Raises ValueError for no input, or sizes that
    are not possible.
    """

    # torch 2.13 says so itself, and takes minutes to compile what is then no faster
    uncompiled = (
        "torch.compile has no code for complex spectra, of which a coherent twin is made; leave it off"
    )

    def __init__(
        self,
        witnesses: int,
        shape: Sequence[int],
        width: int = 16,
        templates: int = 0,
        rate: float = 512.0,
        highest: float | None = None,
        experts: int = 8,
        sensors: int = 8,
        steady: int = 0,
    ):
        super().__init__()
        at_least_one(width=width // GROUPS, experts=experts)
        if width % GROUPS:
            raise ValueError(f"width={width}: must be a multiple of {GROUPS}")
        at_least_one(witnesses=witnesses - templates)
        self.templates, self.experts, self.sensors = templates, steady + experts, sensors
        self.steady = Bank(witnesses - templates, steady, rate, STEADY, STEADY) if steady else None
        self.bank = Bank(witnesses - templates, experts + sensors, rate)
        rows = [None if highest is None else math.ceil(highest * length) for length in RESOLUTIONS]
        hops = [max(1, round(rate * length / 2)) for length in RESOLUTIONS]
        self.stft = nn.ModuleList(Stft(hop, row) for hop, row in zip(hops, rows))
        features = witnesses + self.experts + sensors + 2
        self.gates = nn.ModuleList(Gates(features, self.experts, width, steady) for _ in RESOLUTIONS)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw what `initialise` does not know of, the bank's taps; the gates' heads are 0, and start at a number.

        The gates of steady experts add up to 1, but their filters are 0 until something is known.
        """
        self.bank.draw(generator)
        open_at = [OPEN, *[-OPEN] * (len(RESOLUTIONS) - 1)]
        for gates, lift, steady in zip(self.gates, RESOLUTIONS.values(), open_at):
            nn.init.zeros_(gates.get_parameter("head.weight"))
            nn.init.constant_(gates.get_parameter("lift"), lift)
            bias = nn.init.zeros_(gates.get_parameter("head.bias"))
            bias[: self.experts] = CLOSED
            if self.steady is not None:
                nn.init.zeros_(self.steady.taps)
                bias[: len(self.steady.taps)] = steady

    def forward(self, given: Tensor) -> Tensor:
        """Map templates and inputs (B, A + C, N) to y (B, 1, N)."""
        return self._let_through(given)

    def parts(self, given: Tensor, groups: Tensor) -> Tensor:
        """Say what each group of inputs puts into y, (B, G, N), with the gates that all of them open.

        groups: (G, C), 1 where an input is in a group and 0 elsewhere. Parts add up to y where each input is in one.
        """
        return self._let_through(given, groups)

    def _let_through(self, given: Tensor, groups: Tensor | None = None) -> Tensor:
        """Of all inputs, (B, 1, N), or of groups, what is behind the gates."""
        bank = self._filtered(given)
        split = None if groups is None else self._filtered(given, groups)[:, :, : self.experts]
        found = [self._gated(stft, gates, given, bank, split) for stft, gates in zip(self.stft, self.gates)]
        return torch.stack(found).sum(0)

    def _filtered(self, given: Tensor, groups: Tensor | None = None) -> Tensor:
        """Experts and sensors, (B, S + K + M, N), or of groups (B, G, S + K + M, N)."""
        inputs = given[:, self.templates :]
        bank = self.bank(inputs, groups)
        return bank if self.steady is None else torch.cat([self.steady(inputs, groups), bank], dim=-2)

    def _gated(
        self, stft: nn.Module, gates: nn.Module, given: Tensor, bank: Tensor, split: Tensor | None
    ) -> Tensor:
        """One resolution's part of y, (B, 1, N), or of what it is split into, (B, G, N)."""
        outputs = stft(bank)  # (B, S + K + M, F, T)
        # apart: through what is given no gradient has to go back
        made = _power(outputs)
        loudness = torch.cat([_power(stft(given)), made], dim=1).log1p()
        features = torch.cat([loudness, _frequency(loudness)], dim=1)
        apart = 0 if self.steady is None else len(self.steady.taps)
        heard, made = self._heard(loudness, self.experts - apart), made[:, apart : self.experts]
        experts = outputs[:, None, : self.experts] if split is None else stft(split)
        gated = gates(features, heard, made)[:, None] * experts
        return stft.inverse(gated.sum(2), bank.shape[-1])  # type: ignore[operator]

    def _heard(self, loudness: Tensor, experts: int) -> Tensor:
        """What the sensor of each expert heard, (B, K, F, T): the first one's is the first, and some may have none."""
        count = min(experts, self.sensors)
        heard = loudness[:, loudness.shape[1] - self.sensors :][:, :count]
        return F.pad(heard, (0, 0, 0, 0, 0, experts - count))


def _product(spectra: Tensor, filters: Tensor) -> Tensor:
    """Sum spectra (B, C, S, F) of S pieces times filters (K, C, F) over C: (B, K, S, F).

    As real matrices, one after the other in memory: a CPU copies complex or strided ones one by one, which would take
    a tenth of a training step.
    """
    events, inputs, pieces, rows = spectra.shape
    given = torch.view_as_real(spectra).permute(3, 0, 2, 4, 1).reshape(rows, events * pieces, 2 * inputs)
    above = torch.cat([filters.real, -filters.imag], dim=1)
    below = torch.cat([filters.imag, filters.real], dim=1)
    found = given @ torch.cat([above, below]).permute(2, 1, 0).contiguous()  # (F, B S, 2 K)
    found = found.reshape(rows, events, pieces, 2, -1).permute(1, 4, 2, 0, 3)
    return torch.view_as_complex(found.contiguous())


def _power(spectra: Tensor) -> Tensor:
    """The squared modulus."""
    return spectra.real.square() + spectra.imag.square()


def _frequency(like: Tensor) -> Tensor:
    """Each row's frequency, 0 to 1, and its square, as two more channels of (B, ..., F, T)."""
    rows = torch.linspace(0.0, 1.0, like.shape[-2], dtype=like.dtype, device=like.device)
    planes = torch.stack([rows, rows.square()])[:, :, None]
    return planes.expand(like.shape[0], -1, -1, like.shape[-1])
