"""Ray on one node of a Slurm job, until the job ends it: srun starts one of these per node (see glitchflow.sbatch).

    1. claim a block of ports that follows from the job id, and is free here
    2. tell the job's hub (hub.py) this node's address, and learn the head's from it
    3. `ray start` in a temporary directory of its own, until the connection to the hub ends, or on SIGTERM

Python's standard library alone, beside `ray`: it runs in the user's environment or in a container.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hub import Line, token

FIRST, LAST = 10000, 32767  # below the ports that Linux gives to outgoing connections
WIDTH = 512  # ports of a job on a node: those named here, and one per Ray worker process
PORTS = (  # the block's first ports; `guard` is held open by this process, so that no other job takes the block
    "guard",
    "port",
    "dashboard-port",
    "ray-client-server-port",
    "node-manager-port",
    "object-manager-port",
    "runtime-env-agent-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
)
HEAD_ONLY = ("port", "dashboard-port", "ray-client-server-port")
MIOPEN = ("MIOPEN_USER_DB_PATH", "MIOPEN_CUSTOM_CACHE_DIR")  # AMD's kernels: locks fail in homes on Lustre
POLL = 0.2  # s
SIOCGIFADDR = 0x8915  # netdevice(7): the address of an interface


class NodeError(Exception):
    """What keeps this node from joining, in one line."""


# -- ports --------------------------------------------------------------------------------------------------------


def blocks(job: int) -> list[int]:
    """First ports of all blocks, beginning with the job's own; jobs of consecutive ids begin with different ones."""
    count = (LAST + 1 - FIRST) // WIDTH
    return [FIRST + (job + k) % count * WIDTH for k in range(count)]


def claim(job: int) -> tuple[socket.socket, int]:
    """The socket that guards the first block that is free on this node, and the block's first port."""
    for first in blocks(job):
        guard = socket.socket()
        try:
            guard.bind(("", first))
            guard.listen()
        except OSError:
            guard.close()
            continue
        if all(map(free, range(first + 1, first + WIDTH))):
            return guard, first
        guard.close()
    raise NodeError(f"no {WIDTH} free ports in a row between {FIRST} and {LAST}")


def free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def port_options(first: int, head: bool) -> list[str]:
    """The options of `ray start` that put all its ports in the block."""
    names = [(name, first + i) for i, name in enumerate(PORTS) if head or name not in HEAD_ONLY]
    workers = [("min-worker-port", first + len(PORTS)), ("max-worker-port", first + WIDTH - 1)]
    return [f"--{name}={port}" for name, port in names[1:] + workers]


# -- what this node has ---------------------------------------------------------------------------------------------


def own_address(interface: str, peer: str) -> str:
    """IPv4 address: of `interface` where one is named, else the one that `peer` is reached from; alone, loopback."""
    if interface:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = struct.pack("256s", interface.encode()[:15])
            try:
                return socket.inet_ntoa(fcntl.ioctl(probe, SIOCGIFADDR, request)[20:24])
            except OSError as error:
                there = ", ".join(name for _, name in socket.if_nameindex())
                raise NodeError(f"interface {interface}: {error.strerror}; here are {there}") from None
    if not peer:
        return "127.0.0.1"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((socket.gethostbyname(peer), 9))  # sends nothing: asks the kernel for the route
            return probe.getsockname()[0]
    except OSError as error:
        raise NodeError(f"no route to {peer}: {error.strerror or error}") from None


def cpus() -> int:
    """CPUs that the job has here: this process's affinity, and Slurm's count where affinity is not enforced."""
    allowed = len(os.sched_getaffinity(0))
    return min(allowed, int(os.environ.get("SLURM_CPUS_ON_NODE", allowed)))


def use_rocr() -> None:
    """Slurm names AMD's GPUs in ROCR_VISIBLE_DEVICES, where Ray refuses to look: the same list under HIP's name.

    The runtime that ROCR hides devices from counts the rest from 0, so it must go. A list that is there already is that
    of the node where the job's script runs.
    """
    devices = os.environ.pop("ROCR_VISIBLE_DEVICES", None)
    if devices is not None:
        os.environ["HIP_VISIBLE_DEVICES"] = devices


# -- Ray ------------------------------------------------------------------------------------------------------------


def command(arguments: argparse.Namespace, first: int, address: str, head_address: str) -> list[str]:
    """`ray start` of this node; `head_address` is host:port, or empty on the head itself."""
    head = not head_address
    where = ["--head", "--dashboard-host=127.0.0.1"] if head else [f"--address={head_address}"]
    if head and not arguments.dashboard:
        where[1:] = ["--include-dashboard=false"]
    return [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", *where),
        *(f"--node-ip-address={address}", f"--num-cpus={cpus()}", f"--temp-dir={own_directory(arguments)}/r"),
        f"--object-store-memory={arguments.object_store_mb * 1_000_000}",
        *(*port_options(first, head), "--disable-usage-stats", "--block"),
    ]


