"""Recorded events: the same numbers as gwpy reading the same files, and a clear line for what is wrong."""

from pathlib import Path

import gwpy.testing
import h5py
import numpy as np
import pytest
from gwpy.timeseries import TimeSeries
from helpers import small

from glitchflow.config import Source, load
from glitchflow.data.content import content_of
from glitchflow.data.generate import ingest
from glitchflow.data.shard_events import make_factory
from glitchflow.data.store import dataset as store
from glitchflow.errors import InputError
from glitchflow.signal.recorded.events import recorded
from glitchflow.signal.recorded.recording import read_channel
from glitchflow.signal.recorded.triggers import find_triggers

GPS = 1126259462.42
H1, L1 = (f"{d}-{d}1_LOSC_4_V2-1126259446-32.hdf5" for d in "HL")
CONFIG = Path(__file__).parents[3] / "configs" / "gw150914.yaml"
START, RATE = 1000.0, 512


def gwosc(path: Path) -> Source:
    return Source(name=f"{path.name[0]}1:LOSC-STRAIN", files=[str(path)], format="hdf5.gwosc")


def recipe_of(made):
    found = find_triggers(made.ingest, made.series.duration, made.qplot.span, made.seed)
    return recorded(made.ingest, made.series, made.derived, made.seed, found)


@pytest.fixture
def hdf5(tmp_path):
    """Write 32 s of noise from GPS 1000 as an HDF5 file of gwpy's, and describe it."""

    def write(name="X1:AUX", rate=RATE, values=None, start=START, file="x.h5") -> Source:
        if values is None:
            values = np.random.default_rng(1).standard_normal(32 * rate)
        series = TimeSeries(values, t0=start, sample_rate=rate, name=name, channel=name)
        series.write(tmp_path / file, path=name, format="hdf5", append=True)
        return Source(name=name, files=[str(tmp_path / file)])

    return write


# -- GW150914 ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gw150914(recorded_data, ray_session, tmp_path_factory):
    experiment = load(
        CONFIG,
        [f"workdir={tmp_path_factory.mktemp('gw')}", "ingest.labels=[GW150914]", "store.series=float64"],
    )
    assert str(recorded_data) in experiment.ingest.channels[0].files[0]
    return store.open_store(ingest(experiment))


def test_gw150914_is_where_gwpy_puts_it(gw150914, recorded_data):
    times, frequencies = gw150914["time"][:] + float(gw150914["gps"][0]), gw150914["frequency"][:]
    known = {H1: (126.84, 1126259462.421, 136.0), L1: (70.24, 1126259462.417, 168.5)}
    for channel, (name, (energy, time, frequency)) in enumerate(known.items()):
        data = TimeSeries.read(recorded_data / name, format="hdf5.gwosc")
        span = data.crop(GPS - 15, GPS + 15)
        reference = span.q_transform(
            frange=(20, 500), logf=True, fres=256, tres=1 / 256, outseg=(times[0], times[0] + 1)
        )
        image = np.asarray(gw150914["qplot"][0, channel])
        assert gw150914["q"][0, channel] == pytest.approx(reference.q)
        np.testing.assert_allclose(frequencies, reference.frequencies.value, rtol=1e-6)
        np.testing.assert_allclose(times, reference.times.value, atol=1e-3)
        assert np.abs(image - reference.value.T).max() < 1e-3 * reference.value.max()
        row, column = np.unravel_index(image.argmax(), image.shape)
        assert image.max() == pytest.approx(reference.value.max(), rel=1e-3)
        assert (row, column) == np.unravel_index(reference.value.T.argmax(), image.shape)
        # the answers that come with the files are those of 32 s of data and a linear grid: near, not equal
        assert image.max() == pytest.approx(energy, rel=0.1)
        assert times[column] == pytest.approx(time, abs=0.01)
        assert frequencies[row] == pytest.approx(frequency, rel=0.1)


