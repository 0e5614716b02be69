"""The last hour of a `watch`, and a glitch before and after, as figures."""

import numpy as np

from glitchflow.figures import online

NOW = 1_400_003_600


def test_an_hour_shows_what_it_is_given():
    minutes = [(NOW - 60, 2.0, 1.0), (NOW, 3.0, 1.5)]
    states = {"CLEANED": [(NOW - 600, NOW - 300)], "VETO": [(NOW - 90, NOW - 60)]}
    figure = online.hour(NOW, minutes, states, [(NOW - 1, 0.5, 2.0)])
    rms, state, delay = figure.axes
    recorded, cleaned = rms.lines
    assert recorded.get_xdata().tolist() == [-1.5, -0.5] and recorded.get_ydata().tolist() == [2, 3]
    assert cleaned.get_ydata().tolist() == [1, 1.5] and cleaned.get_label() == "cleaned"
    bars = [
        bar.get_extents() for collection in state.collections for bar in collection.get_paths() if len(bar)
    ]
    assert sorted((bar.x0, bar.x1) for bar in bars) == [(-10, -5), (-1.5, -1)]
    words = [label.get_text() for label in state.get_yticklabels()]
    assert words == ["science", "cleaned", "passed through", "no data", "glitch"]
    assert delay.lines[0].get_ydata().tolist() == [0.5] and delay.lines[1].get_ydata().tolist() == [2]
    assert delay.get_ylabel() == "time [s]" and delay.get_xlabel() == f"minutes before GPS {NOW}"
    assert "quiet time" in rms.get_ylabel()


def test_an_hour_of_nothing_can_be_drawn():
    figure = online.hour(NOW, [], {}, [])
    figure.canvas.draw()
    assert len(figure.axes) == 3


def test_a_glitch_is_on_one_scale():
    images = np.ones((2, 8, 16))
    images[0, 4, 8] = 100
    figure = online.glitch(*images, np.geomspace(10, 100, 8), np.linspace(-1, 1, 16), "GPS 5 at 0 s")
    before, after = figure.axes[:2]
    assert before.get_title() == "recorded" and after.get_title() == "cleaned"
    assert before.collections[0].norm is after.collections[0].norm
    assert "[s]" in before.get_xlabel() and "[Hz]" in before.get_ylabel()
