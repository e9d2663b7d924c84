"""The tasks "bring input in" and "bring output out": what a stager is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline

__all__ = [
    "REMOTE_IO",
    "FetchRequest",
    "FileStat",
    "Replica",
    "StageIn",
    "StageOut",
    "StagingProgress",
    "StoreRequest",
    "TransferAttempt",
    "TransferProgress",
    "TransferResult",
]

REMOTE_IO = "remote-io"
"""The outcome in the ledger of an input that is not copied."""
Progress = Callable[[int], None]
"""Called with the number of bytes moved so far: at the end, and while they move at least once a second.

It is cheap, and called from any one thread at a time.
"""


def _no_progress(_: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One place where a file lies or is to be put."""

    url: str
    rse: str = ""
    order: int = 0
    """The server's or catalogue's preference; lower first."""
    domain: str = ""
    """`lan`, `wan` or not known."""
    root: str = ""
    """URL of the storage's own folder, without a trailing slash, where the queue's configuration says it."""


@dataclass(frozen=True, kw_only=True)
class FetchRequest:
    """Bring one file in."""

    url: str
    destination: Path
    """Final local name. It appears there whole or not at all."""
    size: int | None = None
    """Bytes that the catalogue knows, or None."""
    checksum: str = ""
    """`adler32:<8 hex>` or `md5:<32 hex>` that the catalogue knows, or empty."""
    root: str = ""
    """URL of the storage's own folder, or empty: if that is not there, it is the storage that is missing."""
    progress: Progress = _no_progress


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """Bring one file out."""

    source: Path
    url: str
    """Final place. The file appears there whole or not at all."""
    checksum: str = "adler32"
    """Name of the checksum to compute, or `name:value` where the value is known and must match."""
    overwrite: bool = True
    """An older file at that place is replaced; otherwise it is `TargetExists`."""
    root: str = ""
    """URL of the storage's own folder, or empty. It exists: neither it nor a folder above it is made."""
    progress: Progress = _no_progress


@dataclass(frozen=True, kw_only=True)
class TransferResult:
    """What was moved; the checksum is that of the bytes that were really moved."""

    size: int
    checksum: str
    """`name:value`."""
    url: str
    """Where it was read from or written to in the end (redirects followed)."""


@dataclass(frozen=True, kw_only=True)
class FileStat:
    """What a storage says about a file."""

    size: int
    checksum: str = ""
    """`name:value`, empty if the storage does not know one."""


@dataclass(frozen=True, kw_only=True)
class TransferAttempt:
    """One line of the attempt ledger."""

    activity: str
    """read, write or log."""
    lfn: str
    url: str
    rse: str
    backend: str
    backend_version: str
    number: int
    """1 for the first attempt at this file."""
    started: float
    """Wall time, seconds since 1970."""
    seconds: float
    bytes: int
    outcome: str
    """`ok`, `remote-io` for an input that is not copied because the payload reads it there, or the class name of the
    error."""
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return dict(vars(self))  # not asdict, which copies every text: there may be thousands


@dataclass(frozen=True, kw_only=True)
class TransferProgress:
    """One transfer that is under way."""

    lfn: str
    backend: str
    rse: str
    bytes: int
    """Moved so far, in this attempt."""
    size: int | None
    """Of the whole file, or None where nobody knows."""
    seconds: float
    """Since this attempt began."""


@dataclass(frozen=True, kw_only=True)
class StagingProgress:
    """How far a job's transfers have come."""

    job_id: int
    activity: str
    """read, write or log."""
    files: int
    """All of them."""
    files_done: int
    """Those that were moved, or given up."""
    bytes: int
    """Moved so far, of all files."""
    size: int | None
    """Of all files, or None where that of one is not known."""
    seconds: float
    """Since the first began."""
    under_way: tuple[TransferProgress, ...] = ()
    ended: bool = False
    """Whether this is the last word of this activity."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)


class StageIn(Protocol):
    """Reads files from a storage. Methods may be called from several threads at once.

    All raise subclasses of `TransferError`, `AuthError` or `Cancelled`, and nothing else; also for URLs that name no
    file, or none that this stager serves. The text is one line without passwords, tokens and control characters, and
    says which file; that of `Cancelled` has the token's reason. With a token that is cancelled already, or a deadline
    that has passed, all raise `Cancelled` or `TransferTimeout` at once and do nothing; both also end a call that is
    under way, within about a second. A long call does not hold up another one.
    """

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Copy a file in, verifying size and checksum of the bytes as they pass.

        A checksum that the stager cannot compute is a `TransferError`, never passed over. An older file at the
        destination is replaced; if the fetch fails it is still there, whole, or gone. The destination's folder exists.

        Raises `SourceNotFound`, `ChecksumMismatch`, `SizeMismatch`, `AuthError`, `NoSpace`, `BackendUnavailable`,
        `TransientError`, `TransferTimeout` or `Cancelled`; nothing of the file is left then.
        """
        ...

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        """Ask the storage about a file; raises `SourceNotFound` if it is not there."""
        ...


class StageOut(Protocol):
    """Writes files to a storage. Methods may be called from several threads at once."""

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Copy a file out; on return it is safe on the storage. Raises as `StageIn.fetch`.

        Folders that the URL needs are made. Where files have modes, those of new ones are what the umask leaves: a
        temporary file's 0600 would keep other users out. A source that is missing is `SourceNotFound`; an older file
        that may not be overwritten is `TargetExists` and stays. Where it may be and the store fails, it is there,
        whole, or gone.
        """
        ...

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        """Ask the storage about a file; raises `SourceNotFound` if it is not there."""
        ...

    def remove(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Delete a file; raises `SourceNotFound` if it is not there."""
        ...
