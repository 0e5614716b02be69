"""A configuration to begin with: what is written is read, and its first stage runs."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import run_here

from glitchflow import config
from glitchflow.data.store import open_store
from glitchflow.errors import InputError
from glitchflow.site.init import init

START = 1_400_000_000
RATES = {"X:STRAIN": 512, "X:PEM_1": 1024, "X:PEM_2": 512, "X:SUS": 64, "X:VAC": 1, "X:STATE": 16}


def written(path: Path, start: int, seconds: int, rates: dict[str, float]) -> None:
    """A file of white noise."""
    rng = np.random.default_rng(start)
    with h5py.File(path, "w") as file:
        for name, rate in rates.items():
            file[name] = rng.standard_normal(round(seconds * rate))
            file[name].attrs.update({"x0": start, "dx": 1 / rate})


@pytest.fixture
def frames(tmp_path: Path) -> str:
    """A pattern of two files of a minute."""
    for start in (START, START + 64):
        written(tmp_path / f"X-X_TEST-{start}-64.hdf5", start, 64, RATES)
    return str(tmp_path / "X-*.hdf5")


@pytest.mark.ci
def test_of_a_simulated_detector(tmp_path):
    made = init(tmp_path / "deep" / "mine.yaml")
    whole = config.load(made)
    assert (Path(whole.workdir).name, whole.model.name, whole.simulate.recipe) == (
        "mine",
        "coherent",
        "detector",
    )
    ended = run_here("generate", made, f"workdir={tmp_path}/run", "simulate.events=32")
    assert ended.returncode == 0, ended.stderr


def test_of_recorded_channels(tmp_path, frames):
    whole = config.load(init(tmp_path / "mine.yaml", [frames], "X:STRAIN"))
    assert [one.name for one in whole.ingest.channels] == ["X:STRAIN", "X:PEM_1", "X:PEM_2", "X:SUS"]
    assert all(one.files == [frames] for one in whole.ingest.channels)
    assert (whole.ingest.times.start, whole.ingest.times.end) == (START + 8, START + 120)
    assert (whole.series.sample_rate, whole.qplot.frange) == (512, (10, 200))
    text = (tmp_path / "mine.yaml").read_text()
    assert "# left out, too slow for the band: X:VAC\n" in text
    assert '# segments: {channel: "X:STATE"}' in text


def test_its_first_stage_runs(tmp_path, frames):
    made = init(tmp_path / "mine.yaml", [frames], "X:STRAIN", ["X:PEM_*"])
    ended = run_here("ingest", made, f"workdir={tmp_path}/run", "qplot.shape=[16, 16]")
    assert ended.returncode == 0, ended.stderr
    dataset = open_store(tmp_path / "run" / "dataset.zarr")
    assert dataset.channels == ["X:STRAIN", "X:PEM_1", "X:PEM_2"]
    assert len(dataset) == 56


def test_of_files_apart_and_a_table(tmp_path, frames):
    written(tmp_path / f"aux-{START}-64.hdf5", START, 64, {"X:MIC": 256, 'X:ODD"\\': 256})
    aux, table = str(tmp_path / "aux-*.hdf5"), tmp_path / "triggers.csv"
    table.write_text("time,snr\n1400000050,9\n")
    made = init(tmp_path / "mine.yaml", [frames, aux], "X:STRAIN", ["X:MIC", "X:ODD*"], str(table))
    whole = config.load(made)
    assert [(one.name, one.files) for one in whole.ingest.channels] == [
        ("X:STRAIN", [frames]),
        ("X:MIC", [aux]),
        ('X:ODD"\\', [aux]),
    ]
    assert whole.ingest.times.file == [str(table)]
    assert whole.ingest.background == 500


def test_a_slow_target_is_cleaned_in_a_band_of_its_own(tmp_path):
    written(tmp_path / f"O-O_SEA-{START}-40000.hdf5", START, 40000, {"O:BHZ": 1, "O:BH1": 1})
    whole = config.load(init(tmp_path / "mine.yaml", [str(tmp_path / "O-*.hdf5")], "O:BHZ"))
    assert (whole.series.sample_rate, whole.series.duration) == (1, 8192)
    assert (whole.qplot.frange, whole.qplot.span) == ((0.0195, 0.391), 1024)


ALL = "X:PEM_1, X:PEM_2, X:STATE, X:STRAIN, X:SUS, X:VAC"
LINES = [
    (
        [],
        "X:STRAIN",
        [],
        "",
        "--strain, --witness and --triggers are of recorded data: give its files with --frames",
    ),
    ([...], "", [], "", f"--strain name the channel that is to be cleaned; there are {ALL}"),
    ([...], "X:H", [], "", f"--strain X:H: is not in the files; there are {ALL}"),
    (
        [...],
        "X:STRAIN",
        ["X:ACC*"],
        "",
        "--witness X:ACC*: is not in the files; there are X:PEM_1, X:PEM_2, X:STATE, X:SUS, X:VAC",
    ),
    (
        [...],
        "X:STRAIN",
        ["X:VAC"],
        "",
        "--witness X:VAC: is recorded at 1 Hz, and the twin's band begins at 10 Hz",
    ),
    ([...], "X:STRAIN", ["X:V*"], "", f"--frames: no witness of X:STRAIN is left; there are {ALL}"),
    ([...], "X:STRAIN", [], "no.csv", "--triggers = no.csv: no such file"),
    (["no*.gwf"], "X:STRAIN", [], "", "--frames = no*.gwf: no such file"),
]


@pytest.mark.parametrize("files, strain, witnesses, triggers, line", LINES)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    tmp_path, frames, files, strain, witnesses, triggers, line
):
    patterns = [frames if one is ... else one for one in files]
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError) as raised:
        init(tmp_path / "mine.yaml", patterns, strain, witnesses, triggers)
    assert str(raised.value) == line
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_shorter_than_an_event_is_told(tmp_path):
    written(tmp_path / f"X-X_TEST-{START}-8.hdf5", START, 8, RATES)
    pattern = str(tmp_path / "X-*.hdf5")
    with pytest.raises(InputError, match="covers 8 s, and one event takes 16 s"):
        init(tmp_path / "mine.yaml", [pattern], "X:STRAIN")


def test_a_file_that_is_there_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("mine.yaml")
    path.write_text("my own")
    ended = run_here("init", path)
    assert (ended.returncode, ended.stderr) == (
        2,
        "glitchflow: mine.yaml: is there; --overwrite replaces it\n",
    )
    assert path.read_text() == "my own"
    ended = run_here("init", path, "--overwrite")
    assert ended.returncode == 0
    assert ended.stdout == (
        "init: wrote mine.yaml; then `glitchflow doctor mine.yaml`, `glitchflow generate mine.yaml`\n"
    )


def test_places_that_are_no_file_are_one_line(tmp_path):
    (tmp_path / "afile").touch()
    ended = run_here("init", tmp_path, "--overwrite")
    assert (ended.returncode, ended.stderr) == (
        2,
        f"glitchflow: {tmp_path}: is a directory; name the file to write\n",
    )
    ended = run_here("init", tmp_path / "afile" / "x.yaml")
    assert (ended.returncode, ended.stderr) == (
        1,
        f"glitchflow: {tmp_path}/afile: cannot be made: File exists\n",
    )


@pytest.mark.parametrize("name", ["run #1", "my: run", "{a}", "- x"])
def test_any_name_of_a_file_will_do(tmp_path, name):
    assert config.load(init(tmp_path / f"{name}.yaml")).workdir.endswith(f"/runs/{name}")


def test_names_of_channels_add_no_lines(tmp_path):
    rates = {"X:STRAIN": 512, "X:PEM": 512, "X:VAC\nseed: 7": 1}
    written(tmp_path / f"X-X_TEST-{START}-64.hdf5", START, 64, rates)
    made = init(tmp_path / "mine.yaml", [str(tmp_path / "X-*.hdf5")], "X:STRAIN")
    assert config.load(made).seed == 1
    assert "# left out, too slow for the band: X:VAC\\nseed: 7\n" in made.read_text()


def test_a_state_is_a_witness_only_by_its_name(tmp_path):
    rates = {"X:STRAIN": 512, "X:PEM": 512, "X:DQ_STATE_VECTOR": 512}
    written(tmp_path / f"X-X_TEST-{START}-64.hdf5", START, 64, rates)
    pattern = [str(tmp_path / "X-*.hdf5")]
    whole = config.load(init(tmp_path / "a.yaml", pattern, "X:STRAIN"))
    assert [one.name for one in whole.ingest.channels] == ["X:STRAIN", "X:PEM"]
    asked = config.load(init(tmp_path / "b.yaml", pattern, "X:STRAIN", ["X:DQ*"]))
    assert [one.name for one in asked.ingest.channels] == ["X:STRAIN", "X:DQ_STATE_VECTOR"]
