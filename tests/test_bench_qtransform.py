"""The benchmark of the Q-transform: every contender can be called; nothing is timed."""

import dataclasses
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_qtransform

    yield bench_qtransform
    sys.modules.pop("bench_qtransform", None)


@pytest.mark.parametrize("name", ["NOTEBOOK", "DETECTOR"])
def test_contenders_and_the_error_of_each_geometry(bench, name):
    geometry = dataclasses.replace(getattr(bench, name), events=1, channels=2)
    series = bench.series_of(geometry)
    spent = bench.measure(bench.contenders(geometry, series), 1, iter(range(100)).__next__)
    assert {"ours", "gwpy, as the notebook calls it", "bare FFT of as many tiles"} <= set(spent)
    assert all((milliseconds > 0).all() for milliseconds in spent.values())
    assert bench.error(geometry, series) <= 1e-5


def test_a_bare_transform_of_several_channels_is_of_the_tiles_that_ours_takes(bench):
    geometry = dataclasses.replace(bench.DETECTOR, events=1, channels=2)
    call, channels = bench.contenders(geometry, bench.series_of(geometry))["bare FFT of as many tiles"]
    assert channels == 2
    assert {len(block) for block in call()} == {2}
