"""A counter that threads raise and one thread waits for, together with a cancellation."""

from __future__ import annotations

import os

__all__ = ["Bell"]


class Bell:
    """Readable when it was rung since it was last heard."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def ring(self) -> None:
        """Wake who waits; safe in any thread."""
        os.eventfd_write(self._descriptor, 1)

    def hear(self) -> None:
        """Forget that it was rung."""
        try:
            os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return

    def fileno(self) -> int:
        """Return the descriptor that is readable when it was rung."""
        return self._descriptor

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)
