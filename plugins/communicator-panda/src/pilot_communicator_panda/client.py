"""The client of REST API v1."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda import answers, encode
from pilot_communicator_panda.calls import Caller, gzipped
from pilot_communicator_panda.description import read_description
from pilot_communicator_panda.http import Request
from pilot_communicator_panda.retry import AttemptFailed
from pilot_communicator_panda.translate import acquired_jobs

if TYPE_CHECKING:
    from pilot_communicator_panda.settings import PandaSettings
    from pilot_core import (
        Acquired,
        CancelToken,
        Context,
        Deadline,
        JobRequest,
        JobStatus,
        JobUpdate,
        ServerAnswer,
        WorkerNode,
        WorkerStatus,
    )

__all__ = ["PandaCommunicator"]

Envelope = Mapping[str, Any]

_JSON = "application/json"
# both, and exactly so: panda-server 1.0.4 answers with a Python repr otherwise
_HEADERS = {"Content-Type": _JSON, "Accept": _JSON}
_IDS_AT_ONCE = 100


class PandaCommunicator:
    """Talks REST API v1 to one server. Methods may be called from several threads."""

    def __init__(
        self, settings: PandaSettings, context: Context, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._settings = settings
        self._log = context.log
        self._caller = Caller(settings, context, other="panda-legacy (a PanDA server before 1.0?)", jitter=jitter)

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

        return self._caller.acquire("acquire_jobs", attempt, cancel, deadline)

    def update(self, update: JobUpdate, *, cancel: CancelToken, deadline: Deadline) -> ServerAnswer:
        """Tell the server a job's state, again and again until it acknowledges it.

        `alreadydone` and `tobekilled` in the answer to a final update mean that the server has closed the job
        before: there is nothing left to say, so that is an acknowledgement too.
        """
        body = encode.encode_update(update, self._log)

        def attempt() -> ServerAnswer:
            envelope = self._post("pilot/update_job", body, cancel, deadline)
            if envelope.get("message") == answers.NO_METADATA and "meta_data" in body:
                envelope = self._without_metadata(body, cancel, deadline)
            self._raise_refusal(envelope, "update_job")
            return answers.update_answer(envelope)

        return self._caller.update(f"update_job of {update.job_id} ({update.state})", attempt, cancel, deadline)

    def _without_metadata(self, body: Mapping[str, Any], cancel: CancelToken, deadline: Deadline) -> Envelope:
        """Tell a job's state once more, without its metadata, and return the answer.

        The server answers alike if its database is down, if it does not know the job, and if it cannot keep just this
        metadata; the answer to the rest tells them apart.
        """
        rest = {name: value for name, value in body.items() if name != "meta_data"}
        envelope = self._post("pilot/update_job", rest, cancel, deadline)
        if answers.refusal(envelope, "update_job", self._caller.where, self._caller.http.redact) is None:
            self._log.warning("job %s: the server took the update only without its metadata", body["job_id"])
        return envelope

    def job_status(self, job_ids: Sequence[int], *, cancel: CancelToken, deadline: Deadline) -> Sequence[JobStatus]:
        """Ask what the server believes of some jobs."""
        found: list[JobStatus] = []
        for start in range(0, len(job_ids), _IDS_AT_ONCE):
            query = "&".join(f"job_ids={int(job_id)}" for job_id in job_ids[start : start + _IDS_AT_ONCE])

            def attempt(query: str = query) -> list[JobStatus]:
                envelope = self._get(f"pilot/get_job_status?{query}", cancel, deadline)
                self._raise_refusal(envelope, "get_job_status")
                return answers.job_statuses(envelope)

            found += self._caller.inform("get_job_status", attempt, cancel, deadline)
        return found

    def worker_status(self, status: WorkerStatus, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Tell Harvester, through the server, that this pilot has started or finished."""
        self._tell("update_worker_status", encode.encode_status(status, self._log), cancel, deadline)

    def worker_node(self, node: WorkerNode, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Describe the machine."""
        self._tell("update_worker_node", encode.encode_node(node, self._log), cancel, deadline)

    def read_job(self, description: Any) -> Acquired:
        """Translate a job's dictionary out of a file, alone or in a server's answer; see `JobReader`."""
        return read_description(description, self._log, decode=self._settings.encoded_parameters != "never")

    def close(self) -> None:
        """Close the kept connections."""
        self._caller.close()

    def _tell(self, what: str, body: Mapping[str, Any], cancel: CancelToken, deadline: Deadline) -> None:
        """Send something whose answer says no more than whether it was taken."""

        def attempt() -> None:
            self._raise_refusal(self._post(f"pilot/{what}", body, cancel, deadline), what)

        self._caller.inform(what, attempt, cancel, deadline)

    def _raise_refusal(self, envelope: Envelope, what: str) -> None:
        """Raise what an answer stands for, unless it is a success."""
        error = answers.refusal(envelope, what, self._caller.where, self._caller.http.redact)
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
            body = gzipped(body)
            headers["Content-Encoding"] = "gzip"
        request = Request(method="POST", path=f"/api/v1/{path}", headers=headers, body=body, repeatable=repeatable)
        return self._call(request, cancel, deadline)

    def _call(self, request: Request, cancel: CancelToken, deadline: Deadline) -> Envelope:
        """Send a request; return the answer's object."""
        reply = self._caller.send(request, cancel, deadline)
        return answers.parse_envelope(reply, self._caller.where, self._caller.http.redact)
