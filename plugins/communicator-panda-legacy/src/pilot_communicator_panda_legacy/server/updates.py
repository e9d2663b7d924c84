"""`updateJob` and `updateJobsInBulk`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda_legacy.server.answers import FAILED, NO_ROLE, SUCCESS, Text, encode, fields
from pilot_communicator_panda_legacy.server.calls import Call, bind
from pilot_communicator_panda_legacy.server.dispatch import NO_ROLE_TEXT
from pilot_communicator_panda_legacy.server.signatures import MISSING, OWNERS, SIGNATURES
from pilot_core.api.server import StoreUnavailable

if TYPE_CHECKING:
    from pilot_core.api.server import JobStore

__all__ = ["COLUMNS", "CUT", "STATES", "LeftOut", "update_job", "update_jobs_in_bulk"]

STATES = ("running", "failed", "finished", "holding", "starting", "transferring")
_MOST = 10**10 - 1
_STDOUT_SIZE = 2048
CUT: Mapping[str, int] = MappingProxyType(
    {
        "node": 128,
        "pilotErrorDiag": 500,
        "jobMetrics": 500,
        "pilotID": 200,
        "batchID": 80,
        "exeErrorDiag": 500,
        "cpu_architecture_level": 20,
        "stdout": _STDOUT_SIZE,
    }
)
"""Characters after which the server cuts a text."""
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


class LeftOut(Exception):
    """A value that is silently left out."""


def _cut(size: int) -> Callable[[Any], Any]:
    return lambda value: value[:size]


def _same(value: Any) -> Any:
    return value


def _unless_empty(value: Any) -> Any:
    if value == "":
        raise LeftOut
    return value


def _whole(value: Any) -> Any:
    """Leave out what is no whole number; the value itself is kept."""
    try:
        int(value)
    except (TypeError, ValueError):
        raise LeftOut from None
    return value


def _error_code(value: Any) -> Any:
    """Take the sign off: negative codes mean that the job can be recovered, and are kept as positive ones."""
    value = _whole(value)
    return value[1:] if isinstance(value, str) and value.startswith("-") else value


def _average(value: Any) -> int:
    return int(float(value))


def _kilobytes(value: Any) -> float:
    return min(_MOST, int(value) / 1024)


def _rate(value: Any) -> int:
    return min(_MOST, int(float(value)))


def _cores(value: Any) -> float:
    try:
        cores = float(value)
    except (TypeError, ValueError):
        raise LeftOut from None
    if not value:
        raise LeftOut
    return cores


def _moment(value: Any) -> str:
    try:
        return time.strftime(_TIME_FORMAT, time.strptime(value, _TIME_FORMAT))
    except (TypeError, ValueError):
        raise LeftOut from None


def _level(value: Any) -> Any:
    if not value or not isinstance(value, str):
        raise LeftOut
    return value[: CUT["cpu_architecture_level"]]


COLUMNS: Mapping[str, tuple[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "cpuConsumptionTime": ("cpu_consumption_time", _unless_empty),
        "cpuConsumptionUnit": ("cpu_consumption_unit", _same),
        "cpu_architecture_level": ("cpu_architecture_level", _level),
        "node": ("node", _cut(CUT["node"])),
        "transExitCode": ("trans_exit_code", _whole),
        "pilotErrorCode": ("pilot_error_code", _error_code),
        "pilotErrorDiag": ("pilot_error_diag", _cut(CUT["pilotErrorDiag"])),
        "jobMetrics": ("job_metrics", _cut(CUT["jobMetrics"])),
        "schedulerID": ("scheduler_id", _same),
        "pilotID": ("pilot_id", _cut(CUT["pilotID"])),
        "batchID": ("batch_id", _cut(CUT["batchID"])),
        "exeErrorCode": ("exe_error_code", _same),
        "exeErrorDiag": ("exe_error_diag", _cut(CUT["exeErrorDiag"])),
        "cpuConversionFactor": ("cpu_conversion_factor", _same),
        "pilotTiming": ("pilot_timing", _same),
        "nEvents": ("n_events", _same),
        "nInputFiles": ("n_input_files", _same),
        "jobSubStatus": ("job_sub_status", _unless_empty),
        "coreCount": ("core_count", _unless_empty),
        "meanCoreCount": ("mean_core_count", _cores),
        "grid": ("grid", _same),
        "source_site": ("source_site", _same),
        "destination_site": ("destination_site", _same),
        **{f"max{what}": (f"max_{what.lower()}", _same) for what in ("RSS", "VMEM", "SWAP", "PSS")},
        **{f"avg{what}": (f"avg_{what.lower()}", _average) for what in ("RSS", "VMEM", "SWAP", "PSS")},
        **{f"tot{what}": (f"tot_{what.lower()}", _kilobytes) for what in ("RCHAR", "WCHAR", "RBYTES", "WBYTES")},
        **{f"rate{what}": (f"rate_{what.lower()}", _rate) for what in ("RCHAR", "WCHAR", "RBYTES", "WBYTES")},
        "startTime": ("start_time", _moment),
        "endTime": ("end_time", _moment),
    }
)
"""The column of each parameter, and what is done to the value before; what raises fails the whole call."""


def update_job(call: Call) -> Text:
    """Apply an update."""
    given, as_json = call.arguments, call.accepts_json
    if not call.is_pilot():
        return encode(fields(NO_ROLE, dialog=NO_ROLE_TEXT if as_json else None), as_json=as_json)
    if given["jobId"] == "NULL" or given["state"] not in STATES:
        return encode(fields(SUCCESS), as_json=as_json)
    values = _values(given)
    try:
        attempt: int | None = int(given["attemptNr"])
    except (TypeError, ValueError):
        attempt = None
    stdout = given["stdout"][:_STDOUT_SIZE]
    job_id = int(given["jobId"])
    int(given["timeout"])
    if not _keep_texts(call.store, job_id, stdout, given):
        return encode(fields(SUCCESS), as_json=as_json)
    try:
        outcome = call.store.update(job_id, given["state"], attempt=attempt, values=values)
    except StoreUnavailable:
        return encode(fields(FAILED), as_json=as_json)
    data = {**fields(SUCCESS), "command": outcome.command}
    if outcome.pilot_secrets:
        data["pilotSecrets"] = outcome.pilot_secrets
    return encode(data, as_json=as_json)


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into the database, by the names of the new API."""
    values: dict[str, Any] = {"job_output_report": given["xml"]}
    for name, (column, prepare) in COLUMNS.items():
        if given[name] is None:
            continue
        try:
            values[column] = prepare(given[name])
        except LeftOut:
            continue
    return values


