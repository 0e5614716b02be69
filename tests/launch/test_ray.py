"""launch/ray.sh with a recorder in Ray's place; for real: tests/cluster/test_site.py."""

import fcntl
import os
import re
import signal
import socket
import stat
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "ray.sh"
# notes its words and the variables that Ray reads, opens its directory to everybody as Ray does, waits for SIGTERM
RECORDER = """#!/usr/bin/env bash
[ "$1" != health-check ] || { echo "$3" >"$RECORD.asked"; echo "${HEALTH:-}"; exit 1; }
while [ "$1" != --temp-dir ]; do words+=("$1"); shift; done
[ -n "${REFUSED:-}" ] || { mkdir "$2" && chmod 777 "$2"; }
trap 'exit 1' TERM
{ echo "$2"; echo "${words[*]} ${*:3}"; env | grep -E '^(RAY_|TMPDIR=)'; } >"$RECORD.new"
mv "$RECORD.new" "$RECORD"
until [ -e "$RECORD.fail" ] || [ -n "${REFUSED:-}" ]; do sleep 0.05; done
exit 3
"""
# bash reads it first: notes each command of ray.sh before it runs, and signals the script before the one numbered AT
MOMENTS = """case $0 in *ray.sh)
  set -T
  trap 'echo "$((moment += 1)) $BASH_COMMAND" >>"$RECORD.moments"; [ "$moment" != "$AT" ] || kill -TERM $$' DEBUG ;;
esac
"""


@pytest.fixture
def begin(tmp_path):
    """Starts ray.sh; returns the process."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ray").write_text(RECORDER)
    (tmp_path / "bin" / "ray").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    started = []

    def begin(*words: str, terminal: int | None = None, **environment: str) -> subprocess.Popen:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        own = {"PATH": f"{tmp_path}/bin:{kept['PATH']}", "HOME": str(tmp_path), "NODE_IP": "127.0.0.2"}
        own |= {"TMPDIR": str(tmp_path / "tmp"), "RECORD": str(tmp_path / "record")}
        pipe = subprocess.PIPE
        line = ["bash", str(SCRIPT), *words]
        kept |= own | environment

        def begun() -> None:
            # a shell cannot trap what was ignored when it began, as these are where the tests run under nohup or with &
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            if terminal is not None:
                fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

        process = subprocess.Popen(
            line,
            env=kept,
            stdin=terminal,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
            preexec_fn=begun,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.terminate()  # and with it what it had started, which has a session of its own
        process.communicate()


@pytest.fixture
def start(begin, tmp_path):
    """Starts ray.sh; returns the process and, once Ray would run, its directory, its words, and the variables."""

    def start(*words: str, **environment: str) -> tuple[subprocess.Popen, Path, str, dict[str, str]]:
        process = begin(*words, **environment)
        until(process, (tmp_path / "record").exists)
        directory, said, *variables = (tmp_path / "record").read_text().splitlines()
        return process, Path(directory), said, dict(line.split("=", 1) for line in variables)

    return start


@pytest.fixture
def head():
    """HOST:PORT where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def until(process: subprocess.Popen, reached: Callable[[], bool]) -> None:
    while not reached():
        assert process.poll() is None
        time.sleep(0.02)


