"""In which order methods stand, and the lines in which a terminal has them."""

from glitchflow.score.lines import method_lines, ranked
from glitchflow.score.table import SCORES

NONE = dict.fromkeys(("value", "low", "high"))


def scores(**methods):
    """Of each method the scores that are given, and none of the others."""
    return {
        name: dict.fromkeys(SCORES, NONE)
        | {score: {"value": v, "low": v, "high": v} for score, v in of.items()}
        for name, of in methods.items()
    }


def test_the_residual_comes_first_then_nll():
    found = scores(
        a={"nll": 1.0}, b={"residual": 0.4, "nll": 9.0}, c={"residual": 0.2}, d={"nll": float("nan")}
    )
    assert ranked(found) == ["c", "b", "a", "d"]


def test_of_recorded_data_the_power_left_decides_and_not_the_likelihood():
    found = scores(
        mean={"power_left": 0.9, "nll": 1.0, "snr_kept_median": 0.9},
        network={"power_left": 0.1, "nll": 3.0, "snr_kept_median": 0.99},
    )
    assert ranked(found) == ["network", "mean"]
    titles, first, second = method_lines(found)
    words = " ".join(titles.split())
    assert words.startswith(
        "power left / SNR kept, median power left, median power left, gated windows made worse"
    )
    assert " ".join(first.split()) == "network 0.100 / 99.0% – – – 3.000"
    assert second.startswith("mean")
