"""`pilot/get_job_status`, `job/get_status`, `job/kill`, `job/set_command`, `job/set_debug_mode`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilot_communicator_panda.server.call import Envelope, answer
from pilot_core.api.server import StoreUnavailable

if TYPE_CHECKING:
    from pilot_communicator_panda.server.call import Call
    from pilot_core.api.server import JobStore

__all__ = ["get_job_status", "get_status", "kill", "set_command", "set_debug_mode"]


def get_job_status(call: Call) -> Envelope:
    """Tell the states of jobs."""
    return answer(True, data=[_status(call.store, job_id) for job_id in call.arguments["job_ids"]])


def _status(store: JobStore, job_id: int) -> dict[str, Any]:
    try:
        job = store.get(job_id)
    except StoreUnavailable:
        return {"job_id": job_id, "status": "unknown", "attempt_number": "NULL"}
    if job is None:
        return {"job_id": job_id, "status": "not found", "attempt_number": 0}
    return {"job_id": job.id, "status": job.status, "attempt_number": job.attempt}


def get_status(call: Call) -> Envelope:
    """Tell the states of jobs, and the commands that wait for their pilots."""
    return answer(True, data=[_command(call.store, job_id) for job_id in call.arguments["job_ids"]])


def _command(store: JobStore, job_id: int) -> dict[str, Any]:
    try:
        job = store.get(job_id)
    except StoreUnavailable:
        return {"command": None, "status": None}
    if job is None:
        return {"command": "tobekilled", "status": "unknown"}
    return {"command": job.command or None, "status": job.status}


def kill(call: Call) -> Envelope:
    """Have jobs killed."""
    return answer(True, data=[_kill(call, job_id) for job_id in call.arguments["job_ids"]])


def _kill(call: Call, job_id: int) -> bool:
    try:
        return call.store.kill(job_id, user=call.dn, production=call.production, code=call.arguments["code"])
    except StoreUnavailable:
        return False


def set_command(call: Call) -> Envelope:
    """Set the command that a job's next updates are answered with."""
    try:
        success, message = call.store.set_command(call.arguments["job_id"], call.arguments["command"])
    except StoreUnavailable:
        return answer(False, "database error")
    return answer(success, message)


def set_debug_mode(call: Call) -> Envelope:
    """Switch a job's debug mode. The real server says `success` of everything but success."""
    message: str | None
    try:
        message = call.store.set_debug(call.arguments["job_id"], call.arguments["mode"])
    except StoreUnavailable:
        message = None
    return answer(message != "Succeeded", message)
