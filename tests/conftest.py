"""One Ray for the whole session, and one small real run that tests share and none changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from glitchflow.cluster import session
from glitchflow.config import Experiment, parse
from glitchflow.config.schema import Cluster

os.environ["RAY_TRAIN_METRICS_ENABLED"] = "0"


def small(workdir: Path, **changes: object) -> Experiment:
    """The quickstart made small: 96 events of 4 s at 256 Hz in 16 shards, 16 x 16 pixels."""
    values: dict = {
        "workdir": str(workdir),
        "seed": 3,
        "series": {"duration": 8, "sample_rate": 256},
        "simulate": {
            "events": 96,
            "detector": {
                "witnesses": ["SIM:ACC", "SIM:SUS"],
                "jitter": 0.2,
                "families": {"sine_gaussian": {"frequency": [20, 80]}, "blip": {"frequency": [30, 80]}},
            },
        },
        "derived": [{"name": "SIM:FRINGE", "function": "scatter", "channels": ["SIM:SUS"]}],
        "qplot": {"q": 8, "frange": [12, 90], "shape": [16, 16], "span": 2, "fftlength": 2},
        "split": {"validation": 0.2, "test": 0.25},
        "loader": {"batch": 8},
        "model": {"width": 4, "options": {"depth": 2}},
        "train": {"epochs": 2, "workers": 2, "warmup": 2},
        "evaluate": {"bootstrap": 100},
    }
    for name, value in changes.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    return parse(values)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """An embedded Ray of two CPUs, started once."""
    with session(Cluster(cpus=2)):
        yield


@pytest.fixture(scope="session")
def dataset_run(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """A small experiment whose dataset.zarr is made. Read only."""
    from glitchflow.data.generate import generate

    experiment = small(tmp_path_factory.mktemp("run"), store={"series": True})
    generate(experiment)
    return experiment


@pytest.fixture(scope="session")
def trained_run(dataset_run: Experiment) -> Experiment:
    """The same experiment trained by two DDP workers, inferred and evaluated. Read only."""
    from glitchflow.analysis.evaluate import evaluate
    from glitchflow.analysis.infer import infer
    from glitchflow.train.fit import fit

    fit(dataset_run)
    infer(dataset_run)
    evaluate(dataset_run)
    return dataset_run


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """Directory of the GW150914 files."""
    directory = os.environ.get("GLITCHFLOW_TEST_DATA", "")
    if not directory:
        pytest.skip("GLITCHFLOW_TEST_DATA is not set: no recorded detector data to test with")
    return Path(directory)
