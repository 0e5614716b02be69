"""GPUs that tasks share: who gets one, what is said, and that the store is a CPU's within rounding."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gwpy.timeseries import TimeSeries
from helpers import damage_of, forget_shards, missing_shards, small

from glitchflow.config import Cluster, Experiment, Generate
from glitchflow.data import gpu
from glitchflow.data.content import content_of
from glitchflow.data.generate import generate, ingest
from glitchflow.data.shard_events import make_block, make_factory
from glitchflow.data.store import Writer, open_store
from glitchflow.errors import InputError, RunError
from glitchflow.signal import batch_invariant as kernels

GPU = {"generate": {"device": "gpu"}, "cluster": {"tasks_per_gpu": 2}}
CLOSE = 1e-4  # of an event's largest energy
SEARCH = {"q": None, "qrange": [9, 32], "frange": [12, 90], "shape": [16, 16], "select": "channel"}

# A Ray counts the GPUs that it is told of, there or not
SHARED = """
import json, os, time
from functools import partial
from glitchflow import cluster
from glitchflow.config import Cluster, Generate
from glitchflow.data.build import MIB, Job, run_tasks, tasks_per_gpu
from glitchflow.data.gpu import sharing
from glitchflow.device import device
from glitchflow.errors import RunError

def where(part):
    time.sleep(0.2)
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]

def computes(part):
    return device()

cluster._token()
import ray
ray.init = partial(ray.init, num_gpus=2)
with cluster.session(cpus=4):
    there, tasks = tasks_per_gpu(Cluster()), sharing(Generate(device="gpu"), Cluster())
    job = Job(where, "where", 50 * MIB, accelerated=True)
    found = run_tasks(job, dict.fromkeys(range(24), 1), Cluster())
    again = run_tasks(job, dict.fromkeys(range(4), 1), Cluster())
    said = [device(), *run_tasks(Job(computes, "computes", 50 * MIB), {0: 1}, Cluster()).values()]
    try:
        said += run_tasks(Job(computes, "computes", 50 * MIB, accelerated=True), {0: 1}, Cluster()).values()
    except RunError as error:
        said.append(str(error))
    print(json.dumps([there, tasks, list(found.values()), list(again.values()), said]))
"""


@pytest.mark.usefixtures("ray_session")
def test_a_cluster_without_gpus(tmp_path, capsys):
    assert gpu.sharing(Generate(), Cluster()) == 0
    if torch.cuda.is_available():
        pytest.skip("the cluster has one")
    with pytest.raises(InputError) as error:
        gpu.sharing(Generate(device="gpu"), Cluster())
    assert str(error.value) == (
        "generate.device = gpu: the cluster has no GPU; auto or cpu makes Q-plots on its CPUs"
    )
    generate(small(tmp_path, generate={"device": "auto"}))
    said = capsys.readouterr().err.splitlines()
    assert "generate.device = auto: the cluster has no GPU: Q-plots are made on CPUs" in said
    made = small(tmp_path).dataset
    assert open_store(made).provenance["devices"] == ["CPU"]
    with Writer.begin(made, lambda: pytest.fail("is there"), lambda _: None) as writer:
        writer.note("devices", ["GPU"])  # what was made before
    generate(small(tmp_path), shard=0)
    assert open_store(made).provenance["devices"] == ["CPU", "GPU"]


def test_a_cluster_with_gpus(monkeypatch):
    monkeypatch.setattr(gpu, "tasks_per_gpu", lambda cluster: 3)
    auto = Generate(device="auto")
    assert gpu.sharing(auto, Cluster()) == gpu.sharing(Generate(device="gpu"), Cluster()) == 3
    monkeypatch.setattr(gpu, "tasks_per_gpu", lambda cluster: 0)  # on nodes without a CPU for a task
    with pytest.raises(InputError, match=r"^generate\.device = gpu: the cluster has no GPU; "):
        gpu.sharing(Generate(device="gpu"), Cluster())
    assert gpu.told(auto, 3) == "generate.device = auto: Q-plots are made on GPUs, 3 task(s) on each"


@pytest.mark.ci
def test_tasks_are_spread_over_all_gpus_keep_their_processes_and_are_never_silently_on_a_cpu():
    ran = subprocess.run([sys.executable, "-c", SHARED], capture_output=True, text=True, check=True)
    there, tasks, found, again, said = json.loads(ran.stdout.splitlines()[-1])
    assert there == tasks == 2
    assert {device for _, device in found} == {"0", "1"}
    assert len({pid for pid, _ in found}) < len(found) / 2
    assert not {pid for pid, _ in found} & {pid for pid, _ in again}  # or one might be given another GPU
    if not torch.cuda.is_available():
        assert said[:2] == ["cpu", "cpu"]  # of the driver, and of a task that asks for none
        assert (
            "Ray gives a GPU that torch" in said[2]
            and "cannot use; install a torch for its driver" in said[2]
        )


@pytest.mark.usefixtures("ray_session")
def test_a_gpu_that_torch_cannot_use_is_a_line_and_never_a_cpu(tmp_path, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("it can")
    monkeypatch.setattr(gpu, "tasks_per_gpu", lambda cluster: 2)
    experiment = small(tmp_path, **GPU)
    with pytest.raises(
        RunError, match=r"^generate\.device: \S+: Ray gives a GPU that torch .* cannot use: "
    ) as e:
        generate(experiment)
    assert str(e.value).endswith("; generate.device = cpu needs none") and "\n" not in str(e.value)
    assert missing_shards(experiment.dataset) == [*range(24)]
    generate(small(tmp_path))  # goes on where it stopped, elsewhere
    assert not damage_of(experiment.dataset)


def test_a_gpu_too_small_for_so_many_is_a_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**33, 2**34))
    engine = make_factory(content_of(small(Path("unused")), "simulate")).engine
    with pytest.raises(RunError) as error:
        gpu.to_gpu(engine, 32)
    assert str(error.value) == (
        "cluster.tasks_per_gpu = 32: leaves 512 MiB of the GPU's 16,384 MiB to each, and a process takes 768 MiB"
        " before it computes anything; fewer tasks get more"
    )


def test_a_gpu_that_others_have_filled_is_no_gpu_that_torch_cannot_use(monkeypatch):
    """Whoever called says of it what there is to say of a GPU's memory."""
    engine = make_factory(content_of(small(Path("unused")), "simulate")).engine
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate ...")

    def fills():
        raise full

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 2**34))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda fraction: None)
    monkeypatch.setattr(engine, "cuda", fills)
    with pytest.raises(torch.OutOfMemoryError) as error:
        gpu.to_gpu(engine, 2)
    assert error.value is full


