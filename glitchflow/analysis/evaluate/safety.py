"""Whether signals move what networks generate: by injection where it is known what a signal does to the witnesses.

    a compact binary -> the strain, and through the detector's leak into the unsafe witness and what is derived from it
    the series of an event with it and without --the kind's array--> what the network generates of either

Of a simulated detector the leak is known, on a stretch by its truth; on recorded data events with signals are compared
with background events. Shapes: E event, C channel, R recorded channel, N sample, F frequency, T time.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from glitchflow.analysis import truth
from glitchflow.analysis.attribute import spread
from glitchflow.analysis.evaluate import signals
from glitchflow.analysis.evaluate.signals import BANK, Heard
from glitchflow.analysis.infer import load_network
from glitchflow.analysis.opened import Opened
from glitchflow.config import Harm, Scan
from glitchflow.data.event_images import images
from glitchflow.data.store import Dataset
from glitchflow.errors import InputError
from glitchflow.methods.memory import block_events
from glitchflow.progress import say
from glitchflow.score import matched, safety
from glitchflow.score.metrics import NOISE_ENERGY
from glitchflow.score.sample import Scored
from glitchflow.score.statistics import Bootstrap, Interval
from glitchflow.signal.qtransform import look
from glitchflow.signal.simulation.families import Instrument
from glitchflow.signal.simulation.instrument import draw_instrument
from glitchflow.signal.streams import SIGNALS, generator
from glitchflow.signal.types import Array, Energies, Indices
from glitchflow.train.checkpoint import open_checkpoint
from glitchflow.twin.estimate import Estimator, estimator_of, shown_of
from glitchflow.twin.kind import Trained

EVENTS = 200  # at most: pairs of them tell one per cent of a signal's energy from none
UNMOVED = safety.Moved(0, Interval(0.0, 0.0, 0.0), 1.0, False)  # where no witness hears a signal


def tell(labels: list[str], scored: Scored, settings: Scan) -> dict[str, Any]:
    """Say by method whether signals, events of the families `scan.signals`, move what it generates: the same test as
    of witnesses, beside background events whose strain is loudest in the same column. None where there are too few."""
    family = np.array(labels)[scored.label]
    signal, quiet = np.isin(family, settings.signals), scored.label == 0
    answers = {name: columns["answer"] for name, columns in scored.columns.items() if "answer" in columns}
    if not answers:
        return {}
    place = next(columns["loudest"] for columns in scored.columns.values() if "loudest" in columns).astype(
        np.int64
    )
    found = safety.judge(
        [a[signal] for a in answers.values()],
        [a[quiet] for a in answers.values()],
        settings.alpha,
        (place[signal], place[quiet]),
    )
    return {name: one and {"by": "events", **one.told()} for name, one in zip(answers, found, strict=True)}


def instrument_of(dataset: Dataset, stretch: truth.Stretch | None) -> Instrument | None:
    """Draw the detector that a dataset was simulated with, or the stretch that it is of; None where nobody knows."""
    made, told = dataset.config, None
    if stretch is not None:
        told = truth.detector_of(stretch)
    elif dataset.source == "simulate" and made.simulate.recipe == "detector":
        told = made.simulate.detector, made.seed
    return None if told is None else draw_instrument(told[0], made.series, told[1])[0]


def inject(
    run: Opened,
    events: Indices,
    stretch: truth.Stretch | None,
    settings: Harm,
    alpha: float,
    interval: Bootstrap,
) -> dict[str, Any]:
    """Say by network whether signals that are injected move what it generates, in `EVENTS` of some events.

    Nothing where the detector is not known, where it leaks and the store has no series, and of a network that is not
    there any more.
    """
    dataset, instrument = run.dataset, instrument_of(run.dataset, stretch)
    if instrument is None or (instrument.leak is not None and "series" not in dataset):
        return {}
    networks = {name: path for name, path in run.networks.items() if _may_be_asked(path, run.own)}
    if instrument.leak is None:
        return dict.fromkeys(networks, UNMOVED.told())
    injection = Injection(dataset, instrument, settings, interval.seed)
    some = spread(events, EVENTS)
    say(f"injecting signals into {len(some)} events: {instrument.settings.unsafe} hears them")
    found = {}
    for name, path in networks.items():
        rise, energy = injection.moved(load_network(str(path)), some)
        found[name] = safety.judge_moved(rise, energy, alpha, interval).told()
    return found


def _may_be_asked(path: Path, own: str) -> bool:
    """Say whether a network is there, and no code of somebody's own that the configuration does not name."""
    if not path.exists():
        return False
    try:
        open_checkpoint(path).as_named(own)
    except InputError as error:
        say(f"without signals injected into what it sees: {error}")
        return False
    return True


