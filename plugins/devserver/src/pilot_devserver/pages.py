"""What the server has beside its protocols: queuedata, storages, transformations, and a page for people."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pilot_core.api.server import ServerResponse, StoreUnavailable
from pilot_devserver import apache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilot_core.api.server import JobRecord, JobStore, ServerRequest
    from pilot_devserver.site import Site
    from pilot_devserver.store import SqliteStore

__all__ = ["Pages"]

QUEUEDATA, QUEUEDATA_END = "/cache/schedconfig/", ".all.json"
ENDPOINTS = "/cache/ddmendpoints.json"
TRANSFORMATIONS = "/trf/"
SHOWN_JOBS = 200

_PAGE = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>PanDA development server</title>
<style>body {{ font-family: sans-serif; margin: 2em }} td, th {{ padding: .2em 1em .2em 0; text-align: left }}</style>
</head><body>
<h1>PanDA development server</h1>
<p>Queues: {queues}. Jobs: {counts}.</p>
<table>
<tr><th>PandaID</th><th>queue</th><th>state</th><th>name</th><th>node</th><th>what went wrong</th></tr>
{rows}
</table>
</body></html>
"""


class Pages:
    """Answers with the server's own pages; all of them may be read by anybody, over TLS or not."""

    def __init__(self, site: Site, store: SqliteStore, transformations: Path) -> None:
        self._site = site
        self._store = store
        self._transformations = transformations.resolve()

    def respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Answer a request that is no protocol's."""
        path = unquote(request.path)
        try:
            if path == "/":
                return self._status()
            if path == ENDPOINTS:
                return _json(self._site.endpoints())
            if path.startswith(QUEUEDATA) and path.endswith(QUEUEDATA_END):
                data = store.queue_data(path[len(QUEUEDATA) : -len(QUEUEDATA_END)])
                return apache.not_found() if data is None else _json(data)
            if path.startswith(TRANSFORMATIONS):
                return self._transformation(path[len(TRANSFORMATIONS) :])
        except StoreUnavailable as error:
            return ServerResponse(status=503, body=f"{error}\n".encode())
        return apache.not_found()

    def _transformation(self, name: str) -> ServerResponse:
        """Return a script; nothing that lies outside of the directory."""
        file = (self._transformations / name).resolve() if "\0" not in name else self._transformations
        if not file.is_relative_to(self._transformations) or not file.is_file():
            return apache.not_found()
        return _static(file.read_bytes(), "text/plain")

    def _status(self) -> ServerResponse:
        """Return the page for people: the newest jobs and how they are."""
        counts = ", ".join(f"{number} {status}" for status, number in sorted(self._store.counts().items()))
        rows = [_row(job) for job in reversed(self._store.jobs()[-SHOWN_JOBS:])]
        queues = ", ".join(html.escape(name) for name in self._site.queues)
        page = _PAGE.format(queues=queues, counts=counts or "none", rows="\n".join(rows))
        return _static(page.encode(), "text/html; charset=utf-8")


def _row(job: JobRecord) -> str:
    """Return a job's row of the table."""
    wrong = [str(job.errors[name]) for name in sorted(job.errors) if name.endswith("Diag") and job.errors[name]]
    wrong += [str(job.fields["pilot_error_diag"])] if job.fields.get("pilot_error_diag") else []
    cells = (job.id, job.queue, job.status, job.description.get("jobName", ""), job.node, "; ".join(wrong))
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"


def _json(value: Mapping[str, object]) -> ServerResponse:
    return _static(json.dumps(value, indent=1, sort_keys=True).encode(), "application/json")


def _static(body: bytes, content_type: str) -> ServerResponse:
    """Return what Apache would serve from a file."""
    return ServerResponse(body=body, content_type=content_type, headers={"Content-Length": str(len(body))})
