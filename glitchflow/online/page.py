"""The page about a `watch` that runs: what is going on now, the last hour, the last glitches before and after.

    /              words and numbers, anew every ten seconds
    /hour.png      the last hour
    /glitch.png    one of the last glitches, by the GPS time of its peak: /glitch.png?1400000000.03125

Each is there in the dark page's colours too: /hour.png?1400000000&dark, whatever the number.

Pictures are drawn by the thread that answers, when they are asked for, and kept: a glitch is drawn once, an hour
every ten seconds at most, however many look.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from glitchflow.figures import save
from glitchflow.online.hours import FLAGS, HOUR, VETO, Veto
from glitchflow.online.past import SHOWN, Glitch, Past, states, vetoes, white
from glitchflow.online.replay import GPS_EPOCH, LEAP
from glitchflow.signal.qtransform import QTransform
from glitchflow.twin.front import Front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANEW = 10  # s between two pictures of the hour
LISTED = 20  # vetoes
Q, SHAPE = 12.0, (96, 192)  # of the Q-plots: rows of frequency, columns of time
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>{title}</title>
<style>
:root{{color-scheme:light dark;--ink:#000;--back:#fff;--soft:#444;--well:#dff0e0;--unwell:#f6d5d5}}
@media(prefers-color-scheme:dark){{
 :root{{--ink:#e3e6ea;--back:#14171b;--soft:#b5bcc4;--well:#1d3a24;--unwell:#552222}}
}}
body{{font:16px/1.4 sans-serif;margin:2em auto;max-width:62em;padding:0 1em;color:var(--ink);background:var(--back)}}
a{{color:inherit}} table{{border-collapse:collapse}}
td,th{{padding:.2em 1.5em .2em 0;text-align:left;vertical-align:top;font-weight:normal}}
td.n,th.n{{text-align:right;font-variant-numeric:tabular-nums}} th.n{{font-weight:bold}}
img{{max-width:100%;height:auto}} .wide{{overflow-x:auto}}
.well{{background:var(--well)}} .unwell{{background:var(--unwell)}} .well,.unwell{{padding:.5em 1em}}
figure{{margin:1em 0}} figcaption,footer{{color:var(--soft)}}
</style>
<main>
<h1>{title}</h1>
<p class="{how}" role="status">{state}</p>
<table>{now}</table>
<h2>The last hour</h2>
{hour}
<h2>The last glitches</h2>
{glitches}
<h2>Since it began</h2>
<table>{counted}</table>
</main>
<footer><p><label><input type="checkbox" id="anew" checked> anew every {anew} s</label></p>
<p><a href="metrics">metrics</a>, <a href="healthz">healthz</a></p></footer>
<script>
setInterval(async () => {{ // in place, so that who reads or tabs stays where he is
  if (!document.getElementById("anew").checked) return;
  try {{
    const found = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    document.querySelector("main").replaceWith(found.querySelector("main"));
  }} catch {{
    const state = document.querySelector("[role=status]");
    const words = `no answer since ${{new Date().toISOString()}}`;
    if (!state.dataset.gone) Object.assign(state, {{ className: "unwell", textContent: words }});
    state.dataset.gone = "gone";
  }}
}}, {anew} * 1000);
</script></html>
"""


@dataclass
class Pictures:
    """Keeps what was drawn, as PNG by name, for all threads that answer."""

    drawn: dict[str, bytes] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, name: str, draw: Callable[[], bytes]) -> bytes:
        """Draw what is not drawn yet; of what is kept the oldest goes."""
        with self.lock:
            if name not in self.drawn:
                self.drawn[name] = draw()
            while len(self.drawn) > 2 * SHOWN:
                del self.drawn[next(iter(self.drawn))]
            return self.drawn[name]


def page(
    strain: str,
    wrong: str,
    now: Sequence[tuple[str, str]],
    past: Past,
    counted: Sequence[tuple[str, str]],
) -> str:
    """Return the page. wrong: why it is not well; empty: it is. now, counted: what a row says, and its value."""
    last = past.seconds[-1].gps if past.seconds else 0
    alt = "rms of the strain, states, latency and backlog of the last hour"
    picture = _picture(f"hour.png?{last // ANEW}", alt) if last else "<p>Nothing came out yet.</p>"
    return PAGE.format(
        anew=ANEW,
        title=escape(f"{strain} online".strip()),
        how="unwell" if wrong else "well",
        state=escape(wrong or "well"),
        now=_rows(now),
        hour=picture,
        glitches=_glitches(past),
        counted=_rows(counted),
    )


