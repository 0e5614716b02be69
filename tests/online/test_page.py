"""The page in a real browser, headless, on loopback: pictures, escaped words, nothing that it complains of."""

import socket

import numpy as np
import pytest
from accessible import violations
from fronts import FRONT
from helpers import needs_gwf
from posts import START, put, run

from glitchflow.online import page
from glitchflow.online.hours import Hour, Log, Veto
from glitchflow.online.line import CLEANED, SCIENCE, Cleaned
from glitchflow.online.monitor import Monitor, served
from glitchflow.online.past import Glitch, Late, Minute

NOW, RATE = 1_400_003_600, 1024  # GPS s, Hz


@pytest.fixture
def monitor() -> Monitor:
    """A monitor of a strain with a wicked name, an hour old, that saw a glitch of 40 Hz."""
    found, time = Monitor("X:<script>alert(1)</script>"), np.arange(RATE) / RATE
    seconds = []
    for gps in range(NOW - 12, NOW):
        clean = np.random.default_rng(gps).standard_normal(RATE)
        burst = 9 * np.exp(-(((time - 0.5) / 0.08) ** 2)) * np.sin(2 * np.pi * 40 * time) * (gps == NOW - 6)
        state, none = np.full(16, SCIENCE | CLEANED, np.uint32), np.zeros(16)
        seconds.append(Cleaned(gps, clean + burst, clean, burst, state, none, none, (), ()))
    veto = Veto(NOW - 5.6, NOW - 5.4, NOW - 5.46875, 14.2, 21.3, 0.97, True)
    spans = {"CLEANED": ((NOW - 3600.0, float(NOW)),), "VETO": ((veto.start, veto.stop),)}
    found.past.seconds, found.past.log = tuple(seconds), Log({NOW - 3600: Hour(spans, (veto,))})
    found.past.glitches = (Glitch(veto, tuple(seconds[4:9])),)
    found.past.minutes = tuple(Minute(NOW - 60 * k, 1.5, 1.0) for k in range(60))
    found.past.late = tuple(Late(gps, 0.4, 1.0) for gps in range(NOW - 3600, NOW))
    found.front, found.second, found.now = FRONT, NOW - 1, (("<i>", "<b>"),)
    return found


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_what_comes_from_files_is_escaped(monitor):
    text = monitor.page().decode()
    assert text.count("<script") == 1 and "&lt;script&gt;alert(1)&lt;/script&gt; online" in text
    assert ">&lt;i&gt;</th>" in text and ">&lt;b&gt;</td>" in text


def test_a_glitch_is_louder_before_than_after(monitor):
    shown, values = [], monitor.past.glitches[0]
    with pytest.MonkeyPatch.context() as patch:
        from glitchflow.figures import online

        drawn = online.glitch
        patch.setattr(online, "glitch", lambda *given: shown.append(given) or drawn(*given))
        picture = page.glitch(values, FRONT)
    assert picture.startswith(b"\x89PNG")
    ((before, after, frequency, time, title),) = shown
    place = np.unravel_index(before.argmax(), before.shape)
    assert frequency[place[0]] == pytest.approx(40, rel=0.1) and time[place[1]] == pytest.approx(0, abs=0.1)
    assert before.max() > 20 * after[place] and title == f"GPS {NOW - 5.469:.3f} at 0 s"


def test_pictures_are_drawn_once_and_not_kept_for_ever():
    made, kept = [], page.Pictures()
    for k in (*range(40), 39):
        kept.get(str(k), lambda k=k: made.append(k) or b"x")
    assert made == list(range(40)) and len(kept.drawn) == 12


def test_what_is_no_glitch_is_not_found(monitor):
    assert monitor.glitch("1.0") is None and monitor.glitch("../x") is None
    assert Monitor("S").hour() is None


def test_utc():
    assert page.utc(1_400_003_599) == "2024-05-17 17:53:01"


def test_a_watch_fills_it(post, frames):
    needs_gwf()
    for k in range(8):
        put(frames, START + k)
    one = post()
    run(one)
    text = one.monitor.page().decode()
    assert "Twin that was asked, as in NAME_TWIN</th>" in text and '<td class="n">7</td>' in text
    assert "Bands that were passed through" in text and 'src="hour.png?' in text
    assert one.monitor.hour().startswith(b"\x89PNG") and one.monitor.hour(dark=True) != one.monitor.hour()
    assert len(one.monitor.past.late) == 7 and one.monitor.front is one.line.steps.front


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(browser, monitor, port, scheme):
    monitor.now = (("Latency: from its last file to its frame, s", "0.40"),)
    complaints = []
    context = browser.new_context(viewport={"width": 1100, "height": 900}, color_scheme=scheme)
    with served(monitor, port):
        shown = context.new_page()
        shown.on("console", lambda said: complaints.append((said.text, said.location["url"])))
        shown.on("response", lambda one: complaints.append(one.url) if one.status != 200 else None)
        shown.goto(f"http://127.0.0.1:{port}/", wait_until="networkidle", timeout=120_000)
        images = shown.evaluate("[...document.images].map(one => [one.alt, one.naturalWidth])")
        sources = shown.evaluate("[...document.images].map(one => one.currentSrc)")
        title, wide = shown.title(), shown.evaluate("document.body.scrollWidth <= innerWidth")
        said = violations(shown)
    context.close()
    assert complaints == [] and said == []
    assert [one.endswith("&dark") for one in sources] == [scheme == "dark"] * 2
    assert [width > 500 for _, width in images] == [True, True] and all(alt for alt, _ in images)
    assert title == "X:<script>alert(1)</script> online" and wide


def test_it_is_made_anew_in_place_until_nobody_answers(browser, monitor, port):
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    with served(monitor, port):
        page.goto(f"http://127.0.0.1:{port}/", wait_until="networkidle", timeout=120_000)
        page.focus("#anew")
        monitor.now = (("Latency", "0.99"),)
        page.clock.run_for(11_000)
        page.wait_for_function("document.body.innerText.includes('0.99')")
        assert page.evaluate("document.activeElement.id") == "anew", "who tabs stays where he is"
        page.uncheck("#anew")
        monitor.now = (("Latency", "0.11"),)
        page.clock.run_for(21_000)
        assert "0.99" in page.inner_text("main"), "nobody asked for it"
        page.check("#anew")
    page.clock.run_for(11_000)
    page.wait_for_selector("[role=status].unwell")
    assert page.inner_text("[role=status]").startswith("no answer since ")
    context.close()
