"""Listening to what goes over the wire: a communicator tells each exchange with its server to whoever asked for it.

A communicator that speaks HTTP calls `context.traffic.exchanged(...)`, where that is not None, once for every request
that it tried to send, whatever became of it. It tells the truth, credentials included: who listens takes them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["CALLED_OFF", "LOST", "NOT_CONNECTED", "STALE", "TIMED_OUT", "Exchange", "Headers", "TrafficListener"]

Headers = tuple[tuple[str, str], ...]
"""Names and values in their order on the wire; a name may come several times."""

NOT_CONNECTED = "not-connected"
"""There was no connection, so that the request surely did not reach the server."""
LOST = "lost"
"""The request was sent, and the connection ended without a whole answer."""
TIMED_OUT = "timed-out"
"""The request was sent, and no answer came within the time allowed for it."""
CALLED_OFF = "called-off"
"""The request was sent, and the pilot gave up waiting because the work was called off."""
STALE = "stale"
"""A kept connection turned out to be closed already; the same request went out again at once on a new one."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One HTTP request and what became of it."""

    method: str
    url: str
    """Absolute, as the server was asked; without credentials in it."""
    started: float
    """Wall time, seconds since 1970."""
    seconds: float
    """From there to the last byte of the answer, or to the failure."""
    connect_seconds: float | None = None
    """Seconds of that for opening a connection, TLS included; None on a kept connection."""
    wait_seconds: float = 0.0
    """Seconds of that between the request's last byte and the answer's first line."""
    request_headers: Headers = field(default=(), repr=False)
    request_body: bytes = field(default=b"", repr=False)
    """As it was sent: compressed where `Content-Encoding` says so."""
    status: int = 0
    """The answer's status; 0 = there was no whole answer."""
    reason: str = ""
    response_headers: Headers = field(default=(), repr=False)
    response_body: bytes = field(default=b"", repr=False)
    failure: str = ""
    """Why there is no answer: one of this module's constants; empty if there is one."""
    error: str = ""
    """The same in words."""


class TrafficListener(Protocol):
    """Hears of every exchange; called in the thread that made it, right after its end, so it has to be quick."""

    def exchanged(self, exchange: Exchange) -> None:
        """Take notice of an exchange. Must not raise."""
        ...
