"""What an error of XRootD amounts to: a table, by the codes of its protocol and of its client.

Facts: `XErrorCode` in XProtocol.hh (kXR_*: what a server answers) and XrdClStatus.hh (err*: what the client found) of
XRootD 5 and 6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pilot_core import (
    AuthError,
    BackendUnavailable,
    ChecksumMismatch,
    HandledError,
    NoSpace,
    SourceNotFound,
    TargetExists,
    TransferError,
    TransferTimeout,
    TransientError,
)

if TYPE_CHECKING:
    from pilot_core.api.local_files import Place

__all__ = ["ANSWERED", "FOUND", "SERVER_ANSWER", "TLS_FAILED", "Trouble", "handled"]

SERVER_ANSWER = 400
"""`errErrorResponse`: the server said no, and the number is its kXR_ code."""
TLS_FAILED = 110
"""`errTlsError`: among others, the server's certificate is by no trusted authority."""
LONGEST = 500
"""Characters of the storage's words that a message shows."""

_READ_ONLY = re.compile(r"read[/ -]only", re.IGNORECASE)
_HUNG_UP = re.compile(r"reset by peer|broken pipe|timed out", re.IGNORECASE)

ANSWERED: Mapping[int, tuple[str, type[HandledError]]] = {
    3000: ("kXR_ArgInvalid", TransferError),
    3001: ("kXR_ArgMissing", TransferError),
    3002: ("kXR_ArgTooLong", SourceNotFound),
    3003: ("kXR_FileLocked", TransientError),
    3004: ("kXR_FileNotOpen", TransientError),
    3005: ("kXR_FSError", TransientError),
    3006: ("kXR_InvalidRequest", BackendUnavailable),
    3007: ("kXR_IOError", TransientError),
    3008: ("kXR_NoMemory", TransientError),
    3009: ("kXR_NoSpace", NoSpace),
    3010: ("kXR_NotAuthorized", AuthError),
    3011: ("kXR_NotFound", SourceNotFound),
    3012: ("kXR_ServerError", TransientError),
    3013: ("kXR_Unsupported", BackendUnavailable),
    3014: ("kXR_noserver", TransientError),
    3015: ("kXR_NotFile", SourceNotFound),
    3016: ("kXR_isDirectory", SourceNotFound),
    3017: ("kXR_Cancelled", TransientError),
    3018: ("kXR_ItExists", TargetExists),
    3019: ("kXR_ChkSumErr", ChecksumMismatch),
    3020: ("kXR_inProgress", TransientError),
    3021: ("kXR_overQuota", NoSpace),
    3022: ("kXR_SigVerErr", AuthError),
    3023: ("kXR_DecryptErr", AuthError),
    3024: ("kXR_Overloaded", TransientError),
    3025: ("kXR_fsReadOnly", BackendUnavailable),
    3026: ("kXR_BadPayload", TransientError),
    3027: ("kXR_AttrNotFound", TransferError),
    3028: ("kXR_TLSRequired", BackendUnavailable),
    3029: ("kXR_noReplicas", SourceNotFound),
    3030: ("kXR_AuthFailed", AuthError),
    3031: ("kXR_Impossible", TransferError),
    3032: ("kXR_Conflict", TransferError),
    3033: ("kXR_TooManyErrs", TransientError),
    3034: ("kXR_ReqTimedOut", TransientError),
    3035: ("kXR_TimerExpired", TransientError),
}
"""What a server's answer amounts to."""

