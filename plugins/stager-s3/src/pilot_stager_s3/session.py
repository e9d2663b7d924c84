"""Requests to an S3 service, signed; what it says when it does not do what is asked; and what can be mended at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from pilot_core import AuthError, ConfigError
from pilot_core.api.web import Trust, WebBody, WebClient, WebRequest
from pilot_stager_s3.keys import KeyFile, Keys
from pilot_stager_s3.problems import Problem, error_of, problem_of
from pilot_stager_s3.sigv4 import UNSIGNED, Asked, presigned_query, query_string, signed_headers

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Deadline
    from pilot_core.api.web import WebAddress, WebAnswer
    from pilot_stager_s3.location import Location
    from pilot_stager_s3.settings import Settings

__all__ = ["Call", "Limits", "Session"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 5
_NOTHING = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class Limits:
    """What ends a call."""

    cancel: CancelToken
    deadline: Deadline

    def check(self, what: str) -> None:
        """Raise `Cancelled` or `TransferTimeout` if it is time to stop."""
        self.cancel.raise_if_cancelled()
        self.deadline.raise_if_passed(what)

    def pause(self, seconds: float, what: str) -> None:
        """Wait so long, unless it is called off before; raises as `check`."""
        clock = self.deadline.clock
        clock.wait(self.cancel, until=min(self.deadline.at, clock.monotonic() + seconds))
        self.check(what)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is asked of a service."""

    method: str
    location: Location
    what: str
    """The file, for messages."""
    reading: bool = True
    """Whether the object should be there."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: WebBody | None = None
    digest: str = ""
    """SHA-256 of the body, where it is signed; a part is signed by its Content-MD5."""
    presigned: bool = False
    """Whether the signature is in the URL: then a redirect may be followed, for nothing secret goes along."""
    expect: bool = False
    """Whether the service is asked before the body is sent."""


class Session:
    """The services of a pilot's S3 storages. Thread safe."""

    def __init__(self, settings: Settings, context: Context) -> None:
        """Prepare; raises `ConfigError`."""
        self._settings = settings
        self._clock = context.clock
        self._log = context.log
        self._keys = KeyFile(settings.credentials_file, settings.profile) if settings.credentials_file else None
        self._skews: dict[str, float] = {}
        try:
            self._client = WebClient(
                context.clock,
                trust=Trust.chosen(settings.ca_file, settings.ca_dir, otherwise=context.ca_file),
                proxy=context.proxy,
                user_agent=context.user_agent,
                silence=settings.silence,
            )
        except ValueError as error:
            raise ConfigError(f"the pilot's proxy cannot be used: {error}") from None

    def must(self, call: Call, limits: Limits) -> WebAnswer:
        """Return the answer to what is asked; raises the error of what the service says, and as `ask`."""
        answer = self.ask(call, limits)
        if isinstance(answer, Problem):
            raise error_of(answer, call.what, reading=call.reading)
        return answer

    def ask(self, call: Call, limits: Limits) -> WebAnswer | Problem:
        """Ask, and return the answer, or what the service says in its place.

        Asked again, once each, is what was refused for a wrong clock or with keys that were replaced meanwhile.
        Raises `AuthError` if there are no keys, and what `WebClient.send` raises.
        """
        corrected = False
        while True:
            keys = self._keys_for(call.location, call.what)
            answer = self._sent(call, self._signed(call, keys), limits)
            if not isinstance(answer, Problem):
                return answer
            if answer.of_time and not corrected:
                corrected = self._correct(call, answer)
                if corrected:
                    continue
            if answer.kind is AuthError and self._keys_for(call.location, call.what) != keys:
                continue
            return answer

    def url(self, location: Location, *, what: str, seconds: int) -> str:
        """Return a URL that anybody can read an object from, for so many seconds; it is a secret while it holds."""
        call = Call(method="GET", location=location, what=what, presigned=True)
        return self._presigned(call, self._keys_for(location, what), seconds)

    # -- signing -----------------------------------------------------------------------------------------------------

    def _keys_for(self, location: Location, what: str) -> Keys | None:
        """Return the keys for a service, None if requests are not signed; raises `AuthError`."""
        if self._keys is None:
            return None
        try:
            return self._keys.keys(location.service.authority, ours=location.ours)
        except AuthError as error:
            raise AuthError(f"{what}: {error}") from None

    def _signed(self, call: Call, keys: Keys | None) -> WebRequest:
        """Return the request as it goes over the wire."""
        if call.presigned:
            url, headers = self._presigned(call, keys, self._settings.presigned_seconds), dict(call.headers)
        else:
            address = call.location.address
            query = query_string(call.query)
            url = f"{address.url}?{query}" if query else address.url
            headers = dict(call.headers)
            if keys is not None:
                payload = _NOTHING if call.body is None else call.digest or UNSIGNED
                headers = signed_headers(
                    self._asked(call), keys, region=self._settings.region, now=self._now(call.location), payload=payload
                )
        return WebRequest(
            method=call.method, url=url, headers=headers, body=call.body, expect=call.expect, what=call.what
        )

    def _presigned(self, call: Call, keys: Keys | None, seconds: int) -> str:
        """Return a URL with the signature in its query."""
        if keys is None:
            return call.location.address.url
        now, region = self._now(call.location), self._settings.region
        query = presigned_query(self._asked(call), keys, region=region, now=now, seconds=seconds)
        return f"{call.location.address.url}?{query}"

    def _asked(self, call: Call) -> Asked:
        address = call.location.address
        headers = {} if call.presigned else call.headers
        return Asked(method=call.method, host=address.authority, path=address.target, query=call.query, headers=headers)

    # -- the clock ---------------------------------------------------------------------------------------------------

    def _now(self, location: Location) -> float:
        """Return the time of a service's clock, as far as it is known."""
        return self._clock.wall() + self._skews.get(location.service.authority, 0.0)

    def _correct(self, call: Call, problem: Problem) -> bool:
        """Take a service's time; say whether that was news."""
        authority = call.location.service.authority
        if abs(problem.skew - self._skews.get(authority, 0.0)) < 1.0:
            return False
        self._skews[authority] = problem.skew
        way = "behind" if problem.skew > 0 else "ahead of"
        self._log.warning(
            "this machine's clock is %.0f s %s that of %s, which refuses signatures of another time; its time is "
            "taken. Set the clock right",
            abs(problem.skew),
            way,
            authority,
        )
        return True

    # -- sending -----------------------------------------------------------------------------------------------------

    def _sent(self, call: Call, request: WebRequest, limits: Limits) -> WebAnswer | Problem:
        """Send a request, and follow redirects of one whose signature is in its URL."""
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._client.send(request, cancel=limits.cancel, deadline=limits.deadline)
            if answer.status < 300:
                return answer
            with answer:
                problem = problem_of(answer, self._clock.wall())
                target = answer.headers.get("location", "")
            # S3's own redirects name another endpoint, for which the signature has to be another one
            if not call.presigned or problem.status not in REDIRECTS or problem.code or not target:
                return problem
            url = urljoin(answer.address.url, target)
            if not _followed(answer.address, url):
                return Problem(status=problem.status, message="a redirect away from TLS", location=problem.location)
            request = WebRequest(method=request.method, url=url, headers=request.headers, what=request.what)
        return Problem(status=problem.status, message=f"more than {MOST_REDIRECTS} redirects")


def _followed(address: WebAddress, url: str) -> bool:
    """Say whether a redirect may be followed: never from TLS to none."""
    return url.startswith("https://") or (url.startswith("http://") and not address.secure)
