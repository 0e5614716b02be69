"""Ray: join a running cluster or start an embedded one, for the length of a `with` block.

An embedded Ray listens on loopback, has no dashboard, reports no usage, admits only clients with the token that
this process made, and keeps its files where no other user can enter.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from glitchflow.errors import RunError
from glitchflow.progress import say
from glitchflow.ray_join import join
from glitchflow.ray_watch import watched

SHARED, LEAST = "/dev/shm", 2**27  # where Ray keeps objects, and bytes there of which its store can be made
PROCESS = 430e6  # bytes that a process of ours holds before it has done anything: Python, torch, gwpy, Ray
CGROUPS, CGROUP_ROOT = "/proc/self/cgroup", "/sys/fs/cgroup"
# no usage is reported, and a task without GPUs keeps its environment
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def available_cpus() -> int:
    """CPUs this process may use: its affinity, which Slurm and containers set, not the machine's count."""
    return len(os.sched_getaffinity(0))


def available_memory() -> int:
    """Bytes that this process and its children may hold: the machine's, or less where a control group has a limit.

    A batch system's job lies some groups deep, and each of them may limit it; version 1 and 2 of them are read.
    """
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError):
        for line in Path(CGROUPS).read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            root, name = ("", "memory.max") if not kinds else ("memory", "memory.limit_in_bytes")
            if kinds and "memory" not in kinds.split(","):
                continue
            group = Path(CGROUP_ROOT, root, place.lstrip("/"))
            for one in (group, *group.parents):
                with contextlib.suppress(OSError, ValueError):  # "max", or no such file
                    found.append(int((one / name).read_text()))
    return min(found)


def named_address(address: str) -> str:
    """The address of a running Ray, given or RAY_ADDRESS; empty where none is named, which Ray calls `local`."""
    address = address or os.environ.get("RAY_ADDRESS", "")
    return "" if address == "local" else address


def at_hand(address: str) -> bool:
    """Says whether a Ray is named, or is there already, so that `session` would start none."""
    there = sys.modules.get("ray")  # to import it takes a second
    return bool(named_address(address)) or bool(there and there.is_initialized())


P = ParamSpec("P")
R = TypeVar("R")
_kept: ContextVar[contextlib.ExitStack | None] = ContextVar("kept", default=None)


@contextlib.contextmanager
def one_session() -> Iterator[None]:
    """Keep the Ray that is started or joined first within the block until its end.

    A stage that shares out work several times starts one Ray, if any, and its processes import what they need once.
    """
    with contextlib.ExitStack() as kept:
        outer = _kept.set(kept)
        try:
            yield
        finally:
            _kept.reset(outer)


