"""Curves and bars: what is drawn is what was given, with its intervals."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from glitchflow.figures import curves
from glitchflow.score.statistics import proportion


def written(figure):
    assert isinstance(figure, Figure)
    figure.savefig(buffer := io.BytesIO(), dpi=40)
    return buffer.getvalue().startswith(b"\x89PNG")


def test_roc_shades_what_is_not_resolvable():
    area = {"value": 1.0, "low": 0.9, "high": 1.0}
    curve = {"false_positive": [0, 0, 1], "true_positive": [0, 1, 1], "auc": area, "negatives": 20}
    figure = curves.roc({"unet": curve})
    axis = figure.axes[0]
    assert axis.patches[0].get_width() == pytest.approx(10 / 20)
    np.testing.assert_array_equal(axis.lines[1].get_ydata(), [0, 1, 1])
    assert "unet 1.000 [0.900, 1.000]" in [text.get_text() for text in axis.get_legend().get_texts()]
    assert written(figure) and written(curves.roc({}))


def test_loss_curves_mark_the_best_epoch():
    figure = curves.loss_curves([3.0, 2.0, 1.0, 0.5], [3.1, 2.2, 2.5, 2.6], "l1")
    lines = figure.axes[0].lines
    np.testing.assert_array_equal(lines[1].get_ydata(), [3.1, 2.2, 2.5, 2.6])
    assert lines[1].get_xdata().tolist() == [1, 2, 3, 4]
    assert (lines[2].get_xdata()[0], lines[2].get_ydata()[0]) == (2, 2.2)
    assert lines[2].get_label() == "best: 2.2, epoch 2"
    assert written(curves.loss_curves([1.0], [np.nan]))


def test_accuracy_curves_carry_their_intervals():
    thresholds = [1.0, 5.0, 9.0]
    hits = {"unet": [50, 60, 90], "linear": [40, 45, 80]}
    found = {name: proportion(count, 100) for name, count in hits.items()}
    shares = {
        name: {part: getattr(share, part).tolist() for part in ("value", "low", "high")}
        for name, share in found.items()
    }
    axis = curves.against_threshold(thresholds, shares, "veto accuracy").axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.5, 0.6, 0.9])
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(min(shares["unet"]["low"]))
    assert axis.get_xlabel() == "threshold s (normalised energy)" and axis.get_ylabel() == "veto accuracy"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["unet", "linear"]


def test_bars_by_family_start_at_doing_nothing():
    scores = {
        "scatter": {
            "unet": {"value": 0.7, "low": 0.6, "high": 0.75},
            "linear": {"value": 2.0, "low": 1.5, "high": 4.0},
        },
        "blip": {"unet": dict.fromkeys(("value", "low", "high"))},
    }
    figure = curves.by_family(scores, "residual", 1.0, logarithmic=True)
    axis = figure.axes[0]
    tops = [bar.get_y() + bar.get_height() for bar in axis.patches]
    np.testing.assert_allclose(tops, [0.7, np.nan, 2.0, np.nan])
    ends = [path.vertices[:, 1] for path in axis.collections[0].get_paths()]
    np.testing.assert_allclose(ends[0], [0.6, 0.75])
    assert [text.get_text() for text in axis.get_xticklabels()] == ["scatter", "blip"]
    assert axis.get_yscale() == "log" and axis.get_ylabel() == "residual"
    assert written(figure)


def test_what_methods_get_against_what_it_costs():
    points = {"network": (0.01, 0.2), "linear": (0.012, 0.2), "gate": (0.9, 1.4), "nothing": (0.0, 1.0)}
    figure = curves.prices(points, "noise added", "left", lower=True, model="network")
    axis = figure.axes[0]
    assert [(line.get_xdata(), line.get_ydata()) for line in axis.lines] == [
        ([x], [y]) for x, y in points.values()
    ]
    low, high = axis.get_ylim()
    assert low > high, "the best is at the top"
    heights = {text.get_text(): text.get_position()[1] for text in axis.texts}
    assert heights["linear"] <= heights["network"] - 10, "names do not lie on each other"
    assert written(figure)
