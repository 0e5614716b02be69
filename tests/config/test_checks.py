"""Settings of different sections that contradict each other: each message names key, value and what is allowed."""

from pathlib import Path

import pytest

from glitchflow.config import load, parse
from glitchflow.config.families import Families
from glitchflow.errors import InputError

FAMILIES = "simulate.detector.families"


def tree(**dotted: object) -> dict:
    """{"a__b": 1} -> {"a": {"b": 1}}"""
    values: dict = {}
    for name, value in dotted.items():
        *parents, last = name.split("__")
        section = values
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = value
    return values


def family(name: str, **settings: object) -> dict:
    return tree(simulate__detector__families={name: settings})


def derived(**settings: object) -> dict:
    return {"derived": [{"name": "D", "function": "scatter", "channels": ["SIM:SUS"], **settings}]}


def ingest(*names: str, **settings: object) -> dict:
    return {"ingest": {"channels": [{"name": n, "files": ["x.gwf"]} for n in names], **settings}}


def detector(**settings: object) -> dict:
    return tree(simulate__detector=settings)


PART = {"name": "PEM", "count": 2, "telling": 1}
BAND = [
    (tree(qplot__frange=[0, 200]), "qplot.frange = [0, 200]: must be 0 < low < high, in Hz"),
    (tree(qplot__frange=[90, 90]), "qplot.frange = [90, 90]: must be 0 < low < high, in Hz"),
    (tree(qplot__frange=[90, 30]), "qplot.frange = [90, 30]: must be [low, high] with low <= high"),
    (
        tree(qplot__frange=[10, 300]),
        "qplot.frange = [10, 300]: beyond 256 Hz, half of series.sample_rate = 512",
    ),
    (tree(qplot__q=3), "qplot.q = 3: Q must be at least sqrt(11) = 3.317"),
    (tree(qplot__q=None, qplot__qrange=[2, 9]), "qplot.qrange = 2: Q must be at least sqrt(11) = 3.317"),
    (
        family("sine_gaussian", frequency=[5, 100]),
        f"{FAMILIES}.sine_gaussian.frequency = [5, 100]: must lie inside qplot.frange = [10, 200]:"
        " no Q-plot shows the rest",
    ),
    (family("scattered_light", fringe=[20, 300]), f"{FAMILIES}.scattered_light.fringe = [20, 300]: must lie"),
    (family("blip", frequency=[20, 300]), f"{FAMILIES}.blip.frequency = [20, 300]: must lie inside"),
    (
        tree(simulate={"recipe": "notebook", "notebook": {"frequency": [0.5, 5]}}),
        "simulate.notebook.frequency = [0.5, 5]: must lie inside qplot.frange = [10, 200]",
    ),
]
WINDOW = [
    (
        tree(qplot__span=15),
        "qplot.span = 15: longer than the 14 s that series.duration = 16 leaves after whiten.length = 2",
    ),
    (
        tree(simulate__detector__jitter=1.5),
        "simulate.detector.jitter = 1.5: would put transients outside qplot.span = 2",
    ),
    (
        tree(simulate__detector__coupling={"taps": 10**11}),
        "simulate.detector.coupling.taps = 100000000000: longer than the 8192 samples of a series, which would cut it"
        " off",
    ),
    (
        tree(series__duration=3, qplot__span=1, whiten={"asd": "none"}),
        "whiten.fftlength = null: segments of 4 s are longer than series.duration = 3, of which there is no ASD",
    ),
    (
        tree(series__duration=4, qplot__span=2, whiten={"asd": "none", "fftlength": 5}),
        "whiten.fftlength = 5: segments of 5 s are longer than series.duration = 4, of which there is no ASD",
    ),
    (tree(whiten__fftlength=0), "whiten.fftlength = 0: input should be greater than 0"),
    (tree(whiten__highpass=-5), "whiten.highpass = -5: input should be greater than 0"),
    (
        tree(whiten__highpass=256),
        "whiten.highpass = 256: must lie below 256 Hz, half of series.sample_rate = 512",
    ),
    (tree(series__duration=16.001), "series.duration = 16.001: must be a whole number of samples at 512 Hz"),
]
CHANNELS = [
    (derived(channels=["SIM:SUSS"]), "derived.channels = SIM:SUSS: not a witness of simulate.detector;"),
    (detector(strain=""), "simulate.detector.strain = : must name a channel"),
    (detector(witnesses=[" "]), "simulate.detector.witnesses.0 =  : must name a channel"),
    (tree(simulate__notebook__strain=" "), "simulate.notebook.strain =  : must name a channel"),
    (derived(name=""), "derived.0.name = : must name a channel"),
    (ingest("", "L1"), "ingest.channels.0.name = : must name a channel"),
    (derived(channels=["SIM:STRAIN"]), "derived.channels = SIM:STRAIN: not a witness of simulate.detector;"),
    (derived(name="SIM:SUS"), "simulate.detector: channel names must differ: SIM:STRAIN, SIM:ACC_X, SIM:ACC"),
    (
        tree(loader__witnesses=["NO"]),
        "loader.witnesses = NO: not a witness of simulate.detector; there are: SIM:ACC_X, SIM:ACC_Y, SIM:SUS",
    ),
    (
        family("scattered_light", witness="NO"),
        f"{FAMILIES}.scattered_light.witness = NO: not a witness of simulate.detector",
    ),
    (
        family("sine_gaussian", witnesses=["NO"]),
        f"{FAMILIES}.sine_gaussian.witnesses = NO: not a witness of simulate.detector",
    ),
    (
        tree(simulate__detector={"witnesses": ["SIM:SUS"], "families": {"bilinear": {"weight": 0}}}),
        f"{FAMILIES}.sine_gaussian.witnesses = []: means all but those of slow motions",
    ),
    (
        tree(simulate__detector__families={name: {"weight": 0} for name in Families.model_fields}),
        f"{FAMILIES}: every weight is 0; set one, or simulate.detector.background=1",
    ),
    (
        family("bilinear", witnesses=["SIM:SUS", "SIM:ASC"]),
        f"{FAMILIES}.bilinear.witnesses = [SIM:SUS, SIM:ASC]: must be two, and neither that of scattered light",
    ),
    (
        family("bilinear", witnesses=["SIM:ACC_X", "SIM:NO"]),
        f"{FAMILIES}.bilinear.witnesses = SIM:NO: not a witness of simulate.detector",
    ),
    (
        family("whistle", low=[20, 95]),
        f"{FAMILIES}.whistle.low = [20, 95]: must lie below whistle.high = [90, 140]",
    ),
    (ingest("H1", "H1"), "ingest.channels: channel names must differ: H1, H1"),
    (
        ingest("H1", "L1") | derived(channels=["H1"]),
        "derived.channels = H1: not a witness of ingest.channels; there are: L1",
    ),
    (ingest("H1", "L1", times=[1, 2], labels=["a"]), "ingest.labels: 1 for 2 ingest.times"),
    (
        tree(simulate__recipe="notebook", loader__witnesses=["SIM:ACC_X"]),
        "loader.witnesses = SIM:ACC_X: not a witness of simulate.notebook; there are: SIM:WITNESS_1, SIM:WITNESS_2",
    ),
]
HARD = [
    (
        detector(subsystems=[PART | {"hears": ["blip"]}]),
        "simulate.detector.subsystems.PEM.hears = blip: not a family that witnesses see linearly; there are:"
        " sine_gaussian, ringdown, whistle",
    ),
    (detector(unsafe="SIM:NO"), "simulate.detector.unsafe = SIM:NO: not a witness of simulate.detector"),
    (
        detector(faults={"dead": ["SIM:NO"]}),
        "simulate.detector.faults.dead = SIM:NO: not a witness of simulate.detector",
    ),
    (
        detector(rate=1, background=1, families={name: {"weight": 0} for name in Families.model_fields}),
        "simulate.detector.rate = 1: every weight of simulate.detector.families is 0; set one",
    ),
    (
        detector(rate=1) | tree(qplot__span=4),
        "simulate.detector.window = 2: shorter than qplot.span = 4, which would show transients without a label",
    ),
    (
        tree(simulate={"stride": 0.5, "detector": {"rate": 1}}),
        "simulate.stride = 0.5: must be whole seconds where transients come at any time",
    ),
    (
        detector(subsystems=[PART | {"telling": 3}]),
        "simulate.detector.subsystems.0: telling: 3 of 2 witnesses",
    ),
    (
        detector(subsystems=[PART | {"shared": 1, "telling": 0}]),
        "simulate.detector.subsystems.0: telling: none of the witnesses hears `hears` or shares noise",
    ),
    (
        detector(subsystems=[PART, PART]),
        "simulate.detector: channel names must differ: SIM:PEM_1, SIM:PEM_2",
    ),
    (
        ingest("H1", "L1") | detector(unsafe="SIM:NO"),  # a stretch beside what is made of its frames
        "simulate.detector.unsafe = SIM:NO: not a witness of simulate.detector",
    ),
    (
        detector(unsafe="SIM:PEM_99", subsystems=[PART | {"count": 50}]),
        "simulate.detector.unsafe = SIM:PEM_99: not a witness of simulate.detector; there are: SIM:PEM_9, ",
    ),
    (
        detector(rate=1) | tree(series__duration=8),
        "series.duration = 8: must be at least 16 s where transients come at any time: 10 times the greatest"
        " simulate.detector.families.scattered_light.length, or motions begin with a step",
    ),
    (
        detector(coupling={"drift": 0.3}),
        "simulate.detector.coupling.drift: is simulate.detector.drift now",
    ),
]
BATCHES = [
    (tree(train__workers=33), "train.workers = 33: must be at most loader.batch = 32"),
    (tree(train__workers=5, loader__lanes=4), "train.workers = 5: must be at most loader.lanes = 4"),
    (tree(train__workers=[1, 33]), "train.workers = [1, 33]: must be at most loader.batch = 32"),
    (tree(loader__batch=30, loader__lanes=4), "loader.batch = 30: must be a multiple of loader.lanes = 4"),
]
OWN = [  # of one section
    (derived(function="product"), "derived.0: channels: product takes 2, not 1"),
    (tree(split={"test": 0.6, "validation": 0.4}), "split: validation + test = 1 leaves nothing to train on"),
    (
        tree(stretch__signals=1e9),
        "stretch.signals = 1000000000.0: input should be less than or equal to 3600",
    ),
    (detector(rate=1e6), "simulate.detector.rate = 1000000.0: input should be less than or equal to 100"),
    (
        detector(subsystems=[PART | {"count": 10**9}]),
        "simulate.detector.subsystems.0.count = 1000000000: input should be less than or equal to 100000",
    ),
    (
        tree(split__groups=[[8, 20, "test"], [0, 10, "train"]]),
        "split: groups: [0, 10, train] and [8, 20, test]: must not overlap, or samples would be in two splits",
    ),
    (
        tree(simulate__detector__snr=[0, 60]),
        "simulate.detector.snr = [0, 60]: must be [low, high] with 0 < low",
    ),
    (
        tree(simulate__detector__snr=[60, 8]),
        "simulate.detector.snr = [60, 8]: must be [low, high] with low <= high",
    ),
    (
        tree(simulate__notebook__sines=[9, 2]),
        "simulate.notebook.sines = [9, 2]: must be [low, high] with low <=",
    ),
    (tree(qplot__shape=[0, 64]), "qplot.shape.0 = 0: input should be greater than 0"),
    (tree(qplot__q=float("nan")), "qplot.q = nan: input should be a finite number"),
    (tree(loader__normalise="minmax"), "loader.normalise = minmax: input should be 'log1p', 'max' or 'mean'"),
    (tree(train__epochs="many"), "train.epochs = many: input should be a valid integer"),
    (tree(train=None), "train = None: must be a section of keys: workers, threads"),
]


