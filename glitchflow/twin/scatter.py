"""How a scatterer follows its witness: sensors of suspensions are calibrated to 5-20 %, and light's phase to a radian.

    train events whose fringes are in the band --scale, delay: a grid--> the best few --more of the response-->
    Response --held back events: is it better than as recorded?--> taps of the motion's low-pass

At 200 rad of motion an error of 1 % is one of 2 rad, and templates (front.py) of a motion that is off by more match
nothing. What a scatterer does at frequency f over what its witness says is smooth below a few Hz, whatever hangs in
between; its logarithm is expanded there, in even powers for the size and odd ones for the phase, as for any real
response. That is all that is supposed of it, and the strain of the train split says the rest: how well templates match.

Shapes: E event, N sample, n of a window, K tap.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from itertools import islice

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.stats import wilcoxon

from glitchflow.data.store.dataset import Dataset
from glitchflow.progress import say
from glitchflow.signal.types import Array, Spectrum
from glitchflow.twin.crops import CROP
from glitchflow.twin.front import SMOOTH, Front, read, scaled
from glitchflow.twin.made import Scatter

# Lengths in s and frequencies in Hz are those for a band from 10 Hz, as in front.py
EVENTS = 64  # whose fringes are matched: half of them choose, half judge
FEWEST = 8  # with fewer nothing is found
LOOKED = 2048  # train events that these are sought among
SWEEPING = 0.06  # of a crop in which fringes are in the band, from which on an event has any
SCALES = np.arange(0.75, 1.2501, 0.004)  # 200 rad are .8 rad off in the worst case
DELAYS = np.arange(-0.1, 0.1001, 0.002)  # s; 200 rad at 0.4 Hz likewise
STARTS = 4  # the best of the grid, which the other two terms are fitted from
STEPS = (0.004, 0.002, 0.02, 0.01)  # first steps of the four terms
SURE = (
    1e-3  # chance that judging events are matched so much better than as recorded by luck (Wilcoxon's test)
)
WORTH = 0.1  # and the share by which: what is exact as recorded stays so
SMOOTHEST = 2.0  # Hz up to which the response is expanded; beyond, its size and its delay stay
KEPT = 5.0  # Hz that the filter keeps of the motion
PAST = 0.25  # s that the filter looks back: with the whitening's as many as are prepared before a crop
# (Hz up to which, weight) of the filter's errors: where motion is of hundreds of rad, where it may be of some, beyond
WEIGHTS = ((1.5, 1.0), (KEPT, 0.003), (np.inf, 0.001))


@dataclass(frozen=True)
class Response:
    """Holds what a scatterer's motion is over what its witness says:

    scale exp(-2 pi i f delay - loss f^2 + i bend f^3)
    """

    scale: float = 1.0
    delay: float = 0.0  # s
    loss: float = 0.0  # 1 / Hz^2
    bend: float = 0.0  # 1 / Hz^3

    def at(self, frequency: Array) -> Spectrum:
        """Return the response at frequencies (...) in Hz."""
        smooth = np.minimum(frequency, SMOOTHEST)
        turn = self.bend * smooth**3 - 2 * np.pi * self.delay * frequency
        return np.asarray(self.scale * np.exp(1j * turn - self.loss * smooth**2), np.complex128)

    def taps(self, rate: float) -> Array:
        """Design the filter (K,) that does this to a motion and leaves out what is above it, by least squares.

        The first tap is of the sample `SMOOTH` / 2 s ahead, the last of the one `PAST` s ago.
        """
        lags = np.arange(-ahead(rate), round(PAST * rate) + 1) / rate
        frequency = np.concatenate([np.arange(0, 40, 0.1), np.arange(40, rate / 2, 1.0)])
        limits, weights = zip(*WEIGHTS)
        weight = np.array(weights)[np.searchsorted(limits, frequency)]
        wanted = weight * np.where(frequency <= KEPT, self.at(frequency), 0)
        turns = weight[:, None] * np.exp(-2j * np.pi * frequency[:, None] * lags)
        both = [np.concatenate([part.real, part.imag]) for part in (turns, wanted)]
        return np.asarray(np.linalg.lstsq(both[0], both[1], rcond=1e-9)[0], np.float64)


AS_RECORDED = Response()


def ahead(rate: float) -> int:
    """Return the samples that a motion's filter looks ahead."""
    return max(2, round(SMOOTH / 2 * rate))


def known(front: Front, dataset: Dataset) -> Front:
    """Return a front whose scatterers move as train events say, where that is better than as recorded.

    Raises `InputError` as `read` does.
    """
    scatters = [_followed(front, one, dataset) for one in front.scatters]
    return front if scatters == front.scatters else scaled(replace(front, scatters=scatters), dataset)


def _followed(front: Front, one: Scatter, dataset: Dataset) -> Scatter:
    matches = _matches(front, one, dataset)
    if matches is None:
        return one
    choosing, judging = matches.some(slice(0, None, 2)), matches.some(slice(1, None, 2))
    found = search(choosing)
    before = judging.score(AS_RECORDED)
    better = judging.score(found) - before
    if better.sum() < WORTH * before.sum() or wilcoxon(better, alternative="greater").pvalue > SURE:
        return one
    found = polished(matches, found)
    name = front.channels[one.motion]
    say(
        f"{name}: what scatters moves {found.scale:.3f} times as far, {1e3 * found.delay * front.slower:.0f} ms later"
    )
    return replace(one, taps=tuple(found.taps(front.unit).tolist()))


