"""An answer: its status and headers are there, its body comes as it is read, and is known to be whole at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from pilot_core.api.web.patience import ConnectionLost
from pilot_core.errors import BackendUnavailable, HandledError

if TYPE_CHECKING:
    from pilot_core.api.web.address import WebAddress
    from pilot_core.api.web.head import Head, Headers
    from pilot_core.api.web.patience import Patience
    from pilot_core.api.web.wire import Wire

__all__ = ["WebAnswer"]

BLOCK = 1 << 20
"""Bytes of a block: with fewer the number of calls limits the rate."""
WORTH_READING = 65536
"""Bytes of a body that nobody wants, up to which it is read so that the connection can be used again."""


class WebAnswer:
    """The answer to a request. A context manager: at its end the connection is kept for the next request, or closed.

    Reading raises `ConnectionLost` if the connection ends before the body does, `Cancelled`, `TransferTimeout`, and
    `BackendUnavailable` for what is no HTTP.
    """

    def __init__(
        self,
        *,
        wire: Wire,
        head: Head,
        address: WebAddress,
        method: str,
        patience: Patience,
        keep: Callable[[Wire], None] | None,
    ) -> None:
        self.status = head.status
        self.reason = head.reason
        self.headers: Headers = head.headers
        self.address = address
        """What was asked."""
        self.length: int | None = None
        """Bytes of the body, None where only its end tells."""
        self._wire = wire
        self._patience = patience
        self._keep = keep
        """Takes the connection when the body was read to its end; None = it cannot be used again."""
        self._left = 0
        """Bytes still to come of the body, or of the chunk."""
        self._ended = False
        self._closed = False
        self._chunked = False
        self._read = self._measured
        self._frame(head, method)

    def _frame(self, head: Head, method: str) -> None:
        """Find out where the body ends (RFC 9112, 6.3)."""
        if method == "HEAD" or head.status in {204, 304}:
            self._announced(head)
            self._ended = True
        elif "transfer-encoding" in head.headers:
            if head.headers.tokens("transfer-encoding") != {"chunked"}:
                raise BackendUnavailable(f"{self._patience.what}: an answer in a transfer coding nobody asked for")
            self._read = self._in_chunks
            if "content-length" in head.headers:  # RFC 9112, 6.3: believe the chunks, and not the connection
                self._keep = None
        else:
            self._announced(head)
            if self.length is None:
                self._read, self._keep = self._to_the_end, None
            else:
                self._left = self.length
                self._ended = not self._left

    def _announced(self, head: Head) -> None:
        """Take the length that the answer announces."""
        try:
            self.length = head.length()
        except ValueError as error:
            raise BackendUnavailable(f"{self._patience.what}: {error}") from None

    # -- reading -----------------------------------------------------------------------------------------------------

    def read_into(self, view: memoryview) -> int:
        """Wait for the body's next bytes and put them there; return their number, 0 at the body's end."""
        if self._ended or self._closed or not view:
            return 0
        return self._read(view)

    def blocks(self, buffer: memoryview | None = None) -> Iterator[memoryview]:
        """Yield the body in blocks of up to 1 MiB, or of the buffer's size; each is valid until the next."""
        if buffer is None:
            size = BLOCK if self.length is None else max(1, min(BLOCK, self.length))
            buffer = memoryview(bytearray(size))
        while count := self.read_into(buffer):
            yield buffer[:count]

    def read(self, limit: int = BLOCK) -> bytes:
        """Return the whole body; raises `BackendUnavailable` if it is longer than `limit` bytes."""
        body = bytearray()
        for block in self.blocks():
            body += block
            if len(body) > limit:
                raise BackendUnavailable(f"{self._patience.what}: an answer of more than {limit} bytes")
        return bytes(body)

    def _measured(self, view: memoryview) -> int:
        """Read a body of known length, or a chunk of it."""
        count = self._wire.receive_into(view[: self._left], self._patience)
        if not count:
            kind = "the chunk" if self._chunked else f"the {self.length} bytes"
            raise ConnectionLost(
                f"{self._patience.what}: {self._wire.what} closed the connection with {self._left} bytes of {kind} "
                "missing"
            )
        self._left -= count
        self._ended = not self._left and not self._chunked
        return count

    def _in_chunks(self, view: memoryview) -> int:
        """Read a chunked body."""
        if not self._left:
            if self._chunked:
                self._line()  # the one that ends the chunk before
            self._chunked = True
            self._left = self._chunk_size(self._line())
            if not self._left:
                while self._line():
                    pass  # trailers say nothing that is asked for
                self._ended = True
                return 0
        return self._measured(view)

    def _line(self) -> bytes:
        return self._wire.line(self._patience)

    def _chunk_size(self, line: bytes) -> int:
        digits = line.partition(b";")[0].strip()
        if not 0 < len(digits) <= 16 or digits.strip(b"0123456789abcdefABCDEF"):
            raise BackendUnavailable(f"{self._patience.what}: an answer whose chunks have no size")
        return int(digits, 16)

    def _to_the_end(self, view: memoryview) -> int:
        """Read a body that ends with the connection: whether it is whole nobody can tell from it."""
        count = self._wire.receive_into(view, self._patience)
        self._ended = not count
        return count

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the connection back if the body was read to its end, or the rest is here already; else close it."""
        if self._closed:
            return
        whole = self._keep is not None and self._exhausted()
        self._closed = True
        if self._keep is not None and whole:
            self._keep(self._wire)
        else:
            self._wire.close()

    def _exhausted(self) -> bool:
        """Say whether the body was read, after a look at what is left of a short one; never waits."""
        if not self._ended and not self._chunked and 0 < self._left <= WORTH_READING:
            spare = memoryview(bytearray(self._left))
            with suppress(HandledError):
                while self._wire.listen() and self.read_into(spare):
                    pass
        return self._ended

    def __enter__(self) -> WebAnswer:  # noqa: PYI034  (typing.Self needs Python 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"WebAnswer({self.status} from {self.address})"
