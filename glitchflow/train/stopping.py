"""How a signal to the driver ends a run at a checkpoint, on whichever nodes its workers are.

    driver: signal -> flag in Ray's key-value store -> rank 0 sees it -> all workers agree on a step -> checkpoint

A flag in Ray's store rather than a file: network file systems may hide a new file for a minute.
"""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from glitchflow.errors import RunError
from glitchflow.progress import say
from glitchflow.signals import heard

POLL = 0.25  # seconds between looks at the flag
NAMESPACE = b"glitchflow"


def until_stopped(work: Callable[[], Any], flag: str, grace: float) -> Any:
    """What `work` returns. A signal raises the flag; a second one, or `grace` seconds, end it there and then.

    `work` runs in a thread, so that this one is free to hear signals. Outside the main thread, which Python
    delivers no signals to, it is simply called.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    came: list[int] = []

    def hear(number: int, _: Any) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    with heard(hear):
        future = in_thread(work)
        while not came:
            if _done(future):
                return future.result()
        name = signal.Signals(came[0]).name
        say(f"{name}: stopping at a checkpoint, within {grace:g} s; once more to stop at once")
        raise_flag(flag)
        for _ in range(int(grace / POLL) + 1):
            if _done(future):
                return future.result()
        raise RunError(
            f"{name}: not ended within train.grace = {grace:g} s; the same command goes on from the last checkpoint"
        )


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Start `work` in a thread that nothing waits for at the end of the process."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _done(future: Future[Any]) -> bool:
    """Whether it is done, after waiting a little."""
    try:
        future.exception(timeout=POLL)
    except TimeoutError:
        return False
    return True


def raise_flag(flag: str) -> None:
    """Ask the workers that look at this flag to stop at a checkpoint."""
    from ray.experimental import internal_kv

    internal_kv._internal_kv_put(flag, b"stop", namespace=NAMESPACE)


def flag_is_up(flag: str) -> bool:
    """Whether the flag was raised, on whichever node."""
    from ray.experimental import internal_kv

    return internal_kv._internal_kv_exists(flag, namespace=NAMESPACE)


def watch(flag: str) -> Callable[[], bool]:
    """Look at the flag from a thread; returns a function that costs nothing to ask at every step."""
    seen = threading.Event()

    def look() -> None:
        while not seen.wait(POLL):
            if flag_is_up(flag):
                seen.set()

    threading.Thread(target=look, daemon=True).start()
    return seen.is_set
