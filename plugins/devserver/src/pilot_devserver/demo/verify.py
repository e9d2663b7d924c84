"""Is it true? Compares what the server says of the demo's jobs with the files that really lie on the storage."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pilot_devserver.demo.contents import WrongContent
from pilot_devserver.demo.jobs import DATA, DemoJob

__all__ = ["FileResult", "JobResult", "verify"]


@dataclass
class FileResult:
    """One output or log as it was reported and found."""

    lfn: str
    kind: str
    """output or log."""
    size: int | None = None
    adler32: str = ""
    path: str = ""
    problem: str = "not reported"
    """Empty = it is there, with the size and checksum of the report."""


@dataclass
class JobResult:
    """One job's outcome."""

    name: str
    about: str
    id: int
    status: str
    expected: str
    """The state that it was to end in."""
    phases: Mapping[str, float]
    """Seconds by task, as the pilot measured them."""
    files: list[FileResult]
    found: str = ""
    """What the check of the contents found."""
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything is as it must be."""
        return not self.problems and not any(file.problem for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "ok": self.ok}


def verify(job: DemoJob, record: Mapping[str, Any]) -> JobResult:
    """Judge one job by the server's full record of it."""
    description = record["description"]
    names = [lfn for lfn in description["outFiles"].split(",") if lfn]
    log = description["logFile"]
    report: Mapping[str, Mapping[str, Any]] = json.loads(record["report"] or "{}")
    # a failed job has its log only
    expected = names if job.status == "finished" else [log]
    files = [_look_at(lfn, "log" if lfn == log else "output", report.get(lfn)) for lfn in expected]
    result = JobResult(
        name=job.name,
        about=job.about,
        id=record["id"],
        status=record["status"],
        expected=job.status,
        phases=_phases(record),
        files=files,
    )
    result.problems += _state_problems(job, record)
    if not result.problems and not any(file.problem for file in files):
        _check_contents(job, result, log)
    return result


def _look_at(lfn: str, kind: str, reported: Mapping[str, Any] | None) -> FileResult:
    """Compare one file with its entry in the report."""
    result = FileResult(lfn, kind)
    if reported is None:
        return result
    result.size, result.adler32 = int(reported["fsize"]), str(reported.get("adler32", ""))
    result.path = unquote(urlsplit(str(reported.get("surl", ""))).path)
    try:
        content = Path(result.path).read_bytes()
    except OSError as error:
        result.problem = f"not there: {error.strerror}"
        return result
    adler32 = f"{zlib.adler32(content):08x}"
    if len(content) != result.size:
        result.problem = f"has {len(content)} bytes, {result.size} were reported"
    elif adler32 != result.adler32:
        result.problem = f"has checksum {adler32}, {result.adler32} was reported"
    else:
        result.problem = ""
    return result


def _state_problems(job: DemoJob, record: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with the job's state and exit code."""
    problems = []
    fields = record["fields"]
    if record["status"] != job.status:
        texts = [str(record["errors"].get("ddmErrorDiag", "")), str(fields.get("pilot_error_diag", ""))]
        why = "; ".join(text for text in texts if text) or "no reason is known"
        problems.append(f"is {record['status']} on the server and should be {job.status}: {why}")
    code = str(fields.get("trans_exit_code", "none"))
    if code != str(job.exit_code):
        problems.append(f"its payload's exit code is {code} on the server and should be {job.exit_code}")
    return problems


def _check_contents(job: DemoJob, result: JobResult, log: str) -> None:
    """Look into the files; what is wrong is added to the result."""
    paths = {file.lfn: Path(file.path) for file in result.files}
    try:
        if log in paths:
            result.phases = {**_journal_phases(paths[log]), **result.phases}
        if job.check:
            result.found = job.check(paths, DATA)
        else:
            result.found = f"payload exit code {job.exit_code}, as it should be"
    except (WrongContent, tarfile.TarError, ValueError, KeyError, OSError) as error:
        result.problems.append(f"wrong content: {error}")


def _phases(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of each task from the job's metadata, of which PanDA keeps none for a failed job."""
    if not record["metadata"]:
        return {}
    phases: Mapping[str, float] = json.loads(record["metadata"]).get("pilot", {}).get("phases", {})
    return dict(phases)


def _journal_phases(log: Path) -> dict[str, float]:
    """Return the seconds of the tasks that the pilot's journal in a log's archive tells of."""
    with tarfile.open(log) as archive:
        name = next((name for name in archive.getnames() if name.endswith("/journal.jsonl")), "")
        journal = archive.extractfile(name) if name else None
        steps = [json.loads(line) for line in journal] if journal else []
    begun = {step["new"]: step["at"] for step in steps if step["step"] == "state"}
    phases = {"stage-in": begun["start"] - begun["stage-in"]} if {"start", "stage-in"} <= set(begun) else {}
    for step in steps:
        if step["step"] == "payload-ended":
            phases["payload"] = step["result"]["ended"] - step["result"]["started"]
    return phases
