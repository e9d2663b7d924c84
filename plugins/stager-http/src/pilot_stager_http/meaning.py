"""What an answer's status means to the pilot: the error whose class says what is worth trying next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pilot_core import (
    AuthError,
    BackendUnavailable,
    HandledError,
    NoSpace,
    PilotErrorCode,
    SourceNotFound,
    TargetExists,
    TransferError,
    TransientError,
)
from pilot_core.api.web import WebAnswer, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_core import Clock

__all__ = ["refusal"]

LONGEST_TEXT = 200
"""Characters of what a storage says that a message shows."""
_CERTIFICATE = frozenset({400, 495, 496})
"""What nginx answers to a certificate that it does not take, or misses; only its text says so."""
_TITLE = re.compile(r"<title>([^<]{1,200})</title>", re.IGNORECASE)
_LATER = frozenset({408, 423, 425, 429, 503})
_FULL = frozenset({413, 507})
_FULL_WORDS = ("no space", "quota", "disk full", "insufficient storage")
"""What storages without a status for it say in the text of a 500."""


def refusal(
    answer: WebAnswer, what: str, clock: Clock, *, writing: bool, without_secrets: Callable[[str], str]
) -> HandledError:
    """Return the error that an answer amounts to that is none of those that were wished for; reads its text.

    `without_secrets` takes out of that what is nobody's business: storages repeat what they were sent.
    """
    status, said = answer.status, _said(answer, without_secrets)
    text = f"{what}: HTTP {status}{f': {said}' if said else ''}"
    if status in {401, 403, 407} or (status in _CERTIFICATE and "certificate" in said.lower()):
        codes = PilotErrorCode.STAGEINAUTHENTICATIONFAILURE, PilotErrorCode.STAGEOUTAUTHENTICATIONFAILURE
        hint = "check token_file and x509_proxy of the stager http"
        return AuthError(f"{text}; {hint}", error_code=codes[writing])
    if status in {404, 410}:
        return SourceNotFound(text)
    if status == 412 and writing:
        return TargetExists(f"{what}: is there already")
    if writing and (status in _FULL or (status >= 500 and any(word in said.lower() for word in _FULL_WORDS))):
        return NoSpace(f"{text}; make room there", error_code=PilotErrorCode.NOREMOTESPACE)
    if status in _LATER or (status >= 500 and status not in {501, 505}):
        code = PilotErrorCode.STAGEOUTFAILED if writing else PilotErrorCode.STAGEINFAILED
        return TransientError(text, retry_after=retry_after(answer.headers, clock.wall()), error_code=code)
    return BackendUnavailable(f"{text}; the storage does not serve this request")


def _said(answer: WebAnswer, without_secrets: Callable[[str], str]) -> str:
    """Return what a storage says in one line: its text, of a page for browsers the title, else the reason phrase."""
    kind = answer.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    text = ""
    if kind in {"text/plain", "text/html"} and answer.length is not None and answer.length <= 4096:
        try:
            text = answer.read(4096).decode("utf-8", "replace").strip()
        except TransferError:
            text = ""
    if kind == "text/html":
        title = _TITLE.search(text)
        text = title[1].removeprefix(f"{answer.status} ") if title else ""
    text = " ".join(without_secrets(text or answer.reason).split())
    return "".join(char for char in text if char.isprintable())[:LONGEST_TEXT]
