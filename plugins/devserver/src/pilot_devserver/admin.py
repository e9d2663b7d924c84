"""The server's own interface, for its commands: submit, look, kill, and a stream of changes. No PanDA server has it.

Only the certificate `admin.pem` of the state directory may use it, over TLS.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from aiohttp import web

from pilot_core.api.server import StoreUnavailable
from pilot_core.errors import BadInput
from pilot_devserver.faults.rules import Rule
from pilot_devserver.store_jobs import FileSpec, JobSpec

if TYPE_CHECKING:
    from pilot_core.api.server import JobRecord, ServerRequest
    from pilot_devserver.faults.registry import Faults
    from pilot_devserver.site import Site
    from pilot_devserver.store import SqliteStore

__all__ = ["PREFIX", "Admin", "spec_from_json", "summary"]

PREFIX = "/devserver/v1/"
KILL_CODE = 2
"""The kill code with which an operator may end anybody's job, and a job that is being killed already."""

T = TypeVar("T")


class _InThread(Protocol):
    def __call__(self, function: Callable[[], T], /) -> Awaitable[T]: ...


class _Refused(Exception):
    """What the caller did wrong; the first argument is the HTTP status."""


class Admin:
    """Answers requests below `PREFIX` with JSON."""

    def __init__(self, store: SqliteStore, site: Site, admin_dn: str, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self._site = site
        self._admin_dn = admin_dn
        self._streams: set[asyncio.Queue[int | None]] = set()

    def handles(self, request: ServerRequest) -> bool:
        """Say whether a request is for this interface."""
        return request.path.startswith(PREFIX)

    def close(self) -> None:
        """End all streams; called in the event loop."""
        for stream in self._streams:
            stream.put_nowait(None)

    async def answer(self, request: web.Request, neutral: ServerRequest, in_thread: _InThread) -> web.StreamResponse:
        """Answer one request."""
        if neutral.identity is None or neutral.identity.dn != self._admin_dn:
            text = "only the certificate admin.pem of the server's state directory may do that"
            return web.json_response({"error": text}, status=403)
        if neutral.method == "GET" and neutral.path == f"{PREFIX}changes":
            return await self._stream(request, in_thread)
        try:
            return web.json_response(await in_thread(lambda: self._do(neutral)))
        except _Refused as error:
            return web.json_response({"error": error.args[1]}, status=error.args[0])
        except StoreUnavailable as error:
            return web.json_response({"error": str(error)}, status=503)

    def _do(self, request: ServerRequest) -> dict[str, Any]:
        """Do what a request asks for; raises `_Refused`."""
        what = f"{request.method} {request.path.removeprefix(PREFIX)}"
        if what == "GET site":
            queues = [{"name": q.name, "rse": q.rse, "storage": str(q.storage)} for q in self._site.queues.values()]
            return {"queues": queues}
        if what == "GET jobs":
            return {"jobs": [summary(job) for job in self._store.jobs()]}
        if what == "POST jobs":
            return {"ids": self._store.submit([spec_from_json(item) for item in _list(_body(request), "jobs")])}
        if what.partition(" ")[2].partition("/")[0] == "faults":
            return self._do_faults(request, what)
        found = re.fullmatch(r"(GET|POST) jobs/(\d{1,19})(/kill|/command|/debug)?", what)
        if not found:
            raise _Refused(404, f"there is no {what}")
        return self._do_to_job(request, found.group(1) + (found.group(3) or ""), int(found.group(2)))

    def _do_faults(self, request: ServerRequest, what: str) -> dict[str, Any]:
        """List, add and remove faults."""
        if what == "GET faults":
            return {"faults": [fault.to_json() for fault in self._faults.rules()]}
        if what == "POST faults":
            try:
                return self._faults.add(Rule.read(_body(request))).to_json()
            except BadInput as error:
                raise _Refused(400, str(error)) from None
        if what == "POST faults/clear":
            return {"removed": self._faults.clear()}
        found = re.fullmatch(r"POST faults/(\d{1,19})/clear", what)
        if not found:
            raise _Refused(404, f"there is no {what}")
        if not self._faults.remove(int(found.group(1))):
            raise _Refused(404, f"there is no fault {found.group(1)}; 'pilot-core server fault list' shows them")
        return {"removed": 1}

    def _do_to_job(self, request: ServerRequest, what: str, job_id: int) -> dict[str, Any]:
        """Show or change one job."""
        job = self._store.get(job_id)
        if job is None:
            raise _Refused(404, f"there is no job {job_id}")
        if what == "GET":
            return {"job": asdict(job)}
        if what == "POST/kill":
            return {"done": self._store.kill(job_id, user="admin", production=True, code=KILL_CODE), "text": ""}
        if what == "POST/command":
            done, text = self._store.set_command(job_id, str(_body(request).get("command", "")))
            return {"done": done, "text": text}
        if what == "POST/debug":
            text = self._store.set_debug(job_id, bool(_body(request).get("on", True)))
            return {"done": text == "Succeeded", "text": text}
        raise _Refused(404, f"there is no {what} of a job")

    async def _stream(self, request: web.Request, in_thread: _InThread) -> web.StreamResponse:
        """Send every job as it is, then each again when it changes: one JSON object a line, until someone hangs up."""
        loop = asyncio.get_running_loop()
        changed: asyncio.Queue[int | None] = asyncio.Queue()
        self._streams.add(changed)
        # before the jobs are listed, so that no change falls between
        unsubscribe = self._store.subscribe(lambda job_id: _wake(loop, changed, job_id))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            await response.prepare(request)
            for job in await in_thread(self._store.jobs):
                await _send(response, job)
            await response.write(b'{"listed": true}\n')
            while (job_id := await changed.get()) is not None:
                found = await in_thread(lambda wanted=job_id: self._store.get(wanted))  # type: ignore[misc]
                if found is not None:
                    await _send(response, found)
        except ConnectionResetError:
            pass  # the listener has gone, which is how a stream ends
        finally:
            unsubscribe()
            self._streams.discard(changed)
        return response


def _wake(loop: asyncio.AbstractEventLoop, changed: asyncio.Queue[int | None], job_id: int) -> None:
    """Tell a stream of a change, from whatever thread made it."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(changed.put_nowait, job_id)


async def _send(response: web.StreamResponse, job: JobRecord) -> None:
    await response.write(json.dumps(summary(job)).encode() + b"\n")


def summary(job: JobRecord) -> dict[str, Any]:
    """Return what lists and streams show of a job."""
    return {
        "id": job.id,
        "name": job.description.get("jobName", ""),
        "queue": job.queue,
        "label": job.label,
        "status": job.status,
        "attempt": job.attempt,
        "command": job.command,
        "node": job.node,
        "reported": job.reported_state,
        "errors": dict(job.errors),
        "fields": dict(job.fields),
        "files": dict(job.file_status),
        "history": [list(change) for change in job.history],
    }


def spec_from_json(value: Any) -> JobSpec:
    """Make a job's specification from plain data; raises `_Refused` if it is none."""
    if not isinstance(value, Mapping):
        raise _Refused(400, "each job must be an object")
    values = dict(value)
    try:
        values["files"] = tuple(FileSpec(**file) for file in values.get("files", ()))
        return JobSpec(**values)
    except TypeError as error:
        raise _Refused(400, f"a job's description: {error}") from None


def _body(request: ServerRequest) -> Mapping[str, Any]:
    try:
        value: Any = json.loads(request.body)
    except ValueError as error:
        raise _Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _Refused(400, "the body must be a JSON object")
    return value


def _list(value: Mapping[str, Any], name: str) -> list[Any]:
    found = value.get(name)
    if not isinstance(found, list):
        raise _Refused(400, f"the body must have a list {name!r}")
    return found
