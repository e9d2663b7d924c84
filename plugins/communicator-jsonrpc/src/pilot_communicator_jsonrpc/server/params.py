"""Which parameters each method takes, and what is wrong with those of a call, field by field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["METHODS", "STATES", "TEXT_WORDS", "Problem", "problems"]

STATES = ("starting", "running", "transferring", "holding", "finished", "failed")
LAST_SECOND = 253_402_300_799
"""Of the year 9999: no later time can be written."""
TEXT_WORDS = {
    "sub_state": ("job_sub_status", 80), "queue": ("site_name", 100), "node": ("node", 128),
    "pilot_id": ("pilot_id", 200), "batch_id": ("batch_id", 80), "scheduler_id": ("scheduler_id", 128),
    "cpu_unit": ("cpu_consumption_unit", 128), "payload_error": ("exe_error_diag", 500),
    "pilot_error": ("pilot_error_diag", 500),
}  # fmt: skip
"""Field of an update -> the store's word for it, and how many characters it takes; of more the rest is cut."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with one parameter."""

    field: str
    kind: str
    """missing, unknown, type or truncated."""
    text: str


Check = Callable[[Any], str]
"""Returns what a value should be, or "" if it is."""


def text(value: Any) -> str:
    """Check a text."""
    return "" if isinstance(value, str) else "a text"


def whole(value: Any) -> str:
    """Check a whole number that databases can hold."""
    return "" if type(value) is int and abs(value) < 2**63 else "a whole number of 64 bits"


def real(value: Any) -> str:
    """Check a number."""
    return "" if type(value) in {int, float} and abs(value) < 2**63 else "a number"


def moment(value: Any) -> str:
    """Check a time."""
    return "" if type(value) in {int, float} and 0 <= value <= LAST_SECOND else "a time in seconds since 1970"


def state(value: Any) -> str:
    """Check a job's state."""
    return "" if isinstance(value, str) and value in STATES else f"one of {', '.join(STATES)}"


def table(value: Any) -> str:
    """Check an object."""
    return "" if isinstance(value, dict) else "an object"


def texts(value: Any) -> str:
    """Check an object of texts."""
    good = isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
    return "" if good else "an object of texts"


def wholes(value: Any) -> str:
    """Check a list of whole numbers."""
    return "" if isinstance(value, list) and not any(map(whole, value)) else "a list of whole numbers"


def checksum(value: Any) -> str:
    """Check a checksum."""
    good = isinstance(value, str) and re.fullmatch("(adler32:[0-9a-f]{8}|md5:[0-9a-f]{32})?", value)
    return "" if good else "adler32: with 8 or md5: with 32 hexadecimal digits"


def _all(check: Check, *names: str) -> dict[str, Check]:
    return dict.fromkeys(names, check)


FILE: Mapping[str, Check] = {
    **_all(text, "lfn", "guid", "surl", "rse"), **_all(whole, "size", "events"), "checksum": checksum,
}  # fmt: skip
METHODS: Mapping[str, tuple[frozenset[str], Mapping[str, Check]]] = {
    "server.alive": (frozenset(), {}),
    "job.acquire": (
        frozenset({"queue"}),
        {
            **_all(text, "queue", "label", "node", "resource_type", "computing_element", "harvester_id"),
            **_all(text, "scheduler_id", "user", "job_type"),
            **_all(whole, "jobs", "memory_mb", "disk_mb", "remaining_seconds", "task_id", "worker_id"),
        },
    ),
    "job.update": (
        frozenset({"job_id", "state"}),
        {
            **_all(whole, "job_id", "attempt", "core_count", "cpu_seconds", "max_rss_kb", "input_files", "events"),
            **_all(whole, "payload_exit_code", "payload_error_code", "pilot_error_code"),
            **_all(text, *TEXT_WORDS, "log_extract", "stdout"),
            **_all(moment, "start_time", "end_time"),
            "state": state,
            "timing": wholes,
            "metadata": table,
            "metrics": texts,
            "files": lambda value: "" if isinstance(value, list) else "a list of files",
        },
    ),
    "job.status": (frozenset({"job_id"}), {"job_id": whole}),
    "worker.status": (
        frozenset({"worker_id", "status"}),
        {"worker_id": whole, **_all(text, "status", "harvester_id", "site", "node")},
    ),
    "worker.node": (
        frozenset({"site", "host_name"}),
        {
            **_all(text, "site", "host_name", "queue", "cpu_model", "cpu_architecture", "cpu_architecture_level"),
            **_all(whole, "logical_cpus", "sockets", "cores_per_socket", "threads_per_core", "memory_mb", "disk_gb"),
            "clock_mhz": real,
        },
    ),
}
"""Method -> the parameters that it needs, and the checks of all that it takes."""


def problems(method: str, params: Any) -> list[Problem]:
    """Return all that is wrong with the parameters of a known method; texts that are cut are no reason to refuse."""
    if not isinstance(params, dict):
        return [Problem("", "type", "parameters are given by name: has to be an object")]
    needed, checks = METHODS[method]
    found = list(_checked(params, checks, needed))
    if method == "job.update":
        files = params.get("files")
        for place, file in enumerate(files if isinstance(files, list) else ()):
            if not isinstance(file, dict):
                found.append(Problem(f"files[{place}]", "type", "has to be an object"))
                continue
            wrong = _checked(file, FILE, frozenset({"lfn", "size", "checksum"}))
            found += [Problem(f"files[{place}].{each.field}", each.kind, each.text) for each in wrong]
        for name, (_, longest) in TEXT_WORDS.items():
            if isinstance(params.get(name), str) and len(params[name]) > longest:
                found.append(Problem(name, "truncated", f"{longest} of {len(params[name])} characters are kept"))
    return found


def _checked(params: Mapping[str, Any], checks: Mapping[str, Check], needed: frozenset[str]) -> Iterator[Problem]:
    """Yield what is wrong with the values of an object."""
    for name, check in checks.items():
        value = params.get(name)
        if value is None or (name in needed and value == ""):
            if name in needed:
                yield Problem(name, "missing", "has to be there")
        elif wanted := check(value):
            yield Problem(name, "type", f"has to be {wanted}")
    for name in params:
        if name not in checks:
            yield Problem(name, "unknown", "means nothing here and is ignored")
