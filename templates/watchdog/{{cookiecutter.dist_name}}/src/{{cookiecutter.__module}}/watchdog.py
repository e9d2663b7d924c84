"""The limit: what is looked at, and when it is passed.

A check only looks: ending the payload is the pilot's business. It is quick, it raises nothing, and it trusts nothing
that the payload made: there may be loops of links, pipes, odd names, and all of it may be gone the next moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core import Violation

if TYPE_CHECKING:
    from pilot_core import Context, Watched

    from {{ cookiecutter.__module }}.settings import Settings

DIRECTORY_TOO_LARGE = 1104  # YOUR CODE: the one of PanDA's pilot error codes that fits best
"""`USERDIRTOOLARGE` in PanDA's monitor."""


class {{ cookiecutter.__class }}:
    """The watchdog. It keeps nothing of a job, so that one instance can watch several."""

    def __init__(self, settings: Settings, context: Context) -> None:
        self._limit = settings.files
        self._interval = settings.interval
        self._log = context.log

    @property
    def interval(self) -> float:
        """Seconds between two checks."""
        return self._interval

    def check(self, watched: Watched) -> Violation | None:
        """Look once; a violation, with limit and value, if there are too many files."""
        # YOUR CODE: look at the payload. The time is `watched.now`, the payload's start `watched.started`;
        # `watched.processes` and `watched.disk_use` are measured once for all watchdogs, when the first one asks
        count = 0
        for _ in files_below(watched.job_dir):
            count += 1
            if count > 10 * self._limit:  # enough is known
                break
        if count <= self._limit:
            return None
        return Violation(
            error_code=DIRECTORY_TOO_LARGE,
            message=f"the job's directory holds {count} files, {self._limit} are allowed",
        )


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the plain files below a directory; links are not followed, what cannot be looked at is passed over."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not path.is_symlink() and path.is_file():
                yield path
