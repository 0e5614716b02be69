"""A Ray that runs already: what is said where nobody listens there, or it wants another token.

Ray itself tries for long, and then says less.
"""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from glitchflow.errors import InputError, RunError


def knock(address: str) -> None:
    """Raises `OSError` where nobody listens at HOST:PORT. Ray itself would try for more than ten minutes."""
    host, _, port = address.rpartition("//")[2].rstrip("/").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _show_token(address: str) -> None:
    """Raises `RunError` where the Ray at HOST:PORT wants another token than this process has.

    Ray would try for 20 s to a minute, and then say that it cannot connect; without the file it ends the process.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
    from ray.exceptions import AuthenticationError

    path, own = os.environ.get("RAY_AUTH_TOKEN_PATH", ""), os.environ.get("RAY_AUTH_TOKEN", "")
    asked = os.environ.get("RAY_AUTH_MODE") == "token" and not own
    if (
        asked
        and path
        and not (Path(path).is_file() and os.access(path, os.R_OK) and Path(path).stat().st_size)
    ):
        raise RunError(
            f"RAY_AUTH_TOKEN_PATH = {path}: no token is there; it is the file that the cluster was started with"
        )
    if "://" in address or not address.rpartition(":")[2].isdigit():
        return
    try:
        with _quiet():
            GcsClient(address=address)
    except AuthenticationError:
        shown = (
            "RAY_AUTH_TOKEN" if own else f"RAY_AUTH_TOKEN_PATH = {path}" if asked and path else "none given"
        )
        raise RunError(
            f"cluster.address = {address}: the cluster wants its token, and not this one ({shown}): export"
            " RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE, the file it was started with"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray's C++ writes to standard error away from the screen."""
    sys.stderr.flush()
    before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)


def join(address: str) -> None:
    """Join the Ray at HOST:PORT. Raises `InputError` for another form, `RunError` where it does not let us in."""
    import ray

    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto" and not (host and port.isdigit() and "//" not in host):
        web = address.startswith(("http://", "https://"))
        of = ", where http:// is its dashboard, which `glitchflow submit` takes" if web else ""
        raise InputError(
            f"cluster.address (or RAY_ADDRESS) = {address}: a stage joins a Ray at HOST:PORT of its head, as"
            f" 127.0.0.1:6379{of}"
        )
    try:
        knock(address)
        _show_token(address)
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"cluster.address = {address}: cannot join a Ray cluster there: {reason}") from None
