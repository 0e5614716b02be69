"""Wait until every node of a Slurm job has joined its Ray; name those that have not. See glitchflow.sbatch.

    joined.py DIRECTORY SECONDS NODE...

In DIRECTORY, the job's, each node's node.py writes `node.NAME` when it begins and `failed.NAME` when it cannot go
on, and the head's writes `address`; `ended` says that srun has ended. Exit status 0 when all have joined, else 1
after a line per missing node.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from node import POLL, published


def missing(directory: Path, names: list[str], alive: set[str]) -> dict[str, str]:
    """Of each node that has not joined, how far it is; `alive` are the addresses of Ray's nodes."""
    states = {}
    for name in names:
        if published(directory / f"failed.{name}"):
            states[name] = f"failed: {(directory / f'failed.{name}').read_text().strip()}"
        elif not published(directory / f"node.{name}"):
            states[name] = "node.py has not begun there"
        elif (address := (directory / f"node.{name}").read_text().split()[0]) not in alive:
            states[name] = f"Ray has begun there, as {address}, and has not joined"
    return states


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "empty")


def alive(address: Path) -> set[str]:
    """Addresses of Ray's nodes, once its own is published and answers."""
    import ray

    if not published(address):
        return set()
    try:
        if not ray.is_initialized():
            ray.init(address=address.read_text().split()[0], logging_level="ERROR", log_to_driver=False)
        return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    except (OSError, RuntimeError, ray.exceptions.RayError):  # not yet, or never: the time will tell
        return set()


def wait(directory: Path, seconds: float, names: list[str]) -> dict[str, str]:
    """Wait for all; returns what is missing when the time is over, or as soon as a node has failed."""
    until = time.monotonic() + seconds
    while lacking := missing(directory, names, alive(directory / "address")):
        hopeless = published(directory / "ended") or any(s.startswith("failed") for s in lacking.values())
        if hopeless or time.monotonic() > until:
            return lacking
        time.sleep(POLL)
    return {}


def describe(names: list[str]) -> str:
    import ray

    total = ray.cluster_resources()
    counts = ", ".join(f"{total.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
    return f"glitchflow: Ray has {len(names)} node(s), {' '.join(names)}: {counts}"


def main() -> int:
    directory, seconds, names = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    lacking = wait(directory, seconds, names)
    for name, state in lacking.items():
        log = directory / f"{name}.log"
        print(f"glitchflow: {name} did not join: {state}; end of {log}: {last_words(log)}", file=sys.stderr)
    if lacking:
        return 1
    print(describe(names), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
