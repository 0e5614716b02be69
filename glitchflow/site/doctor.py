"""What on this machine or cluster would make a run fail, and what to do: facts gathered here, judged by `checks`.

Every node is asked by a Ray task that reserves nothing, so that a busy cluster answers too.
"""

import contextlib
import os
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from glitchflow.cluster import available_memory, named_address, session
from glitchflow.config import Cluster, Experiment, Generate, Train
from glitchflow.errors import InputError, RunError
from glitchflow.site import probe
from glitchflow.site.checks import judge
from glitchflow.site.facts import HERE, Facts, Finding

PATIENCE = 20.0  # s for all nodes to answer a question
FIRST = (
    120.0  # s for the first, which imports torch: on a cold parallel file system that alone takes a minute
)
USUAL = (6379, 8265)  # ports of a head: GCS and dashboard


def doctor(experiment: Experiment | None, address: str = "") -> None:
    """Print what the checks say; with an experiment, also of what its stages need.

    Writes a file of a few bytes at each place a run writes to, and removes it.
    Raises `RunError` naming the checks that failed.
    """
    if experiment is None:
        facts = gather(_places([str(Path.cwd())]), address)
    else:
        places, cluster = _places([experiment.workdir, str(experiment.dataset)]), experiment.cluster
        asked = [partial(_device, experiment.train)]
        if not experiment.ingest.qplots_from:  # ready images are made on nothing
            asked.append(partial(_made_on, experiment.generate, cluster))
        facts = gather(places, cluster.address, cluster.cpus, asked)
        facts = _with_dataset(facts, experiment)
    screen, failed = judged(facts)
    print(screen, flush=True)  # before the line on standard error, where both go to one place
    if failed:
        raise RunError(f"doctor: would break a run: {', '.join(failed)}")


def judged(facts: Facts) -> tuple[str, list[str]]:
    """The screen, and the names of the checks that failed."""
    found = judge(facts)
    width = max(len(name) for name, _ in found)
    lines = []
    for name, finding in found:
        lines.append(f"{finding.level:<4}  {name:<{width}}  {finding.text}")
        if finding.advice:
            lines.append(f"{'':<{width + 8}}-> {finding.advice}")
    return "\n".join(lines), sorted({name for name, finding in found if finding.level == "FAIL"})


def gather(
    places: list[str], address: str = "", cpus: int | None = None, asked: Sequence[Callable[[], Finding]] = ()
) -> Facts:
    """Ask this process, Ray and its nodes.

    places: where a run writes; address, cpus: of Ray, as for `session`; asked: what stages would run on; they
    raise `InputError` where the cluster that has been joined cannot hold that.
    """
    address = named_address(address)
    facts = Facts(
        here=probe.facts(places) | {"memory": available_memory()},
        session=probe.ray_directory(),
        places=places,
        address=address,
    )
    facts = replace(facts, taken=[] if address else [p for p in USUAL if not probe.call("127.0.0.1", p)])
    try:
        with session(address, cpus):
            return _together(_of_ray(replace(facts, token=_token()), asked))
    except RunError as error:
        return _together(replace(facts, ray=str(error)))


def _places(wanted: list[str]) -> list[str]:
    """Where a run writes: for what is not made yet, the directory that it would be made in."""
    found = []
    for place in wanted:
        if "://" not in place:
            path = Path(place)
            place = str(next(p for p in (path, *path.parents) if p.exists()))
        found.append(place)
    return list(dict.fromkeys(found))


def _with_dataset(facts: Facts, experiment: Experiment) -> Facts:
    """What the stages that make a dataset would say, before what a training would, and how much room it takes."""
    from glitchflow.data import store
    from glitchflow.site import plan

    try:
        if store.exists(experiment.dataset):
            return facts
        size = plan.measure(plan.content_to_plan(experiment))
    except (InputError, RunError) as error:
        return replace(facts, refusals=[str(error), *facts.refusals])
    place = next((p for p in reversed(facts.places) if str(experiment.dataset).startswith(p)), "")
    return replace(facts, need=(place, size.bytes, size.files))


