"""The neutral values and the words of PanDA's job store: what a job is dispatched as, what an update was understood as.

Names and encodings are those that `pilot_core.api.server.JobStore` takes: the parameters of PanDA's REST API v1, and
the fields of its job dictionary (panda-server 1.0.4, `jobdispatcher/Protocol.py`).
"""

from __future__ import annotations

import calendar
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilot_core.api.communicator import FileReport, JobUpdate, WorkerNode, WorkerStatus
from pilot_core.api.server import JobFilter, StoreUnavailable

if TYPE_CHECKING:
    from pilot_core.api.job import InputFile, Job, OutputFile, Step

__all__ = [
    "SIZES",
    "UPDATE_NAMES",
    "check_values",
    "described",
    "request_fields",
    "understood_update",
    "worker_node",
    "worker_status",
]

UPDATE_NAMES: Mapping[str, str] = {
    "sub_state": "job_sub_status",
    "queue": "site_name",
    "node": "node",
    "pilot_id": "pilot_id",
    "batch_id": "batch_id",
    "scheduler_id": "scheduler_id",
    "start_time": "start_time",
    "end_time": "end_time",
    "timing": "pilot_timing",
    "core_count": "core_count",
    "cpu_seconds": "cpu_consumption_time",
    "cpu_unit": "cpu_consumption_unit",
    "max_rss_kb": "max_rss",
    "input_files": "n_input_files",
    "events": "n_events",
    "payload_exit_code": "trans_exit_code",
    "payload_error_code": "exe_error_code",
    "payload_error": "exe_error_diag",
    "pilot_error_code": "pilot_error_code",
    "pilot_error": "pilot_error_diag",
    "files": "job_output_report",
    "metadata": "meta_data",
    "metrics": "job_metrics",
    "log_extract": "pilot_log",
    "stdout": "stdout",
}
"""Field of `JobUpdate` -> the name by which the store takes it; PanDA's keeps no `site_name`."""

SIZES: Mapping[str, int] = {
    "batch_id": 80,
    "cpu_consumption_unit": 128,
    "exe_error_diag": 500,
    "job_metrics": 500,
    "job_sub_status": 80,
    "node": 128,
    "pilot_error_diag": 500,
    "pilot_id": 200,
    "pilot_timing": 100,
    "scheduler_id": 128,
}
"""Characters that a text's column takes; with a longer one PanDA's database loses the whole update ..."""
CUT_BY_DATABASE = frozenset({"exe_error_diag", "job_sub_status", "pilot_error_diag"})
"""... except for these, which are cut (observed on panda-server 1.0.4)."""

_INT4 = frozenset({"core_count", "exe_error_code", "n_input_files", "pilot_error_code"})
_INTEGERS = _INT4 | {"cpu_consumption_time", "max_rss", "n_events", "trans_exit_code"}
_TIME = "%Y-%m-%d %H:%M:%S"


def check_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an update's values as the database keeps them; raises `StoreUnavailable` for one that does not fit."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, str):
            check_text(name, value)
            if len(value) > SIZES.get(name, len(value)) and name not in CUT_BY_DATABASE:
                raise StoreUnavailable(f"{name}: {len(value)} characters, the column takes {SIZES[name]}")
            kept[name] = value[: SIZES.get(name)]
        if name in _INTEGERS:
            kept[name] = _integer(name, value)
        elif not isinstance(value, str):
            kept[name] = value
    return kept