def own_directory(arguments: argparse.Namespace) -> Path:
    """This node's temporary directory. Numbered, should the disk be shared after all; short, for Ray's sockets.

    Ray opens the directory that it is given (`r` in this one) to everybody, with the sockets and the code in it.
    """
    return Path(f"{arguments.temporary}-{arguments.nodes.index(arguments.name)}")


def make_private(path: Path) -> None:
    """Make a directory of this user's alone. One that the job left here before is made anew."""
    try:
        if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.getuid():
            shutil.rmtree(path)
        path.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise NodeError(f"temporary directory {path}: {error.strerror}") from None


def poll(there: Callable[[], bool], seconds: float, alive: Callable[[], bool] = lambda: True) -> bool:
    until = time.monotonic() + seconds
    while not there():
        if time.monotonic() > until or not alive():
            return False
        time.sleep(POLL)
    return True


def answers(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def end(ray: subprocess.Popen, seconds: float = 15) -> None:
    """End Ray and what it started: they are a session of their own."""
    ray.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        ray.wait(seconds)
    with contextlib.suppress(ProcessLookupError):  # none of them is left
        os.killpg(ray.pid, signal.SIGKILL)


def keep_logs(scratch: Path, to: Path) -> str:
    """Copy Ray's logs out of this node's directory, which goes with the job; returns what to say of them."""
    try:
        shutil.copytree(scratch / "r" / "session_latest" / "logs", to, ignore=shutil.ignore_patterns("old"))
    except (OSError, shutil.Error) as error:
        return f"its logs cannot be kept: {error}"
    return f"its logs are in {to}"


def run(arguments: argparse.Namespace) -> None:
    """Bring Ray up on this node and stay until the job is over; then end it. Raises `NodeError`, and tells the hub."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        line = Line(arguments.hub, token())
    except (OSError, EOFError) as error:
        raise NodeError(f"the job's hub at {arguments.hub} cannot be reached: {error}") from None
    try:
        stay(arguments, line)
    except EOFError:  # the job is over
        return
    except NodeError as error:
        with contextlib.suppress(EOFError):
            line.send({"name": arguments.name, "failed": str(error)})
        raise
    finally:
        line.close()


def stay(arguments: argparse.Namespace, line: Line) -> None:
    """Join, and run Ray until the line ends. Raises `EOFError` then, `NodeError` where Ray does not run."""
    head = arguments.name == arguments.head
    peer = next((name for name in arguments.nodes if name != arguments.name), "")
    address = own_address(arguments.interface, peer)
    guard, first = claim(arguments.job)
    with guard:
        line.send({"name": arguments.name, "address": address})
        head_address = "" if head else (line.receive(arguments.timeout) or {}).get("head")
        if head_address is None:
            raise NodeError(f"the head has not said where its Ray is for {arguments.timeout:g} s")
        scratch = own_directory(arguments)
        make_private(scratch)
        for name in MIOPEN:
            os.environ.setdefault(name, str(scratch))
        os.environ["TMPDIR"] = str(scratch)  # the dashboard leaves directories behind
        shell = command(arguments, first, address, head_address)
        print(shlex.join(shell), flush=True)
        ray = subprocess.Popen(shell, start_new_session=True)
        try:
            if head and poll(
                lambda: answers(address, first + 1), arguments.timeout, lambda: ray.poll() is None
            ):
                where = {"head": f"{address}:{first + 1}", "dashboard": first + 2}
                line.send({"name": arguments.name, **where})
            while True:
                line.receive(1)
                if ray.poll() is not None:
                    kept = keep_logs(scratch, Path(arguments.directory) / f"{arguments.name}.ray")
                    raise NodeError(f"Ray ended by itself, with status {ray.returncode}; {kept}")
        finally:
            end(ray)
            shutil.rmtree(scratch, ignore_errors=True)


def main() -> int:
    environment = os.environ.get
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", required=True, help="of the job, on a shared file system: for logs")
    parser.add_argument("--hub", required=True, help="HOST:PORT of hub.py")
    parser.add_argument("--job", type=int, required=True, help="id, which the ports follow from")
    parser.add_argument("--name", default=environment("SLURMD_NODENAME", socket.gethostname()))
    parser.add_argument("--head", required=True, help="name of the node whose Ray the others join")
    parser.add_argument("--nodes", nargs="+", required=True, help="names of all")
    parser.add_argument("--temporary", type=Path, required=True, help="directory to make on this node")
    parser.add_argument("--interface", default="", help="network to use, such as ib0")
    parser.add_argument("--object-store-mb", type=int, default=1000, help="shared memory for Ray's objects")
    parser.add_argument("--timeout", type=float, default=300, help="seconds to wait for the head")
    parser.add_argument("--dashboard", type=int, default=1, help="0: none")
    parser.add_argument("--dry-run", action="store_true", help="print the command of this node, and end")
    arguments = parser.parse_args()
    use_rocr()
    try:
        if arguments.dry_run:
            first = blocks(arguments.job)[0]
            head_address = "" if arguments.name == arguments.head else f"HEAD:{first + 1}"
            print(shlex.join(command(arguments, first, "ADDRESS", head_address)))
            return 0
        run(arguments)
        return 0
    except NodeError as error:
        print(f"glitchflow: {arguments.name}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
