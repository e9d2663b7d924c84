"""The pages of jobs: the list, and one job with its timeline, files and buttons."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pilot_devserver.web.decoding import Body, unfold
from pilot_devserver.web.exchange_pages import exchange_table
from pilot_devserver.web.fields import show_body
from pilot_devserver.web.layout import Frame, View, clock_time, facts, form, pill, table
from pilot_devserver.web.markup import Child, Markup, element, join
from pilot_devserver.web.timeline import FINAL, draw, events_of, listed

if TYPE_CHECKING:
    from pilot_core.api.server import JobRecord
    from pilot_devserver.web.concealing import Concealer
    from pilot_devserver.web.exchanges import Exchange

__all__ = ["SHOWN_JOBS", "job_view", "jobs_view"]

SHOWN_JOBS = 200
_MOST_EXCHANGES = 100
_ORDER = ("activated", "sent", "starting", "running", "holding", "transferring", "finished", "failed", "cancelled")
_COMMANDS = ("tobekilled", "softkill")
_FIELDS_OF_ERRORS = ("pilot_error", "exe_error")


# -- the list ----------------------------------------------------------------------------------------------------------


def jobs_view(
    jobs: Sequence[JobRecord],
    counts: Mapping[tuple[str, str], int],
    frame: Frame,
    *,
    concealer: Concealer,
    queue: str,
    state: str,
) -> View:
    """Return the list of jobs, oldest first as given; `queue` and `state` are what it is filtered by."""
    rows = [_row(job, concealer) for job in reversed(jobs)]
    heads = ("PandaID", "state", "queue", "name", "node", "updates", "last change", "told", "what went wrong")
    filtered = bool(queue or state)
    empty = "No job matches the filter." if filtered else "There is no job yet. Submit one, or use pilot-core submit."
    total = sum(counts.values())
    more = f"The newest {len(jobs)} are shown." if len(jobs) >= SHOWN_JOBS else None
    main = join(
        element("h1", "Jobs ", element("span", total, class_="count")),
        _filters(counts, frame.queues, queue, state),
        table(heads, rows, empty=empty, caption="Jobs, newest first", class_="jobs"),
        element("p", more, class_="hint") if more else None,
    )
    return View("Jobs", main)


def _filters(counts: Mapping[tuple[str, str], int], queues: Sequence[str], queue: str, state: str) -> Markup:
    """Return the filters as links, each with the number of jobs behind it."""
    by_state: dict[str, int] = {}
    by_queue: dict[str, int] = dict.fromkeys(queues, 0)
    for (name, status), number in counts.items():
        if queue in ("", name):
            by_state[status] = by_state.get(status, 0) + number
        if state in ("", status):
            by_queue[name] = by_queue.get(name, 0) + number
    states = [name for name in _ORDER if name in by_state or name == state]
    chips = [_chip("all states", sum(by_state.values()), {"queue": queue}, chosen=not state)]
    chips += [
        _chip(name, by_state.get(name, 0), {"state": name, "queue": queue}, chosen=name == state) for name in states
    ]
    lines = [element("ul", chips, class_="chips", aria_label="State")]
    if len(by_queue) > 1:
        chips = [_chip("all queues", sum(by_queue.values()), {"state": state}, chosen=not queue)]
        chips += [
            _chip(name, number, {"state": state, "queue": name}, chosen=name == queue)
            for name, number in sorted(by_queue.items())
        ]
        lines.append(element("ul", chips, class_="chips", aria_label="Queue"))
    return element("nav", lines, aria_label="Filter")


def _chip(text: str, number: int, query: Mapping[str, str], *, chosen: bool) -> Markup:
    kept = {name: value for name, value in query.items() if value}
    link = element(
        "a",
        text,
        " ",
        element("span", number, class_="count"),
        href=f"/?{urlencode(kept)}" if kept else "/",
        aria_current="true" if chosen else None,
        class_=f"chip {text}" if text in _ORDER else "chip",
    )
    return element("li", link)


def _row(job: JobRecord, concealer: Concealer) -> Markup:
    last = max([time for time, _ in job.history[-1:]] + list(job.heartbeats[-1:]), default=None)
    told = join(element("code", job.command) if job.command else None, " debug" if job.debug else None)
    cells: list[Child] = [
        element("td", element("a", job.id, href=f"/jobs/{job.id}"), class_="number"),
        element("td", pill(job.status)),
        element("td", job.queue),
        element("td", concealer.text(str(job.description.get("jobName", ""))), class_="name"),
        element("td", job.node, class_="name"),
        element("td", len(job.heartbeats), class_="number"),
        element("td", clock_time(last) if last is not None else "", class_="number"),
        element("td", told),
        element("td", concealer.text("; ".join(_diagnoses(job))), class_="diagnosis"),
    ]
    return element("tr", cells, id=f"job-{job.id}")


def _diagnoses(job: JobRecord) -> list[str]:
    """Return what is known to have gone wrong: the server's own findings, then the pilot's."""
    wrong = [str(job.errors[name]) for name in sorted(job.errors) if name.endswith("Diag") and job.errors[name]]
    return wrong + [str(job.fields[f"{name}_diag"]) for name in _FIELDS_OF_ERRORS if job.fields.get(f"{name}_diag")]


# -- one job -----------------------------------------------------------------------------------------------------------


def job_view(
    job: JobRecord,
    exchanges: Sequence[Exchange],
    frame: Frame,
    *,
    now: float,
    concealer: Concealer,
    quick_faults: Markup,
    whole: bool = False,
) -> View:
    """Return one job; `now` is the server's wall time, `whole` draws the timeline from the submission on."""
    events = events_of(job, exchanges, concealer.text)
    start = job.history[0][0] if job.history else now
    name = concealer.text(str(job.description.get("jobName", "")))
    main = join(
        element("p", element("a", "All jobs", href="/"), class_="crumbs"),
        element("h1", f"Job {job.id} ", pill(job.status), " ", element("span", name, class_="sub")),
        _problems(job, concealer),
        _facts(job, concealer),
        element("section", element("h2", "Timeline"), _zoom(job, whole=whole), draw(events, now, whole=whole)),
        _steering(job, frame, quick_faults),
        _files(job),
        element(
            "section",
            element("h2", "Exchanges"),
            exchange_table(list(reversed(exchanges))[:_MOST_EXCHANGES], empty="No exchange about this job is kept."),
        ),
        element("details", element("summary", "All events as a table"), listed(events, start), id="events"),
        _contents(job, concealer),
    )
    return View(f"Job {job.id}: {job.status}", main)


