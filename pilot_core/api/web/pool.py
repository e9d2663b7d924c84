"""Connections that were answered on and may be used again."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from pilot_core.api.clock import Clock
    from pilot_core.api.web.wire import Wire

__all__ = ["Pool"]

LONGEST_IDLE = 30.0
"""Seconds after which an idle connection is closed: servers do so after about as long."""
MOST_IDLE = 16
"""Idle connections kept for each other side."""


class Pool:
    """Keeps idle connections by who is at the other side, and as whom we are known there. Thread safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._idle: dict[Hashable, list[tuple[float, Wire]]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def take(self, key: Hashable) -> Wire | None:
        """Return a connection that was open a moment ago, None if there is none. The youngest comes first."""
        while True:
            with self._lock:
                idle = self._idle.get(key)
                if not idle:
                    return None
                since, wire = idle.pop()
            if self._clock.monotonic() - since < LONGEST_IDLE and wire.quiet():
                wire.used = True
                return wire
            wire.close()

    def give(self, key: Hashable, wire: Wire) -> None:
        """Keep a connection whose last answer was read to its end."""
        now = self._clock.monotonic()
        with self._lock:
            old = [entry for idle in self._idle.values() for entry in idle if now - entry[0] >= LONGEST_IDLE]
            for name, idle in list(self._idle.items()):
                self._idle[name] = [entry for entry in idle if now - entry[0] < LONGEST_IDLE]
            mine = self._idle.setdefault(key, [])
            mine.append((now, wire))
            old += mine[:-MOST_IDLE]
            del mine[:-MOST_IDLE]
        for _, superfluous in old:
            superfluous.close()

    def forget(self, key: Hashable) -> None:
        """Close the idle connections to one other side: it has closed one of them."""
        with self._lock:
            idle = self._idle.pop(key, [])
        for _, wire in idle:
            wire.close()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            _close_all(self._idle)


def _close_all(idle: dict[Hashable, list[tuple[float, Wire]]]) -> None:
    for wires in idle.values():
        for _, wire in wires:
            wire.close()
    idle.clear()
