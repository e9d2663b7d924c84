"""The pilot's neutral values as the arguments of the form API's methods.

The names are those that PanDA Pilot 3 sends and panda-server 0.8.1 takes; it answers an unknown one with HTTP 500. The
sizes beyond which an update is lost are those of the database, which is the same as behind REST API v1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.encode import encode_request as request_v1
from pilot_communicator_panda.encode import encode_status as status_v1
from pilot_communicator_panda.encode import encode_update as update_v1

if TYPE_CHECKING:
    from pilot_core import JobRequest, JobUpdate, WorkerStatus

__all__ = ["encode_request", "encode_status", "encode_update"]

_REQUEST: Mapping[str, str] = {
    "site_name": "siteName",
    "prod_source_label": "prodSourceLabel",
    "memory": "mem",
    "disk_space": "diskSpace",
    "node": "node",
    "computing_element": "computingElement",
    "prod_user_id": "prodUserID",
    "task_id": "taskID",
    "n_jobs": "nJobs",
    "resource_type": "resourceType",
    "harvester_id": "harvester_id",
    "worker_id": "worker_id",
    "scheduler_id": "schedulerID",
    "job_type": "jobType",
    "remaining_time": "remaining_time",
}

_UPDATE: Mapping[str, str] = {
    "job_id": "jobId",
    "job_status": "state",
    "job_sub_status": "jobSubStatus",
    "job_output_report": "xml",
    "meta_data": "metaData",
    "pilot_log": "pilotLog",
    "stdout": "stdout",
    "node": "node",
    "site_name": "siteName",
    "scheduler_id": "schedulerID",
    "pilot_id": "pilotID",
    "batch_id": "batchID",
    "start_time": "startTime",
    "end_time": "endTime",
    "pilot_timing": "pilotTiming",
    "attempt_nr": "attemptNr",
    "core_count": "coreCount",
    "cpu_consumption_time": "cpuConsumptionTime",
    "cpu_consumption_unit": "cpuConsumptionUnit",
    "max_rss": "maxRSS",
    "n_events": "nEvents",
    "n_input_files": "nInputFiles",
    "trans_exit_code": "transExitCode",
    "pilot_error_code": "pilotErrorCode",
    "pilot_error_diag": "pilotErrorDiag",
    "exe_error_code": "exeErrorCode",
    "exe_error_diag": "exeErrorDiag",
    "job_metrics": "jobMetrics",
}

_STATUS: Mapping[str, str] = {
    "worker_id": "workerID",
    "harvester_id": "harvesterID",
    "status": "status",
    "node_id": "node_id",
}


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the values under their older names."""
    return {names[name]: value for name, value in values.items()}


def encode_request(request: JobRequest, log: logging.Logger) -> dict[str, Any]:
    """Return the arguments of `getJob`; `nJobs` only above 1, since it changes the form of the answer."""
    values = _renamed(request_v1(request, log), _REQUEST)
    if values.get("nJobs", 1) <= 1:
        values.pop("nJobs", None)
    return values


def encode_update(update: JobUpdate, log: logging.Logger) -> dict[str, Any]:
    """Return the arguments of `updateJob`."""
    return _renamed(update_v1(update, log), _UPDATE)


def encode_status(status: WorkerStatus, log: logging.Logger) -> dict[str, Any]:
    """Return the arguments of `updateWorkerPilotStatus`; other than REST API v1, it wants the site."""
    return {"site": status.site, **_renamed(status_v1(status, log), _STATUS)}
