"""One driver at a time."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from glitchflow.config import RunError
from glitchflow.data import lease, objects, store


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
            RunError, match=rf"another driver is writing it \(process {os.getpid()} on .*heard of 0 s ago"
        ),
        lease.hold(path),
    ):
        pytest.fail("held twice")


def test_a_driver_of_another_host_is_believed_while_its_heart_beats(path):
    leave(path, host="elsewhere", pid=1)
    with pytest.raises(RunError, match="process 1 on elsewhere"), lease.hold(path):
        pytest.fail("taken over")


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
        with pytest.raises(RunError, match="another driver has taken this store over"):
            check()
    assert objects.get(objects.open_group(path, "r"), lease.NAME)["host"] == "elsewhere"


def test_the_heart_beats(path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with lease.hold(path):
        first = json.loads((path / lease.NAME).read_text())["time"]
        time.sleep(0.3)
        assert objects.get(objects.open_group(path, "r"), lease.NAME)["time"] > first