def _token() -> tuple[str, str, int | None]:
    mode, path = os.environ.get("RAY_AUTH_MODE", ""), os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    if os.environ.get("RAY_AUTH_TOKEN"):  # Ray prefers it
        path = ""
    try:
        return mode, path, stat.S_IMODE(Path(path).stat().st_mode) if path else None
    except OSError:
        return mode, path, None


def _device(settings: Train) -> Finding:
    """What a training takes of the Ray that has been joined. Raises `InputError` where that cannot hold it."""
    from glitchflow.train.fit import accelerated, fallen

    gpu = accelerated(settings)
    if fall := fallen(settings, gpu):
        return Finding("warn", fall, "train.workers as many as GPUs, or train.device=gpu, which refuses CPUs")
    where = "a GPU each" if gpu else "CPUs"
    return Finding("ok", f"train.device = {settings.device}: {settings.workers} worker(s), on {where}")


def _made_on(settings: Generate, cluster: Cluster) -> Finding:
    """What Q-plots would be made on. Raises `InputError` where there is no such device."""
    from glitchflow.data.gpu import sharing, told

    return Finding("ok", told(settings, sharing(settings, cluster)))


def _of_ray(facts: Facts, asked: Sequence[Callable[[], Finding]]) -> Facts:
    """What Ray knows of its nodes, and what stages would say to them."""
    import ray

    nodes = ray.nodes()
    alive = _named([node for node in nodes if node["Alive"]])
    facts = replace(
        facts,
        resources={name: node["Resources"] for name, node in alive.items()},
        lost=sorted(
            f"{n['NodeManagerHostname']} ({n['NodeManagerAddress']})" for n in nodes if not n["Alive"]
        ),
    )
    for ask in asked:
        try:
            facts = replace(facts, devices=[*facts.devices, ask()])
        except InputError as error:
            facts = replace(facts, refusals=[*facts.refusals, str(error)])
    if not facts.address:
        return facts  # the one node is this machine
    ids = {name: node["NodeID"] for name, node in alive.items()}
    nodes_facts, silent = on_each(ids, probe.facts, lambda name: (facts.places,), FIRST)
    facts = replace(facts, nodes=nodes_facts, silent=silent)
    return _answering(facts, {name: alive[name] for name in nodes_facts})


