"""What `doctor` makes of the facts: a table of checks, each a pure function from facts to findings.

A check yields the problems it sees and, where there is none, `ok` lines with what it found.
"""

from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from glitchflow.cluster import PROCESS
from glitchflow.site.facts import HERE, Facts, Finding, Level

SKEW: dict[Level, float] = {
    "FAIL": 10.0,
    "warn": 1.0,
}  # s; 30 s of silence end a lease, and S3 refuses requests 15 minutes off
OPEN_FILES = 4096
GB = 1e9
ROOM = {"session": 1.0, "shm": 0.25, "place": 1.0}  # GB that Ray's session, its shared memory and a run need


def _same(level: Level, seen: Iterable[tuple[str, str | None]], advice: str) -> Iterator[Finding]:
    """One finding for all machines with the same problem."""
    by_text: dict[str, list[str]] = {}
    for machine, text in seen:
        if text:
            by_text.setdefault(text, []).append(machine)
    for text, machines in by_text.items():
        more = f" and {len(machines) - 4} more" if len(machines) > 4 else ""
        yield Finding(level, f"{', '.join(machines[:4])}{more}: {text}", advice)


def python(f: Facts) -> Iterator[Finding]:
    """The environment of this command against what the package asks for."""
    for line in metadata.requires("glitchflow") or ():
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            found = ""
        if not found or not wanted.specifier.contains(found, prereleases=True):
            text = f"{wanted} is needed, {found or 'nothing'} is installed"
            yield Finding("FAIL", text, "pip install -c constraints.txt .")
    yield Finding(
        "ok", f"{f.here['python']}, GlitchFlow {f.here['versions']['glitchflow']}, requirements met"
    )


def versions(f: Facts) -> Iterator[Finding]:
    """Compares the versions of Python and of packages, and the kinds of CPU."""

    def different(m: dict[str, Any]) -> str:
        pairs = {"python": (m["python"], f.here["python"])}
        pairs |= {name: (m["versions"].get(name), version) for name, version in f.here["versions"].items()}
        return ", ".join(f"{name} {a or 'missing'}, not {b}" for name, (a, b) in pairs.items() if a != b)

    advice = f"install the same constraints.txt on every node, or one container; compared with this: {HERE}"
    yield from _same("FAIL", ((name, different(m)) for name, m in f.nodes.items()), advice)
    types = sorted({m["cpu"] for m in f.machines.values()})
    if len(types) > 1:
        yield Finding(
            "warn", f"CPUs differ: {'; '.join(types)}", "bytes are equal on one type, within 1e-5 on several"
        )
    if f.nodes:
        yield Finding("ok", f"equal on {len(f.nodes)} node(s)")


def torch(f: Facts) -> Iterator[Finding]:
    """Finds GPUs that torch does not see."""

    def blind(m: dict[str, Any], gpus: float) -> str | None:
        if m["torch"]["error"]:
            return m["torch"]["error"]
        there = (
            f"Ray counts {gpus:g} GPU(s)" if gpus else f"{m['hardware'][0]} is there" if m["hardware"] else ""
        )
        if there and len(m["torch"]["devices"]) < max(1, gpus):
            return f"{there}, torch sees {len(m['torch']['devices'])} ({m['torch']['build']} build)"
        return None

    advice = "a torch build for this driver; in a container --nv (NVIDIA) or --rocm (AMD)"
    counted = {name: f.resources.get(name, {}).get("GPU", 0) for name in f.machines}
    yield from _same("FAIL", ((name, blind(m, counted[name])) for name, m in f.machines.items()), advice)
    devices = [d for m in (f.nodes or f.machines).values() for d in m["torch"].get("devices", [])]
    kinds = (
        ", ".join(f"{devices.count(d)} x {d}" for d in sorted(set(devices))) or "no GPU: everything on CPUs"
    )
    build = f.here["torch"].get("build", "none")
    yield Finding("ok", f"{f.here['versions']['torch']}, {build} build, {kinds}")


