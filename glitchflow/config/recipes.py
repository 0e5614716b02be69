"""The sections of the built-in simulation recipes, `detector` and `notebook`, and their keys."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from glitchflow.config.base import Channel, File, Positive, Range, Section, ascending, key, positive
from glitchflow.config.families import LINEAR, Families


class Coupling(Section):
    """How the witnesses' and the strain's responses to a disturbance are drawn, once per dataset and family."""

    taps: int = key(65, "length of each FIR transfer function", "samples", ge=3)
    ripple: float = key(6.0, "standard deviation of the response over frequency", "dB", ge=0)
    gain: Positive = key((0.5, 2.0), "a witness's gain on its own noise floor, drawn log-uniformly")
    delay: float = key(0.02, "largest delay between a witness and the strain", "s", ge=0)
    deaf: float = key(0.0, "share of the witnesses that no family names which couple to nothing", ge=0, lt=1)
    per: Literal["family", "sensor"] = key(
        "family", "a witness has a response to each family, or one of its own to all that reach it"
    )


class Drifting(Section):
    """How the detector changes by the hour: processes AR(1), the same at the same GPS time."""

    noise: float = key(0.0, "standard deviation of the logarithm of each channel's noise floor", ge=0)
    coupling: float = key(0.0, "standard deviation of the logarithm of each witness's gain", ge=0)
    away: float = key(0.0, "share of the time that a coupling is not there", ge=0, lt=1)
    memory: float = key(3600.0, "time in which a change is forgotten to 1 / e", "s", gt=0)


class Faults(Section):
    """What goes wrong with channels, at places that the truth lists."""

    rate: float = key(
        0.0,
        "dropouts, stuck or saturated values and NaN, of up to 8 s, in each witness",
        "1 / h",
        ge=0,
        le=60,
    )
    dead: list[str] = key([], "witnesses that say nothing, ever")
    unlocked: float = key(0.0, "losses of lock, of 2 to 20 minutes", "1 / h", ge=0, le=60)


class Subsystem(Section):
    """One part of the detector, whose witnesses are named SIM:NAME_1, SIM:NAME_2, ... (SIM as the strain has it)."""

    name: str = key(..., "as PEM-ACC")
    count: int = key(..., "number of witnesses", gt=0, le=100_000)
    rate: float = key(2048.0, "their sample rate: they know nothing beyond half of it", "Hz", gt=0)
    telling: int = key(0, "so many of them, the first, hear `hears` and the shared noise", ge=0)
    hears: list[str] = key([], "families that these hear, of those that witnesses see linearly")
    bursts: float = key(
        0.0, "transients that all of them hear, and the strain never does", "1 / s", ge=0, le=100
    )
    shared: float = key(
        0.0,
        "stationary noise that the telling ones share with the strain, over the strain's floor in `band`",
        ge=0,
    )
    band: Positive = key((10.0, 60.0), "band of the shared noise", "Hz")
    lines: list[float] = key([], "frequencies of power lines in the shared noise", "Hz")

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.telling > self.count:
            raise ValueError(f"telling: {self.telling} of {self.count} witnesses")
        if (self.hears or self.shared) and not self.telling:
            raise ValueError("telling: none of the witnesses hears `hears` or shares noise; give a number")
        return self


class Noise(Section):
    """Stationary noise of the channels."""

    psd: Literal["advanced", "file", "recorded"] = key(
        "advanced", "strain: advanced: an analytic curve; file: two columns of text; recorded: estimated"
    )
    files: list[File] = key([], "file: Hz and 1/sqrt(Hz); recorded: HDF5 or GWF files, or glob patterns")
    channel: str = key("", "recorded: channel (GWF) or dataset (HDF5) inside the files")
    format: str = key("", "recorded: gwpy's name of the file format, as hdf5.gwosc; empty: as gwpy guesses")
    fftlength: float = key(4.0, "recorded: segment length of the estimate", "s", gt=0)
    slope: Range = key((0.0, 1.5), "witnesses: noise falls as f^-slope, drawn for each")
    line_height: float = key(30.0, "height of the power lines over the floor, in amplitude", ge=0)
    line_width: float = key(0.1, "width of the power lines", "Hz", gt=0)

    @model_validator(mode="after")
    def _files(self) -> Self:
        if (self.psd == "advanced") == bool(self.files):
            raise ValueError(f"files: psd = {self.psd} takes {'none' if self.files else 'at least one'}")
        return self


class Detector(Section):
    """Recipe `detector`: coloured noise, witnessed and unwitnessed transients, fixed couplings."""

    strain: Channel = key("SIM:STRAIN", "name of the strain channel")
    witnesses: list[Channel] = key(
        ["SIM:ACC_X", "SIM:ACC_Y", "SIM:SUS", "SIM:ASC"], "names of the witness channels"
    )
    background: float = key(0.2, "share of events without a transient", ge=0, le=1)
    snr: Positive = key(
        (8.0, 60.0),
        "matched-filter SNR in the strain, drawn log-uniformly; that of scattered light follows from its motion",
    )
    jitter: float = key(0.3, "largest distance of the transient from the window's centre", "s", ge=0)
    lines: list[float] = key([60.0, 120.0, 180.0], "frequencies of the power lines in every channel", "Hz")
    noise: Noise = key(Noise(), "stationary noise")
    coupling: Coupling = key(Coupling(), "transfer functions")
    families: Families = key(Families(), "families of transients")
    subsystems: list[Subsystem] = key([], "further witnesses, by the part of the detector they watch")
    only: list[str] = key(
        [], "make these witnesses alone, and those that families name, of the same detector; empty: all"
    )
    rate: float = key(
        0.0,
        "transients in the strain besides, anywhere in a series, of the same families",
        "1 / s",
        ge=0,
        le=100,
    )
    bursts: float = key(
        0.0,
        "transients that one of `witnesses` alone hears, and the strain never does; in each that is not slow",
        "1 / s",
        ge=0,
        le=100,
    )
    window: float = key(
        2.0, "about the centre: its loudest transient gives an event label and SNR", "s", gt=0
    )
    drift: Drifting = key(Drifting(), "changes by the hour")
    faults: Faults = key(Faults(), "what goes wrong with channels")
    unsafe: str = key("", "witness that blips and chirps leak into from the strain; empty: none")

    @property
    def every(self) -> list[str]:
        """Every witness: those of `witnesses`, then those of the subsystems."""
        return [*self.witnesses, *(name for one in self.subsystems for name in self._all(one))]

    @property
    def names(self) -> list[str]:
        """Those of them that are made."""
        return self._made(self.every)

    def sensors(self, subsystem: Subsystem) -> list[str]:
        """The witnesses of a subsystem that are made."""
        return self._made(self._all(subsystem))

    @property
    def rates(self) -> dict[str, float]:
        """The own sample rate in Hz of each witness that has one: a subsystem's."""
        return {name: one.rate for one in self.subsystems for name in self.sensors(one)}

    def telling(self, subsystem: Subsystem) -> list[str]:
        """Those of them that hear what the subsystem hears."""
        return self._made(self._all(subsystem)[: subsystem.telling])

    def _all(self, subsystem: Subsystem) -> list[str]:
        prefix = self.strain[: self.strain.find(":") + 1]
        return [f"{prefix}{subsystem.name}_{i + 1}" for i in range(subsystem.count)]

    def _made(self, names: list[str]) -> list[str]:
        kept = {*self.only, *self.named} if self.only else None
        return names if kept is None else [name for name in names if name in kept]

    @property
    def timeline(self) -> bool:
        """Whether transients come at times of their own, beside those that events are about."""
        return self.rate > 0 or self.bursts > 0 or any(one.bursts for one in self.subsystems)

    @property
    def shakeable(self) -> list[str]:
        """The witnesses that have bursts of their own, whether they are made or not."""
        return [w for w in self.witnesses if self.bursts and w not in self.slow]

    @property
    def shaken(self) -> list[str]:
        """Those of them that are made."""
        return self._made(self.shakeable)

    @property
    def slow(self) -> list[str]:
        """The witnesses of slow motions, which no linear family reaches."""
        scattered, bilinear = self.families.scattered_light, self.families.bilinear
        return [scattered.witness] * (scattered.weight > 0) + [bilinear.witnesses[1]] * (bilinear.weight > 0)

    @property
    def named(self) -> list[str]:
        """The witnesses that some family with events names."""
        linear = [getattr(self.families, name) for name in LINEAR]
        named = [w for family in linear if family.weight for w in family.witnesses]
        return named + self.slow + [self.families.bilinear.witnesses[0]] * (self.families.bilinear.weight > 0)

    def seeing(self, family: str) -> list[str]:
        """The witnesses that a linear family, bilinear's vibration, or what leaks from the strain, reaches."""
        if family == "bilinear":
            return [self.families.bilinear.witnesses[0]]
        if family not in LINEAR:
            return self._made([self.unsafe] if self.unsafe else [])
        telling = [w for one in self.subsystems if family in one.hears for w in self.telling(one)]
        return getattr(self.families, family).witnesses or [
            w for w in [*self._made(self.witnesses), *telling] if w not in self.slow
        ]