def test_gw150914s_store(gw150914, recorded_data):
    assert gw150914.channels == ["H1:LOSC-STRAIN", "L1:LOSC-STRAIN"]
    assert gw150914.labels == ["background", "GW150914"]
    assert np.asarray(gw150914["label"][:]) == [1]
    assert float(gw150914["gps"][0]) == pytest.approx(GPS, abs=1 / 4096)
    assert gw150914.attributes["normalisation"] is None or np.asarray(gw150914["split"][:]) == [0]
    data = TimeSeries.read(recorded_data / H1, format="hdf5.gwosc")
    start = round((float(gw150914["gps"][0]) - 15 - data.t0.value) * 4096)
    np.testing.assert_array_equal(gw150914["series"][0, 0], data.value[start : start + 30 * 4096])


def test_frames_hold_the_same_samples(recorded_data):
    frame = Source(name="H1:LOSC-STRAIN", files=[str(recorded_data / H1.replace("hdf5", "gwf"))])
    try:
        values = read_channel(frame, GPS - 4, 8, 4096)
    except InputError as error:
        if "No module named" in str(error) or "backend" in str(error).lower() or "install" in str(error):
            pytest.skip(f"no GWF backend is installed: {error}")
        raise
    np.testing.assert_array_equal(values, read_channel(gwosc(recorded_data / H1), GPS - 4, 8, 4096))


# -- cutting and resampling --------------------------------------------------------------------------------------


def test_the_samples_asked_for(hdf5):
    values = np.arange(32.0 * RATE)
    found = read_channel(hdf5(values=values), START + 3.5, 8, RATE)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, values[1792 : 1792 + 8 * RATE])
    np.testing.assert_array_equal(read_channel(hdf5(file="y.h5", values=values), START, 32, RATE), values)


@pytest.mark.parametrize("rate", [2048, 256, 500])
def test_resampling_keeps_a_tone_in_place(hdf5, rate):
    """Down by a whole factor, up, and down by a fraction: amplitude and phase of 40 Hz stay, at a file's edge too."""
    time = np.arange(32 * rate) / rate
    source = hdf5(rate=rate, values=3 * np.sin(2 * np.pi * 40 * time))
    for start, edge in ((8.0, 0), (0.0, 64)):
        found = read_channel(source, START + start, 8, RATE)
        expected = 3 * np.sin(2 * np.pi * 40 * (start + np.arange(8 * RATE) / RATE))
        assert found.shape == (8 * RATE,)
        assert np.abs(found - expected)[edge : 8 * RATE - edge].max() < 0.03


def test_events_are_cut_around_their_times(hdf5, tmp_path):
    values = np.random.default_rng(2).standard_normal((2, 32 * RATE))
    sources = [
        hdf5(name, values=v, file=f"{name[:2]}.h5") for name, v in zip(("S1:A", "W1:B"), values, strict=True)
    ]
    recipe = recipe_of(
        small(
            tmp_path, derived=[{"name": "D", "function": "scatter", "channels": ["W1:B"], "floor": 0}],
            series={"duration": 8, "sample_rate": RATE},
            ingest={
                "channels": [s.model_dump() for s in sources],
                "times": [START + 10.0001, START + 12, START + 20], "labels": ["Blip", "background", "Arch"],
            },
        )
    )  # fmt: skip
    assert recipe.channels == ["S1:A", "W1:B", "D"]
    assert recipe.labels == ["background", "Arch", "Blip"]
    assert recipe.recorded
    assert recipe.witnessed == []
    events = [recipe.event(i) for i in range(3)]
    assert [e.label for e in events] == [2, 0, 1]
    assert [e.gps for e in events] == [START + 10, START + 12, START + 20]  # at a sample
    np.testing.assert_array_equal(events[1].series[:2], values[:, 8 * RATE : 16 * RATE])
    assert np.abs(events[1].series[2]).max() <= 1
    assert np.isnan(events[0].snr)
    assert recipe.times.tolist() == [START + 10.0001, START + 12, START + 20]


# -- errors ------------------------------------------------------------------------------------------------------


def test_times_outside_the_files(hdf5):
    for start in (START - 1, START + 25):
        with pytest.raises(
            InputError, match=r"ingest.channels X1:AUX: its files cover GPS 1000.000-1032.000, not"
        ):
            read_channel(hdf5(file=f"{start}.h5"), start, 8, RATE)


