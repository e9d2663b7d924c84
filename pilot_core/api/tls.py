"""A TLS socket that is closed, too, when the other side has gone before TLS begins."""

from __future__ import annotations

import errno
import ssl
from typing import Any

__all__ = ["TlsSocket"]


class TlsSocket(ssl.SSLSocket):
    """What a connected TCP socket is wrapped in: set it as the `sslsocket_class` of a context.

    If the other side has reset the connection by then, CPython's own class (3.10 to 3.14, `SSLSocket._create`) raises
    `ConnectionResetError` with the descriptor taken over from the plain socket, and leaves it open for the garbage
    collector.
    """

    def getpeername(self) -> Any:
        """Return the other side's address; raises `OSError`, and is closed then if TLS has not begun."""
        try:
            return super().getpeername()
        except OSError:
            if self._sslobj is not None:  # type: ignore[attr-defined]
                raise
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, "the other side closed the connection before TLS") from None
