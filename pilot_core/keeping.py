"""Having the journal of a work directory open; what it cannot keep ends the command in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pilot_core.errors import ConfigError, NoSpace
from pilot_core.journal.database import FILE
from pilot_core.journal.store import PilotJournal

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.clock import Clock

__all__ = ["open_journal"]


@contextmanager
def open_journal(work_dir: Path, clock: Clock, **more: Any) -> Iterator[PilotJournal]:
    """Have the journal open; `more` is what `PilotJournal.open` takes. Raises `NoSpace` or `ConfigError`."""
    try:
        journal = PilotJournal.open(work_dir, clock, **more)
        try:
            yield journal
        finally:
            journal.close()
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace(f"work directory {work_dir} is full: no room for the journal; free some space") from None
        raise ConfigError(
            f"the journal {work_dir / FILE} cannot be written ({error.strerror}); move it away, or name another "
            "directory by --work-dir"
        ) from None
