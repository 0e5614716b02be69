"""What is known of a `watch` that runs: counters for Prometheus, whether it is well, and a page to look at.

    http://127.0.0.1:PORT/metrics    in Prometheus' text format
    http://127.0.0.1:PORT/healthz    200 and JSON; 503 where it waits for disk or source, or did nothing for a while
    http://127.0.0.1:PORT/           a page, see page.py

The loop writes numbers, a thread answers: a page that hangs delays no frame.
"""

import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from glitchflow.online import page, past
from glitchflow.online.drift import Outside
from glitchflow.online.hours import Log
from glitchflow.online.line import CLEANED, NOTHING, PASSED, SCIENCE, STATE_RATE, Cleaned, Memory
from glitchflow.online.past import Past
from glitchflow.online.source import SILENT, Inbox
from glitchflow.progress import say
from glitchflow.twin import guard
from glitchflow.twin.front import Front
from glitchflow.twin.step import Stepper

HOST = "127.0.0.1"  # who may look from elsewhere is for a proxy to say
BUCKETS = (0.25, 0.5, 1, 1.25, 1.5, 2, 3, 5, 10, 20, 60)  # s
WORDS = {"science": SCIENCE, "cleaned": CLEANED, "passed through": PASSED, "no data": NOTHING}
STATES = {"science": SCIENCE, "cleaned": CLEANED, "passed": PASSED, "nothing": NOTHING}


