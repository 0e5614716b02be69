"""Checkpoints are whole or not there, and what is wrong with one is said in a line."""

import json
import shutil

import pytest
import torch

from glitchflow.errors import InputError
from glitchflow.train import checkpoint
from glitchflow.twin.kinds import build_network

MODEL = {"name": "unet", "width": 2, "options": {"depth": 1}, "seed": 1}
META = {
    "epoch": 0,
    "kind": "image",
    "config": {},
    "model": MODEL,
    "channels": ["S", "W"],
    "shape": [4, 4],
    "geometry": {"qplot": {"q": 9.0}},
    "normalisation": {"kind": "log1p", "offset": [0.5, 0.5], "scale": [1.0, 2.0]},
    "metrics": {},
}


def write(directory, step, weights=None, **meta):
    weights = weights or {"w": torch.full((2,), float(step))}
    return checkpoint.save(directory, META | {"step": step} | meta, weights, {"progress": {"step": step}})


@pytest.fixture
def whole(tmp_path):
    """The path of a checkpoint that a network can be made of."""
    return write(tmp_path, 7, build_network(MODEL, 1, (4, 4)).state_dict())


def test_saved_and_loaded(tmp_path):
    found = checkpoint.open_checkpoint(write(tmp_path, 12))
    assert found.path.name == "step-00000012"
    assert (found.step, found.kind.name, found.normalisation.scale) == (12, "image", [1.0, 2.0])
    assert torch.equal(found.weights()["w"], torch.full((2,), 12.0))
    assert found.state() == {"progress": {"step": 12}}


def test_its_network(whole):
    trained = checkpoint.open_checkpoint(whole).trained()
    assert trained.channels == ["S", "W"]
    assert trained.network(torch.zeros(3, 1, 4, 4)).shape == (3, 1, 4, 4)
    assert not trained.network.training


def test_a_network_of_somebody_elses_is_not_imported_unless_the_configuration_names_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "foreign_own.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom helpers import OwnModel"
    )
    own = MODEL | {"name": "foreign_own:OwnModel", "options": {}}
    weights = build_network(own | {"name": "helpers:OwnModel"}, 1, (4, 4)).state_dict()
    path = write(tmp_path, 7, weights, model=own)
    found = checkpoint.open_checkpoint(path)
    for named in ("unet", "foreign_own:Other"):
        with pytest.raises(InputError) as error:
            found.as_named(named)
        assert str(error.value) == (
            f"{path}: its network is foreign_own:OwnModel, code that is imported only where the configuration names it"
            " too: model.name=foreign_own:OwnModel"
        )
    assert not (tmp_path / "ran").exists()
    assert found.as_named("foreign_own:OwnModel").trained().kind.name == "image"
    assert (tmp_path / "ran").exists()


def test_a_network_of_ours_needs_no_name(whole):
    found = checkpoint.open_checkpoint(whole)
    assert found.as_named("coherent") is found


def test_of_the_first_versions(whole):
    """Without checksums and kind, and with keys that have moved since."""
    meta = json.loads((whole / "meta.json").read_text())
    del meta["sha256"], meta["kind"]
    meta["geometry"]["qplot"] |= {"fduration": 1.5, "fftlength": None, "highpass": 20.0}
    (whole / "meta.json").write_text(json.dumps(meta))
    found = checkpoint.open_checkpoint(whole)
    assert found.trained().kind.name == "image"
    whiten = found.meta.geometry["whiten"]
    assert (whiten["length"], whiten["highpass"], whiten["asd"]) == (1.5, 20.0, "event")
    assert "fduration" not in found.meta.geometry["qplot"]


class Harmful:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("something in the file was run",))


