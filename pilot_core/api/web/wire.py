"""One connection: bytes out and bytes in, never blocking, every wait watched."""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from pilot_core.api.web.head import LARGEST_HEAD, Head, end_of_head
from pilot_core.api.web.patience import ConnectionLost
from pilot_core.api.web.trust import tls_error
from pilot_core.errors import BackendUnavailable, HandledError

if TYPE_CHECKING:
    from pilot_core.api.web.patience import Patience

__all__ = ["Wire"]

READ_AHEAD = 65536
"""Bytes that are asked for where a head or a line is expected."""
GLANCE = 4096
"""Bytes that are asked for where nothing is expected."""
LONGEST_LINE = 8192
"""Bytes of a line within a chunked body."""


class Wire:
    """A connected, non-blocking socket, with or without TLS, and what was received on it beforehand."""

    def __init__(self, channel: socket.socket, what: str) -> None:
        self.what = what
        """The other side, for messages."""
        self.asked = what
        """The file of the present request, for messages."""
        self.used = False
        """Whether an earlier request was answered on it: then it may be closed already."""
        self.heard = False
        """Whether anything came in answer to the present request."""
        self._socket = channel
        self._secure = isinstance(channel, ssl.SSLSocket)
        self._ahead = bytearray()
        self._either: select.epoll | None = None

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to receive."""
        return self._socket.fileno()

    def begin(self, asked: str) -> None:
        """Make ready for a request about a file."""
        self.asked, self.heard = asked, False

    def close(self) -> None:
        """Close the connection, without a farewell."""
        self._socket.close()
        if self._either is not None:
            self._either.close()

    # -- out -------------------------------------------------------------------------------------------------------

    def send(self, data: memoryview, patience: Patience) -> memoryview:
        """Send bytes and return what is left of them: nothing, unless the other side says something meanwhile.

        Raises `ConnectionLost`, `Cancelled`, `TransferTimeout`.
        """
        while data and not self.listen():
            try:
                data = data[self._socket.send(data) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                patience.wait(self._ready())
            except ssl.SSLWantReadError:
                patience.wait(self)
            except OSError as error:
                lost = self._lost(error)
                # the other side may have said why before it went
                with suppress(ConnectionLost):
                    if self.listen():
                        break
                raise lost from None
        return data

    def _ready(self) -> select.epoll:
        """Return what is readable when the connection takes bytes or has some."""
        if self._either is None:
            self._either = select.epoll()
            self._either.register(self._socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        return self._either

    # -- in --------------------------------------------------------------------------------------------------------

    def listen(self) -> bool:
        """Say whether something came that nobody has asked for yet; never waits. Raises `ConnectionLost` at the end."""
        if not self._ahead:
            spare = memoryview(bytearray(GLANCE))
            count = self._receive(spare)
            if count == 0:
                raise ConnectionLost(f"{self.asked}: {self.what} closed the connection while it was being sent to")
            self._keep(spare[: count or 0])
        return bool(self._ahead)

    def quiet(self) -> bool:
        """Say whether an idle connection is still open, and silent as it has to be."""
        try:
            return not self._ahead and self._receive(memoryview(bytearray(1))) is None
        except HandledError:
            return False

    def head(self, patience: Patience) -> Head:
        """Return the next head; raises `ConnectionLost`, `Cancelled`, `TransferTimeout`, `BackendUnavailable`."""
        head, after = self._next_head(patience)
        del self._ahead[:after]
        return head

    def interim(self, patience: Patience) -> bool:
        """Take the next head if it is an interim one (100 Continue); False for a final one, which stays."""
        head, after = self._next_head(patience)
        if head.interim:
            del self._ahead[:after]
        return head.interim

    def _next_head(self, patience: Patience) -> tuple[Head, int]:
        """Return the next head, and where it ends in what was read ahead."""
        while (found := end_of_head(self._ahead)) is None and len(self._ahead) <= LARGEST_HEAD:
            self._more(patience)
        if found is None or found[0] > LARGEST_HEAD:
            raise BackendUnavailable(f"{patience.what}: {self.what} answers with an endless head")
        try:
            return Head.parse(bytes(self._ahead[: found[0]])), found[1]
        except ValueError as error:
            raise BackendUnavailable(f"{patience.what}: {self.what}: {error}") from None

    def line(self, patience: Patience) -> bytes:
        """Return the next line without its end; raises as `head`."""
        while (end := self._ahead.find(b"\n")) < 0:
            if len(self._ahead) > LONGEST_LINE:
                raise BackendUnavailable(f"{patience.what}: {self.what} answers with an endless line")
            self._more(patience)
        line = bytes(self._ahead[:end])
        del self._ahead[: end + 1]
        return line.removesuffix(b"\r")

    def receive_into(self, view: memoryview, patience: Patience) -> int:
        """Wait for bytes and put them there; return their number, 0 at the end of the connection.

        What is there already is taken as far as it fits: block by block that is, not packet by packet.
        """
        if self._ahead:
            count = min(len(view), len(self._ahead))
            view[:count] = self._ahead[:count]
            del self._ahead[:count]
            return count
        while (count := self._receive(view)) is None:  # type: ignore[assignment]
            patience.wait(self)
        if self._secure:  # which gives one record of at most 16 KiB at a time
            while count and count < len(view) and (more := self._receive(view[count:])):
                count += more
        return count

    def _more(self, patience: Patience) -> None:
        """Wait for more to read ahead; raises `ConnectionLost` at the end of the connection."""
        spare = memoryview(bytearray(READ_AHEAD))
        while (count := self._receive(spare)) is None:
            patience.wait(self)
        if not count:
            raise ConnectionLost(f"{patience.what}: {self.what} closed the connection without an answer")
        self._keep(spare[:count])

    def _keep(self, received: memoryview) -> None:
        """Keep what was received for later."""
        if received:
            self.heard = True
            self._ahead += received

    def _receive(self, view: memoryview) -> int | None:
        """Receive what is there: 0 is the connection's end, None that there is nothing yet."""
        try:
            return self._socket.recv_into(view)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: OSError) -> HandledError:
        """Return what an error of the connection amounts to."""
        if isinstance(error, ssl.SSLError):
            return tls_error(error, f"{self.asked}: {self.what}")
        return ConnectionLost(f"{self.asked}: the connection to {self.what} broke: {error.strerror or error}")
