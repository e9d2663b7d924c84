"""A file's one pass through the pilot: for stagers, what lies between a protocol and the local file.

`Incoming` takes the bytes of a fetch as they come, `Outgoing` yields those of a store. Both compute the checksum of the
very bytes that pass, look at cancellation and deadline at each block, tell the progress, and verify at the end, so a
stager is left with its protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pilot_core.api.checksums import Checksum, Digest, parse
from pilot_core.api.extents import Hole
from pilot_core.api.local_files import BLOCK, LOCAL_INPUT, LOCAL_OUTPUT, Partial, Source
from pilot_core.api.staging import TransferResult
from pilot_core.api.url import shown_url
from pilot_core.errors import (
    ChecksumMismatch,
    PilotErrorCode,
    SizeMismatch,
    TransferError,
    TransferTimeout,
    TransientError,
)

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.staging import FetchRequest, StoreRequest

    Block = bytes | bytearray | memoryview

__all__ = ["Incoming", "Outgoing", "wanted_checksum"]

IN_CODES: Mapping[str, PilotErrorCode] = {
    "adler32": PilotErrorCode.GETADMISMATCH,
    "md5": PilotErrorCode.GETMD5MISMATCH,
}
OUT_CODES: Mapping[str, PilotErrorCode] = {
    "adler32": PilotErrorCode.PUTADMISMATCH,
    "md5": PilotErrorCode.PUTMD5MISMATCH,
}


class Incoming:
    """A fetched file on its way to its destination, where it appears whole or not at all. A context manager."""

    def __init__(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Prepare; raises `TransferError` for a checksum that is not known here. Nothing is written before `with`."""
        self.what = shown_url(request.url)
        """The file's name in messages."""
        self.received = 0
        """Bytes written so far: where a stager resumes."""
        self._request = request
        self._cancel = cancel
        self._deadline = deadline
        self._wanted = wanted_checksum(request.checksum, self.what)
        self._digest = Digest(self._wanted.name if self._wanted else "adler32")
        self._announced: int | None = None
        self._target: Partial | None = None

    def __enter__(self) -> Incoming:  # noqa: PYI034  (typing.Self needs Python 3.11)
        here = self._request.destination
        self._target = Partial(here, LOCAL_INPUT, str(here), durable=False)
        self._target.expect(self._announced or self._request.size or 0)
        return self

    def __exit__(self, *error: object) -> None:
        if self._target is not None:
            self._target.__exit__(*error)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise `Cancelled` or `TransferTimeout` if the transfer should stop."""
        _check(self._cancel, self._deadline, self.what, PilotErrorCode.STAGEINTIMEOUT)

    def expect(self, size: int) -> None:
        """Take the size that the storage announces; raises `SizeMismatch` if the catalogue knows another.

        Room on disk is taken ahead for it. Fewer or more bytes than announced are a transfer that went wrong.
        """
        self._check_size(size)
        self._announced = size
        if self._target is not None:
            self._target.expect(size)

    def _check_size(self, size: int) -> None:
        """Raise `SizeMismatch` if the catalogue knows another size."""
        known = self._request.size
        if known is not None and size != known:
            raise SizeMismatch(f"{self.what}: {size} bytes, but the catalogue says {known}")

    def write(self, block: Block) -> None:
        """Take the next bytes; raises `SizeMismatch` for more than the catalogue knows, `NoSpace`, `Cancelled` ...

        Other threads run while a block is digested and written. The block may be reused afterwards.
        """
        target = self._ready(len(block))
        self._digest.update(block)
        target.write(block)
        self._took(len(block))

    def hole(self, count: int) -> None:
        """Take zero bytes that the file does not store; raises as `write`."""
        target = self._ready(count)
        self._digest.zeros(count)
        target.skip(count)
        self._took(count)

    def _ready(self, count: int) -> Partial:
        """Return where the next bytes are to be written, if they may."""
        self.check()
        known = self._request.size
        if known is not None and self.received + count > known:
            raise SizeMismatch(f"{self.what}: more than the {known} bytes that the catalogue knows")
        return self._opened

    def _took(self, count: int) -> None:
        """Count bytes that were written, and tell."""
        self.received += count
        self._request.progress(self.received)

    def restart(self) -> None:
        """Forget what came so far: the storage begins the file afresh."""
        self._opened.empty()
        self.received = 0
        self._digest = Digest(self._digest.name)

    def publish(self, *, url: str) -> TransferResult:
        """Verify size and checksum, give the file its name, and return what was moved.

        `url` is where it was read from in the end. Raises `TransientError` for fewer or more bytes than the storage
        announced, `SizeMismatch`, `ChecksumMismatch`, and as `write`.
        """
        self.check()
        if self._announced is not None and self.received != self._announced:
            raise TransientError(
                f"{self.what}: {self.received} bytes came of the {self._announced} that the storage announced",
                error_code=PilotErrorCode.STAGEINFAILED,
            )
        self._check_size(self.received)
        _verify(self._digest, self._wanted, self.what, IN_CODES)
        if not self.received:
            self._request.progress(0)
        self._opened.publish(replace=True)
        return TransferResult(size=self.received, checksum=str(self._digest.checksum()), url=url)

    @property
    def _opened(self) -> Partial:
        if self._target is None:
            raise RuntimeError("Incoming is used inside its `with` block")
        return self._target


class Outgoing:
    """A file of the job on its way to a storage; notices when somebody writes to it meanwhile. A context manager."""

    def __init__(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Prepare; raises `TransferError` for a checksum that is not known here. Nothing is opened before `with`."""
        self.what = str(request.source)
        """The file's name in messages."""
        self.sent = 0
        """Bytes yielded so far in this pass."""
        self._request = request
        self._cancel = cancel
        self._deadline = deadline
        name, colon, _ = request.checksum.partition(":")
        self._wanted = wanted_checksum(request.checksum if colon else "", self.what)
        self._digest = _digest(self._wanted.name if self._wanted else name, self.what)
        self._source: Source | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Outgoing:  # noqa: PYI034
        self._source = self._opened.enter_context(Source(self._request.source, LOCAL_OUTPUT, self.what))
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self._file.size

    @property
    def checksum_name(self) -> str:
        """Name of the checksum that is computed: what to ask the storage for."""
        return self._digest.name

    def check(self) -> None:
        """Raise `Cancelled` or `TransferTimeout` if the transfer should stop."""
        _check(self._cancel, self._deadline, self.what, PilotErrorCode.STAGEOUTTIMEOUT)

    def blocks(self, length: int = BLOCK) -> Iterator[memoryview]:
        """Yield the whole file in blocks, in one pass with the digest; a new call begins at the first byte again.

        A block is valid until the next one is asked for. What is told as progress are the bytes of the blocks that the
        stager is done with. Raises `TransientError` for a file that grows or shrinks meanwhile, `Cancelled` ...
        """
        for piece in self._walk(self._file.blocks(length)):
            if isinstance(piece, memoryview):
                yield piece

    def pieces(self, length: int = BLOCK) -> Iterator[memoryview | Hole]:
        """Yield the whole file as `blocks` does, but its holes as such, for storages that can keep them."""
        return self._walk(self._file.pieces(length))

    def _walk(self, pieces: Iterator[memoryview] | Iterator[memoryview | Hole]) -> Iterator[memoryview | Hole]:
        """Yield pieces, computing their checksum and telling the progress."""
        self._digest = Digest(self._digest.name)
        self.sent = 0
        for piece in pieces:
            self.check()
            if isinstance(piece, Hole):
                self._digest.zeros(piece.length)
                count = piece.length
            else:
                self._digest.update(piece)
                count = len(piece)
            yield piece
            self.sent += count
            self._request.progress(self.sent)
        self.check()

    def finish(self) -> Checksum:
        """Return the checksum of the bytes that were sent.

        Raises `ChecksumMismatch` if the job knows another, `TransientError` if the file changed while it was read.
        """
        self._file.check_unchanged(self.sent)
        _verify(self._digest, self._wanted, self.what, OUT_CODES)
        if not self.sent:
            self._request.progress(0)
        return self._digest.checksum()

    @property
    def _file(self) -> Source:
        if self._source is None:
            raise RuntimeError("Outgoing is used inside its `with` block")
        return self._source


