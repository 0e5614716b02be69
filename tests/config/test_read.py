"""Reading an experiment: YAML, overrides, the environment, and the one line for each mistake."""

import re
from pathlib import Path

import pytest

from glitchflow.config import NO_IMPORTS, Experiment, import_path, load, parse, upgrade
from glitchflow.errors import InputError


@pytest.fixture
def experiment_file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "x.yaml"
        path.write_text(text)
        return path

    return write


def refusal(*arguments) -> str:
    with pytest.raises(InputError) as error:
        load(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# -- mistyped keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, message",
    [
        ({"trian": {}}, "trian: unknown key; did you mean train?"),
        ({"train": {"epoch": 3}}, "train.epoch: unknown key; did you mean train.epochs?"),
        (
            {"simulate": {"detector": {"families": {"blip": {"frequncy": [30, 40]}}}}},
            "simulate.detector.families.blip.frequncy: unknown key;"
            " did you mean simulate.detector.families.blip.frequency?",
        ),
        (
            {"infer": {"zzz": 1}},
            "infer.zzz: unknown key; known: checkpoint, untrained, train, batch, precision, compile",
        ),
        (
            {"loader": {"subset": {"tran": 3}}},
            "loader.subset.tran: unknown key; did you mean loader.subset.train?",
        ),
        (
            {"derived": [{"name": "a", "funtion": "scatter", "channels": ["SIM:SUS"]}]},
            "derived.0.funtion: unknown key; did you mean derived.0.function? (and 1 more)",
        ),
    ],
)
def test_unknown_keys_name_the_nearest_known_one(values, message):
    with pytest.raises(InputError, match=f"^c.yaml: {re.escape(message)}$"):
        parse(values, "c.yaml")


# -- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: [1", ": not YAML: while parsing a flow sequence"),
        ("seed: 1\nseed: 2\n", ": not YAML: while constructing a mapping"),
        ("- 1\n- 2\n", ": must hold sections such as `train:`, not a list"),
        ("workdir: ${nokey}\n", ": workdir: Interpolation key 'nokey' not found"),
        ("train: {lr: '${train.lr}'}\n", ": train.lr: Recursive interpolation detected"),
        (
            "workdir: ${oc.env:GLITCHFLOW_NOT_SET}\n",
            ": workdir: KeyError raised while resolving interpolation:",
        ),
        ("seed: " + 5000 * "[" + 5000 * "]", ": is nested too deeply, or refers to itself"),
        ('workdir: "a\\0b"\n', ": workdir = a\\x00b: must not hold the character NUL"),
        (
            "store: {path: s3://key:secret@bucket/x}\n",
            ": store.path: must not hold a password: what is made quotes",
        ),
        (
            "mlflow: {uri: 'http://me:secret@host:5000'}\n",
            ": mlflow.uri: must not hold a password: what is made",
        ),
        ("mlflow: {uri: 'http://[host'}\n", ": mlflow.uri = http://[host: is no URL: Invalid IPv6 URL"),
        ("train:\n", ": train = None: must be a section of keys: workers,"),
    ],
)
def test_files_that_are_wrong(experiment_file, text, message):
    path = experiment_file(text)
    assert refusal(path).startswith(f"{path}{message}")


def test_a_path_that_no_file_system_takes(experiment_file):
    name = 256 * "x"
    assert refusal(experiment_file(f"workdir: /a/{name}/b\n")).endswith(
        f": workdir = /a/{name}/b: holds a name of more than 255 bytes, which file systems do not take"
    )
    assert load(experiment_file(f"workdir: /a/{name[1:]}/b\n")).workdir == f"/a/{name[1:]}/b"


