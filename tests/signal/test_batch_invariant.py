"""The inner loops, on numpy and on torch, against the plain formula."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from glitchflow.signal import batch_invariant as kernels


@pytest.fixture(params=["numpy", "torch"])
def branch(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(kernels, "on_cpu", lambda x: False)


@pytest.mark.parametrize("count", [*range(1, 13), 31])
def test_median_of_few(count, branch):
    x = torch.from_numpy(np.random.default_rng(count).normal(size=(2, 3, count, 17)))
    assert torch.equal(kernels.median_of_few(x.clone()), torch.from_numpy(np.median(x.numpy(), axis=-2)))


@pytest.mark.parametrize("count", [4, 64, 2048])
def test_median(count, branch):
    x = torch.from_numpy(np.random.default_rng(count).normal(size=(2, 3, count)))
    assert torch.equal(kernels.median(x), torch.from_numpy(np.median(x.numpy(), axis=-1)))


@pytest.mark.parametrize(("m", "k", "n"), [(3, 5, 7), (300, 88, 64), (64, 52, 1000), (1, 600, 600)])
def test_matmul_of_stacks_in_any_layout(m, k, n, branch):
    rng = np.random.default_rng(0)
    a = torch.from_numpy(rng.normal(size=(2, m, 4, k))).transpose(1, 2)
    b = torch.from_numpy(rng.normal(size=(4, n, k))).transpose(1, 2)
    out = torch.empty(2, m, 4, n, dtype=torch.float64).transpose(1, 2)
    assert kernels.matmul(a, b, out) is out
    torch.testing.assert_close(out, torch.matmul(a, b))


def test_the_rest(branch):
    x = torch.randn(3, 5, 16, dtype=torch.float64)
    z = torch.fft.fft(x)
    index = torch.tensor([[0, 3], [15, 3]])
    torch.testing.assert_close(kernels.mean(x)[..., 0], x.mean(-1))
    torch.testing.assert_close(kernels.squared_modulus(z), z.abs().square())
    assert torch.equal(kernels.take(x, index), x[..., index])
    assert torch.equal(kernels.argmax(x), x.argmax(-1))
    torch.testing.assert_close(kernels.irfft(kernels.rfft(x), 16), x)
    torch.testing.assert_close(kernels.ifft(z, 16).real, x)


def test_threads_are_given_back_after_a_failure():
    before = torch.get_num_threads()

    def fail(item):
        assert torch.get_num_threads() == 1
        raise RuntimeError(f"item {item}")

    with pytest.raises(RuntimeError, match="item 0"):
        kernels.in_threads(fail, range(3), before)
    assert torch.get_num_threads() == before


@pytest.mark.ci
def test_what_compiles_is_not_imported_before_something_is_compiled():
    """It takes a second of every worker and every command."""
    code = "import sys, glitchflow.signal.whiten; print('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
