"""What is known of a `watch` that runs: counters for Prometheus, whether it is well, and a page to look at.

    http://127.0.0.1:PORT/metrics    in Prometheus' text format
    http://127.0.0.1:PORT/healthz    200 and JSON; 503 where it waits for a disk, or did nothing for a while
    http://127.0.0.1:PORT/           the same in words, anew every five seconds

The loop writes numbers, a thread answers: a page that hangs delays no frame.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from glitchflow.errors import RunError
from glitchflow.online.line import CLEANED, NOTHING, PASSED, SCIENCE, STATE_RATE, Cleaned, Memory
from glitchflow.online.source import Inbox
from glitchflow.twin import guard

HOST = "127.0.0.1"  # who may look from elsewhere is for a proxy to say
SILENT = 30.0  # s without a turn of the loop after which it is not well
BUCKETS = (0.25, 0.5, 1, 1.25, 1.5, 2, 3, 5, 10, 20, 60)  # s
STATES = {"science": SCIENCE, "cleaned": CLEANED, "passed": PASSED, "nothing": NOTHING}
PAGE = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>{title}</title>
<style>body{{font:16px sans-serif;margin:2em}}td{{padding:.2em 1.5em .2em 0}}</style><h1>{title}</h1>
<p>{well}</p><table>{rows}</table><p><a href="metrics">metrics</a> <a href="healthz">healthz</a></p>
"""


@dataclass
class Monitor:
    """Counts what comes out. Without a port nobody looks, and it costs microseconds."""

    strain: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    turned: float = field(default_factory=time.monotonic)  # when the loop turned last
    disk: str = ""  # what it waits for
    second: int = 0  # that came out last

    def __post_init__(self) -> None:
        """Make what is counted."""
        to = self.registry
        self.seconds = Counter(
            "glitchflow_seconds", "Seconds that came out, by state", ["state"], registry=to
        )
        self.silent = Counter("glitchflow_silent", "Seconds without a witness", ["witness"], registry=to)
        text = "Seconds in which a band was passed through, as it would have become louder"
        self.passed = Counter("glitchflow_passed", text, ["band"], registry=to)
        text = "Seconds from the last file of a second to its frame"
        self.latency = Histogram("glitchflow_latency", text, buckets=BUCKETS, registry=to)
        text = "What removal makes of the last minute's power, passed bands too"
        self.left = Gauge("glitchflow_power_left", text, ["band"], registry=to)
        text = "The same of all bands, by the twin that runs in shadow"
        self.shadow = Gauge("glitchflow_shadow_left", text, registry=to)
        self.backlog = Gauge("glitchflow_backlog", "Seconds that are there and did not come out", registry=to)
        self.late = Gauge("glitchflow_late", "Files that came when their time was over", registry=to)
        self.damaged = Gauge("glitchflow_damaged", "Files that were given up", registry=to)

    def note(
        self, inbox: Inbox, memory: Memory, found: list[Cleaned], band: tuple[float, float], now: float
    ) -> None:
        """Count seconds that came out at monotonic time `now`. band: of the twin, in Hz."""
        for one in found:
            for name, bit in STATES.items():
                self.seconds.labels(name).inc(int(((one.state & bit) > 0).sum()) / STATE_RATE)
            for name in one.silent:
                self.silent.labels(name).inc()
            for low, high in one.passed:
                self.passed.labels(_band(low, high)).inc()
            if one.gps in inbox.came:
                self.latency.observe(now - inbox.came[one.gps])
        for gps in [gps for gps in inbox.came if gps < memory.written]:
            del inbox.came[gps]
        limits = guard.edges(band).tolist()
        before, after = memory.state.heard.sum(axis=0)
        for low, high, a, b in zip(limits[:-1], limits[1:], before.tolist(), after.tolist()):
            self.left.labels(_band(low, high)).set(b / a if a else 1)
        newest = max((piece.stop for piece in inbox.seen), default=memory.written)
        self.backlog.set(max(0, newest - memory.written))
        self.late.set(inbox.late)
        self.damaged.set(inbox.damaged)
        self.second = memory.written - 1

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Say whether it is well, and what there is to say."""
        idle = time.monotonic() - self.turned
        well = not self.disk and idle < SILENT
        return well, {"well": well, "second": self.second, "idle": round(idle, 1), "disk": self.disk}

    def page(self) -> str:
        """Return the page."""
        well, told = self.health()
        rows = [("Second that came out last, GPS s", str(told["second"]))]
        for family in self.registry.collect():
            for sample in family.samples:
                if not sample.name.endswith(("_created", "_bucket")):
                    of = [
                        *sample.labels.values(),
                        *[sample.name.rpartition("_")[2]] * (family.type == "histogram"),
                    ]
                    name = ": ".join([family.documentation, *([" ".join(of)] if of else [])])
                    rows.append((name, f"{sample.value:.6g}"))
        table = "".join(f"<tr><td>{escape(name)}</td><td>{value}</td></tr>" for name, value in rows)
        words = "well" if well else told["disk"] or f"nothing happened for {told['idle']} s"
        return PAGE.format(title=escape(f"{self.strain} online"), well=escape(words), rows=table)


def _band(low: float, high: float) -> str:
    return f"{low:.3g}-{high:.3g} Hz"


@contextmanager
def served(monitor: Monitor, port: int) -> Iterator[None]:
    """Answer on a port of this machine's loopback; 0: nobody does. Raises `RunError` where the port is taken."""
    if not port:
        yield
        return

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            well, told = monitor.health()
            answers = {
                "/": (200, "text/html; charset=utf-8", lambda: monitor.page().encode()),
                "/metrics": (200, CONTENT_TYPE_LATEST, lambda: generate_latest(monitor.registry)),
                "/healthz": (200 if well else 503, "application/json", lambda: json.dumps(told).encode()),
            }
            status, kind, made = answers.get(self.path, (404, "text/plain", lambda: b"not here\n"))
            content = made()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing: a line for each look is no news."""

    try:
        server = ThreadingHTTPServer((HOST, port), Answer)
    except OSError as error:
        raise RunError(f"online.port = {port}: cannot be listened on: {error.strerror}") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