def test_files_that_are_not_there(tmp_path):
    assert refusal(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: no such file"
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be read: ")
    (tmp_path / "b.yaml").write_bytes(b"seed: \xff\xfe\n")
    assert refusal(tmp_path / "b.yaml").startswith(f"{tmp_path}/b.yaml: ")


def test_an_empty_file_is_all_defaults(experiment_file):
    assert load(experiment_file("")) == parse({})


def test_environment(experiment_file, monkeypatch):
    path = experiment_file("workdir: ${oc.env:GLITCHFLOW_TEST_PLACE,/fallback}/run\n")
    assert load(path).workdir == "/fallback/run"
    monkeypatch.setenv("GLITCHFLOW_TEST_PLACE", "/elsewhere")
    assert load(path).workdir == "/elsewhere/run"


def test_paths_are_absolute_because_workers_run_elsewhere(experiment_file, tmp_path, monkeypatch):
    path = experiment_file(
        "workdir: here\n"
        "ingest: {series_from: old.zarr, channels: [{name: H1, files: ['a/*.gwf', 's3://bucket/b.gwf']}]}\n"
    )
    monkeypatch.chdir(tmp_path)
    experiment = load(path)
    assert experiment.workdir == str(tmp_path / "here")
    assert experiment.dataset == tmp_path / "here" / "dataset.zarr"
    assert experiment.ingest.series_from == str(tmp_path / "old.zarr")
    assert experiment.ingest.channels[0].files == [str(tmp_path / "a" / "*.gwf"), "s3://bucket/b.gwf"]
    assert parse({}).workdir == str(tmp_path / "runs" / "default")
    assert parse({"workdir": "~/x"}).workdir == str(Path.home() / "x")
    assert parse({}).ingest.series_from == ""


# -- overrides ---------------------------------------------------------------------------------------------------


def test_overrides_change_values_of_every_kind(experiment_file):
    path = experiment_file(
        "train: {epochs: 5, lr: 1.0e-3}\nderived: [{name: D, function: scatter, channels: ['SIM:SUS']}]\n"
    )
    experiment = load(
        path,
        ["train.epochs=7", "qplot.frange=[20,150]", "qplot.q=null", "store.series=true", "derived.0.gain=2.5",
         "model.options.depth=3", "train.epochs=8", "infer.checkpoint=a=b"],
    )  # fmt: skip
    assert (experiment.train.epochs, experiment.train.lr) == (8, 1e-3)
    assert experiment.qplot.frange == (20, 150)
    assert experiment.qplot.q is None
    assert experiment.store.series == "float32"
    assert (experiment.derived[0].gain, experiment.derived[0].name) == (2.5, "D")
    assert experiment.model.options == {"depth": 3}
    assert experiment.infer.checkpoint == str(Path("a=b").absolute()), (
        "a path, relative to where the user stands"
    )


def test_what_is_whole_takes_the_place_of_what_is_there(experiment_file):
    path = experiment_file("ingest: {segments: {channel: X}, times: {start: 1, end: 9}}\n")
    ingest = load(path, ["ingest.segments=[[5, 30]]", "ingest.times=[7]"]).ingest
    assert (ingest.segments.gps, ingest.segments.channel) == ([(5, 30)], "")
    assert (ingest.times.gps, ingest.times.start) == ([7], None)
    path = experiment_file("ingest: {segments: flag.json, times: [1, 2]}\n")
    ingest = load(path, ["ingest.segments={channel: X}", "ingest.times={start: 1, end: 9}"]).ingest
    assert (ingest.segments.file, ingest.segments.channel) == ("", "X")
    assert (ingest.times.gps, ingest.times.start, ingest.times.end) == ([], 1, 9)
    path = experiment_file("ingest: {times: {file: t.csv, label: kind}}\n")
    assert load(path, ["ingest.times={start: 1, end: 9}"]).ingest.times.file == []


def test_a_value_that_the_shell_split_is_told_to_be_quoted(experiment_file):
    path = experiment_file("seed: 1\n")
    told = refusal(path, ["qplot.frange=[10,", "100]"])
    assert told.startswith(f"{path} with qplot.frange=[10,: not YAML: ")
    assert told.endswith("; a value with spaces needs quotes: 'section.key=[1, 2]'")


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.epoch=3", "FILE with train.epoch=3: train.epoch: unknown key; did you mean train.epochs?"),
        ("train.lr=fast", "FILE with train.lr=fast: train.lr = fast: input should be a valid number"),
        ("simulate.events=true", "FILE with simulate.events=true: simulate.events = True: must be a number"),
        ("cluster.cpus=false", "FILE with cluster.cpus=false: cluster.cpus = False: must be a number"),
        ("train.lr.x=1", "FILE with train.lr.x=1: train.lr: input should be a valid number"),
        ("train=3", "FILE with train=3: train = 3: must be a section of keys: workers, threads"),
        ("nosuch.key=3", "FILE with nosuch.key=3: nosuch: unknown key; known: workdir, seed, series"),
        ("train.lr=[", "FILE with train.lr=[: not YAML: "),
        (
            "simulate.detector.only=[SUS]",  # before what families are then left with
            "FILE with simulate.detector.only=[SUS]: simulate.detector.only = SUS: not a witness of simulate.detector;"
            " there are: ",
        ),
        ("train.lr", "train.lr: an override looks like section.key=value"),
        ("=3", "=3: an override looks like section.key=value"),
        *(
            (
                f"train.workers={wrong}",
                f"FILE with train.workers={wrong}: train.workers = {wrong}: must be at least 1, or the fewest and the"
                " most, as [2, 8]",
            )
            for wrong in ("0", "many", "1.5", "[0, 2]", "[4, 2]", "[2]", "[1, 2, 3]")
        ),
        ("train.workers=true", "FILE with train.workers=true: train.workers = True: must be a number"),
        (
            "train.workers=33",
            "FILE with train.workers=33: train.workers = 33: must be at most loader.batch = 32",
        ),
    ],
)
def test_a_wrong_override_is_named(experiment_file, override, message):
    path = experiment_file("seed: 1\n")
    assert refusal(path, [override]).startswith(message.replace("FILE", str(path)))


