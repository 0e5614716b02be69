"""What a process computes on, and how a GPU computes there."""

import torch


def device() -> str:
    """Where a task computes, in full precision: the GPU that Ray gave it, else the CPU (ROCm's devices are called cuda
    too)."""
    if not torch.cuda.is_available():
        return "cpu"
    arithmetic()
    return "cuda"


def arithmetic(tf32: bool = False, autotune: bool = False) -> None:
    """Say how this process's GPU computes float32 from now on; torch's own default multiplies in TF32 (10 bits of 23)
    in convolutions alone.

    tf32: in all products. autotune: with the fastest of cuDNN's algorithms, whatever they are in this run; else with
    those that give the same bits each time.
    """
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = autotune, not autotune