def check_text(name: str, text: str) -> None:
    """Raise `StoreUnavailable` for text that PostgreSQL cannot hold: a NUL character, half of a surrogate pair."""
    if "\0" in text:
        raise StoreUnavailable(f"{name}: a string literal cannot contain NUL (0x00) characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StoreUnavailable(f"{name}: not valid Unicode") from None


def _integer(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise StoreUnavailable(f"{name}: invalid input syntax for type integer") from None
    if isinstance(value, bool) or abs(number) >= 2 ** (31 if name in _INT4 else 63):
        raise StoreUnavailable(f"{name}: value out of range")
    return number


def understood_update(job_id: int, state: str, attempt: int | None, values: Mapping[str, Any]) -> JobUpdate:
    """Return what the store was given as an update in neutral words; a value that cannot be read is left as it is."""
    fields: dict[str, Any] = {}
    for field, name in UPDATE_NAMES.items():
        value = values.get(name)
        if value is None or value == "":
            continue
        read = _READERS.get(field)
        try:
            fields[field] = read(value) if read else value
        except (TypeError, ValueError, KeyError, AttributeError):
            fields[field] = value
    return JobUpdate(job_id=job_id, attempt=attempt, state=state, **fields)


def _moment(text: str) -> float:
    return float(calendar.timegm(time.strptime(text, _TIME)))


def _timing(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("|"))


def _metrics(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(" "))
    return {name: value for name, _, value in pairs}


def _files(text: str) -> tuple[FileReport, ...]:
    found = []
    for lfn, entry in json.loads(text).items():
        checksum = f"md5:{entry['md5sum']}" if "md5sum" in entry else f"adler32:{entry['adler32']}"
        found.append(
            FileReport(
                lfn=lfn,
                guid=entry["guid"],
                size=int(entry["fsize"]),
                checksum=checksum,
                surl=entry.get("surl", ""),
                rse=entry.get("endpoint", ""),
                events=entry.get("nevents"),
            )
        )
    return tuple(found)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "start_time": _moment,
    "end_time": _moment,
    "timing": _timing,
    "metrics": _metrics,
    "files": _files,
    "metadata": json.loads,
}


def request_fields(wanted: JobFilter) -> dict[str, Any]:
    """Return what can be seen of a `JobRequest` in what a protocol asked the store for."""
    label = wanted.labels[0] if len(wanted.labels) == 1 else ""
    return {
        "queue": wanted.queue,
        **({"label": label} if label else {}),
        "node": wanted.node,
        "jobs": wanted.limit,
        "memory_mb": wanted.memory_mb or None,
        "disk_mb": wanted.disk_mb or None,
        "remaining_seconds": wanted.remaining_seconds or None,
        "resource_type": wanted.resource_type,
        "computing_element": wanted.computing_element or "",
        "task_id": wanted.task_id,
        "harvester_id": wanted.harvester_id,
        "worker_id": wanted.worker_id,
        "scheduler_id": wanted.scheduler_id or "",
        "user": wanted.user,
    }


def worker_status(harvester_id: str, worker_id: str, values: Mapping[str, Any]) -> WorkerStatus:
    """Return what a pilot said of itself."""
    return WorkerStatus(
        worker_id=int(worker_id),
        harvester_id=harvester_id,
        status=values.get("status") or "",
        site=values.get("site") or "",
        node=values.get("node_id") or "",
    )


def worker_node(site: str, host_name: str, values: Mapping[str, Any]) -> WorkerNode:
    """Return what a pilot said of its machine."""
    return WorkerNode(
        site=site,
        queue=values.get("panda_queue") or "",
        host_name=host_name,
        cpu_model=values.get("cpu_model") or "",
        logical_cpus=values.get("n_logical_cpus"),
        sockets=values.get("n_sockets"),
        cores_per_socket=values.get("cores_per_socket"),
        threads_per_core=values.get("threads_per_core"),
        cpu_architecture=values.get("cpu_architecture") or "",
        cpu_architecture_level=values.get("cpu_architecture_level") or "",
        clock_mhz=values.get("clock_speed"),
        memory_mb=values.get("total_memory"),
        disk_gb=values.get("total_local_disk"),
    )


def described(job: Job) -> dict[str, Any]:
    """Return a job as PanDA's server dispatches it: lists joined by commas, `NULL` for what is not set."""
    told: dict[str, Any] = {
        "PandaID": job.id,
        "attemptNr": _null(job.attempt),
        "jobName": _null(job.name),
        "prodSourceLabel": _null(job.label),
        "transformation": _null(job.transformation),
        "jobPars": job.parameters,
        "taskID": _null(job.task_id),
        "jobsetID": _null(job.jobset_id),
        "coreCount": job.core_count,
        "minRamCount": job.memory_mb,
        "maxDiskCount": job.disk_mb,
        "maxCpuCount": job.max_cpu_seconds,
        "maxWalltime": job.max_wall_seconds or "NULL",
        "resource_type": _null(job.resource_type),
        "processingType": _null(job.processing_type),
        "currentPriority": job.priority,
        "prodUserID": _null(job.user),
        "swRelease": _null(job.release),
        "homepackage": _null(job.home_package),
        "cmtConfig": _null(job.platform),
        "transferType": _null(job.transfer_type),
        **_inputs(job.inputs),
        **_outputs(job.outputs, job.log),
    }
    return {**told, **_options(job), **job.extra}


def _null(value: Any) -> Any:
    return "NULL" if value is None or value == "" else value


def _joined(values: Sequence[Any]) -> str:
    return ",".join(str(_null(value)) for value in values)


def _inputs(files: Sequence[InputFile]) -> dict[str, Any]:
    return {
        "inFiles": ",".join(file.lfn for file in files),
        "GUID": _joined([file.guid for file in files]),
        "fsize": _joined([file.size for file in files]),
        "checksum": _joined([file.checksum.replace("adler32:", "ad:") for file in files]),
        "scopeIn": _joined([file.scope for file in files]),
        "realDatasetsIn": _joined([file.dataset for file in files]),
        "ddmEndPointIn": _joined([file.rse for file in files]),
        "prodDBlockToken": _joined([file.token for file in files]),
    }


def _outputs(outputs: Sequence[OutputFile], log: OutputFile | None) -> dict[str, Any]:
    every = [*outputs, *([log] if log else [])]
    told = {
        "outFiles": ",".join(file.lfn for file in every),
        "scopeOut": _joined([file.scope for file in outputs]),
        "realDatasets": _joined([file.dataset for file in every]),
        "ddmEndPointOut": _joined([file.rse for file in every]),
        "logFile": log.lfn if log else "",
        "logGUID": log.guid if log else "",
        "scopeLog": log.scope if log else "",
    }
    optional = [file.lfn for file in outputs if file.may_be_missing]
    return {**told, "allowNoOutput": ",".join(optional)} if optional else told


def _options(job: Job) -> dict[str, Any]:
    """Return the fields that are there only if they say something."""
    steps = {"preprocess": job.preprocess, "postprocess": job.postprocess, "coprocess": job.coprocess}
    told: dict[str, Any] = {name: _step(step) for name, step in steps.items() if step}
    if not job.looping_check:
        told["loopingCheck"] = False
    if job.debug:
        told["debug"] = "True"
    if job.container_image:
        told["container_name"] = job.container_image
    if job.container_options:
        told["containerOptions"] = dict(job.container_options)
    if job.input_lists:
        told["writeToFile"] = "^".join(f"{name}:{','.join(lfns)}" for name, lfns in job.input_lists.items())
    return told


def _step(step: Step) -> dict[str, str]:
    return {"command": step.command, "args": step.arguments}
