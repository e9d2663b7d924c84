"""Which storages of a job do not work just now: they come last for its other files.

Thousands of files, each with its tries and pauses on a storage that is down, would take a job hours. What is bad about
a single file says nothing here.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot_core.plugins import Loaded
    from pilot_core.selection import Candidate

__all__ = ["DOWN_AFTER", "Health"]

DOWN_AFTER = 4
"""Files in a row that a storage has to fail, each with all its tries, to be taken for down: as many as move at once."""


class Health:
    """What became of the files of one job on each storage, by the stager and the server that its URL names.

    Safe in several threads.
    """

    def __init__(self) -> None:
        self._failed: dict[tuple[bool, str, str, str], int] = {}
        self._lock = threading.Lock()

    def failed(self, candidate: Candidate[Loaded[Any]], *, out: bool) -> None:
        """Take notice that a file could not be moved there, for reasons that are not the file's own."""
        key = _key(candidate, out)
        with self._lock:
            self._failed[key] = self._failed.get(key, 0) + 1

    def answered(self, candidate: Candidate[Loaded[Any]], *, out: bool) -> None:
        """Take notice that it works."""
        if self._failed:
            with self._lock:
                self._failed.pop(_key(candidate, out), None)

    def is_down(self, candidate: Candidate[Loaded[Any]], *, out: bool) -> bool:
        """Say whether it failed the last `DOWN_AFTER` files."""
        return bool(self._failed) and self._failed.get(_key(candidate, out), 0) >= DOWN_AFTER


def _key(candidate: Candidate[Loaded[Any]], out: bool) -> tuple[bool, str, str, str]:
    """Return what is taken for one storage: to read and to write are two things."""
    scheme, _, rest = candidate.replica.url.partition("://")
    return (out, candidate.stager.name, candidate.replica.rse, f"{scheme}://{rest.partition('/')[0]}")
