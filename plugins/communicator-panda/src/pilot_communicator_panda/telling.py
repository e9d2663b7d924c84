"""Telling a traffic listener of a request and of what became of it; where nobody listens it costs next to nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_communicator_panda.retry import AttemptFailed
from pilot_core import Cancelled, Exchange
from pilot_core.api.traffic import CALLED_OFF, LOST, NOT_CONNECTED, STALE, TIMED_OUT

if TYPE_CHECKING:
    import http.client
    from collections.abc import Mapping

    from pilot_communicator_panda.http import Request
    from pilot_core import Clock, TrafficListener

__all__ = ["Telling"]


class Telling:
    """One request under way, for a listener; exactly one of `answered` and `failed` ends it."""

    def __init__(
        self, listener: TrafficListener, clock: Clock, request: Request, url: str, headers: Mapping[str, str]
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._request = request
        self._url = url
        self._headers = tuple(headers.items())
        self._wall = clock.wall()
        self._begun = clock.monotonic()
        self._connected: float | None = None
        self._sent: float | None = None
        self._begins: float | None = None

    def connected(self) -> None:
        """Note that a new connection was opened."""
        self._connected = self._clock.monotonic()

    def sent(self) -> None:
        """Note that the request was sent, or that it is being sent: the server may have it."""
        self._sent = self._clock.monotonic()

    def begins(self) -> None:
        """Note that the answer begins."""
        self._begins = self._clock.monotonic()

    def answered(self, status: int, reason: str, headers: http.client.HTTPMessage, body: bytes) -> None:
        """Tell of a whole answer."""
        self._tell(status=status, reason=reason, headers=tuple(headers.items()), body=body)

    def failed(self, error: BaseException, *, stale: bool = False) -> None:
        """Tell of an end without a whole answer; `stale` = the kept connection had been closed before."""
        if stale:
            failure = STALE
        elif self._sent is None:
            failure = NOT_CONNECTED
        elif isinstance(error, Cancelled):
            failure = CALLED_OFF
        elif isinstance(error, AttemptFailed) and error.timed_out:
            failure = TIMED_OUT
        else:
            failure = LOST
        self._tell(failure=failure, error=str(error))

    def _tell(
        self,
        *,
        status: int = 0,
        reason: str = "",
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        failure: str = "",
        error: str = "",
    ) -> None:
        waited = (self._begins or 0.0) - (self._sent or 0.0)
        self._listener.exchanged(
            Exchange(
                method=self._request.method,
                url=self._url,
                started=self._wall,
                seconds=self._clock.monotonic() - self._begun,
                connect_seconds=None if self._connected is None else self._connected - self._begun,
                wait_seconds=max(0.0, waited),
                request_headers=self._headers,
                request_body=self._request.body,
                status=status,
                reason=reason,
                response_headers=headers,
                response_body=body,
                failure=failure,
                error=error,
            )
        )
