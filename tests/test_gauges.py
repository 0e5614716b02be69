"""What a run says on Ray's metrics endpoint, read as Prometheus reads it."""

import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from glitchflow.config.sections import Cluster
from glitchflow.data.build import MIB, Job, run_tasks
from glitchflow.gauges import tell
from glitchflow.train.tracking import Tracker


def scraped(wanted: set[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Our gauges by name and run, as soon as all that are wanted are there."""
    import ray

    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    found: dict[tuple[str, str], float] = {}
    until = time.monotonic() + 120  # they are sent every 10 s
    while not wanted <= found.keys():
        assert time.monotonic() < until, f"{wanted - found.keys()} never came"
        time.sleep(0.5)
        with urllib.request.urlopen(address) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        for sample in (sample for family in families for sample in family.samples):
            if sample.name.startswith("ray_glitchflow_"):
                found[sample.name.removeprefix("ray_glitchflow_"), sample.labels["run"]] = sample.value
    return found


@pytest.mark.usefixtures("ray_session")
def test_what_is_done_and_what_a_training_says_is_on_ray_s_endpoint(tmp_path):
    run_tasks(Job(lambda part: part, "squares", 50 * MIB), {1: 10, 2: 5}, Cluster(cpus=2))
    tracker = Tracker(tmp_path, 0, 0)
    tracker.write("step", 5, {"loss": 0.25, "waiting_for_data": 0.125, "epoch": 1})
    tracker.close()
    wanted = {("done", "squares"), ("left", "squares"), ("per_second", "squares")}
    wanted |= {("loss", "train"), ("waiting_for_data", "train")}
    found = scraped(wanted)
    assert found["done", "squares"] == 15
    assert found["left", "squares"] == 0
    assert found["per_second", "squares"] > 0
    assert found["loss", "train"] == 0.25
    assert found["waiting_for_data", "train"] == 0.125
    assert {name for name, _ in found} == {name for name, _ in wanted}, "an epoch's number is no gauge"


def test_without_a_ray_nothing_is_said(monkeypatch):
    monkeypatch.setattr("glitchflow.gauges._gauge", lambda name: pytest.fail("a gauge was made"))
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    tell("squares", {"done": 1.0})