class Notebook(Section):
    """Recipe `notebook`: the original sums of sines; what was wrong with it is offered, not inherited."""

    strain: Channel = key("SIM:STRAIN", "name of the strain channel")
    witnesses: int = key(3, "number of witnesses", ge=1)
    sines: Annotated[tuple[int, int], AfterValidator(ascending), AfterValidator(positive)] = key(
        (20, 24), "number of sines in a witness, drawn uniformly"
    )
    amplitude: Range = key((0.5, 2.0), "amplitude of each sine, drawn uniformly")
    frequency: Range = key(
        (12.0, 140.0), "frequency of each sine, drawn uniformly (the original: 0.5-5)", "Hz"
    )
    witness_noise: float = key(0.6, "standard deviation of a witness's white noise", ge=0)
    strain_noise: float = key(0.1, "standard deviation of the strain's white noise", ge=0)
    weights: Range = key((0.5, 1.5), "weight of each witness in the strain, drawn uniformly")
    redraw_weights: bool = key(False, "draw the weights anew for every event, as the original did at scale")
    constant_noise: bool = key(
        False, "one noise value per series instead of one per sample, as the original did"
    )
    out_of_band: bool = key(False, "allow sines outside qplot.frange, where no Q-plot shows them")

    @property
    def names(self) -> list[str]:
        """Names of the witnesses, which the recipe only counts."""
        return [f"SIM:WITNESS_{i + 1}" for i in range(self.witnesses)]
