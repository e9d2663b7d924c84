"""Traces: what Rucio is told of transfers, so that it knows how files are used and which storages fail.

A trace is for statistics: it goes out from a thread beside the job, is not repeated, and is dropped if it cannot be
told. The endpoint asks for no credential. Fields: `GET_SCHEMA` and `PUT_SCHEMA` of Rucio (`core/trace.py`), and those
that PanDA Pilot 3 sends besides.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilot_catalog_rucio.answers import trouble
from pilot_core import CancelToken, Deadline, Event, HandledError, shown_url
from pilot_core.api.staging import REMOTE_IO
from pilot_core.api.web import WebBody, WebRequest

if TYPE_CHECKING:
    from pilot_core import Clock, InputFile, Job, OutputFile, TransferAttempt
    from pilot_core.api.web import WebClient

__all__ = ["TraceSender", "trace_of"]

WAITING = 10_000
"""Traces that wait at most; the oldest ones are dropped beyond."""
TOGETHER = 500
"""Traces of one request."""
SECONDS = 20.0
"""For one request."""
ANALYSIS = frozenset({"user", "panda"})
"""prodSourceLabels of users' jobs: their events end in `_a`."""
STATES = {"ok": "DONE", REMOTE_IO: "FOUND_ROOT"}
"""clientState of what did not fail; Pilot 3's for an input that the payload reads where it lies."""
REASONS = {"ok": "OK", REMOTE_IO: "direct_access"}
TIMEOUTS = frozenset({"TransferTimeout"})


def trace_of(job: Job, attempt: TransferAttempt, *, site: str, queue: str, version: str) -> Mapping[str, Any]:
    """Return the trace of one attempt. Times are seconds since 1970."""
    reading = attempt.activity == "read"
    files: Sequence[InputFile | OutputFile] = job.inputs if reading else job.files_out
    file = next((each for each in files if each.lfn == attempt.lfn), None)
    scope, dataset = (file.scope, file.dataset) if file else ("", "")
    dataset_scope, colon, dataset_name = dataset.rpartition(":")
    ended = attempt.started + attempt.seconds
    return {
        "eventType": ("get_sm" if reading else "put_sm") + ("_a" if job.label in ANALYSIS else ""),
        "eventVersion": version,
        "uuid": hashlib.md5(f"pilot-core_{job.id}_{job.attempt}".encode(), usedforsecurity=False).hexdigest(),
        "clientState": STATES.get(attempt.outcome) or f"FAILED_{attempt.outcome}",
        "stateReason": REASONS.get(attempt.outcome) or f"{attempt.outcome}:{attempt.error}"[:500],
        "localSite": site,
        "remoteSite": attempt.rse,
        "protocol": urlsplit(attempt.url).scheme,
        "url": shown_url(attempt.url.partition("?")[0]),
        "scope": scope,
        "filename": attempt.lfn,
        "dataset": dataset_name,
        "datasetScope": dataset_scope if colon else scope,
        "guid": file.guid if file else "",
        "filesize": attempt.bytes,
        "timeStart": attempt.started,
        "transferStart": attempt.started,
        "transferEnd": ended,
        "timeEnd": ended,
        "hostname": socket.gethostname(),
        "appid": str(job.id),
        "taskid": str(job.task_id or ""),
        "pq": queue,
        "usrdn": job.user,
        "usr": hashlib.md5(job.user.encode(), usedforsecurity=False).hexdigest(),
    }


class TraceSender:
    """Sends traces from a thread that is there only while some wait. Thread safe."""

    def __init__(self, web: WebClient, url: str, clock: Clock, log: logging.Logger) -> None:
        self._web = web
        self._url = url
        self._clock = clock
        self._log = log
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], Mapping[str, Any]]] = deque(maxlen=WAITING)
        self._idle: Event | None = None
        """Set once the thread that is there now has ended."""

    def add(self, make: Callable[[], Mapping[str, Any]]) -> None:
        """Have a trace sent, which is made in the thread; returns at once."""
        with self._lock:
            self._waiting.append(make)
            if self._idle is None:
                self._idle = Event()
                threading.Thread(target=self._run, name="rucio-traces", daemon=True).start()

    def settle(self, cancel: CancelToken, deadline: Deadline) -> None:
        """Wait until nothing waits any more, or it is time to go on."""
        with self._lock:
            idle = self._idle
        if idle is not None:
            self._clock.wait(idle, cancel, until=deadline.at)

    def _run(self) -> None:
        while True:
            with self._lock:
                some = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
                if not some:
                    idle, self._idle = self._idle, None
                    break
            try:
                self._send([make() for make in some])
            except Exception as error:  # noqa: BLE001  (no job fails for a trace)
                self._log.warning("%d traces for Rucio are dropped: %s", len(some), error)
        if idle is not None:
            idle.set()

    def _send(self, traces: Sequence[Mapping[str, Any]]) -> None:
        """Send traces, once."""
        what = f"traces at {shown_url(self._url)}"
        request = WebRequest(
            method="POST",
            url=self._url,
            headers={"Content-Type": "application/json"},
            body=WebBody.of(json.dumps(traces).encode()),
            what=what,
        )
        deadline = Deadline.after(self._clock, SECONDS)
        with self._web.send(request, cancel=CancelToken(), deadline=deadline) as answer:
            error = trouble(answer, what, self._clock.wall())
            if error is not None:
                raise error if isinstance(error, HandledError) else HandledError(str(error))
            answer.read()
