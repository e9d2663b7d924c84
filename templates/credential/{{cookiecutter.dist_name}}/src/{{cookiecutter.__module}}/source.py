"""Where the token comes from.

It is asked for before every connection, so it has to be quick: nothing here waits for a network. A token that was
renewed is seen at the next call, one that has expired is never given, and no error shows a part of it.
"""

from __future__ import annotations

import json
import re
from threading import Lock
from typing import TYPE_CHECKING, Any

from pilot_core import AuthError, BearerToken

if TYPE_CHECKING:
    from pilot_core import CancelToken, Context, Credential, Deadline

    from {{ cookiecutter.__module }}.settings import Settings


class {{ cookiecutter.__class }}:
    """The source. Any number of threads may use it."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._file = settings.file
        self._origin = settings.origin
        self._clock = context.clock
        self._lock = Lock()
        self._seen: set[str] = set()

    def credential(self, *, cancel: CancelToken, deadline: Deadline) -> Credential:
        """Return the token that is valid now; raises `AuthError`, which names the file."""
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(f"{self._file}: reading the token")
        # YOUR CODE: get the token; keep it if that is slow, and get it anew before it expires
        told = self._read()
        token, expires = told.get("token"), told.get("expires")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise AuthError(f"{self._file}: has no token; is the agent that writes it running?")
        with self._lock:
            self._seen.add(token)
        if isinstance(expires, bool) or not isinstance(expires, (int, float)):
            raise AuthError(f"{self._file}: does not say when the token expires; is it the agent's file?")
        if not expires > self._clock.wall():  # NaN is never valid either
            raise AuthError(f"{self._file}: the token has expired; is the agent that renews it running?")
        return BearerToken(value=token, origin=self._origin, expires=float(expires), source=str(self._file))

    def secrets(self) -> tuple[str, ...]:
        """Return every token seen so far, so that no log shows one."""
        with self._lock:
            return tuple(self._seen)

    def _read(self) -> dict[str, Any]:
        """Return what the file says; raises `AuthError` without any of its content."""
        try:
            told = json.loads(self._file.read_bytes())
        except OSError as error:
            raise AuthError(f"{self._file}: cannot be read: {error.strerror}; start the agent that writes it") from None
        except (ValueError, RecursionError):
            raise AuthError(f"{self._file}: is no JSON; is it the agent's file?") from None
        if not isinstance(told, dict):
            raise AuthError(f"{self._file}: is no JSON object; is it the agent's file?")
        return told
