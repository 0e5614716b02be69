"""A process ends with a line where one of its Ray's processes has ended. Ray itself: tests/faults, by kill -9."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from glitchflow import ray_watch

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


@pytest.mark.ci
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


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def sleeper():
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


@pytest.mark.parametrize("fails", [(threading.Thread, "start"), (ray_watch, "_tell_signals"), (os, "pipe")])
def test_a_watch_that_cannot_begin_leaves_nothing_open(sleeper, monkeypatch, fails):
    def refused(*_):
        raise RuntimeError("can't start new thread")

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(*fails, refused)
        with (
            pytest.raises(RuntimeError, match="can't start"),
            ray_watch.watched({"raylet": sleeper}, Path("logs"), print),
        ):
            pytest.fail("begun")
    assert descriptors() == before
    with ray_watch.watched({"raylet": sleeper}, Path("logs"), print):
        assert descriptors() > before
    assert descriptors() == before


def test_an_agent_that_never_comes_is_not_looked_for_for_ever(sleeper, monkeypatch):
    waits, looks = [], []
    told, tell = os.pipe()
    monkeypatch.setattr(ray_watch, "_agents", lambda raylet: looks.append(raylet) or {})
    those = ray_watch._Processes({"raylet": sleeper}, told, lambda descriptor: descriptor)
    those.until -= ray_watch.LATE

    class Poll:
        def poll(self, wait):
            waits.append(wait)
            return [(told, 1)]

    those.poll = Poll()
    assert those.first_to_end() is None
    assert (waits, looks) == ([None], [sleeper])
    for descriptor in (told, tell, *those.found):
        os.close(descriptor)


def test_an_agent_is_named_where_its_raylet_has_ended_with_it(sleeper, monkeypatch):
    """A raylet ends some milliseconds after its agent: on a busy machine both are seen at once."""
    told, tell = os.pipe()
    with subprocess.Popen(["sleep", "60"]) as agent:
        monkeypatch.setattr(ray_watch, "_agents", lambda raylet: {"dashboard agent": agent.pid})
        those = ray_watch._Processes({"raylet": sleeper}, told, lambda descriptor: descriptor)
        os.kill(sleeper, signal.SIGKILL)
        agent.kill()
        agent.wait()
        select.select([next(one for one, name in those.found.items() if name == "raylet")], [], [])
        assert those.first_to_end() == "dashboard agent"
    for descriptor in (told, tell, *those.found):
        os.close(descriptor)


def test_an_agent_is_found_beside_a_process_of_any_name():
    """Among the children of a process of its own: other tests start Ray here, which has agents too."""
    line = '(exec -a "$(printf \\377)" sleep 60) & (exec -a DashboardAgent sleep 60) & echo $!; wait'
    parent = subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        agent, listed = int(parent.stdout.readline()), Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        while any(b"bash" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in listed.read_text().split()):
            pass
        assert len(listed.read_text().split()) == 2
        assert ray_watch._agents(parent.pid) == {"dashboard agent": agent}
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()


def test_outputs_lead_where_they_led_after_the_last_word(tmp_path):
    """Not where they led when the watch began."""
    program = (
        "import os; from pathlib import Path; from glitchflow import ray_watch\n"
        "nothing = os.open(os.devnull, os.O_WRONLY)\n"
        "os.dup2(os.open('out', os.O_WRONLY | os.O_CREAT), 1)\n"
        "with ray_watch._last_word('GCS', Path('logs'), nothing): os.write(1, b'Ray'), os.write(2, b'Ray')\n"
        "os.write(1, b'on'), os.write(2, b'on')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", SAID.format("GCS") + "on")
    assert (tmp_path / "out").read_text() == "on"
