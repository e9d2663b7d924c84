"""The client of REST API v1."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pilot_communicator_panda import answers, encode
from pilot_communicator_panda.http import HttpClient, Request
from pilot_communicator_panda.retry import AttemptFailed, Retrier, RetryPolicy
from pilot_communicator_panda.translate import acquired_jobs
from pilot_core import AuthError, CommunicationError
from pilot_core.api.credential import BearerToken

if TYPE_CHECKING:
    from pilot_communicator_panda.settings import PandaSettings
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.communicator import (
        Acquired,
        JobRequest,
        JobStatus,
        JobUpdate,
        ServerAnswer,
        WorkerNode,
        WorkerStatus,
    )
    from pilot_core.api.provider import Context

__all__ = ["PandaCommunicator"]

T = TypeVar("T")
Envelope = Mapping[str, Any]

_JSON = "application/json"
# both, and exactly so: panda-server 1.0.4 answers with a Python repr otherwise
_HEADERS = {"Content-Type": _JSON, "Accept": _JSON}
_IDS_AT_ONCE = 100
_GZIP = 31
"""zlib's window bits for a gzip header and trailer; the module gzip costs 3 ms more to import."""
_MAY_BE_DISPATCHED = "a job may have been given to this pilot all the same; the server fails it after 30 minutes"


