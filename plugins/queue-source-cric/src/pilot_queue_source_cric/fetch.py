"""JSON documents from servers and files."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilot_core import AuthError, CommunicationError, ConfigError, RequestRefused

if TYPE_CHECKING:
    import requests

    from pilot_core import CancelToken, Context, Deadline

__all__ = ["MISSING", "Fetcher", "read_json_file"]

MISSING = object()
"""What `Fetcher.json` returns for a document that the server does not have (404)."""

LARGEST = 256 * 1024 * 1024
"""Bytes that a document may have; all storages of ATLAS are tens of MB."""

_PAUSE = 1.0
"""Seconds before the second try, doubled for each further one, then randomly shortened by up to half."""


def read_json_file(path: Path) -> Any:
    """Return the parsed file; raises `ConfigError` if it cannot be read or is not JSON."""
    try:
        return _parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from error


def _parse(content: bytes) -> Any:
    """Parse JSON; raises `ValueError` only."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class _NoAnswerError(Exception):
    """The server did not answer sensibly this time."""


@dataclass(frozen=True)
class Fetcher:
    """Gets JSON from servers: TLS always verified, nothing taken from the environment, no redirects."""

    context: Context
    timeout: float
    """Seconds that a server may stay silent."""
    tries: int

    def json(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> Any:
        """Return the parsed document, or `MISSING` if the server says 404.

        Raises `ConfigError` for an impossible URL, `AuthError` for 401 and 403, `RequestRefused` for other refusals,
        `CommunicationError` when the tries or the deadline are used up, `Cancelled`.
        """
        _check(url)
        clock, pause, trouble = self.context.clock, _PAUSE, ""
        for number in range(self.tries):
            if number:
                until = clock.monotonic() + pause * random.uniform(0.5, 1.0)  # noqa: S311  (spreads retries only)
                clock.wait(cancel, until=min(until, deadline.at))
                pause *= 2
            cancel.raise_if_cancelled()
            if deadline.passed:
                trouble = trouble or "no time was left for it"
                break
            try:
                return self._once(url, cancel, deadline)
            except _NoAnswerError as error:
                trouble = str(error)
                self.context.log.debug("%s: try %d of %d: %s", url, number + 1, self.tries, trouble)
        raise CommunicationError(f"{url}: {trouble}; check the URL and that the server is up")

    def _once(self, url: str, cancel: CancelToken, deadline: Deadline) -> Any:
        import requests  # noqa: PLC0415  (95 ms; only pilots that ask a server need it)

        silence = min(self.timeout, max(0.001, deadline.remaining()))
        try:
            with requests.Session() as session:
                self._prepare(session)
                with session.get(url, timeout=silence, stream=True, allow_redirects=False) as response:
                    if response.status_code == 404:
                        return MISSING
                    self._judge(url, response)
                    return self._body(url, response, cancel, deadline)
        except requests.exceptions.InvalidURL as error:
            raise ConfigError(f"{url}: is not a URL: {error}") from error
        except requests.exceptions.SSLError as error:
            ca = self.context.ca_file or "the Python installation's authorities"
            raise CommunicationError(f"{url}: TLS failed: {_short(error)}; trusted is {ca} (--ca-file)") from error
        except requests.RequestException as error:
            raise _NoAnswerError(_short(error)) from error

    def _prepare(self, session: requests.Session) -> None:
        """Take trust and proxy from the pilot's own settings only."""
        context = self.context
        session.trust_env = False
        session.verify = str(context.ca_file) if context.ca_file else True
        session.headers.update({"User-Agent": context.user_agent, "Accept": "application/json"})
        if context.proxy:
            session.proxies = {"http": context.proxy, "https": context.proxy}

    def _judge(self, url: str, response: requests.Response) -> None:
        """Raise for any answer but 200."""
        status = f"the server answered {response.status_code} {response.reason}"
        if response.status_code == 200:
            return
        if response.is_redirect:
            place = response.headers["Location"].partition("?")[0]
            raise RequestRefused(
                f"{url}: {status}: it is at {place}; set queue-source.cric.url to that if you trust it"
            )
        if response.status_code in {401, 403}:
            raise AuthError(f"{url}: {status}; queuedata must be readable without a credential")
        if response.status_code >= 500 or response.status_code == 429:
            raise _NoAnswerError(status)
        raise RequestRefused(f"{url}: {status}; check queue-source.cric.url")

    def _body(self, url: str, response: requests.Response, cancel: CancelToken, deadline: Deadline) -> Any:
        content = bytearray()
        for block in response.iter_content(65536):
            content += block
            cancel.raise_if_cancelled()
            if deadline.passed:
                raise _NoAnswerError(f"the answer was not complete in time ({len(content)} bytes)")
            if len(content) > LARGEST:
                raise RequestRefused(f"{url}: the answer is larger than {LARGEST} bytes")
        try:
            return _parse(bytes(content))
        except ValueError as error:
            raise _NoAnswerError(f"the answer is not JSON: {error}") from error


def _check(url: str) -> None:
    """Raise `ConfigError` for what is no URL, and for one with a password, which would be in every log."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"{url}: is not a URL: {error}; set queue-source.cric.url") from error
    if parts.scheme not in {"http", "https"}:
        raise ConfigError(f"{url}: is not an https:// or http:// URL; set queue-source.cric.url")
    if "@" in parts.netloc:
        place = f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]}"
        raise ConfigError(f"{place}: must not hold a user name or a password; no credential is sent for queuedata")


def _short(error: BaseException) -> str:
    """Return what went wrong at the bottom of a chain of wrapped errors, on one line."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        reason = getattr(current, "reason", None)
        inner = [item for item in current.args if isinstance(item, BaseException)]
        current = reason if isinstance(reason, BaseException) else inner[0] if inner else current.__cause__
    deepest = seen[-1]
    text = deepest.strerror if isinstance(deepest, OSError) and deepest.strerror else str(deepest)
    return " ".join(text.split()) or type(deepest).__name__
