"""Object stores that refuse, fail, go away or are slow: a proxy before a real S3 endpoint, on loopback."""

import contextlib
import http.client
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from faults.cases import changed
from faults.interruptions import GIVEN, MORE, copy, essence
from obstore.store import from_url

# what S3 says, by status; every further request meets the same
ANSWERS = {
    "403": ("AccessDenied", "Access Denied"),
    "404": ("NoSuchBucket", "The specified bucket does not exist"),
    "500": ("InternalError", "We encountered an internal error. Please try again."),
    "503": ("SlowDown", "Please reduce your request rate."),
}
FAULTS = (*ANSWERS, "reset", "slow")
SLOW, TENTH = 0.02, 2.0  # s for each request, and for each tenth
PATIENCE = 400.0  # s; a request that fails is repeated for up to a minute
# the stages that read a store which they do not write
READING = ("scan", "train", "infer", "evaluate", "report")
SOME, LATE = 0.01, 1.0  # of `some`: the share of requests that fail, and of those that are late, by so many s
KEPT = ("content-type", "content-length", "etag", "last-modified", "content-range", "accept-ranges")


@dataclass(frozen=True)
class Remote:
    """A command, what the object store does to it, and after how many requests: a share of all that it makes."""

    stage: str
    fault: str
    share: float

    @property
    def name(self) -> str:
        return f"{self.stage}: {self.fault} after {self.share:.0%} of the requests"


REMOTE = [
    Remote(stage, fault, share)
    for stage in ("generate", "inspect")
    for fault in FAULTS
    for share in (0.0, 0.5)
]
# those whose tasks and workers read it: 404 and 503 are met as 403 and 500 are
REMOTE += [
    Remote(stage, fault, share)
    for stage in READING
    for fault in ("403", "500", "reset", "slow")
    for share in (0.0, 0.5)
]


class Proxy(ThreadingHTTPServer):
    """Hands requests on to an endpoint, so many of them; then the fault begins."""

    daemon_threads = True

    def __init__(self, endpoint: str):
        super().__init__(("127.0.0.1", 0), Request)
        self.behind, self.lock = urlsplit(endpoint).netloc, threading.Lock()
        self.now("", 0)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def now(self, fault: str, after: int) -> None:
        self.seen, self.fault, self.after = 0, fault, after
        self.drawn, self.random = Counter[str](), random.Random(7)

    def draw(self) -> str:
        """What meets one request of `some`: by a seed, and by how many there were before."""
        drawn = self.random.random()
        fault = "503" if drawn < SOME else "late" if drawn < 2 * SOME else ""
        self.drawn[fault] += 1
        return fault


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def answer(self) -> None:
        server = self.server
        with server.lock:
            server.seen += 1
            tenth = server.seen % 10 == 0
            fault = server.fault if server.seen > server.after else ""
            if fault == "some":
                fault = server.draw()
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)  # close() sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.close_connection = True
            return
        if fault in ANSWERS:
            code, words = ANSWERS[fault]
            text = (
                f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()
            )
            self.send(int(fault), {"content-type": "application/xml", "content-length": str(len(text))}, text)
            return
        if fault in ("slow", "late"):
            time.sleep(LATE if fault == "late" else TENTH if tenth else SLOW)
        behind = http.client.HTTPConnection(server.behind)
        behind.request(self.command, self.path, body, dict(self.headers))
        answer = behind.getresponse()
        content = answer.read()
        headers = {name: value for name, value in answer.getheaders() if name.lower() in KEPT}
        self.send(answer.status, {"content-length": str(len(content))} | headers, content)
        behind.close()

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer

    def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {name.lower(): value for name, value in headers.items()}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Nothing on the screen."""


@contextlib.contextmanager
def proxied() -> Iterator[Proxy]:
    """S3's endpoint behind a proxy, for the length of the block."""
    proxy = Proxy(os.environ["AWS_ENDPOINT_URL"])
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()