def collectives(f: Facts) -> Iterator[Finding]:
    """Finds machines whose network gloo or NCCL cannot use."""
    missing = ((name, f"no interface {', '.join(m['missing_interfaces'])}") for name, m in f.machines.items()
               if m["missing_interfaces"])  # fmt: skip
    yield from _same("FAIL", missing, "name one of `ip link` in that variable, before Ray starts")
    yield from _same(
        "FAIL",
        ((name, f"{by}: {error}") for by, sums in f.sums.items() for name, error in sums.items() if error),
        "GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME) = the interface between the nodes, before Ray starts;"
        " no firewall between them",
    )
    lacking = (
        (name, "torch was built without NCCL")
        for name, m in f.machines.items()
        if m["torch"].get("devices") and not m["torch"]["nccl"]
    )
    yield from _same("FAIL", lacking, "a CUDA or ROCm build of torch, or train.device=cpu")
    said = {"gloo": "not tried", "nccl": "not in this build"}
    said |= {"nccl": "there, not tried"} if f.here["torch"].get("nccl") else {}
    said |= {backend: f"a sum over {len(sums)} machine(s)" for backend, sums in f.sums.items() if sums}
    if f.sums:
        yield Finding("ok", f"gloo: {said['gloo']}; NCCL: {said['nccl']}")


def ray(f: Facts) -> Iterator[Finding]:
    """Finds a Ray that does not answer, or whose nodes have died."""
    if f.ray:
        advice = (
            "is it running, is this one of its nodes, are RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH those of its start?"
            if f.address
            else f"more room in {f.session} or a short RAY_TMPDIR, and /dev/shm"
        )
        yield Finding("FAIL", f.ray, advice)
        return
    advice = "end Ray there and start it again; look at its log, and at memory and disk"
    yield from _same("FAIL", f.silent.items(), advice)
    if f.lost:
        yield Finding("warn", f"lost: {', '.join(f.lost)}", "runs go on without them; start Ray there again")
    total = {name: sum(r.get(name, 0) for r in f.resources.values()) for name in ("CPU", "GPU", "memory")}
    sums = f"{total['CPU']:g} CPUs, {total['GPU']:g} GPUs, {total['memory'] / GB:.0f} GB"
    where = f"{f.address}: {len(f.resources)} node(s)" if f.address else "an embedded one starts"
    yield Finding("ok", f"{f.here['versions']['ray']}, {where}: {sums}")


def token(f: Facts) -> Iterator[Finding]:
    """Finds a Ray that whoever reaches it may use."""
    mode, path, bits = f.token
    if bits is not None and bits & 0o077:
        yield Finding(
            "warn", f"{path}: others can read it (mode {bits:o})", f"chmod 600 {path}, and a new token"
        )
    open_ = ((name, "no token is asked for: who reaches Ray's ports runs code as you") for name, m in f.nodes.items()
             if m["auth"] != "token")  # fmt: skip
    yield from _same("warn", open_, "start Ray with RAY_AUTH_MODE=token on every node: launch/ray.sh does")
    if f.nodes:
        yield Finding("ok", f"asked for on {len(f.nodes)} node(s), read from {path or 'RAY_AUTH_TOKEN'}")
    elif not f.address and not f.ray:
        yield Finding(
            "ok", "an embedded Ray has one of its own" if mode == "token" else f"RAY_AUTH_MODE={mode}"
        )


def storage(f: Facts) -> Iterator[Finding]:
    """Finds nodes that cannot write, or do not see what others wrote."""
    shared = (
        "workdir (and store.path) on a file system that every node mounts writable, or store.path=s3://..."
    )
    for place in f.places:
        problems = []
        for machine, places in f.exchange.items():
            for other, error in places[place].items():
                if error:
                    text = "cannot write" if other == "write" else f"does not see what {other} wrote"
                    problems.append((machine, f"{place}: {text}: {error}"))
        yield from _same("FAIL", problems, shared)
        if not problems:
            nodes = [machine for machine in f.exchange if machine != HERE]
            seen = f"and read on another, {len(nodes)} node(s)" if nodes else "and read here"
            yield Finding("ok", f"{place}: written {seen}")


def space(f: Facts) -> Iterator[Finding]:
    """Finds disks and memory with too little room."""
    purposes = {p: ("place", "another workdir or store.path") for p in f.places if "://" not in p}
    purposes |= {
        f.session: ("session", "RAY_TMPDIR on a larger disk"),
        "/dev/shm": ("shm", "a larger /dev/shm"),
    }
    place, size, files = f.need or ("", 0.0, 0)
    for path, (kind, advice) in purposes.items():
        need = max(ROOM[kind] * GB, size if path == place else 0)
        level: Level = "warn" if kind == "shm" else "FAIL"
        problems = [
            (name, _short(path, found, need, files if path == place else 1000))
            for name, m in f.machines.items()
            if (found := m["space"].get(path))
        ]
        yield from _same(level, problems, f"{advice}, or fewer events" if path == place else advice)
    room = ", ".join(
        f"{path} {found[0] / GB:.1f} GB" + ("" if found[2] is None else f" and {found[2]} files")
        for path in purposes
        if (found := f.here["space"].get(path))
    )
    yield Finding(
        "ok",
        f"free, whatever quotas say: {room}"
        + (f"; the dataset needs {size / GB:.2f} GB, {files} files" if f.need else ""),
    )


