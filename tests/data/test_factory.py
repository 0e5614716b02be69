"""What keeps a large store right: extension, verification, an object store, a plan that comes true."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import damage_of, forget_shards, missing_shards, run_here, small

from glitchflow.analysis.inspect import inspect
from glitchflow.data.generate import generate
from glitchflow.data.memory import Memory
from glitchflow.data.store import dataset as store
from glitchflow.data.store.verify import find_damage, foreign_objects
from glitchflow.errors import InputError, RunError
from glitchflow.site.plan import Plan, Size, describe, plan

ALL = ("qplot", "gps", "label", "split", "witnessed", "snr", "q")


def arrays_of(location, names=ALL):
    dataset = store.open_store(location)
    return {name: np.asarray(dataset[name][:]) for name in names}


def same(a, b):
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def events(count):
    return {"simulate": small(Path("/")).simulate.model_dump(mode="json") | {"events": count}}


@pytest.mark.ci
@pytest.mark.usefixtures("ray_session")
def test_a_store_extended_is_the_longer_store_and_keeps_what_it_had(tmp_path):
    """From 40 to 70 events in shards of 2: a last shard that was full; then to 71 and 75: one that was not."""
    short = small(tmp_path / "grown", **events(40))
    generate(short)
    before = arrays_of(short.dataset)
    for count in (70, 71, 75):
        generate(small(tmp_path / "grown", **events(count)))
    grown = arrays_of(short.dataset)
    assert len(grown["gps"]) == 75
    same(before, {name: value[:40] for name, value in grown.items()})
    whole = small(tmp_path / "whole", **events(75))
    generate(whole)
    same(grown, arrays_of(whole.dataset))
    assert damage_of(short.dataset) == {}
    assert foreign_objects(store.open_store(short.dataset)) == []
    import xarray

    assert xarray.open_zarr(short.dataset).sizes["event"] == 75
    with pytest.raises(InputError, match=r"simulate.events = 75 there, 60 here"):
        generate(small(tmp_path / "grown", **events(60)))


@pytest.mark.usefixtures("ray_session")
def test_verify_makes_exactly_the_damaged_shards_again(dataset_run, tmp_path, capsys):
    experiment = dataset_run.model_copy(update={"workdir": str(tmp_path)})
    shutil.copytree(dataset_run.dataset, experiment.dataset)
    file = experiment.dataset / "qplot" / "c" / "3" / "0" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    forget_shards(experiment.dataset, 5)
    untouched = experiment.dataset / "qplot" / "c" / "4" / "0" / "0" / "0"
    stamp = untouched.stat().st_mtime_ns
    text, intact = inspect(str(experiment.dataset), verify=True)
    assert not intact
    assert "shard 3: qplot differs from its checksum" in text
    assert "shard 5: missing" in text
    generate(experiment, verify=True)
    assert "shard 3: qplot differs from its checksum; it is made again" in capsys.readouterr().err
    assert untouched.stat().st_mtime_ns == stamp
    same(arrays_of(experiment.dataset), arrays_of(dataset_run.dataset))
    assert inspect(str(experiment.dataset), verify=True)[1]


def test_foreign_objects_are_named(dataset_run, tmp_path):
    path = tmp_path / "dataset.zarr"
    shutil.copytree(dataset_run.dataset, path)
    for name in ("qplot/c/99/0/0/0", ".done/00099.json", "label/c/77"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"x")
    assert foreign_objects(store.open_store(path)) == [".done/00099.json", "label/c/77", "qplot/c/99/0/0/0"]
    text, intact = inspect(str(path), verify=True)
    assert not intact
    assert "foreign: qplot/c/99/0/0/0" in text


@pytest.mark.usefixtures("ray_session")
def test_what_killed_writers_left_is_cleared(dataset_run, tmp_path):
    experiment = dataset_run.model_copy(update={"workdir": str(tmp_path)})
    shutil.copytree(dataset_run.dataset, experiment.dataset)
    left = experiment.dataset / "qplot" / "c" / "0" / "0" / "0" / "0.abc.partial"
    left.write_bytes(b"half")
    generate(experiment)
    assert not left.exists()


@pytest.mark.usefixtures("ray_session")
def test_a_full_disk_is_one_line_and_keeps_what_was_finished(tmp_path):
    """A file system of 3 MB that the tests mount: needs root, as in a container."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        experiment = small(disk / "run", **events(400))
        with pytest.raises(RunError, match=r"dataset.zarr: .*No space left on device"):
            generate(experiment)
        finished = set(range(25)) - set(missing_shards(experiment.dataset))
        assert finished
        broken = find_damage(store.open_store(experiment.dataset, complete=False))[0]
        assert not finished & set(broken)
    finally:
        subprocess.run(["umount", disk], check=True)


