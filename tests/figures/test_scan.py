"""The figure of a scan: everything drawn is in the result it was given."""

import io

from glitchflow.figures.scan import ranking


def entry(i):
    score = {"value": 0.5 - i / 100, "low": 0.4 - i / 100, "high": 0.6 - i / 100, "chance": 0.1}
    dead = {"value": float("nan"), "low": float("nan"), "high": float("nan"), "chance": 0.0}
    iou = dead if i == 2 else score
    return {"channel": f"W{i}", "significance": 50.0 - i, "chosen": i < 2, "iou": iou, "correlation": iou}


def result(count):
    return {"strain": "S", "events_with_peak": 90, "channels": [entry(i) for i in range(count)]}


def test_a_line_per_witness_the_best_on_top():
    figure = ranking(result(5))
    figure.savefig(io.BytesIO(), format="png")
    significance, iou, _ = figure.axes
    assert [label.get_text() for label in significance.get_yticklabels()] == [f"W{i}" for i in range(5)]
    assert significance.yaxis_inverted()
    assert [bar.get_width() for bar in significance.patches] == [50.0, 49.0, 48.0, 47.0, 46.0]
    assert len({bar.get_facecolor() for bar in significance.patches}) == 2
    assert figure._suptitle.get_text() == "2 of 5 witnesses coincide with S in 90 events"
    # interval, value and chance of each witness but the dead one, and the line at zero
    assert len(iou.lines) == 3 * 4 + 1


def test_of_very_many_the_best_are_drawn():
    figure = ranking(result(100))
    figure.savefig(io.BytesIO(), format="png")
    assert len(figure.axes[0].patches) == 40
    assert figure._suptitle.get_text() == "2 of 100 witnesses, 40 shown coincide with S in 90 events"
