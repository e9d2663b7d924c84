"""The last way of a final report: sent until the server acknowledges it, or kept for later."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pilot_core.errors import Cancelled, HandledError
from pilot_core.spool import SPOOL

if TYPE_CHECKING:
    import logging

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.communicator import ServerAnswer
    from pilot_core.reporting import FinalReport
    from pilot_core.services import Services

__all__ = ["Delivery"]


class Delivery:
    """Brings one final report to the server of a pilot."""

    def __init__(self, services: Services, log: logging.LoggerAdapter[logging.Logger]) -> None:
        self._services = services
        self._log = log

    def deliver(self, report: FinalReport, *, stopping: CancelToken, now: CancelToken) -> ServerAnswer | None:
        """Send a report until it is acknowledged; keep it as a file, and return None, if that cannot be had.

        Once the pilot was told to end (`stopping`) it is tried for a short time only, and with `now` not at all.
        """
        try:
            return self._send(report, stopping, now)
        except HandledError as error:
            self._keep(report, error)
            return None

    def _send(self, report: FinalReport, stopping: CancelToken, now: CancelToken) -> ServerAnswer:
        """Send the report; raises `HandledError` when the time for it is over."""
        services = self._services
        budget = services.report_budget
        if not stopping.cancelled:
            with suppress(Cancelled):
                return report.send(services.communicator, services.clock, budget=budget, cancel=stopping)
        budget = min(budget, services.last_budget)
        return report.send(services.communicator, services.clock, budget=budget, cancel=now)

    def _keep(self, report: FinalReport, error: HandledError) -> None:
        """Keep a report that could not be delivered."""
        job_id = report.update.job_id
        try:
            path = report.store(self._services.work_dir / SPOOL)
        except OSError as failure:
            self._log.error(
                "job %d: the final report (%s) could neither be delivered (%s) nor kept (%s)",
                job_id,
                report.update.state,
                error,
                failure.strerror,
            )
            return
        self._log.error("job %d: the final report could not be delivered (%s); kept in %s", job_id, error, path)
