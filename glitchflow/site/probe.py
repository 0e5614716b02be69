"""What `doctor` runs on every machine of a cluster, sent there by value.

So it works where GlitchFlow is missing or of another version: these functions use the standard library (and torch
where it is installed) and answer with plain dictionaries; an error is a string, None is none.
"""

import contextlib
import os
import platform
import resource
import socket
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("glitchflow", "torch", "ray", "numpy", "scipy", "gwpy", "zarr", "pydantic")
DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
HARDWARE = ("/dev/nvidia0", "/dev/kfd")  # of NVIDIA's and AMD's drivers
PATIENCE = 3.0  # s until a file that another machine wrote must be seen


def facts(places: list[str]) -> dict[str, Any]:
    """What this machine is. Spaces are (bytes free, bytes in all, inodes free); inodes None where not counted."""
    directories = [p for p in places if "://" not in p]
    _unhide()
    hidden = any(os.environ.get(name) == "" for name in DEVICES)
    return {
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cpu": cpu_name(),
        "affinity": len(os.sched_getaffinity(0)),
        "quota": _quota(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "torch": _torch(),
        "hardware": [path for path in HARDWARE if not hidden and Path(path).exists()],
        "missing_interfaces": _missing_interfaces(),
        "auth": os.environ.get("RAY_AUTH_MODE", ""),
        "space": {p: _space(p) for p in [*directories, ray_directory(), "/dev/shm"]},
    }


def ray_directory() -> str:
    """Where Ray keeps its session: sockets, logs, spilled objects."""
    return os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """Returns the CPU's name with its family and model, which tell apart what a virtual machine calls by one name."""
    with contextlib.suppress(OSError, KeyError):
        lines = (
            line.partition(":") for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        )
        said = {key.strip(): value.strip() for key, _, value in lines}
        return f"{said['model name']} (family {said['cpu family']}, model {said['model']})"
    return platform.machine()


def _quota() -> float | None:
    """CPUs that the control group grants, where it limits them."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        granted, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(granted) / int(period)
    return None


def _missing_interfaces() -> list[str]:
    """VARIABLE=NAME of the interfaces that the environment pins and that are not here."""
    here = [name for _, name in socket.if_nameindex()]
    pinned = [(v, name) for v in INTERFACES for name in os.environ.get(v, "").split(",") if name]
    # =eth0 is exactly eth0, ^eth0 any other, eth any that begins so
    return [
        f"{v}={name}"
        for v, name in pinned
        if name[0] != "^" and not any(h.startswith(name.lstrip("=")) for h in here)
    ]


def _unhide() -> None:
    """Ray hides the GPUs from a task that reserves none: see those of the raylet that started this process.

    Never more than those: others may be a stranger's. Elsewhere than in a task nothing changes.
    """
    parent = Path(f"/proc/{os.getppid()}")
    with contextlib.suppress(OSError):
        if (parent / "comm").read_text().strip() == "raylet":
            lines = (parent / "environ").read_text(errors="replace").split("\0")
            given = dict(line.split("=", 1) for line in lines if "=" in line)
            for name in DEVICES:
                os.environ.pop(name, None)
            os.environ.update({name: given[name] for name in DEVICES if name in given})


def _torch() -> dict[str, Any]:
    try:
        import torch
    except Exception as error:  # noqa: BLE001  a broken driver library can raise anything
        return {"error": " ".join(str(error).split())}
    found: dict[str, Any] = {
        "error": None,
        "build": f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}",
        "gloo": torch.distributed.is_available() and torch.distributed.is_gloo_available(),
        "nccl": torch.distributed.is_available() and torch.distributed.is_nccl_available(),
        "devices": [],
    }
    if not (torch.version.hip or torch.version.cuda):
        found["build"] = "CPU"
    try:
        found["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if found["devices"]:
            torch.ones((8, 8), device="cuda").matmul(torch.ones((8, 8), device="cuda")).sum().item()
    except Exception as error:  # noqa: BLE001  torch raises its own and the driver's
        found["error"] = " ".join(str(error).split())[:200]
    return found


def _space(path: str) -> tuple[int, int, int | None] | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    inodes = found.f_favail if found.f_files else None  # some file systems make them as needed
    return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, inodes


# -- machines together -------------------------------------------------------------------------------------------


def exchange(places: list[str], token: str, own: str, others: list[str]) -> dict[str, dict[str, str | None]]:
    """At each place write this machine's file and look for those of others; by place, what went wrong with each."""
    return {
        place: {"write": write(place, f"{token}-{own}")}
        | {other: wait(place, f"{token}-{other}") for other in others}
        for place in places
    }


def wait(place: str, name: str) -> str | None:
    """Waits until this machine sees what the named one wrote; returns the error, or None."""
    until = time.monotonic() + PATIENCE
    while (error := _read(place, name)) and time.monotonic() < until:
        time.sleep(0.1)
    return error


def write(place: str, name: str) -> str | None:
    """Writes a small file that others are to see; returns the error, or None."""
    try:
        if "://" in place:
            _bucket(place).put(f".glitchflow-doctor-{name}", name.encode())
        else:
            (Path(place) / f".glitchflow-doctor-{name}").write_text(name)
    except Exception as error:  # noqa: BLE001  obstore's errors have no common base
        return _reason(error)
    return None


def _read(place: str, name: str) -> str | None:
    try:
        if "://" in place:
            text = bytes(_bucket(place).get(f".glitchflow-doctor-{name}").bytes()).decode()
        else:
            text = (Path(place) / f".glitchflow-doctor-{name}").read_text()
    except Exception as error:  # noqa: BLE001  as above
        return _reason(error)
    return None if text == name else f"holds {len(text)} bytes of {len(name)}"


def remove(place: str, name: str) -> None:
    """Removes that file again, where it is."""
    if "://" in place:
        with contextlib.suppress(Exception):  # what could not be written cannot be removed, and was reported
            _bucket(place).delete(f".glitchflow-doctor-{name}")
    else:
        with contextlib.suppress(OSError):
            (Path(place) / f".glitchflow-doctor-{name}").unlink()


def _bucket(url: str) -> Any:
    from obstore.store import from_url

    return from_url(url)


def _reason(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split())[:160]


def call(host: str, port: int) -> str | None:
    """Open a connection from here."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return _reason(error)
    return None


def free_port(host: str) -> int:
    """Returns a port of this host that nothing listens on."""
    with socket.socket() as found:
        found.bind((host, 0))
        return found.getsockname()[1]


def add_up(backend: str, rank: int, size: int, host: str, port: int, seconds: float) -> str | None:
    """Take part in a sum over `size` machines by gloo, or on their first GPUs by nccl, as a training's workers do."""
    from datetime import timedelta

    import torch
    from torch import distributed

    if backend == "nccl":
        _unhide()
        if host == "127.0.0.1":  # one machine: nobody else is to see it
            os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    try:
        total = torch.ones(1, device="cuda" if backend == "nccl" else "cpu")
        distributed.init_process_group(
            backend, f"tcp://{host}:{port}", timedelta(seconds=seconds), rank=rank, world_size=size
        )
        try:
            distributed.all_reduce(total)
            found = total.item()
        finally:  # the next sum is made in this process
            distributed.destroy_process_group()
    except (RuntimeError, ValueError, OSError) as error:
        return _reason(error)
    return None if found == size else f"the sum over {size} machines is {found:g}"


def clock() -> float:
    """Returns this machine's time, in s since 1970."""
    return time.time()
