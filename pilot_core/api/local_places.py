"""The ends of a transfer, paths from `file://` URLs, and what each `OSError` amounts to."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from pilot_core.api.url import shown_url
from pilot_core.errors import (
    AuthError,
    BackendUnavailable,
    HandledError,
    NoSpace,
    PilotErrorCode,
    SourceNotFound,
    TransferError,
    TransientError,
)

__all__ = [
    "INPUT",
    "LOCAL_INPUT",
    "LOCAL_OUTPUT",
    "OUTPUT",
    "Place",
    "bad_name",
    "handled",
    "is_plain",
    "path_of",
    "translated",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EISDIR})
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TRANSIENT = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.ENOTCONN,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)


@dataclass(frozen=True)
class Place:
    """One end of a transfer: whether an error there speaks of the storage or of this machine, and its codes."""

    storage: bool
    reading: bool
    failed: PilotErrorCode
    absent: PilotErrorCode
    denied: PilotErrorCode
    full: PilotErrorCode
    late: PilotErrorCode


_IN = (PilotErrorCode.MISSINGINPUTFILE, PilotErrorCode.STAGEINAUTHENTICATIONFAILURE, PilotErrorCode.NOLOCALSPACE)
_OUT = (PilotErrorCode.MISSINGOUTPUTFILE, PilotErrorCode.STAGEOUTAUTHENTICATIONFAILURE, PilotErrorCode.NOREMOTESPACE)
INPUT = Place(True, True, PilotErrorCode.STAGEINFAILED, *_IN, PilotErrorCode.STAGEINTIMEOUT)
"""A file on the storage that is fetched."""
LOCAL_INPUT = Place(False, False, PilotErrorCode.STAGEINFAILED, *_IN, PilotErrorCode.STAGEINTIMEOUT)
"""Its copy here."""
LOCAL_OUTPUT = Place(False, True, PilotErrorCode.STAGEOUTFAILED, *_OUT, PilotErrorCode.STAGEOUTTIMEOUT)
"""A file of the job that is stored."""
OUTPUT = Place(True, False, PilotErrorCode.STAGEOUTFAILED, *_OUT, PilotErrorCode.STAGEOUTTIMEOUT)
"""Its copy on the storage."""


def handled(error: OSError, what: str, place: Place) -> HandledError:
    """Return the error whose class says what is worth trying next."""
    number = error.errno or 0
    text = f"{what}: {error.strerror or error}"
    if number in _FULL:
        return NoSpace(f"{text}; make room there", error_code=place.full)
    if number in _TRANSIENT:
        return TransientError(text, error_code=place.failed)
    if place.reading and number in _ABSENT:
        return SourceNotFound(text, error_code=place.absent)
    if place.storage and number in _DENIED:
        return AuthError(f"{text}; the pilot's account needs access there", error_code=place.denied)
    if place.storage and number == errno.EROFS:
        return BackendUnavailable(text)
    return TransferError(text, error_code=place.failed)


@contextmanager
def translated(what: str, place: Place) -> Iterator[None]:
    """Turn an `OSError` of the block into the transfer error that fits, beginning with `what`."""
    try:
        yield
    except OSError as error:
        raise handled(error, what, place) from error


def path_of(url: str, place: Place) -> Path:
    """Return the absolute path that a `file://` URL names.

    Raises `BackendUnavailable` for another machine's file; for a URL that can name no file, what an absent file
    raises when reading and `TransferError` when writing.
    """
    what = repr(shown_url(url))
    quoted = url[len("file://") :] if url.startswith("file:///") else _path_part(url, what, place)
    # urlsplit drops line breaks without a word, so the text itself is looked at
    path = quoted if quoted.isascii() and "%" not in quoted else os.fsdecode(unquote_to_bytes(quoted))
    if not is_plain(url) or not is_plain(path):
        raise bad_name(f"{what}: has a control character", place)
    if "?" in url or "#" in url:
        raise bad_name(f"{what}: write ? and # in a path as %3F and %23", place)
    if not path.startswith("/") or path.endswith(("/", "/.")) or ".." in path.split("/"):
        raise bad_name(f"{what}: not the absolute path of a file, without any `..`", place)
    return Path(path)


def _path_part(url: str, what: str, place: Place) -> str:
    """Return the path of a URL that names a file of this machine in another way than most do."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.lower()
    except ValueError:
        raise bad_name(f"{what}: not a URL", place) from None
    if parts.scheme != "file" or host not in {"", "localhost"}:
        raise BackendUnavailable(f"{what}: the stager `file` serves file:///path and file://localhost/path only")
    return parts.path


def is_plain(text: str) -> bool:
    """Say whether the text is free of control characters."""
    return not _CONTROL.search(text)


def bad_name(text: str, place: Place) -> HandledError:
    """Return the error for a name that no file can have."""
    if place.reading:
        return SourceNotFound(text, error_code=place.absent)
    return TransferError(text, error_code=PilotErrorCode.BADOUTPUTFILENAME if place.storage else place.failed)
