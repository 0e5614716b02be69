"""What `inspect` says of a store."""

import json
import shutil

import pytest
from helpers import forget_shards, small

from glitchflow.analysis.inspect import inspect
from glitchflow.errors import InputError, RunError


@pytest.fixture
def copy(dataset_run, tmp_path):
    """A copy of the shared store that a test may harm."""
    return shutil.copytree(dataset_run.dataset, tmp_path / "d.zarr")


def test_text(dataset_run):
    text, intact = inspect(str(dataset_run.dataset), verify=True)
    assert intact
    lines = text.splitlines()
    assert lines[0].startswith(f"{dataset_run.dataset}: 96 events of source simulate, ")
    for line in (
        "  layout    24 shards of 4 events, chunks of 4",
        "  channels  SIM:STRAIN, SIM:ACC, SIM:SUS, SIM:FRINGE",
        "  qplot     96 4 16 16 float32",
        "  series    96 3 2048 float64",
        "  valid     96 4 bool",
        "  every shard matches its checksum",
    ):
        assert line in lines
    couplings = [line for line in lines if line.startswith("  coupling")]
    assert couplings[0].startswith("  coupling  sine_gaussian to SIM:ACC: gain ")
    assert couplings[1].startswith("  coupling  scattered_light of SIM:SUS: strain amplitude ")
    assert "incomplete" not in text
    assert "every shard" not in inspect(str(dataset_run.dataset))[0], "nothing is said that was not checked"


def test_json(dataset_run):
    text, intact = inspect(str(dataset_run.dataset), verify=True, as_json=True)
    facts = json.loads(text)
    assert intact
    assert (facts["events"], facts["shards"], facts["events_per_shard"], facts["complete"]) == (
        96,
        24,
        4,
        True,
    )
    assert facts["arrays"]["qplot"] == [[96, 4, 16, 16], "float32"]
    assert facts["damaged"] == {}
    assert sum(facts["label"].values()) == sum(facts["split"].values()) == 96
    assert list(facts["split"]) == ["train", "validation", "test"]
    assert list(facts["label"]) == ["background", "sine_gaussian", "scattered_light", "blip"]
    each = (4 * 256 * 4, 8, 4 * 4, 2, 1, 4, 4, 4 * 8, 256 * 4, 3 * 2048 * 8, 2048 * 8)
    assert facts["bytes"] == 96 * sum(each)


def test_damage_is_named_where_it_was_looked_for(copy):
    file = copy / "witnessed" / "c" / "3" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[5] ^= 255
    file.write_bytes(content)
    assert inspect(str(copy))[1], "without --verify no shard is read"
    text, intact = inspect(str(copy), verify=True)
    assert not intact
    assert "  shard 3: witnessed differs from its checksum" in text.splitlines()
    assert "every shard" not in text


@pytest.mark.parametrize("verify", [False, True])
def test_a_missing_shard(copy, verify):
    forget_shards(copy, 9)
    text, intact = inspect(str(copy), verify=verify)
    assert not intact
    assert text.splitlines()[-2:] == ["  shard 9: missing", "  incomplete"]


@pytest.mark.parametrize("name", ["config", "normalisation", "channels"])
def test_attributes_that_are_gone(copy, name):
    tree = json.loads((copy / "zarr.json").read_text())
    del tree["attributes"][name]
    (copy / "zarr.json").write_text(json.dumps(tree))
    with pytest.raises(RunError, match=f"d.zarr: damaged: its zarr.json: {name}: Field required"):
        inspect(str(copy), verify=True)


def test_what_no_shard_can_mend(copy):
    (copy / "frequency" / "c" / "0").unlink()
    text, intact = inspect(str(copy), verify=True)
    assert not intact
    assert "  frequency is missing" in text.splitlines()
    assert "every shard" not in text


def test_what_is_no_store(tmp_path):
    with pytest.raises(InputError, match="no store there; make one with `glitchflow generate` or `ingest`"):
        inspect(str(small(tmp_path).dataset))
