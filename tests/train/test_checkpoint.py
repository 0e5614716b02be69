import pytest
import torch

from glitchflow.errors import InputError
from glitchflow.train import checkpoint


def write(directory, step, **meta):
    values = {"step": step, **meta}
    return checkpoint.save(
        directory, values, {"w": torch.full((2,), float(step))}, {"progress": {"step": step}}
    )


def test_saved_and_loaded(tmp_path):
    path = write(tmp_path, 12, channels=["a", "b"])
    found = checkpoint.open_checkpoint(path)
    assert path.name == "step-00000012"
    assert found.step == 12
    assert torch.equal(found.weights()["w"], torch.full((2,), 12.0))
    assert found.state() == {"progress": {"step": 12}}


def test_nothing_but_weights_is_ever_unpickled(tmp_path):
    path = write(tmp_path, 1)
    torch.save({"harm": checkpoint.Checkpoint}, path / "weights.pt")
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        checkpoint.open_checkpoint(path).weights()


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
    assert write(tmp_path, 3, again=True, metrics={"validation_loss": 0.1}) == paths[2]
    assert checkpoint.open_checkpoint(paths[2]).meta["again"]
    checkpoint.prune(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_a_loss_that_is_not_finite_is_no_best_and_no_last_good(tmp_path):
    good = write(tmp_path, 1, metrics={"validation_loss": 2.0})
    write(tmp_path, 2, metrics={"validation_loss": float("nan")})
    checkpoint.save(tmp_path, {"step": 3}, {"w": torch.tensor([1.0, float("inf")])}, {})
    assert checkpoint.by_loss(tmp_path) == [good]
    assert checkpoint.newest_good(tmp_path) == good
    assert checkpoint.newest_good(tmp_path / "none") is None


def test_find_by_name_and_by_path(tmp_path):
    first, last = write(tmp_path, 1, metrics={"validation_loss": 0.5}), write(tmp_path, 2)
    assert checkpoint.find(tmp_path, "best").path == first
    assert checkpoint.find(tmp_path, "last").path == last
    assert checkpoint.find(tmp_path, str(first)).step == 1


@pytest.mark.parametrize("name", ["best", "last"])
def test_no_checkpoint_yet(tmp_path, name):
    with pytest.raises(InputError, match=f"no {name} checkpoint; run"):
        checkpoint.find(tmp_path, name)


def test_no_checkpoint_at_that_path(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no checkpoint there"):
        checkpoint.find(tmp_path, str(tmp_path / "nowhere"))