@contextlib.contextmanager
def session(address: str = "", cpus: int | None = None) -> Iterator[None]:
    """Ray for the length of the block; a Ray that this process already joined is used and left running.

    address: of a running Ray cluster; empty: RAY_ADDRESS, else an embedded Ray of `cpus` CPUs (default: those that
    this process may use, and as many as its memory is enough for). It stays until the end of `one_session`, where there
    is one around the block. Raises `InputError` for what is no address, `RunError` where it does not answer, or memory
    is too little.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = named_address(address)
    if not address:
        _token()
    import ray

    if ray.is_initialized():
        yield
        return
    with _own_signals():
        if address:
            join(address)
        else:
            _start(affordable(cpus))
    with contextlib.ExitStack() as mine:
        kept = _kept.get() or mine
        kept.callback(ray.shutdown)
        if not address:
            kept.enter_context(_watched())
        yield


def joins(stage: Callable[P, R]) -> Callable[P, R]:
    """Decorate a stage, a function of an `Experiment`: the Ray that is named is joined before it lays anything out."""

    @functools.wraps(stage)
    def begun(*given: P.args, **more: P.kwargs) -> R:
        experiment: Any = given[0] if given else more["experiment"]
        address = experiment.cluster.address
        with session(address) if named_address(address) else contextlib.nullcontext():
            return stage(*given, **more)

    return begun


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of SIGTERM there that ends the process without a word: after the block ours is back."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _start(cpus: int) -> None:
    """Start a Ray of our own, on loopback. Raises `RunError` where it does not start."""
    import ray

    try:
        with _on_loopback():
            ray.init(
                address="local",  # not the Ray that somebody's `ray start` left the address of
                num_cpus=cpus,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(_private() / "r"),
                _plasma_directory=_objects(),
                logging_level=logging.WARNING,
                log_to_driver=False,  # stages report for their tasks; Ray's logs stay in its session directory
            )
    except Exception as error:  # bare ones: a machine too busy, a full disk, no shared memory
        atexit.unregister(shutil.rmtree)  # its logs stay, for the reason; the next run removes them
        reason = " ".join(str(error).split())
        raise RunError(
            f"Ray could not start on this machine: {reason} (its files: {_private()}/r)"
        ) from error


def _watched() -> contextlib.AbstractContextManager[None]:
    """While it lasts, this process ends with a line where a process of its embedded Ray has ended."""
    import ray

    node: Any = ray._private.worker._global_node
    kinds = {"gcs_server": "GCS", "raylet": "raylet"}
    processes = {name: node.all_processes[kind][0].process.pid for kind, name in kinds.items()}
    end = functools.partial(node.kill_all_processes, check_alive=False)
    return watched(processes, Path(node.get_logs_dir_path()), end)


def affordable(cpus: int | None) -> int:
    """As many CPUs as asked for, else as there are and memory is enough for. Raises `RunError` where it is too little.

    Ray would start them all, and the machine would end one process after the other without a word of memory.
    """
    there, count = available_memory(), cpus or available_cpus()
    room = int(there // PROCESS) - 1
    if room < (cpus or 1):
        least = cpus or 1
        raise RunError(
            f"cluster.cpus = {least}: takes {PROCESS * (least + 1) / 1e9:.2f} GB, a process for each and this one, and"
            f" {there / 1e9:.2f} GB is what they may hold; give the job more memory"
            + (", or fewer cluster.cpus" if least > 1 else "")
        )
    if room < count:
        say(
            f"{there / 1e9:.2f} GB of memory is enough for {room} of {count} CPUs, {PROCESS / 1e9:.2f} GB for each"
        )
    return min(count, room)


def _objects() -> str | None:
    """Where Ray is to keep its objects: None leaves that to it, elsewhere it would not say why it cannot start."""
    there = Path(SHARED)
    if sys.platform != "linux":  # where Ray has another place
        return None
    free = shutil.disk_usage(there).free if there.is_dir() and os.access(there, os.W_OK) else 0
    if free >= LEAST:
        return None
    reason = f"has {free / 2**20:.0f} MiB free" if free else "cannot be written to"
    say(f"{SHARED}: {reason}; Ray's objects are files below {_private()}, which is slower")
    return str(_private())


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Within the block Ray takes a node's address of 127.0.0.1 at its word, and so do all that it starts.

    On Linux it would put the machine's first address in its place, for the nodes that could join, and listen on every
    one: GCS, raylet, agents, driver and workers.
    """
    from ray._private import ray_constants

    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _token() -> None:
    """Give this process's embedded Ray a token, unless the user has chosen a mode.

    Without it Ray would write a token of its own to the home directory, which later makes other Ray clusters
    there refuse their workers.
    """
    if "RAY_AUTH_MODE" in os.environ or "ray" in sys.modules:  # Ray reads the mode once, when it is imported
        return
    path = _private() / "token"
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


@functools.cache
def _private() -> Path:
    """A directory of mode 0700 for this process's token and its Ray, removed when the process ends.

    Ray opens its own directory to everybody, and who can change that runs code as its user. Directories of killed
    processes are removed here: this host's of this user, whose lock nobody holds. Names are short: Ray's sockets
    lie under them, and the path of a socket has 107 bytes.
    """
    base, host = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()), socket.gethostname()
    try:
        for left in base.glob(f"gf.*/{host}"):
            with contextlib.suppress(OSError), left.open("r+") as file:  # OSError: in use, or a stranger's
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if left.parent.lstat().st_uid == os.geteuid():
                    shutil.rmtree(left.parent, ignore_errors=True)
        directory = Path(tempfile.mkdtemp(prefix="gf.", dir=base))
        lock = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)  # held until the process ends
        with contextlib.suppress(OSError):  # a file system without locks: then nobody else gets one either
            fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / "lock").rename(directory / host)  # locked before it can be found
    except OSError as error:
        raise RunError(f"no directory for Ray's files can be made in {base}: {error.strerror}") from None
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def threads(count: int) -> None:
    """Give this process `count` CPU threads, whatever the machine has."""
    import torch

    torch.set_num_threads(count)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Have one CPU thread for a while, as a task of Ray has: small operations only wait for one another in more."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def trim() -> None:
    """Give free memory back to the machine, where the C library can (glibc's): after the Q-plots of many channels it
    keeps 100 to 200 MiB that lie between arrays in use."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
