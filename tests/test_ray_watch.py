"""A process ends with a line where one of its Ray's processes has ended. Ray itself: tests/faults, by kill -9."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from glitchflow.ray_watch import watched

nothing = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
gcs = subprocess.Popen(["sleep", "60"], **nothing)
late = "sleep 1; exec -a DashboardAgent sleep 9 & echo $! > agent; wait"  # an agent that is late
raylet = subprocess.Popen(["bash", "-c", late], **nothing)


def end():
    print("as Ray would", flush=True)
    print("as Ray would", file=sys.stderr)
    raylet.kill()
    gcs.kill()
    Path("ended").touch()


try:
    with watched({"raylet": raylet.pid, "GCS": gcs.pid}, Path("logs"), end):
        if sys.argv[1] == "all":
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            os.killpg(0, signal.SIGTERM)
            time.sleep(60)
        if sys.argv[1] == "dashboard agent":
            time.sleep(2.5)
            os.kill(int(Path("agent").read_text()), signal.SIGKILL)
            time.sleep(60)
        if sys.argv[1] != "nobody":
            {"raylet": raylet, "GCS": gcs}[sys.argv[1]].kill()
            time.sleep(60)
    print("done")
except KeyboardInterrupt:
    time.sleep(1)
    print("ended in order")
finally:
    raylet.kill()
    gcs.kill()
"""
SAID = "glitchflow: Ray's {} has ended (its logs: logs); the same command goes on\n"


@pytest.mark.parametrize("name", ["raylet", "GCS", "dashboard agent"])
def test_who_has_ended_is_the_last_word(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == SAID.format(name)
    assert (tmp_path / "ended").exists()


def test_the_last_word_needs_no_standard_output(tmp_path):
    line = ["bash", "-c", 'exec "$0" -c "$1" raylet >&-', sys.executable, PROGRAM]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (1, SAID.format("raylet"))
    assert (tmp_path / "ended").exists()


def test_where_all_live_nothing_is_said(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "nobody"], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert not (tmp_path / "ended").exists()


def test_who_is_told_to_end_with_all_others_ends_in_order(tmp_path):
    line = [sys.executable, "-c", PROGRAM, "all"]
    done = subprocess.run(
        line, cwd=tmp_path, capture_output=True, text=True, timeout=50, start_new_session=True
    )
    assert (done.returncode, done.stdout) == (0, "ended in order\n")
    assert done.stderr in (
        "",
        *(SAID.format(name) for name in ("raylet", "GCS")),
    )  # where that was seen first
    assert not (tmp_path / "ended").exists()