@dataclass
class Monitor:
    """Counts what comes out. Without a port nobody looks, and it costs microseconds."""

    strain: str = ""  # while its twin is not opened yet
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    turned: float = field(default_factory=time.monotonic)  # when the loop turned last
    disk: str = ""  # what it waits for
    source: str = ""  # why nothing comes
    second: int = 0  # that came out last
    twin: int = 0  # that is asked, as in NAME_TWIN
    past: Past = field(default_factory=Past)
    pictures: page.Pictures = field(default_factory=page.Pictures)
    front: Front | None = None  # of the twin that is asked
    outside: tuple[str, ...] = ()  # witnesses that left what the twin was trained on
    now: tuple[tuple[str, str], ...] = ()  # what the page says of the last second, and its value

    def __post_init__(self) -> None:
        """Make what is counted."""
        to = self.registry
        self.seconds = Counter(
            "glitchflow_seconds", "Seconds that came out, by state", ["state"], registry=to
        )
        self.silent = Counter("glitchflow_silent", "Seconds without a witness", ["witness"], registry=to)
        text = "Seconds in which a band was passed through, as it would have become louder"
        self.passed = Counter("glitchflow_passed", text, ["band"], registry=to)
        text = "Seconds in which witnesses alone heard a burst, which was not removed"
        self.alone = Counter("glitchflow_alone", text, registry=to)
        text = "Seconds from the last file of a second to its frame"
        self.latency = Histogram("glitchflow_latency", text, buckets=BUCKETS, registry=to)
        text = "What removal makes of the last minute's power, passed bands too"
        self.left = Gauge("glitchflow_power_left", text, ["band"], registry=to)
        text = "Rms of the white strain in the last minute, 1 in quiet time, as recorded and cleaned"
        self.rms = Gauge("glitchflow_rms", text, ["strain"], registry=to)
        text = "Power left of all bands, by the twin that runs in shadow"
        self.shadow = Gauge("glitchflow_shadow_left", text, registry=to)
        text = "Seconds in which a witness was out of the range that the twin was trained on"
        self.drift = Counter("glitchflow_drifted", text, ["witness"], registry=to)
        self.backlog = Gauge("glitchflow_backlog", "Seconds that are there and did not come out", registry=to)
        self.late = Gauge("glitchflow_late", "Files that came when their time was over", registry=to)
        self.damaged = Gauge("glitchflow_damaged", "Files that were given up", registry=to)

    def note(
        self, inbox: Inbox, memory: Memory, log: Log, found: list[Cleaned], steps: Stepper, now: float
    ) -> None:
        """Count the seconds that came out; `now` in monotonic s."""
        newest = max((piece.stop for piece in inbox.seen), default=memory.written)
        backlog = max(0, newest - memory.written)
        for one in found:
            for name, bit in STATES.items():
                self.seconds.labels(name).inc(float((one.state & bit > 0).sum() / STATE_RATE))
            for name in one.silent:
                self.silent.labels(name).inc()
            for low, high in one.passed:
                self.passed.labels(_band(low, high)).inc()
            self.alone.inc(one.alone)
            if one.gps in inbox.came:
                self.latency.observe(late := now - inbox.came[one.gps])
                past.late(self.past, one.gps, late, backlog)
        for gps in [gps for gps in inbox.came if gps < memory.written]:
            del inbox.came[gps]
        self._heard(memory, steps)
        if over := past.note(self.past, steps, memory, log, found):
            self.rms.labels("recorded").set(over.recorded)
            self.rms.labels("cleaned").set(over.cleaned)
        self.backlog.set(backlog)
        self.late.set(inbox.late)
        self.damaged.set(inbox.damaged)
        self.second, self.front, self.now = memory.written - 1, steps.front, self._told(found[-1], backlog)

    def drifted(self, outside: Mapping[str, Outside], seconds: int) -> None:
        """Count the witnesses that are out of their range now."""
        self.outside = tuple(f"{name}: {one}" for name, one in outside.items())
        for name in outside:
            self.drift.labels(name).inc(seconds)

    def _heard(self, memory: Memory, steps: Stepper) -> None:
        """What removal makes of the last minute."""
        limits = guard.edges(steps.front.band).tolist()
        before, after = memory.state.heard.sum(axis=0)
        for low, high, a, b in zip(limits[:-1], limits[1:], before.tolist(), after.tolist()):
            self.left.labels(_band(low, high)).set(b / a if a else 1)

    def _told(self, one: Cleaned, backlog: float) -> tuple[tuple[str, str], ...]:
        """What the page says of the last second."""
        late = self.past.late[-1].latency if self.past.late else math.nan
        flags = [name for name, bit in WORDS.items() if (one.state & bit).any()]
        return (
            ("Second that came out last, GPS s", str(one.gps)),
            ("The same in UTC", page.utc(one.gps)),
            ("Its states", ", ".join(flags)),
            ("Twin that was asked, as in NAME_TWIN", str(self.twin)),
            ("Latency: from its last file to its frame, s", f"{late:.2f}"),
            ("Backlog: seconds that are there and did not come out", f"{backlog:g}"),
            ("Witnesses that were not heard", ", ".join(one.silent) or "none"),
            ("Witnesses unlike what the twin was trained on", "; ".join(self.outside) or "none"),
            ("Bands that were passed through", ", ".join(_band(*span) for span in one.passed) or "none"),
        )

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Say whether it is well, and what there is to say."""
        idle = time.monotonic() - self.turned
        well = not self.disk and not self.source and idle < SILENT
        told = {"second": self.second, "idle": round(idle, 1), "disk": self.disk, "source": self.source}
        return well, {"well": well, **told}

    def page(self) -> bytes:
        """Return the page."""
        well, told = self.health()
        rows = []
        for family in self.registry.collect():
            for sample in family.samples:
                if not sample.name.endswith(("_created", "_bucket")):
                    of = [
                        *sample.labels.values(),
                        *[sample.name.rpartition("_")[2]] * (family.type == "histogram"),
                    ]
                    name = ": ".join([family.documentation, *([" ".join(of)] if of else [])])
                    rows.append((name, f"{sample.value:.6g}"))
        wrong = "" if well else told["disk"] or told["source"] or f"nothing happened for {told['idle']} s"
        return page.page(self.strain, wrong, self.now, self.past, rows).encode()

    def hour(self, dark: bool = False) -> bytes | None:
        """Draw the last hour; None before anything came out."""
        name = f"hour {self.second // page.ANEW} {dark}"
        return self.pictures.get(name, lambda: page.hour(self.past, dark)) if self.second else None

    def glitch(self, peak: str, dark: bool = False) -> bytes | None:
        """Draw one of the last glitches, by its peak in GPS s; None where it is none of them."""
        found, front = [one for one in self.past.glitches if f"{one.veto.peak:.5f}" == peak], self.front
        if not found or front is None:
            return None
        return self.pictures.get(f"glitch {peak} {dark}", lambda: page.glitch(found[0], front, dark))


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
            path, _, asked = self.path.partition("?")
            asked, _, tone = asked.partition("&")
            well, told = monitor.health()
            answers = {
                "/": ("text/html; charset=utf-8", monitor.page),
                "/hour.png": ("image/png", lambda: monitor.hour(tone == "dark")),
                "/glitch.png": ("image/png", lambda: monitor.glitch(asked, tone == "dark")),
                "/metrics": (CONTENT_TYPE_LATEST, lambda: generate_latest(monitor.registry)),
                "/healthz": ("application/json", lambda: json.dumps(told).encode()),
            }
            kind, made = answers.get(path, ("", lambda: None))
            content = made()
            status = 404 if content is None else 503 if path == "/healthz" and not well else 200
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if content is None else kind)
            content = content or b"not here\n"
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
    say(f"http://{HOST}:{port}/ is its page")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