@pytest.mark.parametrize("changes", [{}, {"qplot": SEARCH}, {"whiten": {"asd": "dataset"}}])
def test_a_gpus_kernels_give_a_cpus_block(changes, tmp_path, monkeypatch):
    factory = make_factory(content_of(small(tmp_path, **changes), "simulate"))
    expected = make_block(factory, range(16))[0]
    monkeypatch.setattr(kernels, "on_cpu", lambda x: False)
    agree(make_block(factory, range(16))[0], expected)


def agree(found, expected) -> None:
    """Two stores, or blocks, of the same events."""
    for name in set(expected) & {"qplot", "witnessed"}:
        ours, theirs = np.asarray(found[name][:]), np.asarray(expected[name][:])
        largest = theirs.max(axis=tuple(range(1, theirs.ndim)), keepdims=True)
        assert (abs(ours - theirs) <= CLOSE * largest).all(), (name, (abs(ours - theirs) / largest).max())
    for name in set(expected) & {"gps", "label", "snr", "split", "valid", "series", "q"}:
        np.testing.assert_array_equal(found[name][:], expected[name][:], err_msg=name)


def frames(directory: Path) -> dict:
    """200 s of two channels, the second without data for 20 s, and events in them."""
    noise = np.random.default_rng(1).standard_normal((2, 200 * 256))
    noise[1, 40 * 256 : 60 * 256] = np.nan
    sources = []
    for name, values in zip(("S1:A", "W1:B"), noise, strict=True):
        path = directory / f"{name[:2]}.h5"
        TimeSeries(values, t0=1000, sample_rate=256, name=name).write(path, path=name, format="hdf5")
        sources.append({"name": name, "files": [str(path)]})
    return {"channels": sources, "times": list(np.arange(1010.0, 1190.0, 5.0))}


def arrays(experiment: Experiment) -> dict:
    dataset = open_store(experiment.dataset)
    assert not damage_of(experiment.dataset)
    return {name: dataset[name] for name, array in dataset.known.arrays.items() if array is not None}


@pytest.mark.usefixtures("ray_session")
class TestOnAGpu:
    """Through Ray, on a real one."""

    pytestmark = pytest.mark.gpu

    @pytest.mark.parametrize(
        "changes",
        [
            {"store": {"series": "float64"}},
            {"qplot": SEARCH},
            {"whiten": {"asd": "dataset", "fftlength": 2}},
            {"whiten": {"filter": "prediction", "fftlength": 2}},
        ],
        ids=["event", "search", "dataset", "prediction"],
    )
    def test_generated(self, changes, tmp_path):
        one, other = small(tmp_path / "cpu", **changes), small(tmp_path / "gpu", **GPU, **changes)
        generate(one)
        generate(other)
        agree(arrays(other), arrays(one))

    def test_ingested(self, tmp_path):
        changes = {"derived": [], "ingest": frames(tmp_path), "store": {"series": "float64"}}
        one, other = small(tmp_path / "cpu", **changes), small(tmp_path / "gpu", **GPU, **changes)
        ingest(one)
        ingest(other)
        agree(arrays(other), arrays(one))
        assert not np.asarray(arrays(other)["valid"][:]).all()  # of the events without a witness

    def test_a_store_goes_on_on_another_device(self, tmp_path):
        begun = small(tmp_path, **GPU)
        generate(begun)
        before = arrays(begun)["qplot"][:]
        forget_shards(begun.dataset, 3, 5)
        generate(small(tmp_path), verify=True)
        assert np.abs(arrays(begun)["qplot"][:] - before).max() <= CLOSE * np.abs(before).max()

    def test_a_task_keeps_to_its_part_of_the_memory(self, tmp_path, capsys):
        factory = make_factory(content_of(small(tmp_path), "simulate"))
        before = torch.cuda.get_per_process_memory_fraction()
        try:
            engine, (_, whole) = gpu.to_gpu(factory.engine, 16), torch.cuda.mem_get_info()
            with pytest.raises(torch.OutOfMemoryError):
                torch.empty(whole // 16, dtype=torch.uint8, device="cuda")
            torch.cuda.reset_peak_memory_stats()
            engine(np.random.default_rng(1).standard_normal((4096, 4, 2048)))
            held = torch.cuda.max_memory_allocated()
        finally:
            torch.cuda.set_per_process_memory_fraction(before)
        with capsys.disabled():
            print(f"\nheld {held / 2**20:,.0f} MiB, of {(whole / 16 - gpu.CONTEXT) / 2**20:,.0f}")
        assert held <= whole / 16 - gpu.CONTEXT
