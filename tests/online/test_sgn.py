"""The transform for `sgn` pipelines in docs/examples: what it gives is what `watch` makes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from posts import START, recorded, write_twin

from glitchflow.online.line import advance, start
from glitchflow.online.source import Second
from glitchflow.signal.recorded.samples import Samples

pytest.importorskip("sgn", reason="sgn is not installed: pip install sgn")

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "sgn_clean.py"


def test_a_pipeline_cleans_what_comes(tmp_path):
    from sgn.apps import Pipeline
    from sgn.sinks import CollectSink
    from sgn.sources import IterSource

    spec = importlib.util.spec_from_file_location("sgn_clean", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    write_twin(tmp_path)
    given = [(START + k, recorded(START + k)) for k in range(5)]
    given[3][1]["FAST"] = None
    line = example.opened(str(tmp_path), 0.25, 0.25)
    source = IterSource(name="source", source_pad_names=["out"], iters={"out": given})
    clean = example.Clean(name="clean", line=line, source_pad_names=["out"], sink_pad_names=["in"])
    sink = CollectSink(name="sink", sink_pad_names=["in"])
    links = {"clean:snk:in": "source:src:out", "sink:snk:in": "clean:src:out"}
    pipeline = Pipeline()
    pipeline.insert(source, clean, sink, link_map=links)
    pipeline.run()
    found = [one for data in sink.collects["in"] for one in data or ()]
    wanted, memory = [], None
    for gps, channels in given:
        there = {n: Samples(gps, float(len(v)), v) for n, v in channels.items() if v is not None}
        second = Second(gps, there, {})
        memory, more = advance(line, memory or start(line, second), second)
        wanted += more
    assert [one.gps for one in found] == [one.gps for one in wanted] == [START + k for k in range(4)]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a.clean, b.clean)
    assert found[3].silent == ("FAST",)
    assert len(EXAMPLE.read_text().splitlines()) <= 60
