"""Inner loops that torch's CPU kernels do slowly, or not with the same bits for every batch.

On CPU tensors numpy does them (same memory, no copy), on any other device torch.

A series' numbers do not depend on the others in its batch, nor on the number of threads. What would break that is
avoided here: MKL transforms a single series by another path than several; its matrix products round differently for
different sizes, and OpenBLAS's for different numbers of threads; torch splits one long sum over threads. And a product
of two complex tensors is fused differently inside a vector register and beside it: multiply complex by real only.
(Found by trying torch 2.13 with MKL 2024.2 and numpy 2.4 with OpenBLAS 0.3; held by the tests.)
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

ONE_THREAD = 2**18  # multiplications in a matrix product that OpenBLAS still does in one thread, in one order

Args = ParamSpec("Args")
Result = TypeVar("Result")


def untraced(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """Keeps torch.compile from tracing a function.

    `torch.compiler.disable` is called when something is compiled, not before: it imports torch._dynamo, which takes a
    second, and every worker and every command would wait for it.
    """
    disabled: list[Callable[Args, Result]] = []

    @wraps(function)
    def call(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        if not torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **kwargs)

    return call


@untraced
def in_threads(work: Callable[[int], Result], items: range, threads: int) -> list[Result]:
    """Does work(i) for every item, each by one of several threads that has torch's operations to itself.

    Torch's own threads would share out each small operation; so numpy's part of the work scales too, and none waits
    at the end of each operation for another that a busy machine has put aside.
    """
    workers = min(threads, len(items))
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, items))
    finally:
        torch.set_num_threads(threads)  # a thread's own setting for torch, but the process's for MKL


def complex_of(dtype: torch.dtype) -> torch.dtype:
    """Returns the complex type whose parts are of this real one."""
    return torch.complex64 if dtype == torch.float32 else torch.complex128


def on_cpu(x: Tensor) -> bool:
    """Says whether numpy can read this tensor where it lies."""
    return x.device.type == "cpu"


def numpy_on_cpu(kernel: Callable[Args, Result]) -> Callable[Args, Result]:
    """Keeps torch.compile from tracing a kernel's numpy; on other devices it may compile it."""
    eager = untraced(kernel)

    @wraps(kernel)
    def choose(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        first = args[0]
        return (eager if isinstance(first, Tensor) and on_cpu(first) else kernel)(*args, **kwargs)

    return choose


def rfft(x: Tensor, n: int | None = None) -> Tensor:
    """Calls torch.fft.rfft over the last axis."""
    return _several(lambda y: torch.fft.rfft(y, n=n), x)


def irfft(x: Tensor, n: int) -> Tensor:
    """Calls torch.fft.irfft over the last axis."""
    return _several(lambda y: torch.fft.irfft(y, n=n), x)


def ifft(x: Tensor, n: int) -> Tensor:
    """Calls torch.fft.ifft over the last axis, zero-padded to n."""
    return _several(lambda y: torch.fft.ifft(y, n=n), x)


def _several(transform: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if on_cpu(x) and x.numel() == x.shape[-1]:  # a single one: see the top of the file
        return transform(torch.stack([x, x]))[0]
    return transform(x)


@numpy_on_cpu
def mean(x: Tensor) -> Tensor:
    """Averages over the last axis, which is kept with one value."""
    if on_cpu(x):
        return torch.from_numpy(x.numpy().mean(axis=-1, keepdims=True))
    return x.mean(-1, keepdim=True)


@numpy_on_cpu
def take(x: Tensor, index: Tensor) -> Tensor:
    """Returns x[..., index] for an index of any shape."""
    if on_cpu(x):
        return torch.from_numpy(np.take(x.numpy(), index.numpy(), axis=-1))
    return x[..., index]


@numpy_on_cpu
def matmul(a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """Multiplies stacks of matrices (..., m, k) and (..., k, n) into out (..., m, n), and returns that."""
    if not on_cpu(a):  # torch.matmul would copy matrices that a whole batch shares, once for each of it
        return out.copy_(torch.einsum("...mk,...kn->...mn", a, b))
    left, right, result = a.numpy(), b.numpy(), out.numpy()
    m, k, n = left.shape[-2], left.shape[-1], right.shape[-1]
    if m > n:
        step = max(1, ONE_THREAD // (k * n))
        for i in range(0, m, step):
            np.matmul(left[..., i : i + step, :], right, out=result[..., i : i + step, :])
    else:
        step = max(1, ONE_THREAD // (k * m))
        for i in range(0, n, step):
            np.matmul(left, right[..., i : i + step], out=result[..., i : i + step])
    return out


@numpy_on_cpu
def squared_modulus(x: Tensor) -> Tensor:
    """Returns |x|^2 of a complex x."""
    if on_cpu(x):
        array = x.numpy()
        return torch.from_numpy(array.real**2 + array.imag**2)
    return x.real.square() + x.imag.square()


@numpy_on_cpu
def count_below(x: Tensor, limit: Tensor) -> Tensor:
    """Counts, along the last axis of (..., n), the values below a limit (...)."""
    if on_cpu(x):  # numpy counts booleans eight times as fast as it, or torch, sums them
        return torch.from_numpy(np.count_nonzero(x.numpy() < limit.numpy()[..., None], axis=-1))
    return (x < limit[..., None]).sum(-1)


@numpy_on_cpu
def median(x: Tensor) -> Tensor:
    """Returns the median over the last axis, of even length: the mean of the two middle values."""
    half = x.shape[-1] // 2
    if on_cpu(x):  # numpy's partition is vectorised, torch's median is not: ten times slower
        ranked = np.partition(x.numpy(), half, axis=-1)
        return torch.from_numpy((ranked[..., :half].max(-1) + ranked[..., half]) / 2)
    return (x.median(-1).values - (-x).median(-1).values) / 2


@numpy_on_cpu
def median_of_few(x: Tensor) -> Tensor:
    """Returns the median over the last axis but one; x may be overwritten."""
    count = x.shape[-2]
    half = count // 2
    if on_cpu(x) and count < 10:
        # bubble up the larger half, whole lines at a time: three times as fast as ranking each column
        lines = list(np.moveaxis(x.numpy(), -2, 0))
        for last in range(count - 1, half - 1, -1):
            for i in range(last):
                low = np.minimum(lines[i], lines[i + 1])
                np.maximum(lines[i], lines[i + 1], out=lines[i + 1])
                lines[i] = low
        ranked = torch.stack([torch.from_numpy(line) for line in lines[: half + 1]], -2)
    elif on_cpu(x):
        ranked = torch.from_numpy(np.partition(x.numpy(), half, axis=-2))
    else:
        ranked = x.sort(dim=-2).values
    middle = ranked[..., half, :]
    return middle if count % 2 else (middle + ranked[..., :half, :].amax(-2)) / 2


@numpy_on_cpu
def argmax(x: Tensor) -> Tensor:
    """Returns the first index of the largest value along the last axis."""
    if on_cpu(x):
        return torch.from_numpy(x.numpy().argmax(-1))
    return x.argmax(-1)