@dataclass(frozen=True)
class Injection:
    """Injects signals into events of a detector whose leak is known."""

    dataset: Dataset
    instrument: Instrument
    settings: Harm
    seed: int

    @cached_property
    def estimator(self) -> Estimator:
        """Build the strain's transform."""
        return estimator_of(self.dataset)

    def moved(self, network: Trained, events: Indices) -> tuple[Array, Array]:
        """Compute for each event by how much what is generated rises with a signal, and the signal's energy, both
        summed over the signal's pixels: (E,) each."""
        dataset, rise, energy = self.dataset, [], []
        samples, image = dataset.config.series.samples, int(np.prod(dataset["qplot"].shape[2:]))
        step = block_events(2 * len(dataset.channels), image, samples)
        for start in range(0, len(events), step):
            some = events[start : start + step]
            kept = dataset.events("series", some).astype(np.float64)
            signal = self.signals(some, kept[:, 0])
            seen = look(self.estimator.engine, kept[:, 0])
            shown = seen.energies(seen.whiten(signal[:, None]))[:, 0]
            before, after = (
                self.generated(network, some, one) for one in (kept, self.leaked(some, kept, signal))
            )
            inside = shown >= NOISE_ENERGY
            rise.append(((after - before) * inside).sum(axis=(1, 2), dtype=np.float64))
            energy.append((shown * inside).sum(axis=(1, 2), dtype=np.float64))
        return np.concatenate(rise), np.concatenate(energy)

    def signals(self, events: Indices, strain: Array) -> Array:
        """Make the signal (E, N) of each event, in the strain's unit, by the seed and the event's index alone."""
        found = []
        for event, one, shown in zip(events.tolist(), strain, shown_of(self.dataset, events)):
            heard = Heard(self.estimator, one, shown)
            drawn = signals.draw(self.settings, generator(self.seed, SIGNALS, event))
            (wave,) = drawn.bank(heard.time, self.settings.start, BANK[:1])
            spectrum = heard.spectra(wave)
            found.append(wave * (drawn.snr / np.sqrt(matched.inner(spectrum, spectrum))))
        return np.stack(found)

    def leaked(self, events: Indices, kept: Array, signal: Array) -> Array:
        """Add signals to the strain of series (E, R, N), and what they make the unsafe witness say to that one's."""
        found, names, floor = kept.copy(), self.dataset.recorded_channels, self.instrument.spectra.floor
        found[:, 0] += signal
        spectra = np.fft.rfft(signal)
        white = np.divide(spectra, own := floor(slice(1))[0], where=own > 0, out=np.zeros_like(spectra))
        strain = np.fft.irfft(white, n=signal.shape[1])
        for i, gps in enumerate(self.dataset.events("gps", events).tolist()):
            said, places = self.instrument.leaked(strain[i], gps)
            assert said is not None, "there is a leak"
            for place, series in zip(places.tolist(), said):
                witness = self.instrument.settings.names[place - 1]
                if witness in names:
                    heard = np.fft.irfft(
                        np.fft.rfft(series) * floor(slice(place, place + 1))[0], n=series.size
                    )
                    found[i, names.index(witness)] += heard
        return found

    def generated(self, network: Trained, events: Indices, kept: Array) -> Energies:
        """Ask a network of events (E, F, T) whose recorded series (E, R, N) are handed in."""
        dataset, names = self.dataset, self.dataset.recorded_channels
        if network.kind.array == "series":
            series = network.predict(kept, names, len(events))["estimate"]
            seen = look(self.estimator.engine, dataset.events("series", events, [0])[:, 0].astype(np.float64))
            return seen.energies(seen.whiten(series[:, None]))[:, 0]
        whole = dataset.derived(events, kept)[:, [dataset.channels.index(name) for name in network.channels]]
        return network.predict(
            images(dataset, events, whole, network.channels), network.channels, len(events)
        )["qplot"]