def _problems(job: JobRecord, concealer: Concealer) -> Markup | None:
    found = [concealer.text(text) for text in _diagnoses(job)]
    return element("ul", [element("li", text) for text in found], class_="diagnoses") if found else None


def _facts(job: JobRecord, concealer: Concealer) -> Markup:
    codes = {**job.fields, **job.errors}
    shown = [
        f"{name} {codes[name]}"
        for name in sorted(codes)
        if str(name).lower().endswith("code") and codes[name] not in (0, "0", "")
    ]
    return facts(
        [
            ("queue", job.queue),
            ("label", job.label),
            ("attempt", job.attempt),
            ("priority", job.priority),
            ("user", job.user),
            ("node", job.node),
            ("pilot reported", pill(job.reported_state) if job.reported_state else ""),
            ("next answer says", element("code", job.command) if job.command and job.status not in FINAL else ""),
            ("debug", "on" if job.debug else ""),
            ("codes", ", ".join(shown)),
            ("transformation", element("code", str(job.description.get("transformation", "")))),
            ("parameters", element("code", concealer.text(str(job.description.get("jobPars", "")))[:300])),
        ]
    )


def _zoom(job: JobRecord, *, whole: bool) -> Markup | None:
    """Return the link between the two beginnings of the timeline, once a pilot has the job."""
    sent = next((time for time, status in job.history if status == "sent"), None)
    if sent is None:
        return None
    if whole:
        link = element("a", "Begin when it was handed out", href=f"/jobs/{job.id}")
    else:
        link = element("a", "Begin when it was submitted", href=f"/jobs/{job.id}?whole=1")
    return element("p", link, class_="hint")


