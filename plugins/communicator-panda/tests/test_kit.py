"""Both sides of REST API v1 keep what their kinds promise."""

from __future__ import annotations

import json
import time
from typing import ClassVar

import pytest

from pilot_core import ServerRequest
from pilot_core.testing import CommunicatorKit, ProtocolServer, ServerProtocolKit


class TestPandaCommunicator(CommunicatorKit):
    dropped: ClassVar = {
        "JobUpdate.queue": "the server does not keep the queue that an update names",
        "JobRequest.job_type": "it only chooses among labels of test jobs",
        "WorkerStatus.site": "update_worker_status has no place for it",
    }

    @pytest.fixture
    def plugin(self):
        return "communicator.panda"

    @pytest.fixture
    def server(self, tmp_path):
        with ProtocolServer("server-protocol.panda", tmp_path) as server:
            yield server


class PandaDialect:
    """REST API v1 as panda-server 1.0.4 documents it, sparsely; what is "" or None is left out."""

    needs_role = True

    def acquire(self, request):
        return self._post(
            "acquire_jobs",
            site_name=request.queue,
            prod_source_label=request.label,
            node=request.node,
            n_jobs=request.jobs,
            memory=request.memory_mb,
            disk_space=request.disk_mb,
            remaining_time=request.remaining_seconds,
            resource_type=request.resource_type,
            computing_element=request.computing_element,
            task_id=request.task_id,
            harvester_id=request.harvester_id,
            worker_id=request.worker_id,
            scheduler_id=request.scheduler_id,
            prod_user_id=request.user,
        )

    def acquired(self, response):
        if response.status != 200:
            return None
        answer = json.loads(response.body)
        if answer["message"] == "No jobs in PanDA":
            return []
        return [job["PandaID"] for job in answer["data"]["jobs"]] if answer["success"] else None

    def update(self, update):
        return self._post(
            "update_job",
            job_id=update.job_id,
            job_status=update.state,
            attempt_nr=update.attempt,
            job_sub_status=update.sub_state,
            node=update.node,
            pilot_id=update.pilot_id,
            batch_id=update.batch_id,
            scheduler_id=update.scheduler_id,
            start_time=utc(update.start_time),
            end_time=utc(update.end_time),
            pilot_timing="|".join(map(str, update.timing)),
            core_count=update.core_count,
            cpu_consumption_time=update.cpu_seconds,
            cpu_consumption_unit=update.cpu_unit,
            max_rss=update.max_rss_kb,
            n_input_files=update.input_files,
            n_events=update.events,
            trans_exit_code=update.payload_exit_code,
            exe_error_code=update.payload_error_code,
            exe_error_diag=update.payload_error,
            pilot_error_code=update.pilot_error_code,
            pilot_error_diag=update.pilot_error,
            job_output_report=report(update.files),
            meta_data=json.dumps(update.metadata) if update.metadata else "",
            job_metrics=" ".join(f"{name}={value}" for name, value in update.metrics.items()),
            pilot_log=update.log_extract,
            stdout=update.stdout,
        )

    def commands(self, response):
        if response.status != 200:
            return None
        answer = json.loads(response.body)
        if not answer["success"] or answer["data"]["StatusCode"] != 0:
            return None
        return [command for command in answer["data"]["command"].split(",") if command != "NULL"]

    def status(self, job_ids):
        query = "&".join(f"job_ids={job_id}" for job_id in job_ids)
        headers = {"accept": "application/json"}
        return ServerRequest(method="GET", path="/api/v1/pilot/get_job_status", query=query, headers=headers)

    def statuses(self, response):
        answer = json.loads(response.body)
        return {job["job_id"]: job["status"] for job in answer["data"]} if answer["success"] else None

    def _post(self, method, **values):
        said = {name: value for name, value in values.items() if value not in {None, ""}}
        headers = {"content-type": "application/json"}
        path = f"/api/v1/pilot/{method}"
        return ServerRequest(method="POST", path=path, headers=headers, body=json.dumps(said).encode())


def utc(moment):
    """Return a wall time as PanDA writes it."""
    return None if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))


def report(files):
    """Return `job_output_report`."""
    entries = {}
    for file in files:
        kind, _, value = file.checksum.partition(":")
        told = {"guid": file.guid, "fsize": file.size, "md5sum" if kind == "md5" else kind: value}
        told |= {"surl": file.surl, "endpoint": file.rse}
        entries[file.lfn] = told if file.events is None else {**told, "nevents": file.events}
    return json.dumps(entries) if entries else ""


class TestPandaProtocol(ServerProtocolKit):
    dropped: ClassVar = {"JobUpdate.queue": "the server does not keep the queue that an update names"}

    @pytest.fixture
    def plugin(self):
        return "server-protocol.panda"

    @pytest.fixture
    def dialect(self):
        return PandaDialect()
