"""Where the nodes of a Slurm job find each other: one TCP connection a node, and no files. See glitchflow.sbatch.

    hub.py DIRECTORY HOST

It serves on the job's first node, at a port of HOST (0.0.0.0: of every address) that it writes to DIRECTORY/port, until
it is ended; then every node sees its connection end, and ends its Ray. Who connects proves that it knows the token
of the job (RAY_AUTH_TOKEN_PATH), by HMAC-SHA256 over a number that the hub sends. A message is a line of JSON:

    node   -> hub   {"name": ..., "address": ...}, or {"name": ..., "failed": why}
    head   -> hub   {"name": ..., "head": "HOST:PORT", "dashboard": PORT}, when its Ray answers
    hub    -> node  {"head": "HOST:PORT"}, as soon as it is known
    hub    -> joined.py, which said {"watch": true}: all that it knows, whenever that changes

Python's standard library alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import os
import secrets
import select
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 30.0  # s for a connection, and for its first line
LONGEST = 2**16  # bytes of a message
KEEPALIVE = (
    ("TCP_KEEPIDLE", 5),
    ("TCP_KEEPINTVL", 2),
    ("TCP_KEEPCNT", 3),
)  # a node without power is gone in 11 s


def proof(token: str, number: str) -> str:
    """What shows that one knows the token, and shows nobody else what it is."""
    return hmac.new(token.encode(), number.encode(), "sha256").hexdigest()


class Line:
    """A connection to the hub. Raises `EOFError` once it has ended, which is the hub's way to say: stop."""

    def __init__(self, address: str, token: str) -> None:
        """Connect to HOST:PORT. Raises `OSError` where nobody answers there."""
        host, _, port = address.rpartition(":")
        self.socket, self.rest = socket.create_connection((host, int(port)), timeout=PATIENCE), b""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            if hasattr(socket, name):
                self.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.send({"proof": proof(token, (self.receive(PATIENCE) or {"number": ""})["number"])})

    def send(self, message: dict[str, Any]) -> None:
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise EOFError(str(error)) from None

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """The next message, or None where none came in so many seconds."""
        until = time.monotonic() + seconds
        while b"\n" not in self.rest:
            if not select.select([self.socket], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            try:
                more = self.socket.recv(LONGEST)
            except OSError as error:
                raise EOFError(str(error)) from None
            if not more:
                raise EOFError("the hub has ended")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def close(self) -> None:
        self.socket.close()


class Hub:
    """What the nodes have said, and who is to be told."""

    def __init__(self, token: str) -> None:
        self.token, self.changed = token, asyncio.Condition()
        self.known: dict[str, Any] = {"nodes": {}, "failed": {}, "head": "", "dashboard": 0}

    async def serve(self, host: str, announce: Callable[[int], None]) -> None:
        """Serve for ever, at a port that the kernel chooses and `announce` is told."""
        server = await asyncio.start_server(self.attend, host, 0, limit=LONGEST)
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, name = None, ""
        try:
            number = secrets.token_hex(16)
            write(writer, {"number": number})
            first = json.loads(await asyncio.wait_for(reader.readline(), PATIENCE))
            if not hmac.compare_digest(str(first.get("proof")), proof(self.token, number)):
                return
            while line := await reader.readline():
                message = json.loads(line)
                if answers is None:
                    name = message.get("name", "")
                    answers = asyncio.ensure_future(
                        self.report(writer) if "watch" in message else self.direct(writer)
                    )
                await self.note(message)
        except (OSError, ValueError, KeyError, AttributeError):
            pass  # a stranger, or a node that is gone
        finally:
            if answers is not None:
                answers.cancel()
            if name and name not in self.known["failed"]:
                await self.note({"name": name, "failed": "node.py has ended there"})
            writer.close()

    async def note(self, message: dict[str, Any]) -> None:
        for key, kept in (("address", "nodes"), ("failed", "failed")):
            if key in message:
                self.known[kept][message["name"]] = message[key]
        self.known.update({key: message[key] for key in ("head", "dashboard") if key in message})
        async with self.changed:
            self.changed.notify_all()

    async def direct(self, writer: asyncio.StreamWriter) -> None:
        """Tell a node where the head is."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.known["head"])
        write(writer, {"head": self.known["head"]})

    async def report(self, writer: asyncio.StreamWriter) -> None:
        """Tell all that is known, again and again."""
        while True:
            write(writer, self.known)
            async with self.changed:
                await self.changed.wait()


def write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    writer.write(json.dumps(message).encode() + b"\n")


def token() -> str:
    """The job's."""
    return Path(os.environ["RAY_AUTH_TOKEN_PATH"]).read_text().strip()


def publish(path: Path, text: str) -> None:
    """Write a file that is whole when it appears."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text)
    unfinished.rename(path)


def main() -> None:
    async def run() -> None:
        await Hub(token()).serve(sys.argv[2], lambda port: publish(Path(sys.argv[1]) / "port", f"{port}\n"))

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


if __name__ == "__main__":
    main()