@pytest.mark.parametrize(
    "values, message", BAND + WINDOW + CHANNELS + HARD + BATCHES + OWN, ids=lambda v: str(v)[:60]
)
def test_contradictions_are_refused_in_one_line(values, message):
    with pytest.raises(InputError) as refusal:
        parse(values, "x.yaml")
    assert str(refusal.value).startswith(f"x.yaml: {message}")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "values",
    [
        family("blip", weight=0, frequency=[1, 300]),  # not made, so nobody misses it
        family("scattered_light", weight=0) | {"seed": 2},
        tree(
            simulate__detector={
                "witnesses": ["SIM:SUS"],
                "families": {"scattered_light": {"weight": 0}, "bilinear": {"weight": 0}},
            }
        ),
        tree(simulate={"recipe": "notebook", "notebook": {"frequency": [0.5, 5], "out_of_band": True}}),
        ingest("H1", "L1")
        | tree(qplot={"frange": [30, 100], "span": 0.1}),  # what is not simulated does not matter
        {"ingest": {"series_from": "x.zarr"}} | tree(qplot={"frange": [30, 100], "span": 0.1}),
        tree(qplot={"window": "loudest", "span": 99}),
        tree(simulate__recipe="package.module:mine", loader__witnesses=["WHATEVER"]),
        derived() | tree(loader__witnesses=["D"]),
        {
            "derived": [
                derived()["derived"][0],
                {"name": "P", "function": "product", "channels": ["D", "SIM:SUS"]},
            ]
        },
    ],
    ids=lambda v: str(v)[:60],
)
def test_what_is_not_a_contradiction_passes(values):
    assert set(values) <= parse(values).model_fields_set


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_configurations_that_ship_are_valid(path):
    assert load(path).workdir.endswith(path.stem)
