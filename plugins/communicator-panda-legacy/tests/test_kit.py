"""Both sides of the form API keep what their kinds promise."""

from __future__ import annotations

import json
import time
from typing import ClassVar
from urllib.parse import parse_qs, urlencode

import pytest

from pilot_core import ServerRequest
from pilot_core.testing import CommunicatorKit, ProtocolServer, ServerProtocolKit


class TestLegacyCommunicator(CommunicatorKit):
    dropped: ClassVar = {
        "JobUpdate.queue": "the server does not keep the queue that an update names",
        "JobRequest.job_type": "it only chooses among labels of test jobs",
        "WorkerStatus.site": "the server looks a worker up by its ids alone",
        "WorkerNode.*": "the form API has no method for it",
    }

    @pytest.fixture
    def plugin(self):
        return "communicator.panda-legacy"

    @pytest.fixture
    def server(self, tmp_path):
        with ProtocolServer("server-protocol.panda-legacy", tmp_path) as server:
            yield server


class LegacyDialect:
    """The form API as a shell script with curl would speak it: urlencoded forms, urlencoded answers."""

    needs_role = True

    def acquire(self, request):
        return self._post(
            "getJob",
            siteName=request.queue,
            prodSourceLabel=request.label,
            node=request.node,
            nJobs=request.jobs,
            mem=request.memory_mb,
            diskSpace=request.disk_mb,
            remaining_time=request.remaining_seconds,
            resourceType=request.resource_type,
            computingElement=request.computing_element,
            taskID=request.task_id,
            harvester_id=request.harvester_id,
            worker_id=request.worker_id,
            schedulerID=request.scheduler_id,
            prodUserID=request.user,
        )

    def acquired(self, response):
        answer = form(response)
        if answer["StatusCode"] == "20":
            return []
        return [job["PandaID"] for job in json.loads(answer["jobs"])] if answer["StatusCode"] == "0" else None

    def update(self, update):
        return self._post(
            "updateJob",
            jobId=update.job_id,
            state=update.state,
            attemptNr=update.attempt,
            jobSubStatus=update.sub_state,
            node=update.node,
            pilotID=update.pilot_id,
            batchID=update.batch_id,
            schedulerID=update.scheduler_id,
            startTime=utc(update.start_time),
            endTime=utc(update.end_time),
            pilotTiming="|".join(map(str, update.timing)),
            coreCount=update.core_count,
            cpuConsumptionTime=update.cpu_seconds,
            cpuConsumptionUnit=update.cpu_unit,
            maxRSS=update.max_rss_kb,
            nInputFiles=update.input_files,
            nEvents=update.events,
            transExitCode=update.payload_exit_code,
            exeErrorCode=update.payload_error_code,
            exeErrorDiag=update.payload_error,
            pilotErrorCode=update.pilot_error_code,
            pilotErrorDiag=update.pilot_error,
            xml=report(update.files),
            metaData=json.dumps(update.metadata) if update.metadata else "",
            jobMetrics=" ".join(f"{name}={value}" for name, value in update.metrics.items()),
            pilotLog=update.log_extract,
            stdout=update.stdout,
        )

    def commands(self, response):
        answer = form(response)
        if answer.get("StatusCode") != "0" or "command" not in answer:
            return None
        return [command for command in answer["command"].split(",") if command != "NULL"]

    def status(self, job_ids):
        self.asked = list(job_ids)
        return self._post("getStatus", ids=" ".join(map(str, job_ids)))

    def statuses(self, response):
        answer = form(response)
        if answer.get("StatusCode") != "0":
            return None
        states = [state.replace("notfound", "not found") for state in answer["status"].split("+")]
        return dict(zip(self.asked, states, strict=True))

    def _post(self, method, **values):
        body = urlencode({name: value for name, value in values.items() if value not in {None, ""}})
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return ServerRequest(method="POST", path=f"/server/panda/{method}", headers=headers, body=body.encode())


def form(response):
    """Return the values of a urlencoded answer."""
    if response.status != 200:
        return {"StatusCode": f"HTTP {response.status}"}
    return {name: values[0] for name, values in parse_qs(response.body.decode(), strict_parsing=True).items()}


def utc(moment):
    """Return a wall time as PanDA writes it."""
    return None if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))


def report(files):
    """Return the report of stored files, which travels in `xml`."""
    entries = {}
    for file in files:
        kind, _, value = file.checksum.partition(":")
        told = {"guid": file.guid, "fsize": file.size, "md5sum" if kind == "md5" else kind: value}
        told |= {"surl": file.surl, "endpoint": file.rse}
        entries[file.lfn] = told if file.events is None else {**told, "nevents": file.events}
    return json.dumps(entries) if entries else ""


class TestLegacyProtocol(ServerProtocolKit):
    dropped: ClassVar = {"JobUpdate.queue": "the server does not keep the queue that an update names"}

    @pytest.fixture
    def plugin(self):
        return "server-protocol.panda-legacy"

    @pytest.fixture
    def dialect(self):
        return LegacyDialect()
