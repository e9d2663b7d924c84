"""What every client of a PanDA server does the same way: retries by kind of request, and tokens read again."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pilot_communicator_panda import answers
from pilot_communicator_panda.http import HttpClient
from pilot_communicator_panda.retry import AttemptFailed, NoCredential, Retrier, RetryPolicy
from pilot_core import AuthError, BearerToken, CommunicationError, ConfigError

if TYPE_CHECKING:
    from pilot_communicator_panda.http import Reply, Request
    from pilot_communicator_panda.settings import ServerSettings
    from pilot_core import CancelToken, Context, Deadline, HandledError

__all__ = ["Caller", "gzipped"]

T = TypeVar("T")
_GZIP = 31
"""zlib's window bits for a gzip header and trailer; the module gzip costs 3 ms more to import."""
_MAY_BE_DISPATCHED = "a job may have been given to this pilot all the same; the server fails it after 30 minutes"


def gzipped(body: bytes) -> bytes:
    """Return the body compressed."""
    packer = zlib.compressobj(level=5, wbits=_GZIP)
    return packer.compress(body) + packer.flush()


class Caller:
    """Sends requests to one server and repeats them as the settings say."""

    def __init__(
        self,
        settings: ServerSettings,
        context: Context,
        *,
        other: str,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._http = (
            HttpClient(context, connect_timeout=settings.connect_timeout, timeout=settings.timeout)
            if context.server_url
            else None
        )
        self._settings = settings
        self._clock = context.clock
        self._other = other
        """The communicator to name when the server does not know our methods."""
        self._retrier = Retrier(context.clock, context.log, jitter)

    @property
    def http(self) -> HttpClient:
        """The connections; raises `ConfigError` where no server was named: jobs are read from files then."""
        if self._http is None:
            raise ConfigError(
                "there is no server to talk to; name it by --server, or pilot.server in the --config file"
            )
        return self._http

    def close(self) -> None:
        """Close the kept connections, if there can be any."""
        if self._http is not None:
            self._http.close()

    @property
    def where(self) -> str:
        """The server, for messages."""
        return self.http.url.authority

    def excerpt(self, text: str) -> str:
        """Return the beginning of a text from the server, fit for a message."""
        return answers.excerpt(text, self.http.redact)

    def send(self, request: Request, cancel: CancelToken, deadline: Deadline) -> Reply:
        """Send a request and return an answer with HTTP status 200; raises what any other status stands for.

        A token that is refused is read again once, in case it was renewed just now.
        """
        what = request.path.partition("?")[0].rpartition("/")[2]
        refused = False
        while True:
            reply = self.http.request(request, cancel=cancel, deadline=deadline)
            if reply.status == 200:
                return reply
            error: HandledError = answers.http_failure(
                reply, what, self.where, self.http.redact, now=self._clock.wall(), other=self._other
            )
            if not isinstance(error, AuthError) or not isinstance(reply.credential, BearerToken):
                raise error
            if refused or self.http.credential(cancel, deadline) == reply.credential:
                raise AuthError(f"{error}; renew the token in {reply.credential.source or 'its file'}")
            refused = True

    def acquire(self, what: str, attempt: Callable[[], T], cancel: CancelToken, deadline: Deadline) -> T:
        """Repeat a request for jobs only while the server surely did not carry it out."""

        def safe(failure: AttemptFailed) -> bool:
            return not failure.processed and not failure.permanent

        try:
            policy = self._policy(self._settings.acquire_retry_budget)
            return self._retrier.run(what, attempt, policy, repeatable=safe, cancel=cancel, deadline=deadline)
        except CommunicationError as error:
            if isinstance(error.__cause__, AttemptFailed) and error.__cause__.processed:
                raise CommunicationError(f"{error}; {_MAY_BE_DISPATCHED}") from None
            raise

    def update(self, what: str, attempt: Callable[[], T], cancel: CancelToken, deadline: Deadline) -> T:
        """Repeat an update whatever has happened to it.

        Also while there is no usable credential here: whoever renews it may be doing so just now. One that the server
        refuses is not repeated.
        """

        def with_credential() -> T:
            try:
                return attempt()
            except NoCredential as error:
                raise AttemptFailed(str(error), processed=False) from error

        policy = self._policy(self._settings.retry_budget)
        try:
            return self._retrier.run(
                what, with_credential, policy, repeatable=lambda _: True, cancel=cancel, deadline=deadline
            )
        except CommunicationError as error:
            if error.__cause__ is not None and isinstance(error.__cause__.__cause__, NoCredential):
                raise AuthError(str(error)) from None
            raise

    def inform(self, what: str, attempt: Callable[[], T], cancel: CancelToken, deadline: Deadline) -> T:
        """Repeat a request on which no job depends, unless only somebody's action can help."""

        def sensible(failure: AttemptFailed) -> bool:
            return not failure.permanent

        policy = self._policy(self._settings.info_retry_budget)
        return self._retrier.run(what, attempt, policy, repeatable=sensible, cancel=cancel, deadline=deadline)

    def _policy(self, budget: float) -> RetryPolicy:
        return RetryPolicy(budget, self._settings.retry_pause, self._settings.retry_pause_limit)