def spoil(path, how):
    """Change a file in one of the ways in which files go wrong, its checksum with it where the writer was another."""
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "gone":
        path.unlink()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("truncated", "differs from its checksum in meta.json: it is damaged, or of another run"),
        ("flipped", "differs from its checksum in meta.json: it is damaged, or of another run"),
        ("empty", "differs from its checksum in meta.json: it is damaged, or of another run"),
        ("gone", "cannot be read: No such file or directory"),
    ],
)
@pytest.mark.parametrize("file", ["weights.pt", "state.pt"])
def test_damaged_tensors(whole, file, how, words):
    spoil(whole / file, how)
    found = checkpoint.open_checkpoint(whole)
    with pytest.raises(InputError) as error:
        found.weights() if file == "weights.pt" else found.state()
    assert str(error.value) == f"{whole / file}: {words}"


@pytest.mark.parametrize("how", ["truncated", "empty"])
def test_damaged_tensors_without_a_checksum(whole, how):
    meta = json.loads((whole / "meta.json").read_text())
    (whole / "meta.json").write_text(json.dumps(meta | {"sha256": {}}))
    spoil(whole / "weights.pt", how)
    with pytest.raises(InputError, match=r"weights.pt: is not a file of tensors, or damaged: [^\n]*$"):
        checkpoint.open_checkpoint(whole).trained()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"harm": Harmful()}, r"is not a file of tensors, or damaged: [^\n]*$"),
        ({"w": torch.tensor([1.0, float("nan")])}, "w is not finite; choose an earlier checkpoint$"),
        ({"w": 3.0}, "is not the weights of a network$"),
        ([torch.ones(2)], "holds a list, not tensors by name$"),
    ],
)
def test_weights_that_are_none(tmp_path, content, words):
    path = checkpoint.save(tmp_path, META | {"step": 1}, content, {})
    with pytest.raises(InputError, match=f"weights.pt: {words}"):
        checkpoint.open_checkpoint(path).weights()


@pytest.mark.parametrize(
    "weights", [{3: torch.ones(2)}, build_network(MODEL | {"width": 4}, 1, (4, 4)).state_dict()]
)
def test_weights_of_another_version(tmp_path, weights):
    """What a checkpoint's own settings make is not what its weights are of."""
    found = checkpoint.open_checkpoint(write(tmp_path, 1, weights))
    with pytest.raises(InputError) as error:
        found.trained()
    assert str(error.value) == (
        f"{found.path}: was written by another version, in which model {{'name': 'unet', 'width': 2, 'options':"
        " {'depth': 1}} had other weights; train again, with --overwrite or in another workdir"
    )


def test_weights_of_another_network(whole):
    wider = build_network(MODEL | {"width": 4}, 1, (4, 4))
    with pytest.raises(InputError, match=r"^model: not that of .*step-00000007, which is {'name': 'unet', "):
        checkpoint.open_checkpoint(whole).load_into(wider)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"step": "x"}, "step: Input should be a valid integer, unable to parse string as an integer"),
        ({"channels": ["S"]}, "normalisation: is of 2 channels, not 1"),
        ({"kind": "solid"}, "kind: solid is none of image, coherent, generative, posterior"),
        ({"model": {"name": "unet"}}, "model: has no name or no options"),
        ({"model": MODEL | {"options": [1]}}, "model: has no name or no options"),
        ({"geometry": {"qplot": 3}}, "geometry.qplot: Input should be a valid dictionary"),
        (
            {"normalisation": META["normalisation"] | {"offset": [0.5, 0.6]}},
            "differs from its own checksum: it was edited or is damaged",
        ),
        ({"channels": ["W", "S"]}, "differs from its own checksum: it was edited or is damaged"),
        ({"metrics": {"validation_loss": 9.0}}, "differs from its own checksum: it was edited or is damaged"),
        (
            {"normalisation": META["normalisation"] | {"scale": [1.0]}},
            "normalisation: is of 1 channels, not 2",
        ),
        (
            {"normalisation": META["normalisation"] | {"scale": [1.0, 0.0]}},
            "normalisation: its numbers must be finite, and a scale not 0",
        ),
        (
            {"normalisation": META["normalisation"] | {"offset": [float("nan"), 0.0]}},
            "normalisation: its numbers must be finite, and a scale not 0",
        ),
        (
            {"normalisation": META["normalisation"] | {"kind": "none"}},
            "normalisation: its kind none is unknown",
        ),
    ],
)
def test_what_a_checkpoint_cannot_say_of_itself(whole, changes, words):
    meta = json.loads((whole / "meta.json").read_text())
    (whole / "meta.json").write_text(json.dumps(meta | changes))
    with pytest.raises(InputError) as error:
        checkpoint.open_checkpoint(whole)
    assert str(error.value) == f"{whole / 'meta.json'}: {words}"


