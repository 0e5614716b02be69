"""One driver at a time."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from glitchflow.data import lease, objects
from glitchflow.data.store import dataset as store
from glitchflow.errors import RunError


@pytest.fixture
def path(tmp_path):
    arrays = {"qplot": store.Array(("channel", "frequency", "time"), (1, 2, 2), "float32")}
    layout = store.choose_layout(4, arrays, 2, 64)
    store.create(tmp_path / "s.zarr", arrays, layout, {"frequency": np.arange(2.0)}, {"arrays": ["qplot"]})
    return tmp_path / "s.zarr"


def leave(path, **changes):
    """The lease that another driver left."""
    owner = {
        "id": "x",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": lease._started(os.getpid()),
    }
    (path / lease.NAME).write_text(json.dumps(owner | {"time": time.time()} | changes))


def test_held_and_given_back(path):
    with lease.hold(path) as check:
        owner = json.loads((path / lease.NAME).read_text())
        assert owner["pid"] == os.getpid()
        check()
    assert not (path / lease.NAME).exists()


def test_a_second_driver_is_refused(path):
    with (
        lease.hold(path),
        pytest.raises(
            RunError, match=rf"another run is writing it \(process {os.getpid()} on .*heard of 0 s ago"
        ),
        lease.hold(path),
    ):
        pytest.fail("held twice")


def test_a_driver_of_another_host_is_believed_while_its_heart_beats(path):
    leave(path, host="elsewhere", pid=1)
    beating = threading.Timer(0.7, leave, (path,), {"host": "elsewhere", "pid": 1})
    beating.start()
    with pytest.raises(RunError, match="process 1 on elsewhere"), lease.hold(path):
        pytest.fail("taken over")


def test_a_driver_of_another_host_that_lost_its_power_is_awaited_and_replaced(path, monkeypatch):
    monkeypatch.setattr(lease, "SILENT", 1.5)
    leave(path, host="elsewhere", pid=1)
    started = time.monotonic()
    with lease.hold(path):
        assert json.loads((path / lease.NAME).read_text())["pid"] == os.getpid()
    assert time.monotonic() - started > 1


def test_a_lease_given_back_while_one_waits_is_taken(path):
    leave(path, host="elsewhere", pid=1)
    threading.Timer(0.7, (path / lease.NAME).unlink).start()
    with lease.hold(path):
        assert json.loads((path / lease.NAME).read_text())["pid"] == os.getpid()


def test_a_plain_directory_can_be_held(tmp_path):
    place = objects.directory(tmp_path / "train")
    with lease.hold(tmp_path / "train", place):
        assert [file.name for file in (tmp_path / "train").iterdir()] == [lease.NAME]
        with (
            pytest.raises(RunError, match="train: another run is writing it"),
            lease.hold(tmp_path / "train", place),
        ):
            pytest.fail("held twice")
    assert not list((tmp_path / "train").iterdir())


def test_a_silent_driver_is_replaced(path):
    leave(path, host="elsewhere", time=time.time() - lease.SILENT - 1)
    with lease.hold(path):
        assert json.loads((path / lease.NAME).read_text())["pid"] == os.getpid()


def test_a_dead_driver_of_this_host_is_replaced_at_once(path):
    process = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    leave(path, pid=int(process.stdout))
    with lease.hold(path):
        assert json.loads((path / lease.NAME).read_text())["pid"] == os.getpid()


def test_a_process_id_used_again_is_not_the_driver(path):
    leave(path, started="1")
    with lease.hold(path):
        assert json.loads((path / lease.NAME).read_text())["started"] != "1"


def test_who_was_replaced_notices_and_leaves_the_lease_alone(path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with lease.hold(path) as check:
        leave(path, host="elsewhere")
        time.sleep(0.3)
        with pytest.raises(RunError, match="another run has taken it over"):
            check()
    assert objects.get(objects.open_group(path, "r"), lease.NAME)["host"] == "elsewhere"


def test_the_heart_beats(path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with lease.hold(path):
        first = json.loads((path / lease.NAME).read_text())["time"]
        time.sleep(0.3)
        assert objects.get(objects.open_group(path, "r"), lease.NAME)["time"] > first
