"""One Ray for the whole session, and one small real run that tests share and none changes.

With pytest-xdist each of its processes has a Ray of its own, and a copy of the run that one of them makes.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# before torch is imported: one thread, for the tests share their cores with Ray's workers and with each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch
from helpers import READ, linked, reads_of, small, staged
from two_workers import train_on_two

from glitchflow.cluster import session
from glitchflow.config import Experiment
from glitchflow.device import arithmetic
from glitchflow.progress import log
from glitchflow.train.setup import Training

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# an example may take as long as it takes, for no test asserts a time; and the same ones are drawn each time
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"  # how soon Ray Train notices that workers are done


# Ray's workers find the models of helpers.py by their import path too
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
)


# with these a test needs a server or a browser, or runs a page from top to bottom
CI_FIXTURES = {"bucket", "browser", "desk"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for one of `CI_FIXTURES` is marked `ci`, as what says so itself."""
    for item in items:
        if not CI_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.ci)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked as of a GPU is skipped where torch sees none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA or ROCm device")


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The GPU, whose float32 is one, as it is in tasks."""
    products = torch.get_float32_matmul_precision()
    with torch.backends.cudnn.flags(enabled=True):  # which puts back what there was
        arithmetic()
        yield torch.device("cuda")
    torch.set_float32_matmul_precision(products)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """An embedded Ray of two CPUs, started once."""
    with session(cpus=2):
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """once(name, make): a copy of what `make(directory)` writes, in the first of the tests' processes that asks.

    What stages read meanwhile (`READ`) counts in every process.
    """
    own = tmp_path_factory.getbasetemp()
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def copied(name: str, make: Callable[[Path], object]) -> Path:
        directory, done = common / "once" / name, common / "once" / f"{name}.json"
        directory.mkdir(parents=True, exist_ok=True)
        with done.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(directory)
                done.write_text(json.dumps({stage: sorted(reads.seen) for stage, reads in READ.items()}))
        for stage, seen in json.loads(done.read_text()).items():
            reads_of(stage).seen.update(seen)
        return shutil.copytree(directory, own / name)

    return copied


@pytest.fixture(scope="session")
def dataset_run(ray_session: None, once: Callable) -> Experiment:
    """A small experiment whose dataset.zarr is made. Read only."""
    from glitchflow.data.generate import generate

    def at(directory: Path) -> Experiment:
        return small(directory, store={"series": "float64"})

    return at(once("made", lambda directory: generate(staged("generate", at(directory)))))


@pytest.fixture(scope="session")
def trained_run(dataset_run: Experiment, once: Callable) -> Experiment:
    """The same experiment trained by two DDP workers, inferred and evaluated. Read only.

    Without Ray Train, which takes longer to start than they train: see train/test_interruption.py.
    """
    from glitchflow.analysis.evaluate.evaluate import evaluate
    from glitchflow.analysis.infer import infer
    from glitchflow.train import fit as module

    def launch(training: Training, train: Path, flag: str, gpu: bool) -> None:
        log(train / "log.txt", "worker 0 of 2: of the tests")
        train_on_two(training, train)

    def make(directory: Path) -> None:
        experiment = linked(dataset_run, directory, "dataset.zarr")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "launch", launch)
            module.fit(staged("train", experiment))
        infer(staged("infer", experiment))
        evaluate(staged("evaluate", experiment))

    return dataset_run.model_copy(update={"workdir": str(once("trained", make))})


@pytest.fixture(scope="session")
def series_run(dataset_run: Experiment, once: Callable) -> Experiment:
    """The same dataset with a small coherent twin, inferred and evaluated. Read only."""
    from glitchflow.analysis.evaluate.evaluate import evaluate
    from glitchflow.analysis.infer import infer
    from glitchflow.train.loop import train
    from glitchflow.train.setup import training_of

    def at(directory: Path) -> Experiment:
        model = {"name": "coherent", "width": 4, "options": {"experts": 2, "sensors": 1}}
        return small(directory, store={"series": "float64"}, model=model, train={"loss": "l2", "workers": 1})

    def make(directory: Path) -> None:
        linked(dataset_run, directory, "dataset.zarr")
        experiment = at(directory)
        train(training_of(experiment), directory / "train")
        infer(staged("infer", experiment))
        evaluate(staged("evaluate", experiment))

    return at(once("series", make))


@pytest.fixture(scope="session")
def glitches_run(ray_session: None, once: Callable) -> Experiment:
    """A small generative twin, of a dataset that knows its transients, and 70 draws of it. Read only."""
    from glitchflow.analysis.sample import sample
    from glitchflow.data.generate import generate
    from glitchflow.train.loop import train
    from glitchflow.train.setup import training_of

    def at(directory: Path) -> Experiment:
        store = {"series": "float64", "transients": True}
        model = {"name": "flow", "width": 4, "options": {}}
        settings = {"loss": "l2", "workers": 1, "ema": 0.9}
        return small(directory, store=store, model=model, train=settings, sample={"count": 70})

    def make(directory: Path) -> None:
        experiment = at(directory)
        generate(experiment)
        train(training_of(experiment), directory / "train")
        sample(staged("sample", experiment))

    return at(once("glitches", make))


@pytest.fixture(scope="session")
def posterior_run(series_run: Experiment, once: Callable) -> Experiment:
    """A small posterior twin upon that coherent one, and draws given the witnesses of its test split. Read only."""
    from glitchflow.analysis.sample import sample
    from glitchflow.train.loop import train
    from glitchflow.train.setup import training_of

    def at(directory: Path) -> Experiment:
        model = {"name": "posterior", "width": 4, "options": {"mean_width": 4, "experts": 2, "sensors": 1}}
        upon = str(checkpoint_of(series_run))
        settings = {"loss": "l2", "workers": 1, "ema": 0.9, "init_from": upon}
        return small(
            directory, store={"series": "float64"}, model=model, train=settings, sample={"draws": 20}
        )

    def make(directory: Path) -> None:
        linked(series_run, directory, "dataset.zarr")
        experiment = at(directory)
        train(training_of(experiment), directory / "train")
        sample(staged("sample", experiment))

    return at(once("posterior", make))


def checkpoint_of(run: Experiment) -> Path:
    """The best checkpoint of a run."""
    from glitchflow.train import checkpoint

    return checkpoint.find(Path(run.workdir) / "train" / "checkpoints", "best").path


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """Directory of the GW150914 files."""
    directory = os.environ.get("GLITCHFLOW_TEST_DATA", "")
    if not directory:
        pytest.skip("GLITCHFLOW_TEST_DATA is not set: no recorded detector data to test with")
    return Path(directory)


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bucket of a real S3 endpoint on loopback; the environment holds its keys."""
    server = shutil.which(os.environ.get("MOTO_SERVER", "moto_server"))
    if not server:
        pytest.skip("no moto_server on the PATH and MOTO_SERVER is not set: no S3 endpoint to test with")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        create = urllib.request.Request(f"{address}/glitches", method="PUT")
        for attempt in range(600):
            try:
                urllib.request.urlopen(create).close()
                break
            except OSError:
                assert attempt < 599 and process.poll() is None
                time.sleep(0.1)
        settings = {"ENDPOINT_URL": address, "ALLOW_HTTP": "true", "REGION": "us-east-1"}
        settings |= {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}
        os.environ |= {f"AWS_{name}": value for name, value in settings.items()}
        yield "s3://glitches"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium. Of a module, for a loop of its own runs in this thread as long as it does."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: the page is not looked at")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `test`)")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def unasked(monkeypatch):
    """Coherent twins remove what they estimate, whether or not it is in the strain: `fronts.First` knows of none."""
    monkeypatch.setattr("glitchflow.twin.absent.LOUD", math.inf)