def memory(f: Facts) -> Iterator[Finding]:
    """Finds a job whose control group grants too little memory for the processes that a Ray here would start."""
    there, cpus = f.here["memory"], f.here["affinity"]
    if not f.address and there < (needed := PROCESS * (cpus + 1)):
        yield Finding(
            "warn",
            f"{there / GB:.2f} GB may be held here, {cpus} CPUs need {needed / GB:.2f}",
            "more memory for the job, or fewer cluster.cpus",
        )
    yield Finding("ok", f"{there / GB:.1f} GB may be held here")


def _short(path: str, found: tuple[int, int, int | None], need: float, files: int) -> str | None:
    if found[0] < need:
        return f"{path}: {found[0] / GB:.2f} GB free, {need / GB:.2f} needed"
    if found[2] is not None and found[2] < files:
        return f"{path}: {found[2]} files and directories free, {files} needed (a larger store.shard_mb makes fewer)"
    return None


def ports(f: Facts) -> Iterator[Finding]:
    """Finds machines that cannot be reached, and limits on open files that are too low."""
    calls = ((name, f"cannot connect to this machine: {error}") for name, error in f.calls.items() if error)
    yield from _same("FAIL", calls, "no firewall between the nodes: Ray and gloo use ports of every number")
    few = (
        (name, f"{m['files']} open files allowed")
        for name, m in f.machines.items()
        if m["files"] < OPEN_FILES
    )
    yield from _same("warn", few, "ulimit -n 65536 before Ray starts: it needs one per connection")
    if f.taken:
        taken = ", ".join(map(str, f.taken))
        yield Finding("warn", f"{taken} taken here", "another Ray? start a head of yours with other numbers")
    if f.calls:
        yield Finding("ok", f"connections from {len(f.calls)} machine(s) to this one")


def threads(f: Facts) -> Iterator[Finding]:
    """Finds more threads than CPUs."""

    def beyond(m: dict[str, Any], offered: float) -> str | None:
        granted = min(m["affinity"], m["quota"] or m["affinity"])
        wanted = max(offered, int(m["threads"]) if m["threads"].isdecimal() else 0)
        if wanted > granted:
            return f"{granted:g} CPUs may be used, Ray offers {offered:g}, OMP_NUM_THREADS={m['threads'] or 'unset'}"
        return None

    offers = {name: f.resources.get(name, {}).get("CPU", 0) for name in f.machines}
    advice = "ray start --num-cpus with no more than the affinity, and OMP_NUM_THREADS no larger"
    yield from _same("warn", ((name, beyond(m, offers[name])) for name, m in f.machines.items()), advice)
    machines = f.nodes or f.machines
    yield Finding(
        "ok",
        f"{sum(m['affinity'] for m in machines.values())} CPUs may be used on {len(machines)} machine(s)",
    )


def clocks(f: Facts) -> Iterator[Finding]:
    """Finds clocks that go too differently for drivers to tell who is alive."""
    for name, (offset, error) in f.offsets.items():
        off = max(0.0, abs(offset) - error)
        level = next((level for level, most in SKEW.items() if off > most), None)
        if level:
            text = f"{name}: {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} this one"
            yield Finding(
                level, text, "chronyd or ntpd there: drivers tell by the clock whether another is alive"
            )
    if f.offsets:
        worst = max(abs(offset) for offset, _ in f.offsets.values())
        yield Finding("ok", f"within {worst:.3f} s of this one, {len(f.offsets)} node(s)")


def experiment(f: Facts) -> Iterator[Finding]:
    """Says what the stage itself would refuse, and what it would run on."""
    for text in f.refusals:
        yield Finding("FAIL", text, "the stage would say the same")
    yield from f.devices


CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "Python": python,
    "torch": torch,
    "Ray": ray,
    "token": token,
    "versions": versions,
    "storage": storage,
    "space": space,
    "memory": memory,
    "gloo, NCCL": collectives,
    "ports": ports,
    "threads": threads,
    "clocks": clocks,
    "config": experiment,
}


def judge(facts: Facts) -> list[tuple[str, Finding]]:
    """All findings by check; an `ok` only where the check found no problem, unless there is more to tell."""
    found = []
    for name, check in CHECKS.items():
        findings = list(check(facts))
        problems = [finding for finding in findings if finding.level != "ok"]
        found += [(name, finding) for finding in problems or findings]
    return found