@pytest.mark.parametrize(
    ("text", "override", "told"),
    [
        ("times: [1, 2]", "ingest.times.start=3", "ingest.times is a list there, and has no key start"),
        (
            "segments: a.json",
            "ingest.segments.channel=X",
            "ingest.segments is a text there, and has no key channel",
        ),
    ],
)
def test_a_key_inside_what_is_no_section(experiment_file, text, override, told):
    path, (outer, key) = experiment_file(f"ingest: {{{text}}}\n"), override.split("=")[0].rsplit(".", 1)
    assert (
        refusal(path, [override]) == f"{path} with {override}: {told}; {outer}={{{key}: ...}} takes its place"
    )


def test_a_mistake_of_the_file_is_not_blamed_on_an_override(experiment_file):
    path = experiment_file("train: {epoch: 1}\n")
    assert refusal(path, ["train.lr=1"]).startswith(f"{path}: train.epoch: unknown key")


def test_an_experiment_survives_json():
    experiment = parse(
        {"qplot": {"q": None}, "derived": [{"name": "D", "function": "scatter", "channels": ["SIM:SUS"]}]}
    )
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment


# -- import paths ------------------------------------------------------------------------------------------------


def test_import_paths(tmp_path, monkeypatch):
    (tmp_path / "broken_own.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    for path in ("math:sqrt", "math.sqrt"):
        assert import_path(path, "simulate.recipe", ["detector"])(9) == 3
    for path, message in (
        (
            "detecter",
            "simulate.recipe = detecter: not one of detector, nor an import path package.module:name",
        ),
        (
            "no_such_module:f",
            "simulate.recipe = no_such_module:f: cannot be imported: No module named 'no_such_",
        ),
        (
            "math:no_such",
            "simulate.recipe = math:no_such: cannot be imported: module 'math' has no attribute",
        ),
        ("math:", "simulate.recipe = math:: is neither a function nor a class"),
        ("math:2", "simulate.recipe = math:2: cannot be imported: invalid format: 'math:2'"),
        ("math.pi", "simulate.recipe = math.pi: is neither a function nor a class"),
        (
            "broken_own:f",
            "simulate.recipe = broken_own:f: cannot be imported: ZeroDivisionError: division by zero",
        ),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            import_path(path, "simulate.recipe", ["detector"])


def test_import_paths_that_are_refused_altogether(monkeypatch):
    monkeypatch.setenv(NO_IMPORTS, "1")
    with pytest.raises(InputError) as error:
        import_path("no_such_module:f", "model.name", ["unet", "coherent"])
    assert (
        str(error.value)
        == "model.name = no_such_module:f: is not imported under --no-imports; built in are unet, coherent"
    )


def test_what_was_made_with_couplings_that_drifted_as_a_sine_is_still_read():
    coupling = {"taps": 33, "drift": 0.1, "drift_period": 86400.0}
    old = {"seed": 4, "simulate": {"events": 7, "detector": {"background": 0.3, "coupling": coupling}}}
    made = parse(upgrade(old))
    assert (made.simulate.detector.coupling.taps, made.simulate.detector.background) == (33, 0.3)
    assert made.simulate.detector.drift.coupling == 0
    assert coupling["drift"] == 0.1, "what was handed in stays as it is"
    assert upgrade(made.model_dump()) == made.model_dump()
