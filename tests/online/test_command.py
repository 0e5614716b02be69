"""The command as a user starts it: its messages, its end, and what a kill leaves."""

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from helpers import needs_gwf, run_here
from posts import MADE, RATES, START, put, write_twin

from glitchflow.errors import InputError
from glitchflow.online import watch
from glitchflow.signal.recorded.samples import read_samples

needs_gwf()


@pytest.fixture
def config(tmp_path, frames) -> Path:
    """A configuration of a small twin over a directory of frames."""
    channels = [{"name": name, "files": [f"{frames}/*.gwf"]} for name in RATES if name != "STATE"]
    tree = {
        "workdir": str(tmp_path / "run"),
        "ingest": {"channels": channels, "segments": {"channel": "STATE"}},
        "online": {"source": str(frames)},
    }
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(tree))
    write_twin(tmp_path / "run")
    return path


def started(config: Path) -> subprocess.Popen:
    line = [sys.executable, "-c", "from glitchflow.cli import main; main()", "watch", str(config)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(process: subprocess.Popen, there) -> None:
    for _ in range(1200):
        if there():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    raise AssertionError("nothing came")


def came(config: Path) -> list[int]:
    found = (config.parent / "run" / "online").glob("S-*.gwf")
    return sorted(int(path.name.split("-")[2]) - START for path in found)


@pytest.mark.ci
def test_it_goes_on_after_a_kill_and_ends_when_it_is_told(config, frames):
    for k in range(4):
        put(frames, START + k)
    first = started(config)
    until(first, lambda: came(config) == [0, 1, 2])
    first.kill()
    first.communicate()
    for k in range(4, 7):
        put(frames, START + k)
    second = started(config)
    until(second, lambda: came(config) == [0, 1, 2, 3, 4, 5])
    second.terminate()
    out, err = second.communicate()
    assert second.returncode == 0, err
    assert out.startswith("watch: stopped after ") and out.endswith("/run/online has the frames\n")
    assert "step-00000001: twin " in err and f"follows {frames}" in err
    run = config.parent / "run" / "online"
    last = read_samples(str(run / f"S-S_GLITCHFLOW-{START + 5}-1.gwf"), "", MADE)
    (line,) = (run / "twins.csv").read_text().splitlines()[1:]
    twin, digest, path, begun = line.split(",")
    assert int(begun) == START
    assert int(last["S_TWIN"].values[0]) == int(twin) == int(digest[:8], 16)
    assert path.endswith("step-00000001")


@pytest.mark.parametrize(
    "change, said",
    [
        ("online.source=/nowhere", "online.source = /nowhere: no such directory"),
        ("online.source=''", "online.source = : no such directory"),
        (
            "online.block=4",
            "online.block = 4, online.settle = 0.25: the twin sees 4 s at once, of which they may take 3.5",
        ),
        ("online.block=0.001", "online.block = 0.001: must be a whole number of samples at 256 Hz"),
        ("online.keep=0", "x.yaml with online.keep=0: online.keep = 0: input should be greater than 0"),
        (
            "ingest.segments.bits=[DATA]",
            "ingest.segments.bits = DATA: frames do not name their bits; give its number",
        ),
        ("infer.checkpoint=last", ""),
    ],
)
def test_what_does_not_fit_is_one_line(config, change, said):
    if not said:
        said = f"{config.parent}/empty/train/checkpoints: no last checkpoint; run `glitchflow train` first"
        done = run_here("watch", config, change, f"workdir={config.parent}/empty")
    else:
        done = run_here("watch", config, change)
    assert done.returncode == 2
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_taken_port_is_refused_before_a_twin_is_opened(config, monkeypatch):
    monkeypatch.setattr(watch, "open_twin", lambda *_: pytest.fail("it was opened"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run_here("watch", config, f"online.port={port}")
    said = f"glitchflow: online.port = {port}: cannot be listened on: Address already in use\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_the_page_is_there_and_said_before_a_twin_is_opened(config, monkeypatch):
    def opened(*_):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            raise InputError(f"page {answer.status}")

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(watch, "open_twin", opened)
    done = run_here("watch", config, f"online.port={port}")
    assert done.stderr == f"http://127.0.0.1:{port}/ is its page\nglitchflow: page 200\n"


def test_an_empty_source_is_said(config, frames, monkeypatch):
    monkeypatch.setattr(watch, "follow", lambda *_: None)
    done = run_here("watch", config)
    assert done.returncode == 0
    said = f"{frames}: holds no file yet named as S-DESCRIPTION-GPS-SECONDS.gwf or .h5; waiting for one"
    assert done.stderr.splitlines()[-1] == said


def test_a_twin_of_images_is_refused(config, trained_run):
    done = run_here("watch", config, f"infer.checkpoint={trained_run.workdir}")
    assert done.returncode == 2
    assert done.stderr.endswith(": is of kind image; `watch` takes one of kind coherent\n")