def _named(nodes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Nodes by host name, and those that share one by id."""
    hosts = [node["NodeManagerHostname"] for node in nodes]
    return {
        host if hosts.count(host) == 1 else f"{host}-{node['NodeID'][:6]}": node
        for host, node in zip(hosts, nodes)
    }


def _answering(facts: Facts, nodes: dict[str, dict[str, Any]]) -> Facts:
    """What the nodes that answer say of each other: connections, clocks, sums, files."""
    import ray

    if not nodes:
        return facts
    ids = {name: node["NodeID"] for name, node in nodes.items()}
    own = ray.util.get_node_ip_address()
    with _listening(own) as port:
        calls, _ = on_each(ids, probe.call, lambda name: (own, port))
    on_gpus = {name: node for name, node in nodes.items() if _on_gpu(facts.nodes[name])}
    sums = {"gloo": _summed("gloo", nodes), "nccl": _summed("nccl", on_gpus)}
    mail = secrets.token_hex(4)
    with _mail(facts.places, mail, [HERE, *ids]) as written:
        exchange, late = on_each(ids, probe.exchange, lambda name: (facts.places, mail, name, [HERE]))
        exchange |= {name: {place: {"write": text} for place in facts.places} for name, text in late.items()}
        back = {
            place: {"write": written[place]}
            | {n: probe.wait(place, f"{mail}-{n}") for n in ids if exchange[n][place]["write"] is None}
            for place in facts.places
        }
    return replace(facts, calls=calls, sums=sums, exchange={HERE: back} | exchange, offsets=_offsets(ids))


def _on_gpu(machine: dict[str, Any]) -> bool:
    """Whether a machine can take part in a sum by NCCL."""
    found = machine["torch"]
    return not found["error"] and bool(found["devices"]) and found["nccl"]


def _summed(backend: str, nodes: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    """What went wrong with each node's part in a sum over all of them, by name."""
    if not nodes:
        return {}
    ids = {name: node["NodeID"] for name, node in nodes.items()}
    first = next(iter(nodes))
    host = nodes[first]["NodeManagerAddress"]
    ports, _ = on_each({first: ids[first]}, probe.free_port, lambda name: (host,))
    if not ports:
        return {}
    ranks = {name: rank for rank, name in enumerate(ids)}
    arguments = (len(ids), host, ports[first], PATIENCE / 2)
    sums, late = on_each(ids, probe.add_up, lambda name: (backend, ranks[name], *arguments))
    return sums | late


def _together(facts: Facts) -> Facts:
    """What this machine can do by itself, where there are no nodes to do it with."""
    if facts.exchange:
        return facts
    mail = secrets.token_hex(4)
    with _mail(facts.places, mail, [HERE]):
        exchange = {HERE: probe.exchange(facts.places, mail, HERE, [HERE])}
    able = {"gloo": bool(facts.here["torch"].get("gloo")), "nccl": _on_gpu(facts.here)}
    sums = {
        backend: {HERE: probe.add_up(backend, 0, 1, "127.0.0.1", probe.free_port("127.0.0.1"), 10)}
        for backend in able
        if able[backend]
    }
    return replace(facts, exchange=exchange, sums=sums, calls={})


@contextlib.contextmanager
def _mail(places: list[str], mail: str, writers: list[str]) -> Iterator[dict[str, str | None]]:
    """This machine's file at each place, with what went wrong; everybody's are removed in the end."""
    try:
        yield {place: probe.write(place, f"{mail}-{HERE}") for place in places}
    finally:
        for place in places:
            for writer in writers:
                probe.remove(place, f"{mail}-{writer}")


@contextlib.contextmanager
def _listening(host: str) -> Iterator[int]:
    """A port that accepts connections for the length of the block."""
    with socket.create_server((host, 0), backlog=128) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed: the block has ended
                while True:
                    server.accept()[0].close()

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _offsets(ids: dict[str, str]) -> dict[str, tuple[float, float]]:
    """How far each node's clock is ahead, in s, and the error of that: half of the way there and back of all."""
    found: dict[str, tuple[float, float]] = {}
    for _ in range(3):  # the quickest of three counts
        sent = time.time()
        answers, _ = on_each(ids, probe.clock, lambda name: (), seconds=5)
        half = (time.time() - sent) / 2
        for name, answer in answers.items():
            if half < found.get(name, (0.0, float("inf")))[1]:
                found[name] = (answer - sent - half, half)
    return found


def on_each(
    ids: dict[str, str],
    function: Callable[..., Any],
    arguments: Callable[[str], tuple[Any, ...]],
    seconds: float = PATIENCE,
) -> tuple[dict[str, Any], dict[str, str]]:
    """What a function of `probe` returns on each node, at once, and why some did not answer: both by name."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.cloudpickle.register_pickle_by_value(probe)  # the nodes' own GlitchFlow may be another, or none
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    calls = {
        name: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            *arguments(name)
        )
        for name, node in ids.items()
    }
    ready, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=seconds)
    answers, silent = {}, {}
    for name, call in calls.items():
        if call not in ready:
            silent[name] = f"no answer in {seconds:g} s"
            continue
        try:
            answers[name] = ray.get(call)
        except ray.exceptions.RayError as error:
            silent[name] = " ".join(str(error).split())[:160]
    return answers, silent
