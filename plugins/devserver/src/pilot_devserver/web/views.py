"""Which address shows what: each page is made from the store, the exchanges and the faults as they are now."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pilot_devserver.web.concealing import Concealer
from pilot_devserver.web.exchange_pages import Filter, exchange_view, exchanges_view
from pilot_devserver.web.fault_pages import faults_view, quick_faults
from pilot_devserver.web.jobs_pages import SHOWN_JOBS, job_view, jobs_view
from pilot_devserver.web.submit_page import submit_view
from pilot_devserver.web.timeline import FINAL

if TYPE_CHECKING:
    from pilot_devserver.faults import Faults
    from pilot_devserver.store import SqliteStore
    from pilot_devserver.web.exchanges import ExchangeLog
    from pilot_devserver.web.layout import Frame, View

__all__ = ["Views"]

_JOB = re.compile(r"/jobs/(\d{1,18})", re.ASCII)
_EXCHANGE = re.compile(r"/exchanges/(\d{1,18})", re.ASCII)


class Views:
    """Makes pages. Its methods block; they raise `StoreUnavailable`. Safe to use from several threads."""

    def __init__(self, store: SqliteStore, exchanges: ExchangeLog, faults: Faults, queues: Sequence[str]) -> None:
        self._store = store
        self._exchanges = exchanges
        self._faults = faults
        self.queues = tuple(queues)

    def is_live(self, path: str) -> bool:
        """Say whether a page changes while it is looked at."""
        return path in ("/", "/exchanges", "/faults") or bool(_JOB.fullmatch(path))

    def view(self, path: str, query: Mapping[str, str], frame: Frame) -> View | None:
        """Return the page of an address, None if there is none."""
        if found := _JOB.fullmatch(path):
            return self._job(int(found[1]), frame, whole=query.get("whole") == "1")
        if found := _EXCHANGE.fullmatch(path):
            return self._exchange(int(found[1]))
        pages: Mapping[str, Callable[[], View]] = {
            "/": lambda: self._jobs(query, frame),
            "/exchanges": lambda: self._exchange_list(query, frame),
            "/faults": lambda: self.faults(frame),
            "/submit": lambda: submit_view(frame),
        }
        return pages[path]() if path in pages else None

    def faults(self, frame: Frame, values: Mapping[str, str] | None = None, error: str = "") -> View:
        """Return the page of faults; `values` and `error` are of a form that was not accepted."""
        return faults_view(self._faults.rules(), self._faults.fired, frame, values, error)

    def _jobs(self, query: Mapping[str, str], frame: Frame) -> View:
        queue, state = query.get("queue", ""), query.get("state", "")
        jobs = self._store.jobs(queue=queue, status=state, newest=SHOWN_JOBS)
        counts = self._store.counts_by_queue()
        return jobs_view(jobs, counts, frame, concealer=self._concealer(), queue=queue, state=state)

    def _exchange_list(self, query: Mapping[str, str], frame: Frame) -> View:
        chosen = Filter(query.get("endpoint", ""), query.get("job", ""), query.get("wrong") == "1")
        return exchanges_view(self._exchanges.all(), frame, chosen)

    def _job(self, job_id: int, frame: Frame, *, whole: bool) -> View | None:
        job = self._store.get(job_id)
        if job is None:
            return None
        over = job.status in FINAL
        return job_view(
            job,
            self._exchanges.of_job(job_id),
            frame,
            now=self._store.now(),
            concealer=self._concealer(),
            quick_faults=quick_faults(frame, back=f"/jobs/{job_id}", job=job_id, over=over),
            whole=whole,
        )

    def _exchange(self, number: int) -> View | None:
        exchange = self._exchanges.get(number)
        if exchange is None:
            return None
        neighbours = {
            name: other if self._exchanges.get(other) else None
            for name, other in (("previous", number - 1), ("next", number + 1))
        }
        return exchange_view(exchange, self._concealer(), neighbours)

    def _concealer(self) -> Concealer:
        """Return what hides the secrets that the server keeps now."""
        return Concealer.of(self._store.secret_values())
