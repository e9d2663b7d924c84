"""What the methods do with the store. Their parameters are checked already; what is not said is None or missing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pilot_core import JobFilter

from pilot_communicator_jsonrpc.server.jobs import job_told
from pilot_communicator_jsonrpc.server.params import TEXT_WORDS

if TYPE_CHECKING:
    from pilot_core import JobRecord, JobStore

__all__ = ["CARRY_OUT"]

NUMBER_WORDS = {
    "core_count": "core_count", "cpu_seconds": "cpu_consumption_time", "max_rss_kb": "max_rss",
    "input_files": "n_input_files", "events": "n_events", "payload_exit_code": "trans_exit_code",
    "payload_error_code": "exe_error_code", "pilot_error_code": "pilot_error_code",
}  # fmt: skip
"""Field of an update -> the store's word for it."""
NODE_WORDS = {
    "queue": "panda_queue", "cpu_model": "cpu_model", "logical_cpus": "n_logical_cpus", "sockets": "n_sockets",
    "cores_per_socket": "cores_per_socket", "threads_per_core": "threads_per_core", "memory_mb": "total_memory",
    "cpu_architecture": "cpu_architecture", "cpu_architecture_level": "cpu_architecture_level",
    "clock_mhz": "clock_speed", "disk_gb": "total_local_disk",
}  # fmt: skip
LONGEST_TIMING, LONGEST_METRICS, LONGEST_LOG, LONGEST_STDOUT = 100, 500, 4000, 2048

Params = Mapping[str, Any]
Result = dict[str, Any]


def alive(_: Params, store: JobStore) -> Result:
    """Answer, if the database does."""
    store.resource_types()
    return {"alive": True}


def acquire(said: Params, store: JobStore) -> Result:
    """Hand out jobs."""
    label = text(said, "label")
    wanted = JobFilter(
        queue=text(said, "queue"),
        # `unified`: production's jobs and users' alike
        labels=(label,) if label not in {"", "unified"} else (),
        limit=said.get("jobs") or 1,
        memory_mb=said.get("memory_mb"),
        disk_mb=said.get("disk_mb"),
        remaining_seconds=said.get("remaining_seconds"),
        resource_type=text(said, "resource_type"),
        task_id=said.get("task_id"),
        user=text(said, "user"),
        node=text(said, "node"),
        computing_element=text(said, "computing_element") or None,
        scheduler_id=text(said, "scheduler_id") or None,
        harvester_id=text(said, "harvester_id"),
        worker_id=said.get("worker_id"),
    )
    return {"jobs": [handed_out(job, store) for job in store.dispatch(wanted)]}


def handed_out(job: JobRecord, store: JobStore) -> Result:
    """Return one job as it goes to a pilot, with the secrets that belong to it."""
    secrets = json.loads(store.secrets(job.user)) if job.uses_secrets else {}
    return {**job_told(job.description), "secrets": secrets, "pilot_secrets": json.loads(store.secrets(""))}


def update(said: Params, store: JobStore) -> Result:
    """Keep what a pilot tells of a job; the result has the commands for it."""
    values: Result = {word: text(said, field)[:longest] for field, (word, longest) in TEXT_WORDS.items()}
    values |= {word: said.get(field) for field, word in NUMBER_WORDS.items()}
    values |= {word: moment(said.get(word)) for word in ("start_time", "end_time")}
    values["pilot_timing"] = joined("|", map(str, said.get("timing") or ()), LONGEST_TIMING)
    metrics = (clean(f"{name}={value}") for name, value in (said.get("metrics") or {}).items())
    values["job_metrics"] = joined(" ", metrics, LONGEST_METRICS)
    files = dict(map(file_words, said.get("files") or ()))
    values["job_output_report"] = json.dumps(files) if files else ""
    # the store wants these first; of long ones the end says more
    if metadata := said.get("metadata"):
        store.add_metadata(said["job_id"], json.dumps(metadata), state=said["state"])
    if log := text(said, "log_extract"):
        store.add_log(said["job_id"], log[-LONGEST_LOG:])
    if stdout := text(said, "stdout"):
        store.add_stdout(said["job_id"], stdout[-LONGEST_STDOUT:])
    known = {word: value for word, value in values.items() if value not in (None, "")}
    outcome = store.update(said["job_id"], said["state"], attempt=said.get("attempt"), values=known)
    commands = [command for command in outcome.command.split(",") if command not in {"", "NULL"}]
    return {"commands": commands, "pilot_secrets": json.loads(outcome.pilot_secrets or "{}")}


def file_words(file: Params) -> tuple[str, Result]:
    """Return one stored file as the store's report has it."""
    name, _, value = text(file, "checksum").partition(":")
    words = {
        "guid": text(file, "guid"),
        "fsize": file["size"],
        "md5sum" if name == "md5" else "adler32": value,
        "surl": text(file, "surl"),
        "endpoint": text(file, "rse"),
        "nevents": file.get("events"),
    }
    return text(file, "lfn"), {word: value for word, value in words.items() if value not in (None, "")}


def status(said: Params, store: JobStore) -> Result:
    """Tell what is known of a job."""
    job = store.get(said["job_id"])
    return {
        "job_id": said["job_id"],
        "status": job.status if job else "not found",
        "attempt": job.attempt if job else None,
    }


def worker_status(said: Params, store: JobStore) -> Result:
    """Keep what a pilot tells of itself."""
    values = {"status": text(said, "status"), "site": text(said, "site"), "node_id": text(said, "node")}
    store.worker_status(text(said, "harvester_id"), str(said["worker_id"]), values)
    return {}


def worker_node(said: Params, store: JobStore) -> Result:
    """Keep what a pilot tells of its machine."""
    values = {word: said[name] for name, word in NODE_WORDS.items() if said.get(name) is not None}
    cleaned = {word: clean(value) if isinstance(value, str) else value for word, value in values.items()}
    store.worker_node(text(said, "site"), text(said, "host_name"), cleaned)
    return {}


CARRY_OUT: Mapping[str, Callable[[Params, JobStore], Result]] = {
    "server.alive": alive,
    "job.acquire": acquire,
    "job.update": update,
    "job.status": status,
    "worker.status": worker_status,
    "worker.node": worker_node,
}


def text(said: Params, name: str) -> str:
    """Return a text, empty if nothing is said."""
    return clean(said.get(name) or "")


def clean(value: str) -> str:
    """Return a text that any database can hold: no NUL, nothing that is not UTF-8."""
    return value.replace("\0", "?").encode("utf-8", "replace").decode()


def moment(value: float | None) -> str:
    """Return a wall time in UTC, empty if nothing is said."""
    return "" if value is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value))


def joined(separator: str, parts: Iterable[str], longest: int) -> str:
    """Return as many of the parts as there is room for."""
    whole = separator.join(parts)
    return whole if len(whole) <= longest else whole[: longest + 1].rpartition(separator)[0]
