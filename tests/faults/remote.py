"""Object stores that refuse, fail, go away or are slow: a proxy before a real S3 endpoint, on loopback."""

import contextlib
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from faults.cases import changed
from faults.interruptions import essence
from obstore.store import from_url

# what S3 says, by status; every further request meets the same
ANSWERS = {
    "403": ("AccessDenied", "Access Denied"),
    "404": ("NoSuchBucket", "The specified bucket does not exist"),
    "500": ("InternalError", "We encountered an internal error. Please try again."),
    "503": ("SlowDown", "Please reduce your request rate."),
}
FAULTS = (*ANSWERS, "reset", "slow")
SLOW = 0.02  # s for each request
PATIENCE = 400.0  # s; a request that fails is repeated for three minutes
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


class Proxy(ThreadingHTTPServer):
    """Hands requests on to an endpoint, so many of them; then the fault begins."""

    daemon_threads = True

    def __init__(self, endpoint: str):
        super().__init__(("127.0.0.1", 0), Request)
        self.behind, self.lock = urlsplit(endpoint).netloc, threading.Lock()
        self.seen, self.fault, self.after = 0, "", 0

    def now(self, fault: str, after: int) -> None:
        self.seen, self.fault, self.after = 0, fault, after


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def answer(self) -> None:
        server = self.server
        with server.lock:
            server.seen += 1
            fault = server.fault if server.seen > server.after else ""
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
        if fault == "slow":
            time.sleep(SLOW)
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
    """Within the block S3's endpoint is behind a proxy."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    proxy = Proxy(endpoint)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.server_port}"
    try:
        yield proxy
    finally:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        proxy.shutdown()
        proxy.server_close()


def fetched(url: str, into: Path) -> Path:
    """A copy of a store, as files."""
    store = from_url(url)
    for entry in [entry for entries in obstore.list(store) for entry in entries]:
        path = into / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(obstore.get(store, entry["path"]).bytes()))
    return into


@dataclass(frozen=True)
class Whole:
    """A store in the bucket that nobody disturbed, a copy of it, and the requests that each command makes."""

    url: str
    copy: Path
    requests: dict[str, int]


def words(stage: str, config: Path, url: str, workdir: Path) -> tuple[str, ...]:
    if stage == "inspect":
        return stage, url, "--verify"
    return stage, str(config), f"store.path={url}", f"workdir={workdir}"


def undisturbed(config: Path, bucket: str, directory: Path) -> Whole:
    """Make that store."""
    url, requests = f"{bucket}/undisturbed/dataset.zarr", {}
    with proxied() as proxy:
        for stage in ("generate", "inspect"):
            proxy.now("", 0)
            done = given(words(stage, config, url, directory))
            assert done.returncode == 0, done.stderr
            requests[stage] = proxy.seen
    return Whole(url, fetched(url, directory / "copy" / "dataset.zarr").parent, requests)


def given(line: tuple[str, ...]) -> subprocess.CompletedProcess:
    """The command in a process of its own, which with its end lets go of what it could not give back."""
    program = [sys.executable, "-c", "from glitchflow.cli import main; main()", *line]
    return subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE)


def judge(case: Remote, config: Path, whole: Whole, directory: Path) -> str:
    """What is wrong with how a command meets an object store that fails; empty where nothing is.

    It ends with status 1 or 2 and a line that names the store, or where the store is slow alone with 0; the same
    command, given again when the store is well, ends with 0, and the store is that of a run that nobody disturbed.
    """
    url = whole.url
    if case.stage == "generate":
        url = url.replace("undisturbed", f"{case.fault}-{case.share}")
    line = words(case.stage, config, url, directory)
    with proxied() as proxy:
        proxy.now(case.fault, int(case.share * whole.requests[case.stage]))
        done = given(line)
    last = (done.stderr.splitlines() or [""])[-1]
    if case.fault == "slow":
        if done.returncode:
            return f"status {done.returncode}: {done.stderr[-800:]}"
    elif done.returncode not in (1, 2) or "Traceback" in done.stderr or not last.startswith("glitchflow: "):
        return f"status {done.returncode}, no line of ours: {done.stderr[-800:]}"
    elif urlsplit(url).path.strip("/") not in last:
        return f"the store is not named: {last}"
    done = given(line)
    if done.returncode:
        return f"again: {done.stderr}"
    return changed(essence(whole.copy), essence(fetched(url, directory / "after" / "dataset.zarr").parent))