@pytest.mark.parametrize("rate", [RATE, 1024])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number(hdf5, bad, rate):
    values = np.ones(32 * rate)
    values[10 * rate] = bad
    source = hdf5(values=values, rate=rate, file=f"{bad}{rate}.h5")
    with pytest.raises(InputError, match=r"^ingest.channels X1:AUX: not a number at GPS 1010.0000$"):
        read_channel(source, START + 4, 8, RATE)
    read_channel(source, START + 20, 8, RATE)


def test_files_that_are_not_there_or_not_what_they_seem(hdf5, tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["other"] = np.zeros(3)
    for source, message in (
        (
            Source(name="A", files=[str(tmp_path / "no*.h5")]),
            "ingest.channels A: files = .*no.*h5: no such file",
        ),
        (
            Source(name="A", files=[str(tmp_path / "text.h5")]),
            "ingest.channels A: .*text.h5 cannot be read: ",
        ),
        (
            Source(name="A", files=[str(tmp_path / "foreign.h5")]),
            "ingest.channels A: .*foreign.h5 cannot be read: ",
        ),
        (
            Source(name="A", files=[str(tmp_path / "foreign.h5")], format="hdf5.gwosc"),
            "ingest.channels A: .*foreign.h5 cannot be read: ",
        ),
        (
            Source(name="A", files=[str(tmp_path / "text.h5")], format="nosuch"),
            "ingest.channels A: .* cannot be read: ",
        ),
    ):
        with pytest.raises(InputError, match=message) as error:
            read_channel(source, START, 8, RATE)
        assert "\n" not in str(error.value)


def test_a_second_of_data_is_too_short():
    """gwpy's own sample: three channels in one file, 1 s at 16384 Hz."""
    path = Path(gwpy.testing.__file__).parent / "data" / "HLV-HW100916-968654552-1.hdf"
    source = Source(name="V1:h_16384Hz", files=[str(path)])
    assert read_channel(source, 968654552, 1, 16384).shape == (16384,)
    with pytest.raises(
        InputError, match=r"V1:h_16384Hz: its files cover GPS 968654552.000-968654553.000, not"
    ):
        read_channel(source, 968654551, 4, 16384)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "ingest.channels = []: name the strain and at least one witness"),
        (
            {"channels": [{"name": "A", "files": ["/no/such.h5"]}], "times": [1.0]},
            "ingest.channels A: files = /no/such.h5: no such file",
        ),
    ],
)
def test_what_must_be_given(tmp_path, settings, message):
    with pytest.raises(InputError) as error:
        recipe_of(small(tmp_path, derived=[], ingest=settings))
    assert str(error.value) == message


def test_a_dead_strain_is_one_line_and_leaves_no_store(hdf5, tmp_path):
    sources = [hdf5("S1:A", values=np.zeros(32 * RATE)), hdf5("W1:B")]
    experiment = small(
        tmp_path / "run", derived=[], series={"duration": 8, "sample_rate": RATE},
        ingest={"channels": [s.model_dump() for s in sources], "times": [START + 16]},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"^S1:A: dead, constant or without power in the band$"):
        ingest(experiment)
    assert not experiment.dataset.exists()


def test_a_witness_below_the_band_is_named_unless_one_is_derived_from_it(hdf5, tmp_path):
    slow = hdf5("W1:SLOW", rate=16, values=np.random.default_rng(3).standard_normal(32 * 16), file="slow.h5")
    settings = {
        "series": {"duration": 8, "sample_rate": RATE},
        "ingest": {"channels": [hdf5("S1:A").model_dump(), slow.model_dump()], "times": [START + 16]},
    }

    def made(experiment):
        return make_factory(content_of(experiment, "ingest")).recipe

    with pytest.raises(InputError) as error:
        made(small(tmp_path, derived=[], **settings))
    assert str(error.value) == (
        "ingest.channels W1:SLOW: was recorded at 16 Hz, and qplot.frange = [12, 90] lies above 8 Hz, half of that:"
        " leave it out, or name it in derived"
    )
    fringe = [{"name": "D", "function": "scatter", "channels": ["W1:SLOW"]}]
    assert made(small(tmp_path, derived=fringe, **settings)).channels == ["S1:A", "W1:SLOW", "D"]
