"""Spectra of quiet time: what is taken out is no longer there, and parts are those of the estimate."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fronts import FRONT, RATE, First

from glitchflow.analysis import quiet
from glitchflow.analysis.quiet import of_windows
from glitchflow.figures.quiet import quiet_time
from glitchflow.twin import coherent
from glitchflow.twin.kind import Trained

SAMPLES = round(16 * RATE)


class Split(First):
    """First, and what each group of inputs puts into what it says."""

    def parts(self, given: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        return self(given) * groups[:, :1]


@pytest.fixture
def trained() -> Trained:
    return Trained(coherent.KIND, Split(), FRONT.channels, replace(FRONT, scatters=[]))


class FirstInput(Split):
    """What its first input shows, where there are no templates."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.gain * given[:, :1]


def windows(events: int = 8) -> np.ndarray:
    """(E, R, N): a strain that is what its fast witness shows, by both filters, and a tenth as much of other noise."""
    rng = np.random.default_rng(1)
    series = rng.standard_normal((events, 3, SAMPLES))
    white = FRONT.prepare(torch.from_numpy(series))[:, 5].numpy()
    series[:, 0] = FRONT.undo(white) + 0.4 * FRONT.undo(rng.standard_normal(white.shape))
    return series


def test_what_witnesses_say_is_taken_out_and_counted_to_its_group(trained):
    trained = replace(trained, network=FirstInput())
    series = windows()
    series[0, 0] *= 100
    groups = {"FAST": torch.tensor([1.0, 0.0]), "OTHER": torch.tensor([0.0, 1.0])}
    found = of_windows(trained, groups, series[:, 0], series.__getitem__)
    assert found.windows == 4
    low, high = FRONT.band
    assert found.frequency[0] >= low and found.frequency[-1] <= high
    inside = (found.frequency > 1.1 * low) & (found.frequency < 0.9 * high)
    ratio = (found.asd["left"] / found.asd["recorded"])[inside]
    assert ratio.mean() == pytest.approx(0.1, rel=0.1) and ratio.max() < 0.2
    np.testing.assert_allclose((found.asd["FAST"] / found.asd["recorded"])[inside], 1, rtol=0.05)
    assert not found.asd["OTHER"].any()
    assert found.coherence["recorded"][inside].min() > 0.95
    assert found.coherence["left"][inside].max() < 0.5


def test_of_many_channels_few_windows_are_read_at_once(trained, monkeypatch):
    """And the sums are the same."""
    trained, series, asked = replace(trained, network=FirstInput()), windows(), []
    series[3, 0, 100], series[2, 1, 100] = np.nan, np.nan

    def read(some: np.ndarray) -> np.ndarray:
        asked.append(some.tolist())
        return series[some]

    together = of_windows(trained, {}, series[:, 0], read)
    monkeypatch.setattr(quiet, "together", lambda channels, samples: 1)
    found = of_windows(trained, {}, series[:, 0], read)
    assert len(asked[0]) == 4 and 3 not in asked[0]
    assert asked[1:] == [[one] for one in asked[0]]
    for name, line in found.asd.items():
        np.testing.assert_allclose(line, together.asd[name], rtol=1e-9)


def test_without_groups_the_estimate_is_one_part(trained):
    series = windows(2)
    found = of_windows(replace(trained, network=FirstInput()), {}, series[:, 0], series.__getitem__)
    assert list(found.asd) == ["recorded", "left", "the estimate"]


def test_of_no_window_nothing_is_known(trained):
    assert of_windows(trained, {}, np.full((2, SAMPLES), np.nan), lambda _: pytest.fail("read")) is None


def test_the_figure_has_a_line_for_each_that_says_something():
    frequency = np.geomspace(10, 200, 50)
    asd = {"recorded": 2 / frequency, "left": 1 / frequency, "ISI": 1e-1 / frequency, "DEAD": 0 * frequency}
    coherence = {"recorded": np.full(50, 0.9), "left": np.full(50, 0.1)}
    above, below = quiet_time(frequency, asd, coherence, "m").axes
    assert [line.get_label() for line in above.lines] == ["recorded", "left", "from ISI"]
    assert [line.get_label() for line in below.lines] == ["recorded", "left"]
    assert above.get_ylabel() == "ASD [m/√Hz]" and below.get_ylim() == (0, 1.02)
