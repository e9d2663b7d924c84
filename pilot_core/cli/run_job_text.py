"""What `pilot-core run-job` prints for people: a result, or an explanation."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pilot_core.api.staging import REMOTE_IO
from pilot_core.staging import TASKS

if TYPE_CHECKING:
    from pilot_core.explanation import Environment, Explanation, FilePlan, Payload
    from pilot_core.onejob import JobResult

__all__ = ["explanation_text", "result_text"]

WIDTH = 100
WAYS = {"read": "from", "write": "to", "log": "to"}


def result_text(result: JobResult) -> str:
    """Return what became of a job, the verdict first."""
    report, details = result.report, result.details
    some = "" if len(result.phases) == 3 else f" ({', '.join(result.phases)} only)"
    lines = [f"job {report.job_id}: {report.state}{some}"]
    for failure in details["failures"]:
        lines += [f"error       {failure['task']}: {_plain(failure['message'])} (code {failure['code']})"]
    lines += _payload_lines(details["payload"])
    phases = {name: seconds for name, seconds in details["phases"].items() if name != "get-job"}
    if phases:
        lines.append("seconds     " + ", ".join(f"{name} {seconds:.3f}" for name, seconds in phases.items()))
    for attempt in sorted(details["attempts"], key=lambda attempt: attempt["started"]):
        if attempt["outcome"] == REMOTE_IO:
            lines.append(f"remote      {_plain(attempt['lfn'])} is read at {attempt['url']}")
            continue
        what = "ok" if attempt["outcome"] == "ok" else f"{attempt['outcome']}: {_plain(attempt['error'])}"
        way = f"{WAYS[attempt['activity']]} {attempt['url']} by {attempt['backend']} {attempt['backend_version']}"
        lines.append(f"transfer    {_plain(attempt['lfn'])} {way}, {attempt['bytes']} bytes: {what}")
    for file in report.files:
        lines.append(f"file        {_plain(file.lfn)}  {file.size} bytes  {file.checksum}  {file.surl}")
    for name, text in result.output.items():
        lines += [f"{name:11} (its end)", *(f"  {_plain(line)}" for line in text.splitlines())] if text else []
    if result.job_dir:
        lines.append(f"job directory: {result.job_dir}")
    elif not result.finished:
        lines.append("the job's directory was removed; --keep keeps it")
    return "\n".join(lines)


def _payload_lines(payload: Any) -> list[str]:
    """Return how the payload ended and what it used."""
    if not payload:
        return []
    how = f"exit code {payload['exit_code']}" if payload["signal"] is None else f"ended by signal {payload['signal']}"
    seconds = payload["user_seconds"] + payload["system_seconds"]
    if payload["error"]:
        how = "not started"
    return [f"payload     {how}, CPU {seconds:.3f} s, at most {payload['max_rss_kb']} kB in memory"]


def explanation_text(found: Explanation) -> str:
    """Return what would be run, in the order in which it would be."""
    source = f" ({found.queue_source})" if found.queue_source else ""
    lines = [
        (
            f"job {found.job_id}: {'would fail' if found.problems else 'would run'}; nothing was run or made, "
            "and no storage was asked"
        ),
        *(f"problem     {_plain(problem)}" for problem in found.problems),
        f"queue       {found.queue}{source}",
        f"directory   {found.job_dir}",
        f"phases      {', '.join(found.phases)}",
    ]
    for file in found.files:
        if file.activity == "read":
            lines += _file_lines(file)
    if found.payload:
        lines += _command_lines(found.payload, found.executor)
    for file in found.files:
        if file.activity != "read":
            lines += _file_lines(file)
    lines += ["", "limits"]
    for limit in found.limits:
        kept = "" if limit.enforced else ", told to payload or server only"
        value = f"{limit.value:g} {limit.unit}".strip()
        lines.append(f"  {limit.name}: {value} (by the {limit.source}{kept})")
    lines += ["", "plugins", *(f"  {each.name} ({each.distribution} {each.version})" for each in found.plugins)]
    return "\n".join(lines)


def _file_lines(file: FilePlan) -> Iterator[str]:
    """Yield a file, and what would be tried for it."""
    known = ", ".join([f"{file.size} bytes"] * (file.size is not None) + [file.checksum] * bool(file.checksum))
    yield ""
    yield f"{TASKS[file.activity]:11} {_plain(file.lfn)}{f' ({known})' if known else ''}"
    if file.remote:
        yield f"  not copied: the payload reads it at {file.remote}"
        return
    yield f"  {'to' if file.activity == 'read' else 'from'} {_plain(file.local)}"
    if file.archive:
        yield f"  in the archive {_plain(file.archive)}"
    if file.members:
        yield f"  an archive of {_plain(', '.join(file.members))}, unless the payload makes it"
    if file.seconds_allowed is not None:
        yield f"  at most {file.seconds_allowed:.0f} s for one attempt"
    for choice in file.choices:
        place = f"{choice.place}." if choice.place else "-"
        yield f"  {place:3} {choice.stager}  {choice.url}  ({choice.rule}: {choice.why})"


def _command_lines(payload: Payload, executor: str) -> Iterator[str]:
    """Yield what would be executed."""
    yield ""
    yield f"payload     {_plain(shlex.join(payload.argv))}"
    if payload.fetched_from:
        yield f"  its program is fetched from {payload.fetched_from}"
    yield f"  in {payload.cwd}, by {executor}" + (", through a shell" if payload.shell else "")
    if payload.secrets:
        yield f"  {payload.secrets} secret{'s' * (payload.secrets > 1)} in {payload.secrets_file} while it runs"
    yield "  environment, against the pilot's own:"
    yield from _environment_lines(payload.environment)


def _environment_lines(environment: Environment) -> Iterator[str]:
    """Yield the variables that differ."""
    yield from (f"    + {name}={_plain(value)}" for name, value in environment.added.items())
    yield from (f"    ~ {name}={_plain(new)} (was {_plain(old)})" for name, (old, new) in environment.changed.items())
    yield from _listed("    - ", environment.dropped)
    yield from _listed("    = ", environment.same)


def _listed(head: str, names: Iterable[str]) -> list[str]:
    """Return names in lines of a readable length."""
    text = " ".join(map(_plain, names))
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=head, break_long_words=False, break_on_hyphens=False
    )


def _plain(text: str) -> str:
    """Return a text on one line: nothing in it can move a terminal's cursor."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
