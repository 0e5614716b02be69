"""What a running watch tells: numbers, whether it is well, and a page."""

import json
import socket
import urllib.error
import urllib.request

import pytest
from helpers import needs_gwf
from posts import RATES, START, Patience, put, run

from glitchflow.errors import RunError
from glitchflow.online import sink
from glitchflow.online.monitor import Monitor, served
from glitchflow.online.watch import follow

needs_gwf()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def got(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def numbers(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_names_are_text_in_the_page():
    monitor = Monitor("<script>S")
    monitor.silent.labels("<img src=x>").inc()
    monitor.disk = "<b>full"
    page = monitor.page().decode()
    for name in ("<script>S", "<img", "<b>"):
        assert name not in page
    assert "&lt;script&gt;S online" in page
    assert "&lt;img src=x&gt;" in page


def test_what_came_out_is_counted(post, frames, port):
    for k in range(8):
        put(frames, START + k, [name for name in RATES if name != "FAST" or k < 5])
    one = post()
    with served(one.monitor, port):
        run(one)
        found = numbers(got(port, "/metrics")[1])
        status, told = got(port, "/healthz")
        page = got(port, "/")[1]
        assert got(port, "/nowhere")[0] == 404
    assert found['glitchflow_seconds_total{state="science"}'] == 7
    assert found['glitchflow_seconds_total{state="cleaned"}'] == 6.5
    assert found['glitchflow_seconds_total{state="passed"}'] == 0.5
    assert found['glitchflow_silent_total{witness="FAST"}'] == 3, "and in the second whose crops meet it"
    assert found["glitchflow_latency_count"] == 7
    assert found["glitchflow_backlog"] == 1
    assert found['glitchflow_power_left{band="20-29.1 Hz"}'] > 0
    assert status == 200 and json.loads(told)["second"] == START + 6
    assert f'<td class="n">{START + 6}</td>' in page and '<p class="well" role="status">well</p>' in page


def test_a_disk_that_refuses_is_not_well(post, frames, port, monkeypatch):
    for k in range(4):
        put(frames, START + k)
    one, seen = post(), []

    def refuses(*_):
        raise RunError("x: cannot be written: No space left on device")

    class Looking(Patience):
        def wait(self, timeout: float) -> bool:
            seen.append(got(port, "/healthz"))
            return super().wait(timeout)

    monkeypatch.setattr(sink, "commit", refuses)
    stop = Looking(2)
    with served(one.monitor, port):
        follow(one, stop, clock=lambda: stop.now)
    status, told = seen[-1]
    assert status == 503 and json.loads(told)["disk"] == "x: cannot be written: No space left on device"


def test_a_source_that_falls_silent_is_not_well_until_it_brings_strain_again(post, frames, port, capsys):
    """Half a minute after the next file was due, and said once; other channels alone are no strain."""
    for k in range(4):
        put(frames, START + k)
    one, answers = post(), []

    class Silence(Patience):
        def wait(self, timeout: float) -> bool:
            answers.append(got(port, "/healthz"))
            if self.now == 40:
                put(frames, START + 4, ["FAST"])
            if self.now == 60:
                put(frames, START + 5)
            return super().wait(timeout)

    stop = Silence(70)
    with served(one.monitor, port):
        follow(one, stop, clock=lambda: stop.now)
        page = got(port, "/")[1]
    said = f"{frames}: no S has come from GPS {START + 4} on; waiting for it"
    assert [status for status, _ in answers] == [200] * 32 + [503] * 29 + [200] * 9
    assert json.loads(answers[40][1])["source"] == said and json.loads(answers[-1][1])["source"] == ""
    told = capsys.readouterr().err.splitlines()
    assert told.count(said) == 1 and told.count(f"{frames}: GPS {START + 5} has S again") == 1
    assert 'role="status">well</p>' in page


def test_a_source_that_never_brought_strain_is_not_well(post, frames, port, capsys):
    one, stop = post(), Patience(36)
    for k in range(3):
        put(frames, START + k, ["FAST", "SLOW"])
    with served(one.monitor, port):
        follow(one, stop, clock=lambda: stop.now)
        assert got(port, "/healthz")[0] == 503
        said = f"{frames}: no S has come yet; waiting for it"
        assert f'<p class="unwell" role="status">{said}</p>' in got(port, "/")[1]
    assert capsys.readouterr().err.count(said) == 1


def test_what_only_a_damaged_file_lacks_is_no_channel_that_no_file_has(post, frames, capsys):
    put(frames, START)
    (broken,) = frames.iterdir()
    broken.write_bytes(broken.read_bytes()[:1000])
    one = post()

    class Later(Patience):
        def wait(self, timeout: float) -> bool:
            if self.now == 3:
                put(frames, START + 1)
            return super().wait(timeout)

    stop = Later(25)
    follow(one, stop, clock=lambda: stop.now)
    told = capsys.readouterr().err
    assert str(broken) in told or "no S" in told, "it was met"
    assert "ingest.channels" not in told


def test_a_port_that_is_taken_is_said(port):
    with (
        served(Monitor("S"), port),
        pytest.raises(
            RunError, match=rf"^online.port = {port}: cannot be listened on: Address already in use$"
        ),
        served(Monitor("S"), port),
    ):
        pass
    with served(Monitor("S"), 0):
        pass
