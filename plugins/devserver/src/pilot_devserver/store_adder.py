"""What becomes of a job when its pilot has reported `finished` or `failed`: the part of PanDA's Adder that decides.

The rules and the texts are those of panda-server 1.0.4 (`dataservice/adder_gen.py`), without the Event Service and
without the registration in a file catalogue. Pure functions: the store keeps and applies what they return.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilot_devserver.store_jobs import FileSpec

__all__ = ["DDM_ADDER", "Reported", "Verdict", "judge"]

DDM_ADDER = 200
"""`ddmErrorCode` of every refusal (`EC_Adder`)."""

_NO_REPORT = "Could not get GUID/LFN/MD5/FSIZE/SURL from pilot JSON"
_MD5 = re.compile(r"[a-fA-F0-9]{32}")


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What the database knows of a job when the Adder comes to it."""

    state: str
    """finished or failed, as the pilot said."""
    report: str
    """`job_output_report`, as it was sent."""
    files: Sequence[FileSpec]
    label: str = "managed"
    has_error: bool = False
    """Whether the pilot reported a pilot error code or a payload exit code other than 0."""
    killed: bool = False
    """Whether its command is `tobekilled`."""
    merges_on_site: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The job's final state and why."""

    status: str
    """finished, failed or cancelled."""
    ddm_error: str = ""
    """`ddmErrorDiag` with `ddmErrorCode` 200; empty = none."""
    files: dict[str, str] = field(default_factory=dict)
    """Status by LFN: ready, failed, nooutput, skipped."""


class _Unreadable(Exception):
    """The report is no JSON object of files with all that is needed."""


def judge(job: Reported) -> Verdict:
    """Decide a job by its report."""
    verdict = _check(job) if any(file.kind != "input" for file in job.files) else Verdict(status=job.state)
    if verdict.status == "failed" or job.state == "failed":
        failed = {file.lfn: "failed" for file in job.files if file.kind != "input"}
        return replace(verdict, status="cancelled" if job.killed else "failed", files=verdict.files | failed)
    return verdict


def _check(job: Reported) -> Verdict:
    inputs = {file.lfn for file in job.files if file.kind == "input"}
    try:
        listed = _read(job.report, inputs)
    except _Unreadable:
        return Verdict(status="failed", ddm_error="" if job.has_error else _NO_REPORT)
    files = _with_numbered_outputs(job.files, listed)
    verdict = Verdict(status=job.state)
    for file in files:
        verdict = _look_at(verdict, file, listed, job)
    known = {file.lfn for file in files}
    for lfn in listed:
        if lfn not in known:
            diag = f"pilot produced {lfn} inconsistently with jobdef"
            return Verdict(status="failed", ddm_error=diag, files={file.lfn: "failed" for file in files})
    return verdict


def _look_at(verdict: Verdict, file: FileSpec, listed: Sequence[str], job: Reported) -> Verdict:
    """Return the verdict after one more file."""
    there = file.lfn in listed
    if file.kind == "input":
        if not there:
            return verdict
        lenient = job.label in ("user", "panda") or job.merges_on_site
        return replace(verdict, files=verdict.files | {file.lfn: "skipped" if lenient else "failed"})
    if job.state == "failed" and file.kind != "log":
        return replace(verdict, files=verdict.files | {file.lfn: "failed"})
    if there:
        return replace(verdict, files=verdict.files | {file.lfn: "ready"})
    if file.may_be_missing:
        return replace(verdict, files=verdict.files | {file.lfn: "nooutput"})
    diag = f"expected output {file.lfn} is missing in pilot JSON"
    return Verdict(status="failed", ddm_error=diag, files=verdict.files | {file.lfn: "failed"})


def _read(report: str, inputs: set[str]) -> list[str]:
    """Return the LFNs of the report; raises `_Unreadable`."""
    try:
        entries: Any = json.loads(report)
    except (ValueError, RecursionError):
        raise _Unreadable from None
    if not isinstance(entries, (dict, list)) or (isinstance(entries, list) and entries):
        raise _Unreadable
    # an empty list is read as a report without files, which is what Python makes of it
    for lfn in entries:
        _read_entry(entries[lfn], is_input=lfn in inputs)
    return list(entries)


def _read_entry(entry: Any, *, is_input: bool) -> None:
    if not isinstance(entry, dict) or "guid" not in entry:
        raise _Unreadable
    if "fsize" in entry:
        try:
            int(entry["fsize"])
        except (TypeError, ValueError, OverflowError):
            raise _Unreadable from None
    checksum = "adler32" in entry or ("md5sum" in entry and _MD5.fullmatch(str(entry["md5sum"])))
    if not is_input and not ("fsize" in entry and checksum):
        raise _Unreadable


def _with_numbered_outputs(files: Sequence[FileSpec], listed: Sequence[str]) -> list[FileSpec]:
    """Put `name._1`, `name._2` ... (or what a `regex|` name matches) in the place of the output that they belong to."""
    originals = [file for file in files if file.kind != "input"]
    names = {file.lfn for file in originals}
    numbered: dict[str, list[str]] = {}
    for lfn in listed:
        owner = None if lfn in names else next((file for file in originals if _stems_from(lfn, file.lfn)), None)
        if owner is not None:
            numbered.setdefault(owner.lfn, []).append(lfn)
    together: list[FileSpec] = []
    for file in files:
        own = numbered.get(file.lfn) if file.kind != "input" else None
        together += [replace(file, lfn=lfn) for lfn in own] if own else [file]
    return together


def _stems_from(lfn: str, original: str) -> bool:
    try:
        if re.search(rf"^{original}\.*_\d+$", lfn):
            return True
        return original.startswith("regex|") and bool(re.search(original.partition("|")[2], lfn))
    except re.error:
        return False
