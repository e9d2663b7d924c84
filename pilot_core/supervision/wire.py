"""Messages between the pilot and its payloads' supervisors: JSON, length first, of any size."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pilot_core.api.clock import SystemClock
from pilot_core.api.executor import PayloadSpec

__all__ = ["DESCRIPTOR", "HERE", "NEXT", "Order", "receive", "send", "send_json"]

DESCRIPTOR = 3
"""Where a fork server that was executed, not forked, finds its connection."""
NEXT, HERE = b"+", b"!"
"""The pilot asks for a supervisor; the fork server sends the connection to it. Any other answer is an error's text."""

_LENGTH = struct.Struct(">Q")


class Order(NamedTuple):
    """What a supervisor is told: the payload to run, and the clock to go by."""

    spec: PayloadSpec
    clock: SystemClock

    def to_bytes(self) -> bytes:
        """Return one line of JSON. Text may hold any bytes, the way Python decodes file names.

        Paths are made absolute, since they are for a process with another working directory.
        """
        spec = self.spec
        paths = {name: str(getattr(spec, name).absolute()) for name in ("cwd", "stdout", "stderr", "control_dir")}
        values = {
            "job_id": spec.job_id,
            "argv": list(spec.argv),
            "environment": dict(spec.environment),
            "kill_grace": spec.kill_grace,
        }
        return json.dumps({"spec": {**values, **paths}, "clock": self.clock.state()}).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> Order:
        """Make the order from what `to_bytes` returned."""
        order = json.loads(text)
        spec: dict[str, Any] = order["spec"]
        paths = {name: Path(spec[name]) for name in ("cwd", "stdout", "stderr", "control_dir")}
        return cls(
            PayloadSpec(**{**spec, **paths, "argv": tuple(spec["argv"])}), SystemClock.from_state(order["clock"])
        )


def send(connection: socket.socket, body: bytes) -> None:
    """Send one message; raises `OSError`."""
    connection.sendall(_LENGTH.pack(len(body)) + body)


def send_json(connection: socket.socket, value: Mapping[str, Any]) -> None:
    """Send an answer; raises `OSError`."""
    send(connection, json.dumps(value).encode())


def receive(connection: socket.socket) -> bytes:
    """Wait for one message; empty at the end of the connection, even in the middle of a message."""
    head = _exactly(connection, _LENGTH.size)
    return _exactly(connection, _LENGTH.unpack(head)[0]) if head else b""


def _exactly(connection: socket.socket, size: int) -> bytes:
    """Read so many bytes, or nothing if the connection ends before."""
    parts = []
    while size:
        try:
            part = connection.recv(min(size, 1 << 20))
        except ConnectionResetError:
            return b""
        if not part:
            return b""
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
