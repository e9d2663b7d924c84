"""A job's transfers: the mover made of what the pilot gives, its ledger as a file, its progress to whoever listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pilot_core.logs import job_logger
from pilot_core.staging import AttemptFile, Mover

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.job import Job
    from pilot_core.api.staging import StagingProgress, TransferAttempt
    from pilot_core.services import Services

__all__ = ["TRANSFERS", "JobTransfers"]

TRANSFERS = "transfers.jsonl"
"""The whole attempt ledger, in the job's directory and in its log archive: one `TransferAttempt` a line."""


class JobTransfers:
    """What moves one job's files."""

    def __init__(self, job: Job, services: Services) -> None:
        self._services = services
        self._log = job_logger(job.id, "staging")
        self._file: AttemptFile | None = None
        self.mover = Mover(
            queue=services.queue,
            backends=services.backends,
            clock=services.clock,
            log=self._log,
            listener=self._attempted,
            limits=services.limits,
            space=services.space,
            progress=self._listener(),
            job_id=job.id,
            in_turn=services.in_turn,
        )

    def begin(self, job_dir: Path) -> None:
        """Keep the ledger in a job's directory from now on; the job goes on without if that is not possible."""
        try:
            self._file = AttemptFile(job_dir / TRANSFERS, self._services.redactor.clean)
        except OSError as error:
            self._log.warning("the ledger of transfers is not kept in %s: %s", job_dir, error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _attempted(self, attempt: TransferAttempt) -> None:
        if self._file is not None:
            self._file.write(attempt)
        self._services.hooks.transfer_attempted(attempt)

    def _listener(self) -> Callable[[StagingProgress], None] | None:
        """Return what hears of progress; None if nobody does, so that nobody has to be woken for it."""
        services = self._services
        own = services.progress
        if not services.hooks.hears_progress():
            return own

        def tell(progress: StagingProgress) -> None:
            if own is not None:
                own(progress)
            services.hooks.transfer_progress(progress)

        return tell