def _steering(job: JobRecord, frame: Frame, quick_faults: Markup) -> Markup:
    """Return the buttons; those that make no sense any more cannot be pressed."""
    over = job.status in FINAL
    back = f"/jobs/{job.id}"

    def button(text: str, action: str, value: str = "", hint: str = "", kind: str = "") -> Markup:
        field = element("input", type="hidden", name="command", value=value) if value else None
        pressed = element("button", text, type="submit", title=hint, disabled=over, class_=kind or None)
        return form(frame, f"{back}/{action}", field, pressed, back=back)

    buttons = [
        button(
            "Kill", "kill", hint="as an operator kills a job: at once, or by the next update if it runs", kind="danger"
        ),
        button("tobekilled", "command", "tobekilled", "the next update is answered with it", "danger"),
        button("softkill", "command", "softkill", "the next update is answered with it"),
        button("Debug off" if job.debug else "Debug on", "debug-off" if job.debug else "debug-on"),
    ]
    own = form(
        frame,
        f"{back}/command",
        element(
            "label", "Another command ", element("input", name="command", required=True, maxlength=250, disabled=over)
        ),
        element("button", "Send", type="submit", disabled=over),
        back=back,
        class_="inline",
    )
    hint = (
        "The job is over: nothing can be told to it."
        if over
        else "A pilot that has the job hears of it with its next update."
    )
    steer = element(
        "div",
        element("h2", "Commands"),
        element("div", buttons, class_="buttons"),
        own,
        element("p", hint, class_="hint"),
    )
    return element("section", steer, quick_faults, class_="steering")


def _files(job: JobRecord) -> Markup:
    """Return the files with what became of them."""
    described = job.description
    rows = []
    for kind, names, sizes, sums in (
        ("input", "inFiles", "fsize", "checksum"),
        ("output", "outFiles", "", ""),
    ):
        lfns = str(described.get(names, "")).split(",")
        for number, lfn in enumerate(lfns):
            if not lfn:
                continue
            is_log = kind == "output" and lfn == described.get("logFile")
            given = _reported(job, lfn)
            size = _nth(described.get(sizes), number) if sizes else str(given.get("fsize", ""))
            checksum = _nth(described.get(sums), number) if sums else _checksum(given)
            cells = ("log" if is_log else kind, lfn, size, checksum, job.file_status.get(lfn, ""))
            rows.append(element("tr", [element("td", cell) for cell in cells]))
    heads = ("", "LFN", "bytes", "checksum", "the server's verdict")
    return element(
        "section", element("h2", "Files"), table(heads, rows, empty="The job has no files.", caption="Files")
    )


def _nth(text: Any, number: int) -> str:
    parts = str(text or "").split(",")
    return parts[number] if number < len(parts) else ""


def _reported(job: JobRecord, lfn: str) -> Mapping[str, Any]:
    """Return what the pilot's report says of a file."""
    try:
        report: Any = json.loads(job.report)
    except (ValueError, RecursionError):
        return {}
    found = report.get(lfn) if isinstance(report, dict) else None
    return found if isinstance(found, dict) else {}


def _checksum(given: Mapping[str, Any]) -> str:
    return next((f"{name}:{given[name]}" for name in ("adler32", "md5") if given.get(name)), "")


def _contents(job: JobRecord, concealer: Concealer) -> Markup:
    """Return the description, what the pilot told, and texts that it sent: folded."""
    parts = (
        ("The last values of the updates", "fields", job.fields),
        ("The description as it is handed out", "description", job.description),
        ("The report of the files", "report", job.report),
        ("Metadata", "metadata", job.metadata),
        ("The end of the payload's output", "stdout", job.stdout),
        ("An excerpt of the pilot's log", "log", job.log),
    )
    shown = []
    for title, name, value in parts:
        if not value:
            continue
        body = Body(kind="text", text=value) if isinstance(value, str) else Body(kind="json", value=value)
        if isinstance(value, str) and not isinstance(unfolded := unfold(value), str):
            body = Body(kind="json", value=unfolded)
        elif not isinstance(value, str):
            body = Body(kind="json", value=unfold(value))
        inner = show_body(body, concealer, "")
        shown.append(element("details", element("summary", title), inner, id=f"part-{name}"))
    return element("section", element("h2", "Details"), shown)
