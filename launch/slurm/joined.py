"""Wait until every node of a Slurm job has joined its Ray; name those that have not. See glitchflow.sbatch.

    joined.py DIRECTORY SECONDS HUB NODE...

The hub (hub.py) says which nodes have begun, which have failed and where the head's Ray is; Ray itself says who has
joined. Exit status 0 when all have, with the head's address and its dashboard's port in DIRECTORY/address; else 1 after
a line per missing node.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hub import Line, publish, token

POLL = 0.2  # s between questions to the head's Ray


def missing(known: dict[str, Any], names: list[str], alive: set[str]) -> dict[str, str]:
    """Of each node that has not joined, how far it is; `alive` are the addresses of Ray's nodes."""
    states = {}
    for name in names:
        if name in known["failed"]:
            states[name] = f"failed: {known['failed'][name]}"
        elif name not in known["nodes"]:
            states[name] = "node.py has not begun there"
        elif (address := known["nodes"][name]) not in alive:
            states[name] = f"Ray has begun there, as {address}, and has not joined"
    return states


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "empty")


def alive(address: str) -> set[str]:
    """Addresses of Ray's nodes, once it answers."""
    import ray

    try:
        if not ray.is_initialized():
            ray.init(address=address, logging_level="ERROR", log_to_driver=False)
        return {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
    except (OSError, RuntimeError, ray.exceptions.RayError):  # not yet, or never: the time will tell
        return set()


def keep_asking(address: str, found: list[set[str]]) -> None:
    while True:
        found[0] = alive(address)
        time.sleep(POLL)


def wait(line: Line, seconds: float, names: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Wait for all; returns what the hub knows, and what is missing when the time is over or a node has failed."""
    until, known, ended = time.monotonic() + seconds, {"nodes": {}, "failed": {}, "head": ""}, False
    found, asking = [set[str]()], False
    while True:
        try:
            while (news := line.receive(POLL)) is not None:
                known = news
        except EOFError:  # srun has ended: nobody else comes
            ended = True
        if (
            known["head"] and not asking
        ):  # in a thread: a client waits ten minutes for a Ray that has just ended
            asking = True
            threading.Thread(target=keep_asking, args=(known["head"], found), daemon=True).start()
        lacking = missing(known, names, found[0])
        hopeless = ended or any(state.startswith("failed") for state in lacking.values())
        if not lacking or hopeless or time.monotonic() > until:
            return known, lacking


def describe(names: list[str]) -> str:
    import ray

    total = ray.cluster_resources()
    counts = ", ".join(f"{total.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
    return f"glitchflow: Ray has {len(names)} node(s), {' '.join(names)}: {counts}"


def main() -> int:
    directory, seconds, names = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[4:]
    line = Line(sys.argv[3], token())
    line.send({"watch": True})
    known, lacking = wait(line, seconds, names)
    for name, state in lacking.items():
        log = directory / f"{name}.log"
        print(f"glitchflow: {name} did not join: {state}; end of {log}: {last_words(log)}", file=sys.stderr)
    if lacking:
        return 1
    publish(directory / "address", f"{known['head']} {known['dashboard']}\n")
    print(describe(names), flush=True)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # whatever the thread is at