def _picture(source: str, alt: str) -> str:
    """A picture as the page is, light or dark."""
    dark = f'<source srcset="{source}&amp;dark" media="(prefers-color-scheme: dark)">'
    return f'<picture>{dark}<img src="{source}" alt="{alt}"></picture>'


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    return "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="n">{escape(value)}</td></tr>'
        for name, value in rows
    )


def _glitches(past: Past) -> str:
    """A table of the last vetoes, and pictures of those that were seen whole, the newest first."""
    listed = vetoes(past.log)[: -LISTED - 1 : -1]
    if not listed:
        return "<p>None in this hour and the one before.</p>"
    heads = (
        "peak, GPS s",
        "UTC",
        "length, s",
        "SNR",
        "loudest 1/16 s, SNR",
        "p(glitch)",
        "taken out",
    )
    head = "".join(f'<th scope="col" class="n">{escape(one)}</th>' for one in heads)
    lines = "".join(
        "<tr>" + "".join(f'<td class="n">{escape(value)}</td>' for value in _told(one)) + "</tr>"
        for one in listed
    )
    shown = "".join(
        f"<figure>{_picture(f'glitch.png?{one.veto.peak:.5f}', 'Q-plots, recorded and cleaned')}"
        f"<figcaption>{escape(words(one.veto))}</figcaption></figure>"
        for one in reversed(past.glitches)
    )
    return f'<div class="wide" tabindex="0"><table><tr>{head}</tr>{lines}</table></div>{shown}'


def _told(veto: Veto) -> tuple[str, ...]:
    p = "not calibrated" if veto.p is None else f"{veto.p:.3f}"
    return (
        f"{veto.peak:.3f}",
        utc(veto.peak),
        f"{veto.stop - veto.start:.3f}",
        f"{veto.snr:.1f}",
        f"{veto.loudest:.1f}",
        p,
        "yes" if veto.cleaned else "no",
    )


def words(veto: Veto) -> str:
    """Say what a veto is."""
    p = "" if veto.p is None else f", p(glitch) {veto.p:.3f}"
    taken = "taken out" if veto.cleaned else "not taken out from begin to end"
    return f"GPS {veto.peak:.3f}: SNR {veto.snr:.1f}{p}, {taken}"


def utc(gps: float) -> str:
    """Return the UTC of a GPS time, to the second."""
    return f"{datetime.fromtimestamp(int(gps) + GPS_EPOCH - LEAP, UTC):%Y-%m-%d %H:%M:%S}"


# -- pictures --------------------------------------------------------------------------------------------------------


def hour(past: Past, dark: bool = False) -> bytes:
    """Draw the last hour, as PNG."""
    from glitchflow.figures import online as figures  # matplotlib takes a second, which no frame waits for

    now = past.seconds[-1].gps + 1 if past.seconds else 0
    minutes = [(one.end, one.recorded, one.cleaned) for one in past.minutes]
    late = [(one.gps, one.latency, one.backlog) for one in past.late if one.gps > now - HOUR]
    spans = states(past.log, [*FLAGS, VETO], now - HOUR)
    return _png(figures.hour(now, minutes, spans, late), dark)


def glitch(one: Glitch, front: Front, dark: bool = False) -> bytes:
    """Draw a glitch as it was recorded and as it came out, as PNG."""
    from glitchflow.figures import online as figures

    series, begin = white(one, front), one.seconds[0].gps
    lead, half = one.veto.peak - begin, len(one.seconds) / 5
    engine = QTransform(
        len(one.seconds),
        front.rate,
        q=Q,
        frange=front.band,
        outseg=(lead - half, lead + half),
        shape=SHAPE,
        logf=True,
        whiten=False,
        invalid="mask",
    )
    recorded, cleaned = (engine(values[None, None]).energy[0, 0].clamp_min(0).numpy() for values in series)
    time = engine.times.numpy() - lead
    title = f"GPS {one.veto.peak:.3f} at 0 s"
    return _png(figures.glitch(recorded, cleaned, engine.frequencies.numpy(), time, title), dark)


def _png(figure: Figure, dark: bool) -> bytes:
    from glitchflow.figures.dark import darken

    buffer = io.BytesIO()
    if dark:
        darken(figure)
    save(figure, buffer, format="png", dpi=110)
    return buffer.getvalue()
