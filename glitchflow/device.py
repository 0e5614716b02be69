"""What a process computes on, and how a GPU computes there."""

import contextlib
import re
import sys
from collections.abc import Iterator
from socket import gethostname

import torch

from glitchflow.errors import RunError


def device() -> str:
    """Where a task computes, in full precision: the GPU that Ray gave it, else the CPU (ROCm's devices are called cuda
    too). Raises `RunError` where torch cannot use that GPU, for nobody would know why it takes so long."""
    if torch.cuda.is_available():
        arithmetic()
        return "cuda"
    ray = sys.modules.get("ray")  # which a process that has no Ray need not import
    if ray and ray.is_initialized() and ray.get_gpu_ids():
        raise RunError(
            f"{gethostname()}: Ray gives a GPU that torch {torch.__version__} cannot use; install a torch for its"
            " driver, or start with CUDA_VISIBLE_DEVICES= and without it"
        )
    return "cpu"


def in_halves(precision: str, kind: str = "cpu") -> bool:
    """Whether a network is computed in bfloat16 on a device of this kind: where that is asked for, but not on a CPU for
    which torch has no kernels of it, as without AVX-512: a step takes eight to twenty times as long there."""
    return precision == "bfloat16" and (kind != "cpu" or _bfloat16_on_cpus())


def computed(precision: str, kind: str) -> tuple[str, str]:
    """The precision that a device of this kind computes in where this one is asked for, and why if that is another:
    float32, where it has none of it."""
    if precision == "bfloat16" and not in_halves(precision, kind):
        return "float32", "torch has no kernels of it for this CPU: float32, which is faster here"
    if precision == "tf32" and kind == "cpu":
        return "float32", "products of a GPU, which a CPU has none of: float32"
    return precision, ""


def _bfloat16_on_cpus() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


# what CUDA's and ROCm's libraries say where they ask for memory past torch: CUFFT_ALLOC_FAILED,
# CUBLAS_STATUS_ALLOC_FAILED, "CUDA error: out of memory", hipErrorOutOfMemory
_FULL = re.compile(r"ALLOC_FAILED|out of memory|OutOfMemory")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU's memory is full: torch's own, or what a library of the GPU's makes it raise."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _FULL.search(str(error)) is not None
    )


def arithmetic(tf32: bool = False, autotune: bool = False) -> None:
    """Say how this process's GPU computes float32 from now on; torch's own default multiplies in TF32 (10 bits of 23)
    in convolutions alone.

    tf32: in all products. autotune: with the fastest of cuDNN's algorithms, whatever they are in this run; else with
    those that give the same bits each time.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = autotune, not autotune


@contextlib.contextmanager
def lowered(precision: str, kind: str) -> Iterator[None]:
    """Compute in this precision on a device of this kind while the block lasts, and in float32 after it."""
    if kind == "cuda":
        arithmetic(precision == "tf32")
    try:
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        if kind == "cuda":
            arithmetic()
