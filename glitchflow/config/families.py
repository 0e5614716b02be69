"""The families of transients of the recipe `detector`, and their keys."""

from typing import Annotated, Self

from pydantic import model_validator

from glitchflow.config.base import File, Positive, Range, Section, key

SHOWN = "shown"  # marks the keys of a family whose frequencies a Q-plot must show
Band = Annotated[Positive, SHOWN]


class Family(Section):
    """One family of transients of the `detector` recipe."""

    weight: float = key(1.0, "relative number of events of this family", ge=0)


class Linear(Family):
    """One that witnesses see as the strain does, each through a response of its own."""

    witnesses: list[str] = key([], "witnesses that see it; empty: all but those of slow motions")


class SineGaussian(Linear):
    """Describes a short oscillation under a Gaussian."""

    frequency: Band = key((20.0, 130.0), "central frequency, drawn log-uniformly", "Hz")
    q: Positive = key((4.0, 16.0), "quality factor, drawn uniformly")


class Ringdown(Linear):
    """Describes a sudden, decaying oscillation."""

    frequency: Band = key((30.0, 150.0), "frequency of the resonance, drawn log-uniformly", "Hz")
    q: Positive = key((8.0, 30.0), "quality factor, drawn uniformly")


class Whistle(Linear):
    """Describes a beat note that sweeps down and up again."""

    low: Band = key((20.0, 60.0), "lowest frequency of the beat note, drawn uniformly", "Hz")
    high: Band = key((90.0, 140.0), "frequency at both ends of the sweep, drawn uniformly", "Hz")
    length: Positive = key((0.25, 0.7), "time from the lowest frequency to an end, drawn uniformly", "s")


class ScatteredLight(Family):
    """Describes light that a moving surface scatters back into the beam."""

    witness: str = key("SIM:SUS", "witness of the scatterer's slow motion x(t)")
    fringe: Band = key(
        (25.0, 90.0), "highest fringe frequency 2 |v| / wavelength of the first bounce, drawn uniformly", "Hz"
    )
    motion: Positive = key((0.25, 0.6), "frequency of the scatterer's motion, drawn uniformly", "Hz")
    length: Positive = key((0.8, 1.6), "standard deviation of the burst of motion", "s")
    bounces: int = key(2, "most reflections between scatterer and test mass: harmonics of the fringe", ge=1)
    reflection: float = key(0.4, "amplitude of each further bounce over that of the one before", gt=0, le=1)
    wavelength: float = key(1.064, "laser wavelength", "um", gt=0)
    sensor_noise: float = key(3e-4, "displacement noise of the witness", "um / sqrt(Hz)", gt=0)
    calibration: Range = key(
        (0.0, 0.0),
        "error of the witness's scale, of either sign, whose size is drawn once: x = (1 + error) y",
    )
    pole: float | None = key(
        None,
        "corner of the single pole through which the scatterer follows its witness; null: none",
        "Hz",
        gt=0,
    )
    reflectivity: float = key(
        0.0, "standard deviation of the logarithm of the light's amplitude, drawn for each event", ge=0
    )


class Bilinear(Family):
    """Describes a vibration that a slow swing modulates."""

    witnesses: tuple[str, str] = key(
        ("SIM:ACC_X", "SIM:ASC"), "witness of the vibration, and of the slow swing it is multiplied by"
    )
    frequency: Band = key((30.0, 140.0), "frequency of the vibration, drawn log-uniformly", "Hz")
    vibration: Positive = key((0.5, 1.0), "standard deviation of the vibration in time, drawn uniformly", "s")
    swing: Positive = key((0.5, 1.5), "amplitude of the swing, drawn uniformly", "urad")
    motion: Positive = key((0.5, 1.5), "frequency of the swing, drawn uniformly", "Hz")
    length: Positive = key((0.3, 0.6), "standard deviation of the burst of swing", "s")
    strength: float = key(
        0.3, "SNR in the strain over SNR in a witness of gain 1, at a steady swing of 1 urad", gt=0
    )
    sensor_noise: float = key(3e-4, "noise of the witness of the swing", "urad / sqrt(Hz)", gt=0)


class Blip(Family):
    """Describes a short broadband pulse that no witness sees."""

    frequency: Band = key((50.0, 140.0), "central frequency, drawn log-uniformly", "Hz")
    q: Positive = key((2.0, 4.0), "quality factor, drawn uniformly")


class Chirp(Family):
    """Describes a compact binary's inspiral, which no witness sees."""

    mass: Positive = key((8.0, 30.0), "chirp mass of two equal masses, drawn log-uniformly", "solar masses")
    start: float = key(15.0, "frequency at which the inspiral fades in", "Hz", gt=0)


class Sampled(Family):
    """Describes glitches that a generative twin drew, which no witness sees; each is as loud as it was drawn."""

    weight: float = key(0.0, "relative number of events of this family", ge=0)
    path: File = key("", "the store that `sample` wrote, of a twin that learned from transients alone")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.weight and not self.path:
            raise ValueError("path: which draws? name a store that `sample` wrote")
        return self


class Families(Section):
    """Holds the settings of every family."""

    sine_gaussian: SineGaussian = key(SineGaussian(), "short oscillation under a Gaussian, seen by witnesses")
    ringdown: Ringdown = key(Ringdown(), "sudden, decaying oscillation of a resonance, seen by witnesses")
    whistle: Whistle = key(Whistle(), "beat note sweeping down and up again, seen by witnesses")
    scattered_light: ScatteredLight = key(ScatteredLight(), "arches: sin(4 pi n x(t) / wavelength)")
    bilinear: Bilinear = key(Bilinear(), "a vibration times a slow swing, each seen by a witness")
    blip: Blip = key(Blip(), "short broadband pulse that no witness sees")
    chirp: Chirp = key(Chirp(), "compact binary's inspiral, which no witness sees")
    sampled: Sampled = key(Sampled(), "glitches that a generative twin drew")


LINEAR = [name for name, info in Families.model_fields.items() if issubclass(info.annotation, Linear)]  # type: ignore[arg-type]
