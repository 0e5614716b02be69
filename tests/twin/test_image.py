"""The image kind's scores and units."""

import numpy as np
import pytest
import torch

from glitchflow.data.normalise import Normalisation
from glitchflow.twin import image

NORMALISATION = Normalisation("log1p", [0.5, 0.7, 0.9], [1.1, 1.2, 1.3])


class First(torch.nn.Module):
    """Generates what its first witness shows."""

    def forward(self, inputs):
        return inputs[:, :1]


def test_a_prediction_is_in_the_strain_s_energies():
    inputs = torch.randn(2, 2, 3, 4)
    found = image.predict(First(), NORMALISATION, inputs)
    assert list(found) == ["qplot"]
    expected = (inputs[:, 0] * 1.1 + 0.5).expm1().clamp_min(0)
    torch.testing.assert_close(found["qplot"], expected)
    torch.testing.assert_close(image.energies(NORMALISATION, inputs[:, :1]), expected)


def test_perfect_and_useless_images():
    recorded = torch.ones(3, 8, 8)
    recorded[:, 2:4, 2:4] = 100
    perfect = image.scores(image.tally(recorded, recorded))
    assert perfect == {"validation_excess_removed": pytest.approx(1.0), "validation_iou": 1.0}
    nothing = image.scores(image.tally(recorded, torch.zeros_like(recorded)))
    assert nothing == {"validation_excess_removed": pytest.approx(0.0), "validation_iou": 0.0}


def test_scores_without_any_event_they_are_defined_for_are_left_out():
    broken = torch.full((1, 4, 4), float("nan"))
    sums = image.tally(torch.ones(1, 4, 4), broken)
    assert set(sums) == set(image.TALLIED)
    assert image.scores(sums) == {}


def test_tallies_add_up_over_batches():
    rng = np.random.default_rng(0)
    recorded, generated = (torch.from_numpy(rng.exponential(10, (6, 8, 8)).astype("f4")) for _ in range(2))
    whole = image.tally(recorded, generated)
    parts = [image.tally(recorded[s], generated[s]) for s in (slice(0, 2), slice(2, 6))]
    assert whole == pytest.approx({name: parts[0][name] + parts[1][name] for name in image.TALLIED})