def _keep_texts(store: JobStore, job_id: int, stdout: str, given: Mapping[str, Any]) -> bool:
    """Keep log, metadata and stdout; False if the metadata cannot be kept, which ends the update."""
    try:
        if given["pilotLog"] != "":
            store.add_log(job_id, given["pilotLog"])
    except StoreUnavailable:
        if given["metaData"] == "":
            return True
    try:
        if given["metaData"] != "" and not store.add_metadata(job_id, given["metaData"], state=given["state"]):
            return False
    except StoreUnavailable:
        return False
    try:
        if stdout != "":
            store.add_stdout(job_id, stdout)
    except StoreUnavailable:
        return True
    return True


def update_jobs_in_bulk(bulk: Call) -> Text:
    """Apply several updates; the answer is a list whatever is accepted."""
    answers = []
    try:
        for update in json.loads(bulk.arguments["jobList"]):
            given = {"jobId": update["jobId"], "state": update["state"]}
            given |= {name: value for name, value in update.items() if name not in given}
            if "metaData" in given:
                given["metaData"] = str(given["metaData"])
            arguments = bind("updateJob", SIGNATURES["updateJob"], given, missing=MISSING, owner=OWNERS["updateJob"])
            answers.append(update_job(Call(bulk.request, bulk.store, arguments)).value)
    except Exception as error:  # noqa: BLE001  (the real server tells any exception of any update)
        text = f"updateJobsInBulk {bulk.arguments['harvester_id']} failed with {type(error).__name__} {error}"
        return Text(json.dumps((False, text)))
    return Text(json.dumps((True, answers)))
