"""Delivering what waits in a work directory, with no job taken: what `pilot-core flush` does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pilot_core.assembly import usable_work_dir
from pilot_core.cleanup import remove_tree
from pilot_core.past import Past
from pilot_core.recovery import Recovery
from pilot_core.spool import SPOOL, Flushed, Spool

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.assembly import Assembly
    from pilot_core.ending import Ending
    from pilot_core.journal.store import PilotJournal

__all__ = ["flush"]

_log = logging.getLogger("pilot_core.spool")


def flush(assembly: Assembly, journal: PilotJournal, ending: Ending) -> Flushed:
    """Deliver the final reports of the spool, and those that a pilot that died had ready; store outputs that were kept.

    Outputs are those of the queue that the settings name; none without.

    With this pilot's credential, and the names of the pilot that took the job. Raises `HandledError`, and `OSError`
    where the journal cannot be written.
    """
    settings = assembly.settings
    work_dir = settings.work_dir.absolute()
    server = settings.server.rstrip("/")
    context = assembly.context(usable_work_dir(settings))
    credential = assembly.credential(context, cancel=ending.stop)
    spool = Spool(work_dir, journal, server, keep=settings.keep_job_dirs)
    _gather(work_dir, journal, server, keep=settings.keep_job_dirs)
    if not spool.files() and not (settings.queue and journal.keeps_outputs()):
        return Flushed()
    communicator = assembly.communicator(context, credential)
    try:
        done = spool.flush(communicator, assembly.clock, budget=settings.report_budget, cancel=ending.stop)
        if settings.queue and journal.keeps_outputs():
            queue = assembly.queue(context, cancel=ending.stop)
            services = assembly.services(queue, communicator, context)
            try:
                done.add(*Recovery(journal, services, server, ending).run(kept=True))
            finally:
                services.close()
        return done
    finally:
        communicator.close()


def _gather(work_dir: Path, journal: PilotJournal, server: str, *, keep: bool) -> None:
    """Bring the reports of pilots that died into the spool."""
    for record in journal.take_over(server, None):
        past, own = Past.of(record.steps), journal.journal_of(record)
        if past.acknowledged:
            own.record("closed")
        elif past.report is not None:
            _log.info("job %d has a final report that a pilot that died did not deliver", record.job_id)
            past.report.store(work_dir / SPOOL)
            own.record("spooled")
        else:
            continue
        left = "" if keep else remove_tree(record.job_dir)
        if left:
            _log.warning("%s cannot be removed whole (%s)", record.job_dir, left)
