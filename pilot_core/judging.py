"""What an error that comes out of a task is to its job: a failure, with the pilot error code that says most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pilot_core.errors import Cancelled, HandledError, PilotErrorCode

if TYPE_CHECKING:
    import logging

    from pilot_core.reporting import Verdict

__all__ = ["judged", "os_code", "unwritten_journal"]

ADVICE: Mapping[int, str] = {
    PilotErrorCode.MISSINGINPUTFILE: "bring it there, or correct the job's inputs",
    PilotErrorCode.GETADMISMATCH: "replace that file, or correct what the catalogue says of it",
    PilotErrorCode.GETMD5MISMATCH: "replace that file, or correct what the catalogue says of it",
}
"""What to do about errors of stagers, which know their files but not what these are to the job."""


@contextmanager
def judged(
    verdict: Verdict,
    task: str,
    called_off: Callable[[], PilotErrorCode | None],
    log: logging.LoggerAdapter[logging.Logger],
) -> Iterator[None]:
    """Turn an error that comes out of a task into a failure of the job.

    `called_off` tells the code of a job that was, None for one that was not.
    """
    try:
        yield
    except Cancelled as error:
        verdict.fail(task, called_off() or error.error_code, str(error))
    except HandledError as error:
        advice = ADVICE.get(error.error_code, "")
        verdict.fail(task, error.error_code, f"{error}; {advice}" if advice else str(error))
    except OSError as error:
        code = os_code(error, PilotErrorCode.FILEHANDLINGFAILURE)
        verdict.fail(task, code, f"{error.filename or 'job directory'}: {error.strerror or error}")
    except Exception as error:
        log.exception("internal error, please report it")
        verdict.fail(task, PilotErrorCode.UNKNOWNEXCEPTION, f"{type(error).__name__}: {error}")


def unwritten_journal(verdict: Verdict, log: logging.LoggerAdapter[logging.Logger]) -> Callable[[OSError], None]:
    """Return what a journal that cannot be written does to its job: it fails, and is reported all the same."""

    def failed(error: OSError) -> None:
        log.error("the journal cannot be written (%s); the job goes on without it", error.strerror)
        code = os_code(error, PilotErrorCode.FILEHANDLINGFAILURE)
        verdict.fail("pilot", code, f"journal: {error.strerror}")

    return failed


def os_code(error: OSError, other: PilotErrorCode) -> PilotErrorCode:
    """Return the pilot error code of a failed file operation: no space has its own."""
    return PilotErrorCode.NOLOCALSPACE if error.errno in {28, 122} else other  # ENOSPC, EDQUOT
