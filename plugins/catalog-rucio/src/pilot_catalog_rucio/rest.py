"""Requests to Rucio: each carries the token, is asked again where that can help, and ends in one of our errors."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from pilot_catalog_rucio.answers import TokenRefused, json_of, trouble
from pilot_catalog_rucio.tokens import Tokens
from pilot_core import (
    AuthError,
    BackendUnavailable,
    CommunicationError,
    TransferError,
    TransferTimeout,
    TransientError,
    shown_url,
)
from pilot_core.api.web import Trust, WebBody, WebClient, WebRequest

if TYPE_CHECKING:
    from pilot_catalog_rucio.settings import Settings
    from pilot_core import CancelToken, Context, Deadline
    from pilot_core.api.web import WebAnswer

__all__ = ["STREAM", "Call", "Rest", "Session"]

T = TypeVar("T")
STREAM = "application/x-json-stream"
"""One JSON object a line."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds between two tries, at most: twice as long each time."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request. Every one may be sent again: none does anything a second time."""

    method: str
    path: str
    """Below the server's URL, percent-encoded."""
    what: str
    """For messages."""
    body: Any = None
    """JSON."""
    query: tuple[tuple[str, str], ...] = ()
    accept: str = "application/json"


class Rest:
    """Asks one Rucio server. Thread safe."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._settings = settings
        self._clock = context.clock
        self._log = context.log
        self.url = settings.url.rstrip("/")
        self.web = WebClient(
            context.clock,
            trust=Trust.chosen(settings.ca_file, settings.ca_dir, otherwise=context.ca_file),
            proxy=context.proxy,
            user_agent=context.user_agent,
            silence=settings.timeout,
        )
        told = {"Account": settings.account, "VO": settings.vo, "AppID": "pilot-core"}
        self._headers = {f"X-Rucio-{name}": value for name, value in told.items() if value}
        self._tokens = Tokens(settings, context, self.web, self._headers)

    def within(self, cancel: CancelToken, deadline: Deadline) -> Session:
        """Return what asks for one of the pilot's calls; raises `Cancelled` or `CommunicationError` if it is late."""
        cancel.raise_if_cancelled()
        if deadline.passed:
            raise CommunicationError(f"{shown_url(self.url)} is not asked: the time allowed for it is used up")
        return Session(self, cancel, deadline)

    def ask(self, call: Call, read: Callable[[WebAnswer], T], *, cancel: CancelToken, deadline: Deadline) -> T:
        """Return what `read` makes of a good answer.

        Raises `Refused`, `AuthError`, `Cancelled`, and `CommunicationError` once the tries or the time are used up.
        """
        pause, last = FIRST_PAUSE, ""
        for left in reversed(range(self._settings.tries)):
            cancel.raise_if_cancelled()
            if deadline.passed:
                raise CommunicationError(f"{call.what}: the time allowed for it is used up{last and f': {last}'}")
            try:
                return self._with_token(call, read, cancel, deadline)
            except (TransientError, TransferTimeout) as error:
                last, asked = str(error), getattr(error, "retry_after", None) or 0.0
            except (BackendUnavailable, TransferError) as error:
                raise CommunicationError(f"{call.what}: {error}") from None
            wait = max(asked, pause * random.uniform(0.5, 1.0))  # noqa: S311  (no secret: so that pilots do not march)
            if not left or wait >= deadline.remaining():
                break
            self._log.info("%s; again in %.1f s", last, wait)
            self._clock.wait(cancel, until=self._clock.monotonic() + wait)
            pause = min(2 * pause, LONGEST_PAUSE)
        cancel.raise_if_cancelled()
        raise CommunicationError(f"{last if call.what in last else f'{call.what}: {last}'}; given up")

    def _with_token(self, call: Call, read: Callable[[WebAnswer], T], cancel: CancelToken, deadline: Deadline) -> T:
        """Ask once, and once more with a new token if Rucio does not take the one we have."""
        for last in (False, True):
            token = self._tokens.get(cancel, deadline)
            try:
                return self._once(call, token, read, cancel, deadline)
            except TokenRefused as error:
                self._tokens.refused(token)
                if last:
                    raise AuthError(f"{error}: Rucio does not take a new token either") from None
        raise AssertionError

    def _once(
        self, call: Call, token: str, read: Callable[[WebAnswer], T], cancel: CancelToken, deadline: Deadline
    ) -> T:
        query = f"?{urlencode(call.query)}" if call.query else ""
        data = None if call.body is None else json.dumps(call.body).encode()
        headers = {**self._headers, "Accept": call.accept, "X-Rucio-Auth-Token": token}
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = WebRequest(
            method=call.method,
            url=f"{self.url}/{call.path}{query}",
            headers=headers,
            body=None if data is None else WebBody.of(data),
            what=f"{call.what} at {shown_url(self.url)}",
        )
        with self.web.send(request, cancel=cancel, deadline=deadline) as answer:
            error = trouble(answer, request.what, self._clock.wall())
            if error is not None:
                raise error
            return read(answer)


@dataclass(frozen=True)
class Session:
    """The requests of one call of the pilot's: all of them end with its cancellation and its deadline."""

    rest: Rest
    cancel: CancelToken
    deadline: Deadline

    def ask(self, call: Call, read: Callable[[WebAnswer], T]) -> T:
        """Return what `read` makes of a good answer; raises as `Rest.ask`."""
        return self.rest.ask(call, read, cancel=self.cancel, deadline=self.deadline)

    def one(self, call: Call) -> Mapping[str, Any]:
        """Return the one object of the answer."""
        return self.ask(call, lambda answer: json_of(answer.read(), call.what))

    def tell(self, call: Call) -> None:
        """Ask for something whose answer says nothing more than that it is done."""
        self.ask(call, lambda answer: answer.read())