@dataclass(frozen=True)
class Behind:
    """S3's endpoint behind a proxy: commands are given in this environment."""

    proxy: Proxy
    environment: dict[str, str]

    def given(self, line: tuple[str, ...], place: Path) -> subprocess.CompletedProcess:
        """The command in a process of its own, which with its end lets go of what it could not give back."""
        program = [sys.executable, "-c", "from glitchflow.cli import main; main()", *line]
        own = self.environment
        return subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, cwd=place, env=own)


@contextlib.contextmanager
def behind() -> Iterator[Behind]:
    """It, for the length of the block; each command starts a Ray of its own, whose workers find the proxy too."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with proxied() as proxy:
        yield Behind(proxy, own | {"AWS_ENDPOINT_URL": proxy.url})


def stored(directory: Path, url: str) -> None:
    """Put a store into a bucket."""
    store = from_url(url)
    for path in [path for path in directory.rglob("*") if path.is_file()]:
        obstore.put(store, str(path.relative_to(directory)), path.read_bytes())


def fetched(url: str, into: Path) -> None:
    """Copy a store, as files."""
    store = from_url(url)
    for entry in [entry for entries in obstore.list(store) for entry in entries]:
        path = into / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(obstore.get(store, entry["path"]).bytes()))


@dataclass(frozen=True)
class Whole:
    """A store in the bucket, the place of a command that nobody disturbed with a copy of it, and its requests."""

    url: str
    place: Path
    requests: int


def begin(stage: str, places: dict[str, Path], place: Path) -> None:
    """A place with what the command is given, but for the store."""
    if stage in READING:
        copy(stage, places, place)
        shutil.rmtree(place / "dataset.zarr")
    else:
        place.mkdir()
        shutil.copy(places["whole"] / "config.yaml", place)


def words(stage: str, url: str) -> tuple[str, ...]:
    if stage == "inspect":
        return stage, url, "--verify"
    rest = (*GIVEN[stage][2], "cluster.cpus=1", "train.restarts=0") if stage in READING else ()
    return stage, "config.yaml", f"store.path={url}", *rest


def undisturbed(stage: str, places: dict[str, Path], there: Behind, url: str, place: Path) -> Whole:
    """What the command leaves; generate makes the store, the others find it."""
    begin(stage, places, place)
    there.proxy.now("", 0)
    done = there.given(words(stage, url), place)
    assert done.returncode == 0, done.stderr
    requests = there.proxy.seen
    fetched(url, place / "dataset.zarr")
    return Whole(url, place, requests)


def judge(case: Remote, places: dict[str, Path], there: Behind, whole: Whole, place: Path) -> str:
    """What is wrong with how a command meets an object store that fails; empty where nothing is.

    It ends with status 1 or 2 and a line that names the store, or where the store is slow alone with 0; the same
    command, given again when the store is well, ends with 0, and the store and the place are those of a run that
    nobody disturbed.
    """
    url = whole.url
    if case.stage == "generate":
        url = url.replace("undisturbed", f"{case.fault}-{case.share}")
    begin(case.stage, places, place)
    line = words(case.stage, url)
    there.proxy.now(case.fault, int(case.share * whole.requests))
    done = there.given(line, place)
    there.proxy.now("", 0)
    last = (done.stderr.splitlines() or [""])[-1]
    if case.fault == "slow":
        if done.returncode:
            return f"status {done.returncode}: {done.stderr[-800:]}"
    elif done.returncode not in (1, 2) or "Traceback" in done.stderr or not last.startswith("glitchflow: "):
        return f"status {done.returncode}, no line of ours: {done.stderr[-800:]}"
    elif urlsplit(url).path.strip("/") not in last:
        return f"the store is not named: {last}"
    done = there.given(line, place)
    if done.returncode:
        return f"again: {done.stderr}"
    fetched(url, place / "dataset.zarr")
    after, end = essence(place), essence(whole.place)
    return changed(
        end, {name: value for name, value in after.items() if name in end or not MORE.search(name)}
    )
