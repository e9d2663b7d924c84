"""The fields of each request, with the type the server insists on and the size beyond which it loses the update.

Facts: panda-server 1.0.4 refuses a whole request for one unknown field, one int that is a float, or one float that is
an int. Values that its database cannot hold (a text too long for its column, an integer beyond four bytes, a NUL
character) are answered with StatusCode 30 and the whole update is lost. Sizes are counted in characters.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "ACQUIRE_JOBS",
    "UPDATE_JOB",
    "UPDATE_WORKER_NODE",
    "UPDATE_WORKER_STATUS",
    "Field",
    "build",
    "head",
    "tail",
    "whole_parts",
]

_INT4 = 2**31 - 1
_INT8 = 2**63 - 1


def head(text: str, limit: int) -> str:
    """Return the first characters of a text."""
    return text[:limit]


def tail(text: str, limit: int) -> str:
    """Return the last characters of a text."""
    return text[-limit:]


def whole_parts(separator: str) -> Callable[[str, int], str]:
    """Return a cut that keeps whole parts only; a first part that is too long itself is cut through."""

    def cut(text: str, limit: int) -> str:
        if len(text) <= limit:
            return text
        kept, _, _ = text[: limit + 1].rpartition(separator)
        return kept or text[:limit]

    return cut


@dataclass(frozen=True)
class Field:
    """One field: its type on the wire, and how much of it the server takes."""

    kind: type
    """int, float or str."""
    limit: int = 0
    """Longest text (characters; 0 = any) or largest integer (0 = eight bytes)."""
    cut: Callable[[str, int], str] = head


_TEXT = Field(str)
_INT = Field(int)
_INT4_FIELD = Field(int, _INT4)
_FLOAT = Field(float)

ACQUIRE_JOBS: Mapping[str, Field] = {
    "site_name": _TEXT,
    "memory": _INT,
    "disk_space": _INT,
    "prod_source_label": _TEXT,
    "node": Field(str, 128),
    "computing_element": _TEXT,
    "prod_user_id": _TEXT,
    "task_id": _INT,
    "n_jobs": _INT,
    "resource_type": _TEXT,
    "harvester_id": _TEXT,
    "worker_id": _INT,
    "scheduler_id": Field(str, 128),
    "job_type": _TEXT,
    "remaining_time": _INT,
}

UPDATE_JOB: Mapping[str, Field] = {
    "job_id": _INT,
    "job_status": _TEXT,
    "job_sub_status": Field(str, 80),
    "job_output_report": _TEXT,
    "meta_data": _TEXT,
    "pilot_log": Field(str, 4000, tail),
    "stdout": Field(str, 2048, tail),
    "node": Field(str, 128),
    "site_name": _TEXT,
    "scheduler_id": Field(str, 128),
    "pilot_id": Field(str, 200),
    "batch_id": Field(str, 80),
    "start_time": _TEXT,
    "end_time": _TEXT,
    "pilot_timing": Field(str, 100, whole_parts("|")),
    "attempt_nr": _INT4_FIELD,
    "core_count": _INT4_FIELD,
    "cpu_consumption_time": _INT,
    "cpu_consumption_unit": Field(str, 128),
    "max_rss": _INT,
    "n_events": _INT,
    "n_input_files": _INT4_FIELD,
    "trans_exit_code": _INT4_FIELD,
    "pilot_error_code": _INT4_FIELD,
    "pilot_error_diag": Field(str, 500),
    "exe_error_code": _INT4_FIELD,
    "exe_error_diag": Field(str, 500),
    "job_metrics": Field(str, 500, whole_parts(" ")),
}

UPDATE_WORKER_STATUS: Mapping[str, Field] = {
    "worker_id": _INT,
    "harvester_id": _TEXT,
    "status": _TEXT,
    "node_id": Field(str, 128),
}

UPDATE_WORKER_NODE: Mapping[str, Field] = {
    "site": _TEXT,
    "panda_queue": _TEXT,
    "host_name": _TEXT,
    "cpu_model": _TEXT,
    "n_logical_cpus": _INT4_FIELD,
    "n_sockets": _INT4_FIELD,
    "cores_per_socket": _INT4_FIELD,
    "threads_per_core": _INT4_FIELD,
    "cpu_architecture": _TEXT,
    "cpu_architecture_level": Field(str, 20),
    "clock_speed": _FLOAT,
    "total_memory": _INT,
    "total_local_disk": _INT,
}


def build(fields: Mapping[str, Field], values: Mapping[str, Any], log: logging.Logger) -> dict[str, Any]:
    """Return the request's object: known fields only, of the right type and size; None and "" are left out."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        field = fields[name]
        if value is None or value == "":
            continue
        if field.kind is str:
            text = _text(name, value, field, log)
            if text:
                made[name] = text
        elif field.kind is float:
            made[name] = float(value)
        else:
            made[name] = _integer(name, value, field.limit or _INT8, log)
    return made


def _text(name: str, value: str, field: Field, log: logging.Logger) -> str:
    """Return a text that the server's database can hold."""
    # a lone surrogate (a file name that is not UTF-8, in an error's text) cannot be stored any more than a NUL
    text = value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if field.limit and len(text) > field.limit:
        log.debug("%s: cut from %d to %d characters", name, len(text), field.limit)
        text = field.cut(text, field.limit)
    return text


def _integer(name: str, value: float, limit: int, log: logging.Logger) -> int:
    """Return an integer that the server's column can hold."""
    number = int(value)
    if -limit <= number <= limit:
        return number
    log.warning("%s: %d is beyond what the server can store; sent as %d", name, number, limit if number > 0 else -limit)
    return limit if number > 0 else -limit
