"""The client of the form API."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.calls import Caller, gzipped
from pilot_communicator_panda.description import read_description
from pilot_communicator_panda.http import Request
from pilot_communicator_panda.translate import acquired_jobs

from pilot_communicator_panda_legacy import answers, encode

if TYPE_CHECKING:
    from pilot_communicator_panda_legacy import LegacySettings
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

__all__ = ["LegacyCommunicator"]

Values = Mapping[str, Any]

# application/json means gzip to panda-server 0.8.1, without a Content-Encoding; Accept gives numbers as numbers
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}
_IDS_AT_ONCE = 100


class LegacyCommunicator:
    """Talks the form API to one server. Methods may be called from several threads."""

    def __init__(
        self, settings: LegacySettings, context: Context, *, jitter: Callable[[], float] = random.random
    ) -> None:
        self._settings = settings
        self._log = context.log
        self._caller = Caller(settings, context, other="panda (a PanDA server from 1.0 on?)", jitter=jitter)

    def is_alive(self, *, cancel: CancelToken, deadline: Deadline) -> bool:
        """Say whether the server answers as it should; one attempt.

        Raises `CommunicationError` with the reason if it cannot be reached.
        """
        reply = self._caller.send(Request(method="GET", path="/server/panda/isAlive"), cancel, deadline)
        return reply.body.strip() == b"alive=yes"

    def acquire(self, request: JobRequest, *, cancel: CancelToken, deadline: Deadline) -> Sequence[Acquired]:
        """Get jobs; empty if the server has none (or, it says the same, does not know the queue).

        Repeated is only what the server surely did not carry out, as with REST API v1.
        """
        values = encode.encode_request(request, self._log)

        def attempt() -> list[Acquired]:
            answer = self._post("getJob", values, cancel, deadline, repeatable=False)
            entries = answers.job_entries(answer)
            return acquired_jobs(entries, self._log, decode=self._settings.encoded_parameters != "never")

        return self._caller.acquire("getJob", attempt, cancel, deadline)

    def update(self, update: JobUpdate, *, cancel: CancelToken, deadline: Deadline) -> ServerAnswer:
        """Tell the server a job's state, again and again until it acknowledges it.

        `alreadydone` and `tobekilled` in the answer to a final update are an acknowledgement, as with REST API v1.
        """
        values = encode.encode_update(update, self._log)

        def attempt() -> ServerAnswer:
            answer = self._post("updateJob", values, cancel, deadline)
            if "command" not in answer and "metaData" in values:
                answer = self._without_metadata(values, cancel, deadline)
            return answers.update_answer(answer)

        return self._caller.update(f"updateJob of {update.job_id} ({update.state})", attempt, cancel, deadline)

    def _without_metadata(self, values: Values, cancel: CancelToken, deadline: Deadline) -> dict[str, Any]:
        """Tell a job's state once more, without its metadata, and return the answer.

        The server answers alike, StatusCode 0 and no command, if it could not keep the metadata because its database
        is down, and if it does not know the job; the answer to the rest tells the two apart.
        """
        rest = {name: value for name, value in values.items() if name != "metaData"}
        answer = self._post("updateJob", rest, cancel, deadline)
        if "command" in answer:
            self._log.warning("job %s: the server took the update without its metadata only", values["jobId"])
        return answer

    def job_status(self, job_ids: Sequence[int], *, cancel: CancelToken, deadline: Deadline) -> Sequence[JobStatus]:
        """Ask what the server believes of some jobs."""
        found: list[JobStatus] = []
        for start in range(0, len(job_ids), _IDS_AT_ONCE):
            some = job_ids[start : start + _IDS_AT_ONCE]

            def attempt(some: Sequence[int] = some) -> list[JobStatus]:
                values = {"ids": " ".join(str(int(job_id)) for job_id in some)}
                return answers.job_statuses(self._post("getStatus", values, cancel, deadline), some)

            found += self._caller.inform("getStatus", attempt, cancel, deadline)
        return found

    def worker_status(self, status: WorkerStatus, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Tell Harvester, through the server, that this pilot has started or finished."""
        values = encode.encode_status(status, self._log)

        def attempt() -> None:
            self._post("updateWorkerPilotStatus", values, cancel, deadline)

        self._caller.inform("updateWorkerPilotStatus", attempt, cancel, deadline)

    def worker_node(self, node: WorkerNode, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Do nothing: the form API has no method for it."""

    def read_job(self, description: Any) -> Acquired:
        """Translate a job's dictionary out of a file, alone or in a server's answer; see `JobReader`."""
        return read_description(description, self._log, decode=self._settings.encoded_parameters != "never")

    def close(self) -> None:
        """Close the kept connections."""
        self._caller.close()

    def _post(
        self, method: str, values: Values, cancel: CancelToken, deadline: Deadline, *, repeatable: bool = True
    ) -> dict[str, Any]:
        """Call a method; return the answer's values if its StatusCode is 0 (or 20), else raise what it stands for."""
        request = Request(
            method="POST",
            path=f"/server/panda/{method}",
            headers=_HEADERS,
            body=gzipped(json.dumps(values).encode("ascii")),
            repeatable=repeatable,
        )
        caller = self._caller
        answer = answers.parse_answer(caller.send(request, cancel, deadline), caller.where, caller.excerpt)
        error = answers.refusal(answer, method, caller.where, caller.excerpt)
        if error is not None:
            raise error
        return answer