def test_the_head_s_token_and_nothing_in_its_way(start, tmp_path):
    given = {"OMP_NUM_THREADS": "77", "RAY_AUTH_TOKEN": "stale", "RAY_ADDRESS": "10.9.9.9:6379"}
    process, directory, words, variables = start("head", "--num-gpus=0", **given)
    cpus = len(os.sched_getaffinity(0))
    assert words == (
        f"start --block --node-ip-address 127.0.0.2 --num-cpus {cpus} --head --port 6379"
        " --dashboard-host 127.0.0.1 --dashboard-port 8265 --num-gpus=0"
    )
    token = Path(variables.pop("RAY_AUTH_TOKEN_PATH"))
    assert variables.pop("TMPDIR") == str(directory.parent), (
        "what its dashboard leaves behind goes with the rest"
    )
    waits = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}
    assert variables == {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"} | waits
    assert re.fullmatch(r"[0-9a-f]{64}", token.read_text())
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate()
    assert f"unset RAY_AUTH_TOKEN; export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH={token}\n" in printed
    assert token.read_text() not in printed


def test_a_token_that_is_there_stays(start, tmp_path):
    (tmp_path / "token").write_text("mine")
    (tmp_path / "token").chmod(0o644)
    start("head", RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert (tmp_path / "token").read_text() == "mine"
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ray_s_files_lie_where_nobody_else_enters_until_it_ends(start, head, tmp_path, number):
    (tmp_path / "token").write_text("mine")
    process, directory, words, _ = start("worker", head, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert f"--address {head}" in words and (tmp_path / "record.asked").read_text() == f"{head}\n"
    assert directory.parent.parent == tmp_path / "tmp"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o777
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 1, "Ray's own"
    assert not list((tmp_path / "tmp").iterdir())


def test_ctrl_c_on_a_terminal_reaches_ray_once(begin, tmp_path):
    """The terminal sends it to the whole foreground; Ray that is signalled twice does not end."""
    (tmp_path / "bin" / "ray").write_text(
        RECORDER.replace("trap '", "trap 'echo INT >>$RECORD.int' INT\ntrap '")
    )
    terminal, end = os.openpty()
    try:
        process = begin("head", terminal=end)
        until(process, (tmp_path / "record").exists)
        os.write(terminal, b"\x03")
        process.communicate()
    finally:
        os.close(terminal)
        os.close(end)
    assert process.returncode == 1, "Ray's own, of SIGTERM"
    assert not (tmp_path / "record.int").exists()
    assert not list((tmp_path / "tmp").iterdir())


def test_where_ray_fails_its_logs_stay(start, tmp_path):
    process, directory, _, _ = start("head")
    (tmp_path / "record.fail").touch()
    _, said = process.communicate()
    assert process.returncode == 3
    assert said == f"ray.sh: Ray's logs are under {directory.parent}\n"
    assert directory.is_dir()


def test_a_worker_whose_head_is_gone_says_so_and_leaves_nothing(start, tmp_path):
    (tmp_path / "token").write_text("mine")
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = f"127.0.0.1:{server.getsockname()[1]}"
        process, *_ = start("worker", head, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    (tmp_path / "record.fail").touch()
    _, said = process.communicate()
    assert (process.returncode, said) == (3, f"ray.sh: the head at {head} is gone\n")
    assert not list((tmp_path / "tmp").iterdir())


def test_the_logs_of_a_worker_stay_where_its_head_is_there(start, tmp_path):
    (tmp_path / "token").write_text("mine")
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = f"127.0.0.1:{server.getsockname()[1]}"
        process, directory, *_ = start("worker", head, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
        (tmp_path / "record.fail").touch()
        _, said = process.communicate()
    assert (process.returncode, said) == (3, f"ray.sh: Ray's logs are under {directory.parent}\n")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1"])
def test_a_worker_is_told_at_once_that_nobody_listens(begin, tmp_path, address):
    (tmp_path / "token").write_text("mine")
    process = begin("worker", address, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    _, said = process.communicate()
    told = f"ray.sh: nobody listens at {address}; HOST:PORT is what the head printed\n"
    assert (process.returncode, said) == (2, told)
    assert not (tmp_path / "record").exists() and not list((tmp_path / "tmp").iterdir())


def test_a_worker_is_told_that_its_head_wants_another_token(begin, head, tmp_path):
    (tmp_path / "token").write_text("mine")
    refused = "ray.exceptions.AuthenticationError: RPC error: InvalidAuthToken"
    process = begin("worker", head, RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"), HEALTH=refused)
    _, said = process.communicate()
    assert (process.returncode, said) == (
        2,
        f"ray.sh: the head at {head} refuses the token of RAY_AUTH_TOKEN_PATH={tmp_path}/token: copy its own there\n",
    )
    assert not (tmp_path / "record").exists() and not list((tmp_path / "tmp").iterdir())


def test_of_what_ray_advises_nothing_is_shown(begin, tmp_path):
    """It would have others join by `ray start`, and stop by `ray stop`."""
    (tmp_path / "bin" / "ray").write_text(
        RECORDER.replace(
            "trap 'exit 1'",
            "echo Next steps; echo '\033[32mRay runtime started.\033[39m'; echo '  ray stop'\ntrap 'exit 1'",
        )
    )
    process = begin("head")
    until(process, (tmp_path / "record").exists)
    process.terminate()
    printed, _ = process.communicate()
    assert (
        printed.endswith("\nRay runtime started.\n")
        and "Next steps" not in printed
        and "ray stop" not in printed
    )


@pytest.mark.parametrize("name", ["PORT", "DASHBOARD_PORT"])
def test_a_taken_port_is_told_at_once(begin, tmp_path, name):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        process = begin("head", NODE_IP="127.0.0.1", **{name: str(port)})
        printed, said = process.communicate()
    assert (process.returncode, printed) == (2, "")
    assert said == (
        f"ray.sh: {name}={port}: another process listens there; take another, as {name}={port + 1}\n"
    )
    assert not (tmp_path / "record").exists() and not (tmp_path / ".glitchflow").exists()


def test_where_ray_is_refused_there_is_nothing_to_stay(start, tmp_path):
    process, *_ = start("head", REFUSED="1")
    _, said = process.communicate()
    assert (process.returncode, said) == (3, "")
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.ci
def test_a_signal_at_any_moment_leaves_neither_ray_nor_files(begin, head, tmp_path):
    """At each command, before the trap, between it and Ray, and in the process that becomes Ray."""
    (tmp_path / "token").write_text("mine")
    (tmp_path / "moments").write_text(MOMENTS)
    noted = tmp_path / "record.moments"

    def at(moment: int) -> subprocess.Popen:
        (tmp_path / "record").unlink(missing_ok=True)
        noted.unlink(missing_ok=True)
        variables = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "BASH_ENV": str(tmp_path / "moments")}
        return begin("worker", head, AT=str(moment), **variables)

    def waits() -> list[int]:
        lines = noted.read_text().splitlines() if (tmp_path / "record").exists() else []
        return [int(line.split()[0]) for line in lines if line.endswith(' wait "$ray"')]

    process = at(0)
    until(process, waits)
    last = waits()[0]
    process.terminate()
    process.communicate()
    assert last > 15
    for moment in range(1, last + 1):
        process = at(moment)
        process.communicate()  # comes back when nobody has its output open any more: Ray neither
        assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM, 1), moment
        assert not list((tmp_path / "tmp").iterdir()), moment