@dataclass(frozen=True)
class Matches:
    """Holds what templates of a motion are matched with, of some events.

    strain: (E, n) the white strain through the adjoint of what whitens templates, complex64: its product with a fringe
    is the white one's with the white fringe. motions: (E, N) rad. power: (E,) of a fringe's template as recorded.
    """

    strain: Array
    motions: Array
    power: Array
    rate: float  # Hz, of the unit second
    inside: slice  # n of N

    def some(self, events: slice) -> "Matches":
        """Choose some of the events."""
        return replace(
            self, strain=self.strain[events], motions=self.motions[events], power=self.power[events]
        )

    def phase(self, response: Response) -> Array:
        """Return the light's phase (E, n) in rad, to a constant, of a scatterer that follows so."""
        return followed(self.motions, response, self.rate)[:, self.inside]

    def score(self, response: Response) -> Array:
        """Say how much of each event's strain the first bounce's two templates explain, (E,), in unit noise's power."""
        turned = self.strain * np.exp(1j * self.phase(response).astype(np.float32))
        return np.asarray(np.square(np.abs(turned.sum(axis=1))) / self.power, np.float64)

    def by_scale(self, delay: float) -> Array:
        """Add the scores of all `SCALES` at a delay: (scales,)."""
        phase = self.phase(Response(delay=delay)).astype(np.float32)
        turned = self.strain * np.exp(1j * np.float32(SCALES[0]) * phase)
        turn = np.exp(1j * np.float32(SCALES[1] - SCALES[0]) * phase)
        found = np.empty(len(SCALES))
        for place in range(len(SCALES)):
            found[place] = (np.square(np.abs(turned.sum(axis=1))) / self.power).sum()
            turned *= turn
        return found


def followed(motions: Array, response: Response, rate: float) -> Array:
    """Return motions (E, N) as a scatterer makes them that follows so, in series that are still at both ends."""
    frequency = np.asarray(np.fft.rfftfreq(motions.shape[1], 1 / rate), np.float64)
    turned = np.fft.rfft(motions) * response.at(frequency)
    return np.asarray(np.fft.irfft(turned, motions.shape[1]), np.float64)


def search(matches: Matches) -> Response:
    """Find the response that matches best: on a grid of scales and delays, and from its best places on all terms."""
    grid = np.stack([matches.by_scale(delay) for delay in DELAYS])
    order = np.argsort(-grid, axis=None, kind="stable")[:STARTS]
    starts = [
        Response(float(SCALES[k % len(SCALES)]), float(DELAYS[k // len(SCALES)])) for k in order.tolist()
    ]
    return max((polished(matches, start) for start in starts), key=lambda one: matches.score(one).sum())


def polished(matches: Matches, start: Response) -> Response:
    """Climb from a response to the best one near it (Nelder & Mead 1965, Comput. J. 7, 308)."""
    first = np.array(astuple(start))
    simplex = np.vstack([first, first + np.diag(STEPS)])
    found = minimize(
        lambda terms: -matches.score(Response(*terms)).sum(),
        first,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": 400, "xatol": 1e-5, "fatol": 1e-2},
    )
    return Response(*found.x.tolist())


def _matches(front: Front, one: Scatter, dataset: Dataset) -> Matches | None:
    """Match what there is: None where too few train events have fringes in the band."""
    train = dataset.indices("train")
    looked = train[:: max(1, -(-len(train) // LOOKED))]
    pairs = (pair for block in read(front, dataset, looked) for pair in _sweeping(front, one, block))
    some = list(islice(pairs, EVENTS))
    if len(some) < FEWEST:
        return None
    strain, motions = (np.stack(series) for series in zip(*some))
    samples, rate = strain.shape[1], front.unit
    half = min(round(CROP / 2 * rate), samples // 2)
    middle = slice(samples // 2 - half, samples // 2 + half)
    window = np.zeros(samples)
    window[middle] = np.sqrt(np.sin(np.pi * (np.arange(2 * half) + 0.5) / (2 * half)))
    white = _whitening(front, samples)
    adjoint = np.fft.irfft(white.conj() * np.fft.rfft(strain * window), samples)
    fringes = np.exp(1j * motions)
    templates = np.fft.ifft(np.fft.fft(fringes) * np.concatenate([white, white[-2:0:-1].conj()]))
    power = np.square(np.abs(templates * window)).sum(axis=1) / 2
    return Matches(adjoint[:, middle].astype(np.complex64), motions, power, rate, middle)


def _sweeping(front: Front, one: Scatter, block: torch.Tensor) -> Iterator[tuple[Array, Array]]:
    """The white strain and the motion (N,) in rad, without gaps, of those of recorded events (E, R, N) that have
    fringes in the band."""
    known = np.isfinite(block[:, [0, one.motion]].numpy()).all(axis=(1, 2))
    motions = 4 * np.pi / one.wavelength * front.slow(block[:, one.motion].nan_to_num()).numpy()
    motions -= motions.mean(axis=1, keepdims=True)
    half, middle = round(CROP / 2 * front.unit), motions.shape[1] // 2
    around = slice(max(0, middle - half), middle + half)
    fringe = np.abs(np.gradient(motions, axis=1))[:, around] * front.rate / (2 * np.pi)
    there = (fringe > front.band[0]).mean(axis=1) >= SWEEPING
    for event in np.flatnonzero(known & there):
        yield front.strain(block[event : event + 1, 0])[0].numpy(), motions[event]


def _whitening(front: Front, samples: int) -> Spectrum:
    """The response (N / 2 + 1,) of what makes templates white and ends them at the band, of largest size 1."""
    impulse = torch.zeros(1, samples, dtype=torch.float64)
    impulse[0, samples // 2] = 1
    limited = np.fft.rfft(np.fft.ifftshift(front.limit(impulse).numpy()[0]))
    found = np.fft.rfft(np.asarray(front.taps[0]), samples) * limited
    return np.asarray(found / np.abs(found).max(), np.complex128)
