"""What the page needs of the JSON files that stages write; a file that lacks it is damaged, or of a former version.

Each is read as `objects.read` reads all: by pydantic, with one line for what is wrong. What is not named here passes.
"""

from typing import Any, NotRequired

from pydantic import ConfigDict
from typing_extensions import TypedDict

Interval = dict[str, float | None]  # value, low, high
ANY = ConfigDict(extra="allow")


class Family(TypedDict):
    """The scores of a family: by method, by score."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    events: int
    glitches: int
    witnessed: bool
    scores: dict[str, dict[str, Interval]]


class Point(TypedDict):
    """What vetoes do at one threshold."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    threshold: float
    segments: int
    efficiency: Interval
    deadtime: Interval
    efficiency_over_deadtime: Interval
    use_percentage: Interval
    false_alarm_probability: Interval
    chance: dict[str, Any]


class Method(TypedDict):
    """What a method's vetoes do."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    curves: dict[str, dict[str, list[float | None]]]
    segments: list[int]
    at_veto: Point
    chosen: list[Point]
    confusion: dict[str, int]


class Veto(TypedDict):
    """What vetoes do, by method."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    truth: float
    glitches: int
    analysed_seconds: float
    methods: dict[str, Method]


class Stretch(TypedDict):
    """What a treatment did to a stretch whose truth is known."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    live: float
    quiet: int
    residual: Interval
    noise_added: Interval
    volume_time: dict[str, Any]
    veto: dict[str, Any] | None


class Measured(TypedDict):
    """`clean/metrics.json`."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    stretch: Stretch


class Metrics(TypedDict):
    """`evaluation/metrics.json`; docs/metrics.schema.json has all of it."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    form: str
    split: str
    events: int
    quiet: float
    families: dict[str, Family]
    thresholds: dict[str, Any]
    roc: dict[str, dict[str, Any]]
    veto: Veto
    clusters_left: dict[str, dict[str, Interval]]
    stretch: NotRequired[dict[str, Stretch] | None]
    attribution: dict[str, Any] | None
    drift: dict[str, Any] | None
    chance: NotRequired[dict[str, Any] | None]


class Verdict(TypedDict):
    """Whether a dataset can teach."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    words: str


class Judgement(TypedDict):
    """`baseline.json`."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    verdict: Verdict


class Scan(TypedDict):
    """`scan.json`."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    channels: list[dict[str, Any]]


class Cleaned(TypedDict):
    """`clean/clean.json`."""

    __pydantic_config__ = ANY  # type: ignore[misc]

    channel: str
    windows: int
    treated: int
    veto: dict[str, Any]
    deadtime: float | None
