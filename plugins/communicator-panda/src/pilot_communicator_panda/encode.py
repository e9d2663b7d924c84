"""The pilot's neutral values as the objects of REST API v1."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.fields import (
    ACQUIRE_JOBS,
    UPDATE_JOB,
    UPDATE_WORKER_NODE,
    UPDATE_WORKER_STATUS,
    build,
)

if TYPE_CHECKING:
    from pilot_core.api.communicator import FileReport, JobRequest, JobUpdate, WorkerNode, WorkerStatus

__all__ = [
    "encode_node",
    "encode_request",
    "encode_status",
    "encode_update",
    "metrics_text",
    "output_report",
    "utc_text",
]


def utc_text(moment: float | None) -> str | None:
    """Return a wall time as PanDA writes it; None for None, and for what no calendar holds."""
    if moment is None:
        return None
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))
    except (OverflowError, ValueError, OSError):
        return None


def output_report(files: Iterable[FileReport]) -> str:
    """Return `job_output_report`: a JSON text that names every stored file. Empty if there is none.

    The server wants `guid`, `fsize` and one of `adler32` and `md5sum` for each, or fails the job.
    """
    report = {}
    for file in files:
        kind, _, value = file.checksum.partition(":")
        entry: dict[str, Any] = {"guid": file.guid, "fsize": file.size}
        entry["md5sum" if kind == "md5" else kind] = value
        entry.update({name: text for name, text in (("surl", file.surl), ("endpoint", file.rse)) if text})
        if file.events is not None:
            entry["nevents"] = file.events
        report[file.lfn] = entry
    return json.dumps(report) if report else ""


def metrics_text(metrics: Mapping[str, str]) -> str:
    """Return `job_metrics`: `k=v` pairs with a blank between them, and so none inside."""
    return " ".join("=".join("_".join(str(part).split()) for part in pair) for pair in metrics.items())


def encode_request(request: JobRequest, log: logging.Logger) -> dict[str, Any]:
    """Return the body of `acquire_jobs`.

    `timeout` is left to the server's default of 60: with 10 or less, panda-server 1.0.4 never gives a job.
    """
    values = {
        "site_name": request.queue,
        "prod_source_label": request.label,
        "node": request.node,
        "n_jobs": request.jobs,
        "memory": request.memory_mb,
        "disk_space": request.disk_mb,
        "remaining_time": request.remaining_seconds,
        "resource_type": request.resource_type,
        "computing_element": request.computing_element,
        "task_id": request.task_id,
        "job_type": request.job_type,
        "harvester_id": request.harvester_id,
        "worker_id": request.worker_id,
        "scheduler_id": request.scheduler_id,
        "prod_user_id": request.user,
    }
    return build(ACQUIRE_JOBS, values, log)


def encode_update(update: JobUpdate, log: logging.Logger) -> dict[str, Any]:
    """Return the body of `update_job`."""
    values = {
        "job_id": update.job_id,
        "job_status": update.state,
        "attempt_nr": update.attempt,
        "job_sub_status": update.sub_state,
        "site_name": update.queue,
        "node": update.node,
        "pilot_id": update.pilot_id,
        "batch_id": update.batch_id,
        "scheduler_id": update.scheduler_id,
        "start_time": utc_text(update.start_time),
        "end_time": utc_text(update.end_time),
        "pilot_timing": "|".join(str(seconds) for seconds in update.timing),
        "core_count": update.core_count,
        "cpu_consumption_time": update.cpu_seconds,
        "cpu_consumption_unit": update.cpu_unit,
        "max_rss": update.max_rss_kb,
        "n_input_files": update.input_files,
        "n_events": update.events,
        "trans_exit_code": update.payload_exit_code,
        "exe_error_code": update.payload_error_code,
        "exe_error_diag": update.payload_error,
        "pilot_error_code": update.pilot_error_code,
        "pilot_error_diag": update.pilot_error,
        "job_output_report": output_report(update.files) if update.final else "",
        "meta_data": json.dumps(dict(update.metadata), default=str) if update.metadata else "",
        "job_metrics": metrics_text(update.metrics),
        "pilot_log": update.log_extract,
        "stdout": update.stdout,
    }
    return build(UPDATE_JOB, values, log)


def encode_status(status: WorkerStatus, log: logging.Logger) -> dict[str, Any]:
    """Return the body of `update_worker_status`; it has no place for the site."""
    values = {
        "worker_id": status.worker_id,
        "harvester_id": status.harvester_id,
        "status": status.status,
        "node_id": status.node,
    }
    return build(UPDATE_WORKER_STATUS, values, log)


def encode_node(node: WorkerNode, log: logging.Logger) -> dict[str, Any]:
    """Return the body of `update_worker_node`."""
    values = {
        "site": node.site,
        "panda_queue": node.queue,
        "host_name": node.host_name,
        "cpu_model": node.cpu_model,
        "n_logical_cpus": node.logical_cpus,
        "n_sockets": node.sockets,
        "cores_per_socket": node.cores_per_socket,
        "threads_per_core": node.threads_per_core,
        "cpu_architecture": node.cpu_architecture,
        "cpu_architecture_level": node.cpu_architecture_level,
        "clock_speed": node.clock_mhz,
        "total_memory": node.memory_mb,
        "total_local_disk": node.disk_gb,
    }
    return build(UPDATE_WORKER_NODE, values, log)
