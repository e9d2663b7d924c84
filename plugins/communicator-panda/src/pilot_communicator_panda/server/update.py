"""`pilot/update_job` and `pilot/update_jobs_bulk`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.server.binding import Crash
from pilot_communicator_panda.server.call import Call, Envelope, answer, call
from pilot_communicator_panda.server.signatures import METHODS
from pilot_core.api.server import StoreUnavailable

if TYPE_CHECKING:
    from pilot_core.api.server import JobStore

__all__ = ["CASTS", "CUT", "STATES", "update_job", "update_jobs_bulk"]

STATES = ("running", "failed", "finished", "holding", "starting", "transferring")
SUCCESS, FAILED, INVALID = 0, 30, 50
_MOST_KB = 10**10 - 1
_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


CUT: Mapping[str, int] = MappingProxyType(
    {
        "cpu_architecture_level": 20,
        "node": 128,
        "pilot_error_diag": 500,
        "job_metrics": 500,
        "pilot_id": 200,
        "batch_id": 80,
        "exe_error_diag": 500,
    }
)
"""Characters after which the server cuts a text."""


def _text(size: int | None = None) -> Callable[[Any], str]:
    return lambda value: str(value)[:size]


def _whole(value: Any) -> int:
    return int(float(value))


CASTS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "cpu_consumption_time": int,
        "cpu_consumption_unit": _text(),
        **{name: _text(size) for name, size in CUT.items()},
        "trans_exit_code": int,
        "pilot_error_code": int,
        "scheduler_id": _text(),
        "exe_error_code": int,
        "cpu_conversion_factor": float,
        "pilot_timing": _text(),
        "n_events": int,
        "n_input_files": int,
        "job_sub_status": _text(),
        "core_count": int,
        "mean_core_count": float,
        **dict.fromkeys(("max_rss", "max_vmem", "max_swap", "max_pss"), int),
        **dict.fromkeys(("avg_rss", "avg_vmem", "avg_swap", "avg_pss"), _whole),
        "grid": _text(),
        "source_site": _text(),
        "destination_site": _text(),
    }
)
"""How each value is made ready for its column, and cut; what cannot be cast is left out."""
_TRAFFIC = tuple(f"{kind}_{what}" for kind in ("tot", "rate") for what in ("rchar", "wchar", "rbytes", "wbytes"))


def update_job(call: Call) -> Envelope:
    """Apply an update."""
    given, store = call.arguments, call.store
    job_id, state = given["job_id"], given["job_status"]
    if state not in STATES:
        return answer(False, f"Invalid job status: {state}", {"StatusCode": INVALID})
    _keep_log(store, job_id, given["pilot_log"])
    if given["meta_data"] != "" and not _keep_metadata(store, job_id, given["meta_data"], state):
        message = "Failed to add meta_data"
        return answer(True, message, {"StatusCode": FAILED, "ErrorDiag": message})
    _keep_stdout(store, job_id, given["stdout"])
    try:
        outcome = store.update(job_id, state, attempt=given["attempt_nr"], values=_values(given))
    except StoreUnavailable:
        return answer(True, "Database error", {"StatusCode": FAILED})
    data: dict[str, Any] = {"StatusCode": SUCCESS}
    if outcome.pilot_secrets:
        data["pilotSecrets"] = outcome.pilot_secrets
    data["command"] = outcome.command
    return answer(True, data=data)


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into the database."""
    values: dict[str, Any] = {"job_output_report": given["job_output_report"]}
    for name, cast in CASTS.items():
        if given[name] is None or given[name] == "":
            continue
        try:
            values[name] = cast(given[name])
        except (ValueError, OverflowError):
            continue
    for name in _TRAFFIC:
        if given[name] is None:
            continue
        try:
            values[name] = min(_MOST_KB, int(given[name]) / 1024)
        except (ValueError, OverflowError):
            continue
    for name in ("start_time", "end_time"):
        try:
            values[name] = time.strftime(_TIME_FORMAT, time.strptime(given[name] or "", _TIME_FORMAT))
        except ValueError:
            continue
    return values


def _keep_log(store: JobStore, job_id: int, text: str) -> None:
    if text != "":
        try:
            store.add_log(job_id, text)
        except StoreUnavailable:
            return


def _keep_metadata(store: JobStore, job_id: int, text: str, state: str) -> bool:
    try:
        return store.add_metadata(job_id, text, state=state)
    except StoreUnavailable:
        return False


def _keep_stdout(store: JobStore, job_id: int, text: str) -> None:
    if text != "":
        try:
            store.add_stdout(job_id, text)
        except StoreUnavailable:
            return


def update_jobs_bulk(bulk: Call) -> Envelope:
    """Apply several updates, each checked by itself; one that is no update at all spoils the answer of all."""
    data: list[Envelope] = []
    for update in bulk.arguments["job_list"]:
        try:
            params = _parameters(update)
            data.append(call(METHODS["pilot", "update_job"], update_job, bulk.request, bulk.store, params))
        except Crash as crash:
            return answer(False, f"failed with {crash.kind} {crash}", [])
        except (KeyError, TypeError) as error:
            return answer(False, f"failed with {type(error).__name__} {error}", [])
    return answer(True, data=data)


def _parameters(update: Any) -> dict[str, Any]:
    """Return the parameters of one update; raises what Python raises for what is no dictionary or lacks a key."""
    params = {"job_id": update["job_id"], "job_status": update["job_status"]}
    params |= {name: value for name, value in update.items() if name not in params}
    if "meta_data" in params:
        params["meta_data"] = str(params["meta_data"])
    return params
