"""What a process computes on, and how."""

import pytest
import torch

from glitchflow.device import arithmetic, device, out_of_memory

CUDNN = torch.backends.cudnn


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Torch's switches, which belong to the process."""
    for name in ("allow_tf32", "benchmark", "deterministic"):
        monkeypatch.setattr(CUDNN, name, getattr(CUDNN, name))
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)


def switches():
    return torch.get_float32_matmul_precision(), CUDNN.allow_tf32, CUDNN.benchmark, CUDNN.deterministic


@pytest.mark.parametrize(
    "asked, found",
    [
        ({}, ("highest", False, False, True)),
        ({"tf32": True}, ("high", True, False, True)),
        ({"autotune": True}, ("highest", False, True, False)),
    ],
)
def test_what_is_asked_for_holds_whatever_was_before(asked, found):
    arithmetic(tf32=True, autotune=True)
    arithmetic(**asked)
    assert switches() == found


@pytest.mark.parametrize("there", [True, False])
def test_a_task_takes_the_gpu_in_full_precision(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    arithmetic(tf32=True)
    assert device() == ("cuda" if there else "cpu")
    assert switches()[:2] == (("highest", False) if there else ("high", True))


@pytest.mark.parametrize(
    "error, full",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."), True),
        (RuntimeError("HIP error: hipErrorOutOfMemory"), True),
        (RuntimeError("cuFFT error: CUFFT_INVALID_SIZE"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_full_gpu_is_told_from_other_errors(error, full):
    assert out_of_memory(error) is full
