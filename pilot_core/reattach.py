"""Finding the payload again that a pilot before this one started, or was about to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.executor import FindsPayloads
from pilot_core.errors import ExecutorError
from pilot_core.jobdir import set_aside

if TYPE_CHECKING:
    import logging
    from pathlib import Path

    from pilot_core.api.executor import PayloadHandle
    from pilot_core.past import Past
    from pilot_core.services import Services

__all__ = ["find_again"]

FIND_LIMIT = 60.0
"""Seconds for finding a payload."""


def find_again(
    job_dir: Path, past: Past, services: Services, log: logging.LoggerAdapter[logging.Logger]
) -> PayloadHandle | None:
    """Return the handle of a job's payload; None if it surely was not started, and may be.

    Raises `ExecutorError` where nobody can know: a payload is not run twice.
    """
    if past.handle is not None:
        log.info("the payload that the pilot before this one started is waited for")
        return past.handle
    executor: object = services.executor
    if not isinstance(executor, FindsPayloads):
        raise ExecutorError(
            f"the pilot died as it started the payload, and executor {services.queue.executor} cannot say whether it "
            "was started; so that it is not run twice, the job fails"
        )
    deadline = Deadline.after(services.clock, FIND_LIMIT)
    handle = executor.find(job_dir / "control", cancel=CancelToken(), deadline=deadline)
    if handle is not None:
        log.info("the pilot before this one started the payload just before it died; that is waited for")
        return handle
    if past.secret:
        raise ExecutorError(
            "the pilot died before the payload was started, and nobody has the user's secrets any more that the "
            "payload needs; let the server send the job again"
        )
    log.info("the payload was not started before the pilot died; it is now")
    set_aside(job_dir)
    return None