def wanted_checksum(text: str, what: str) -> Checksum | None:
    """Read the checksum that a file has to have, None for an empty text; raises `TransferError` for an unknown one."""
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise TransferError(f"{what}: {error}", error_code=PilotErrorCode.CHKSUMNOTSUP) from None


def _digest(name: str, what: str) -> Digest:
    """Begin a checksum; raises `TransferError` for one that is not known here."""
    try:
        return Digest(name.strip().lower() or "adler32")
    except ValueError as error:
        raise TransferError(f"{what}: {error}", error_code=PilotErrorCode.CHKSUMNOTSUP) from None


def _verify(digest: Digest, wanted: Checksum | None, what: str, codes: Mapping[str, PilotErrorCode]) -> None:
    """Raise `ChecksumMismatch` unless the bytes that passed are the wanted ones."""
    found = digest.checksum()
    if wanted is not None and found != wanted:
        raise ChecksumMismatch(
            f"{what}: its checksum is {found}, but {wanted} was expected", error_code=codes.get(found.name)
        )


def _check(cancel: CancelToken, deadline: Deadline, what: str, code: PilotErrorCode) -> None:
    """Raise if a transfer should stop."""
    cancel.raise_if_cancelled()
    if deadline.passed:
        raise TransferTimeout(f"{what}: not copied within the time allowed for it", error_code=code)
