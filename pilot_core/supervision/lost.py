"""A payload whose handle was lost: what its control directory says of it, for good."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pilot_core.api.clock import Event
from pilot_core.errors import ExecutorError
from pilot_core.supervision.records import CLAIM, ControlDirectory, Started, read_started

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.clock import Clock

__all__ = ["started_from"]

PATIENCE = 5.0
"""Seconds within which a supervisor that has claimed its directory has started its payload, or has died."""
PAUSE = 0.05
"""Seconds between two looks, which are needed only if the pilot died in those milliseconds."""


def started_from(directory: Path, *, clock: Clock, cancel: CancelToken, deadline: Deadline) -> Started | None:
    """Return the record of the payload that was started from a control directory.

    None = there is none, and from now on no supervisor will start one there: the claim is taken. Raises `ExecutorError`
    for a directory that was claimed, and nothing is known of the start; `Cancelled`.
    """
    if not directory.is_dir():
        return None
    try:
        with closing(ControlDirectory(directory)) as records:
            if records.claim_for_nobody():
                return None
    except OSError as error:
        raise ExecutorError(f"{directory}: cannot be looked into: {error.strerror}") from None
    end = clock.monotonic() + PATIENCE
    while (started := read_started(directory)) is None and clock.monotonic() < end:
        cancel.raise_if_cancelled()
        deadline.raise_if_passed("finding a payload again")
        clock.wait(Event(), cancel, until=clock.monotonic() + PAUSE)
    if started is None:
        raise ExecutorError(
            f"{directory / CLAIM}: a payload was about to be started there, and nothing says whether it was"
        )
    return started