@pytest.mark.parametrize("content", [b'{"step": 1, "epo', b"\xff\xfe", b"[]", b"", b"[" * 100_000])
def test_a_meta_json_that_is_none(whole, content):
    (whole / "meta.json").write_bytes(content)
    with pytest.raises(InputError, match=r"meta.json: [^\n]*$"):
        checkpoint.open_checkpoint(whole)


def test_prune_keeps_the_newest_and_the_best(tmp_path):
    for step in range(1, 6):
        write(tmp_path, step, metrics={"validation_loss": 0.5 + abs(step - 2)})
    (tmp_path / ".step-00000009.123").mkdir()  # what a killed writer leaves
    checkpoint.prune(tmp_path, keep=2)
    assert [p.name for p in checkpoint.by_step(tmp_path)] == [
        "step-00000002",
        "step-00000004",
        "step-00000005",
    ]
    assert not list(tmp_path.glob(".step-*"))


def test_a_kill_while_checkpoints_are_deleted_or_replaced_leaves_whole_ones(tmp_path, monkeypatch):
    paths = [write(tmp_path, step, metrics={"validation_loss": 1.0 / step}) for step in (1, 2, 3)]

    def killed(path, **__):
        (path / "weights.pt").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("glitchflow.train.checkpoint.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.prune(tmp_path, keep=1)
    assert len(list(tmp_path.glob(".step-*"))) == 2  # or nothing was tried
    for path in checkpoint.by_step(tmp_path):
        assert checkpoint.open_checkpoint(path).weights()
    assert write(tmp_path, 3, epoch=9, metrics={"validation_loss": 0.1}) == paths[2]
    assert checkpoint.open_checkpoint(paths[2]).meta.epoch == 9
    checkpoint.prune(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_loss_that_is_not_finite_is_no_best_and_no_last_good(tmp_path):
    good = write(tmp_path, 1, metrics={"validation_loss": 2.0})
    write(tmp_path, 2, metrics={"validation_loss": float("nan")})
    write(tmp_path, 3, {"w": torch.tensor([1.0, float("inf")])})
    spoil(write(tmp_path, 4) / "weights.pt", "truncated")
    assert checkpoint.by_loss(tmp_path) == [good]
    assert checkpoint.newest_good(tmp_path) == good
    assert checkpoint.newest_good(tmp_path / "none") is None


def test_find_by_name_and_by_path(tmp_path):
    first, last = write(tmp_path, 1, metrics={"validation_loss": 0.5}), write(tmp_path, 2)
    assert checkpoint.find(tmp_path, "best").path == first
    assert checkpoint.find(tmp_path, "last").path == last
    assert checkpoint.find(tmp_path, str(first)).step == 1
    run = tmp_path / "run" / "train"
    shutil.copytree(tmp_path, run / "checkpoints", ignore=shutil.ignore_patterns("run"))
    assert checkpoint.find(tmp_path, str(tmp_path / "run")).path == run / "checkpoints" / first.name


@pytest.mark.parametrize("name", ["best", "last"])
def test_no_checkpoint_yet(tmp_path, name):
    with pytest.raises(InputError, match=f"no {name} checkpoint; run"):
        checkpoint.find(tmp_path, name)


def test_no_checkpoint_at_that_path(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no checkpoint there"):
        checkpoint.find(tmp_path, str(tmp_path / "nowhere"))