FOUND: Mapping[int, tuple[str, type[HandledError]]] = {
    1: ("errRetry", TransientError),
    2: ("errUnknown", TransientError),
    3: ("errInvalidOp", TransientError),
    4: ("errFcntl", TransientError),
    5: ("errPoll", TransientError),
    6: ("errConfig", BackendUnavailable),
    7: ("errInternal", TransientError),
    8: ("errUnknownCommand", BackendUnavailable),
    9: ("errInvalidArgs", TransferError),
    10: ("errInProgress", TransientError),
    11: ("errUninitialized", BackendUnavailable),
    12: ("errOSError", TransientError),
    13: ("errNotSupported", BackendUnavailable),
    14: ("errDataError", TransientError),
    15: ("errNotImplemented", BackendUnavailable),
    16: ("errNoMoreReplicas", SourceNotFound),
    17: ("errPipelineFailed", TransientError),
    101: ("errInvalidAddr", TransientError),
    102: ("errSocketError", TransientError),
    103: ("errSocketTimeout", TransferTimeout),
    104: ("errSocketDisconnected", TransientError),
    105: ("errPollerError", TransientError),
    106: ("errSocketOptError", TransientError),
    107: ("errStreamDisconnect", TransientError),
    108: ("errConnectionError", TransientError),
    109: ("errInvalidSession", TransientError),
    110: ("errTlsError", BackendUnavailable),
    201: ("errInvalidMessage", TransientError),
    202: ("errHandShakeFailed", TransientError),
    203: ("errLoginFailed", AuthError),
    204: ("errAuthFailed", AuthError),
    205: ("errQueryNotSupported", BackendUnavailable),
    206: ("errOperationExpired", TransferTimeout),
    207: ("errOperationInterrupted", TransientError),
    208: ("errThresholdExceeded", TransientError),
    301: ("errNoMoreFreeSIDs", TransientError),
    302: ("errInvalidRedirectURL", BackendUnavailable),
    303: ("errInvalidResponse", TransientError),
    304: ("errNotFound", SourceNotFound),
    305: ("errCheckSumError", ChecksumMismatch),
    306: ("errRedirectLimit", BackendUnavailable),
    401: ("errRedirect", TransientError),
    500: ("errResponseNegative", SourceNotFound),
}
"""What the client's own finding amounts to."""
_PLAINLY = {
    "errInvalidAddr": "; the name of its host has no address",
    "errConnectionError": "; nobody answers at its host and port",
}
"""What the client's shortest messages mean."""


class Trouble(Exception):
    """An XRootDStatus that is not ok."""

    def __init__(self, code: int, number: int, message: str, *, clean: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.number = number
        """The server's kXR_ code if it answered, else the system's errno."""
        self.message = message
        self.clean = clean
        """Whether it came as the only answer to a request, not in the midst of a transfer."""

    def amid(self) -> Trouble:
        """Return the same, met in the midst of a transfer."""
        return Trouble(self.code, self.number, self.message, clean=False)


def handled(trouble: Trouble, what: str, place: Place, *, absent: bool) -> HandledError:
    """Return the error whose class says what is worth trying next.

    With `absent` a file that is not there is `SourceNotFound`; without it (storing) it is the target that is wrong.
    """
    table, number = (ANSWERED, trouble.number) if trouble.code == SERVER_ANSWER else (FOUND, trouble.code)
    name, kind = table.get(number, (f"code {number}", TransientError))
    if name == "kXR_FSError" and _READ_ONLY.search(trouble.message):
        kind = BackendUnavailable  # the answer of servers up to 5.5, which know no kXR_fsReadOnly
    if name == "errTlsError" and _HUNG_UP.search(trouble.message):
        kind = TransientError  # nothing is wrong with certificates: the other side, or the network, hung up
    if kind is SourceNotFound and not absent:
        kind = TransferError
    if kind is NoSpace and place.reading:
        kind = TransientError  # the storage has no room to bring the file up to where it can be read
    code = {
        AuthError: place.denied,
        NoSpace: place.full,
        SourceNotFound: place.absent,
        TransferTimeout: place.late,
        TransferError: place.failed,
        TransientError: place.failed,
    }.get(kind)
    return kind(f"{what}: {_words(trouble.message)} ({name}){_PLAINLY.get(name, '')}", error_code=code)


def _words(message: str) -> str:
    """Return what the client tells, on one line, without its marks of severity."""
    text = "".join(char if char.isprintable() else " " for char in message)
    for mark in ("[ERROR] ", "[FATAL] ", "Server responded with an error: "):
        text = text.removeprefix(mark)
    return " ".join(text.split())[:LONGEST] or "the storage gives no reason"
