"""One file on its way, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot_core.api.checksums import parse
from pilot_core.api.staging import FetchRequest, StoreRequest, TransferResult

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.staging import Replica
    from pilot_core.plugins import Loaded
    from pilot_core.selection import Candidate

__all__ = ["Moved", "Transfer"]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One file that is to be moved: what, and from or to which places."""

    activity: str
    """read, write or log."""
    lfn: str
    local: Path
    """Where it goes to, or comes from, on this machine."""
    replicas: tuple[Replica, ...]
    """Where it lies, or may go."""
    size: int | None = None
    """Bytes: those of the catalogue, or of the local file."""
    checksum: str = ""
    """What the catalogue knows; empty for a file that goes out."""
    planned: tuple[Candidate[Loaded[Any]], ...] = ()
    """What to try, in order, as it was known before the first byte."""

    @property
    def out(self) -> bool:
        """Whether the file leaves this machine."""
        return self.activity != "read"

    @property
    def hook(self) -> str:
        """The hook whose backends can move it."""
        return "pilot_stageout" if self.out else "pilot_stagein"

    def call(
        self,
        backend: Any,
        replica: Replica,
        progress: Callable[[int], None],
        *,
        cancel: CancelToken,
        deadline: Deadline,
    ) -> TransferResult:
        """Have a backend move it, and check what that says; raises what the backend raises, or `ValueError`."""
        if self.out:
            order = StoreRequest(source=self.local, url=replica.url, root=replica.root, progress=progress)
            return _result(backend.store(order, cancel=cancel, deadline=deadline))
        request = FetchRequest(
            url=replica.url,
            destination=self.local,
            size=self.size,
            checksum=self.checksum,
            root=replica.root,
            progress=progress,
        )
        result = _result(backend.fetch(request, cancel=cancel, deadline=deadline))
        self._believe(result)
        return result

    def _believe(self, result: TransferResult) -> None:
        """Raise `ValueError` unless a fetched file can be what the backend says, and is what the catalogue says.

        Backends verify the bytes while they pass. One that says it did and did not has a bug, and its file is removed.
        """
        try:
            size = self.local.stat().st_size
        except OSError as error:
            raise ValueError(f"it says that {self.lfn} is there, and it is not: {error.strerror}") from None
        wrong = ""
        if size != result.size:
            wrong = f"it says that it wrote {result.size} bytes of {self.lfn}, and {size} are there"
        elif self.size is not None and size != self.size:
            wrong = f"it took {size} bytes for {self.lfn}, and the catalogue says {self.size}"
        elif self.checksum and result.checksum != self.checksum and parse(result.checksum) != parse(self.checksum):
            wrong = f"it took a file of {result.checksum} for {self.lfn}, and the catalogue says {self.checksum}"
        if wrong:
            self.local.unlink()
            raise ValueError(wrong)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A file that was moved."""

    transfer: Transfer
    result: TransferResult
    replica: Replica
    """From or to where."""


def _result(value: object) -> TransferResult:
    """Return what a backend returned, if that is what it has to return; raises `TypeError` or `ValueError`."""
    if not isinstance(value, TransferResult):
        raise TypeError(f"it returned {type(value).__name__}, not TransferResult")
    parse(value.checksum)
    return value