class PandaCommunicator:
    """Talks REST API v1 to one server. Methods may be called from several threads."""

    def __init__(
        self, settings: PandaSettings, context: Context, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._settings = settings
        self._clock = context.clock
        self._log = context.log
        self._http = HttpClient(context, connect_timeout=settings.connect_timeout, timeout=settings.timeout)
        self._retrier = Retrier(context.clock, context.log, jitter)

    def is_alive(self, *, cancel: CancelToken, deadline: Deadline) -> bool:
        """Say whether the server answers as it should; one attempt.

        Raises `CommunicationError` with the reason if it cannot be reached.
        """
        envelope = self._get("system/is_alive", cancel, deadline)
        return bool(envelope["success"])

    def acquire(self, request: JobRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[Acquired]:
        """Get jobs; empty if the server has none (or, it says the same, does not know the queue).

        Repeated is only what the server surely did not carry out: a request has no key by which it could know it
        again, and a second one would take a second job.
        """
        body = encode.encode_request(request, self._log)

        def attempt() -> list[Acquired]:
            envelope = self._post("pilot/acquire_jobs", body, cancel, deadline, repeatable=False)
            if not envelope["success"] and envelope.get("message") == "No jobs in PanDA":
                return []
            self._raise_refusal(envelope, "acquire_jobs")
            data = envelope.get("data")
            jobs = data.get("jobs") if isinstance(data, dict) else None
            if not isinstance(jobs, list):
                raise AttemptFailed("the answer to acquire_jobs has no list of jobs")
            return acquired_jobs(jobs, self._log, decode=self._settings.encoded_parameters != "never")

        def safe(failure: AttemptFailed) -> bool:
            return not failure.processed and not failure.permanent

        try:
            budget = self._settings.acquire_retry_budget
            return self._repeat("acquire_jobs", attempt, budget, repeatable=safe, cancel=cancel, deadline=deadline)
        except CommunicationError as error:
            if isinstance(error.__cause__, AttemptFailed) and error.__cause__.processed:
                raise CommunicationError(f"{error}; {_MAY_BE_DISPATCHED}") from None
            raise

    def update(self, update: JobUpdate, *, cancel: CancelToken, deadline: Deadline) -> ServerAnswer:
        """Tell the server a job's state, again and again until it acknowledges it.

        `alreadydone` and `tobekilled` in the answer to a final update mean that the server has closed the job
        before: there is nothing left to say, so that is an acknowledgement too.
        """
        body = encode.encode_update(update, self._log)

        def attempt() -> ServerAnswer:
            envelope = self._post("pilot/update_job", body, cancel, deadline)
            self._raise_refusal(envelope, "update_job")
            return answers.update_answer(envelope)

        what = f"update_job of {update.job_id} ({update.state})"
        budget = self._settings.retry_budget
        return self._repeat(what, attempt, budget, repeatable=lambda _: True, cancel=cancel, deadline=deadline)

    def job_status(self, job_ids: Sequence[int], *, cancel: CancelToken, deadline: Deadline) -> Sequence[JobStatus]:
        """Ask what the server believes of some jobs."""
        found: list[JobStatus] = []
        for start in range(0, len(job_ids), _IDS_AT_ONCE):
            query = "&".join(f"job_ids={int(job_id)}" for job_id in job_ids[start : start + _IDS_AT_ONCE])

            def attempt(query: str = query) -> list[JobStatus]:
                envelope = self._get(f"pilot/get_job_status?{query}", cancel, deadline)
                self._raise_refusal(envelope, "get_job_status")
                return answers.job_statuses(envelope)

            found += self._inform("get_job_status", attempt, cancel, deadline)
        return found

    def worker_status(self, status: WorkerStatus, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Tell Harvester, through the server, that this pilot has started or finished."""
        self._tell("update_worker_status", encode.encode_status(status, self._log), cancel, deadline)

    def worker_node(self, node: WorkerNode, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Describe the machine."""
        self._tell("update_worker_node", encode.encode_node(node, self._log), cancel, deadline)

    def close(self) -> None:
        """Close the kept connections."""
        self._http.close()

    def _tell(self, what: str, body: Mapping[str, Any], cancel: CancelToken, deadline: Deadline) -> None:
        """Send something whose answer says no more than whether it was taken."""

        def attempt() -> None:
            self._raise_refusal(self._post(f"pilot/{what}", body, cancel, deadline), what)

        self._inform(what, attempt, cancel, deadline)

    def _inform(self, what: str, attempt: Callable[[], T], cancel: CancelToken, deadline: Deadline) -> T:
        """Repeat a request on which no job depends."""

        def sensible(failure: AttemptFailed) -> bool:
            return not failure.permanent

        budget = self._settings.info_retry_budget
        return self._repeat(what, attempt, budget, repeatable=sensible, cancel=cancel, deadline=deadline)

    def _repeat(
        self,
        what: str,
        attempt: Callable[[], T],
        budget: float,
        *,
        repeatable: Callable[[AttemptFailed], bool],
        cancel: CancelToken,
        deadline: Deadline,
    ) -> T:
        """Run attempts by the settings."""
        policy = RetryPolicy(budget, self._settings.retry_pause, self._settings.retry_pause_limit)
        return self._retrier.run(what, attempt, policy, repeatable=repeatable, cancel=cancel, deadline=deadline)

    def _raise_refusal(self, envelope: Envelope, what: str) -> None:
        """Raise what an answer stands for, unless it is a success."""
        error = answers.refusal(envelope, what, self._http.url.authority, self._http.redact)
        if error is not None:
            raise error

    def _get(self, path: str, cancel: CancelToken, deadline: Deadline) -> Envelope:
        """Send a GET request; return the answer's object."""
        return self._call(Request(method="GET", path=f"/api/v1/{path}", headers=_HEADERS), cancel, deadline)

    def _post(
        self,
        path: str,
        values: Mapping[str, Any],
        cancel: CancelToken,
        deadline: Deadline,
        *,
        repeatable: bool = True,
    ) -> Envelope:
        """Send a POST request; return the answer's object."""
        body = json.dumps(values).encode("ascii")
        headers = dict(_HEADERS)
        if 0 <= self._settings.gzip_above < len(body):
            packer = zlib.compressobj(level=5, wbits=_GZIP)
            body = packer.compress(body) + packer.flush()
            headers["Content-Encoding"] = "gzip"
        request = Request(method="POST", path=f"/api/v1/{path}", headers=headers, body=body, repeatable=repeatable)
        return self._call(request, cancel, deadline)

    def _call(self, request: Request, cancel: CancelToken, deadline: Deadline) -> Envelope:
        """Send a request; a token that is refused is read again once, in case it was renewed just now."""
        where = self._http.url.authority
        what = request.path.partition("?")[0].rpartition("/")[2]
        refused: BearerToken | None = None
        while True:
            reply = self._http.request(request, cancel=cancel, deadline=deadline)
            if reply.status == 200:
                return answers.parse_envelope(reply, where, self._http.redact)
            error = answers.http_failure(reply, what, where, self._http.redact, self._clock.wall())
            if not isinstance(error, AuthError) or not isinstance(reply.credential, BearerToken):
                raise error
            again = self._http.credential(cancel, deadline)
            if refused is not None or again == reply.credential:
                raise AuthError(f"{error}; renew the token in {reply.credential.source or 'its file'}")
            refused = reply.credential
