import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from glitchflow.analysis.infer import load_network
from glitchflow.data.store import open_store
from glitchflow.errors import RunError
from glitchflow.model import build
from glitchflow.train import checkpoint
from glitchflow.twin.called import LEAST, PLAIN, Called

BATCHES = (LEAST + 4, 1, LEAST, 3, LEAST + 1)
# bfloat16 keeps 8 bits: a number is off by 0.4 % at most, and a few layers of them by a few times that
HALF = {"rtol": 0, "atol": 0.03}


@pytest.fixture
def network():
    return build("unet", 2, (16, 16), width=4).eval()


@pytest.fixture
def given():
    return torch.randn(max(BATCHES), 2, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def traced(monkeypatch):
    """torch.compile without the code that it would make, which takes most of the time; its counters."""
    from torch._dynamo.utils import counters  # two seconds, which other tests need not wait for

    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield counters
    torch._dynamo.reset()


def directory(run):
    return Path(run.workdir) / "train" / "checkpoints"


@torch.inference_mode()
def asked(network, given, batches):
    """What is said of the first events, by their number, asked in this order."""
    return {n: network(given[:n]) for n in batches}


def test_unless_asked_for_it_is_the_network_itself(network):
    assert PLAIN.network(network, "cpu") is network
    assert PLAIN.told == {} and Called.known({"weights": "a"}) == PLAIN
    assert Called.known(Called("bfloat16", True).told) == Called("bfloat16", True)


def test_what_a_cpu_has_none_of_is_float32_and_said(network, monkeypatch):
    monkeypatch.setattr("glitchflow.device._bfloat16_on_cpus", lambda: False)
    lines = {
        "float32": "",
        "bfloat16": "infer.precision = bfloat16: torch has no kernels of it for this CPU: float32, which is faster"
        " here",
        "tf32": "infer.precision = tf32: products of a GPU, which a CPU has none of: float32",
    }
    for precision, line in lines.items():
        assert Called(precision).instead("cpu") == line
        assert Called(precision).instead("cuda") == ""
        assert Called(precision).network(network, "cpu") is network


def test_in_bfloat16_it_says_nearly_the_same_whoever_comes_first(network, given, monkeypatch):
    monkeypatch.setattr("glitchflow.device._bfloat16_on_cpus", lambda: True)
    seen = []
    layer = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    plain = asked(network, given, BATCHES)
    layer.register_forward_hook(lambda _, given, out: seen.append(out.dtype))
    low = Called("bfloat16").network(network, "cpu")
    found, again = asked(low, given, BATCHES), asked(low, given, BATCHES[::-1])
    assert set(seen) == {torch.bfloat16}
    for n, wanted in plain.items():
        assert found[n].dtype == torch.float32
        torch.testing.assert_close(
            found[n], wanted, **{**HALF, "atol": HALF["atol"] * float(wanted.abs().max())}
        )
        assert not torch.equal(found[n], wanted)
        assert torch.equal(found[n], again[n])


@pytest.mark.ci
def test_batches_of_all_sizes_are_one_compilation(network, given, traced):
    """Whichever comes first, and what is said of them does not depend on that."""
    plain = asked(network, given, BATCHES)
    found = []
    for order in (BATCHES, BATCHES[::-1]):
        torch._dynamo.reset()
        traced.clear()
        found.append(asked(Called(compile=True).network(network, "cpu"), given, order))
        assert traced["stats"]["unique_graphs"] == 1
    for n, wanted in plain.items():
        # of fewer than LEAST torch adds up in another order, compiled or not
        torch.testing.assert_close(found[0][n], wanted, rtol=1e-4, atol=1e-5)
        assert torch.equal(found[0][n], found[1][n])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_it_says_the_same(network, given, precision, monkeypatch):
    """But for what another order of sums makes, or of bfloat16 keeps."""
    from torch._dynamo.utils import counters

    monkeypatch.setattr("glitchflow.device._bfloat16_on_cpus", lambda: True)
    torch._dynamo.reset()
    counters.clear()
    plain = asked(network, given, BATCHES)
    called = Called(precision, compile=True).network(network, "cpu")
    found, again = asked(called, given, BATCHES), asked(called, given, BATCHES[::-1])
    assert counters["stats"]["unique_graphs"] == 1
    for n, wanted in plain.items():
        atol = (1e-5 if precision == "float32" else HALF["atol"]) * float(wanted.abs().max())
        torch.testing.assert_close(found[n], wanted, rtol=1e-4, atol=atol)
        assert torch.equal(found[n], again[n])


def test_where_there_is_no_compiler_it_says_so_in_a_line(network, given, monkeypatch):
    def backend(*_):
        raise RuntimeError("no g++\nto be found")

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    with pytest.raises(RunError) as error:
        asked(Called(compile=True).network(network, "cpu"), given, [LEAST])
    line = re.compile(r"infer\.compile = true: torch\.compile cannot: .*no g\+\+ to be found.*; leave it off")
    assert line.fullmatch(str(error.value))


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_a_coherent_twin_in_a_lower_precision_says_nearly_the_same(series_run, precision, monkeypatch):
    """Of its network the gates' convolutions alone are in bfloat16; of tf32 a CPU has none."""
    monkeypatch.setattr("glitchflow.device._bfloat16_on_cpus", lambda: True)
    dataset, path = open_store(series_run.dataset), str(checkpoint.find(directory(series_run), "best").path)
    series = dataset.events("series", dataset.indices("test")[:4])
    plain, low = (
        load_network.__wrapped__(path, called).predict(series, dataset.recorded_channels, 4)
        for called in (PLAIN, Called(precision))
    )
    for name, wanted in plain.items():
        torch.testing.assert_close(
            *map(torch.from_numpy, (low[name], wanted)), rtol=0, atol=0.03 * abs(wanted).max()
        )
        assert (low[name] == wanted).all() == (precision == "tf32")