# -- an object store ---------------------------------------------------------------------------------------------


def run_here_too(job, parts, *_):
    """In place of `run_tasks`."""
    return {part: job.make(part) for part in parts}


def test_the_same_dataset_on_s3(bucket, dataset_run, tmp_path, monkeypatch):
    """Created, interrupted, resumed, verified and read through the command line and a real endpoint.

    Tasks run here: the session's Ray began before the endpoint did, and knows nothing of it.
    """
    monkeypatch.setattr("glitchflow.data.generate.run_tasks", run_here_too)
    url = f"{bucket}/run/dataset.zarr"
    experiment = small(tmp_path, store={"series": "float64", "path": url})
    (tmp_path / "x.yaml").write_text(experiment.model_dump_json())
    for part in (["--shard", "3"], []):
        result = run_here("generate", tmp_path / "x.yaml", *part)
        assert result.returncode == 0, result.stderr
    assert f"{url}: 1 of 24 shards are there already" in result.stderr
    assert f"wrote {url}" in result.stdout
    same(arrays_of(url), arrays_of(dataset_run.dataset))
    assert damage_of(url) == {}
    assert foreign_objects(store.open_store(url)) == []
    with pytest.raises(InputError, match=r"s3://glitches/none: no store there"):
        store.open_store("s3://glitches/none")


# -- plan --------------------------------------------------------------------------------------------------------


def test_the_plans_numbers_are_those_of_the_store(dataset_run, monkeypatch):
    monkeypatch.setattr("glitchflow.site.plan.SECONDS", 0.0)
    monkeypatch.setattr("glitchflow.site.plan.on_every_cpu", lambda job, _: [job.make(1)])
    found = plan(dataset_run, nodes=2, cores=3)
    size = found.size
    path = Path(dataset_run.dataset)
    files = 1 + sum(1 for _ in path.rglob("*"))
    stored = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert size.events == 96
    assert size.files == files
    assert size.bytes == pytest.approx(stored, rel=0.05)
    assert found.training.steps > 0
    assert found.pace.step > 0
    assert found.pace.event > 0
    assert found.core_hours == pytest.approx(96 * found.seconds_per_event / 3600)
    assert found.hours == pytest.approx(
        -(-size.shards // 6) * 96 / size.shards * found.seconds_per_event / 3600
    )


def test_quotas_are_warned_of(tmp_path):
    experiment = small(tmp_path, store={"quota_gb": 1, "quota_files": 100})
    tasks = {"generate": Memory({"all": 600 * 2**20})}
    found = Plan(Size(1000, 10, 2 * 10**9, 200, None, []), 0.01, 1, 4, tasks)
    text = describe(experiment.store, found)
    assert "on 1 node(s) of 4 core(s), each with 600 MiB" in text
    assert "a task of generate: 600 MiB = all 600" in text
    assert "1000 events in 10 shards, 2.00 GB, 200 files and directories" in text
    assert "warning: 2.00 GB is beyond store.quota_gb = 1" in text
    assert "warning: 200 files and directories are beyond store.quota_files = 100" in text
    assert "warning" not in describe(small(tmp_path).store, found)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_that_dies_costs_no_shard_and_changes_no_byte(tmp_path):
    """A real cluster of three nodes on this machine; one is killed while it writes."""
    whole, cut = (small(tmp_path / name, **events(2048)) for name in ("whole", "cut"))
    generate(whole)
    config = tmp_path / "cut.yaml"
    config.write_text(cut.model_dump_json())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    for name, value in {
        "initial_delay_ms": 1000,
        "period_ms": 500,
        "timeout_ms": 1000,
        "failure_threshold": 3,
    }.items():
        environment[f"RAY_health_check_{name}"] = str(value)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "node_loss.py"), str(config)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    printed = dict(line.split() for line in done.stdout.splitlines() if len(line.split()) == 2)
    assert int(printed["missing"]) > 0, "the node went too late"
    assert int(printed["alive"]) == 2
    same(arrays_of(whole.dataset), arrays_of(cut.dataset))
