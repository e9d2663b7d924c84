"""What the server answers: a request and a store of jobs become a response. No socket, no HTTP library.

The development server keeps jobs by PanDA's rules, in PanDA's words; here they are turned into what the protocol says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pilot_core import JobFilter, ServerResponse, StoreUnavailable

if TYPE_CHECKING:
    from pilot_core import Context, JobRecord, JobStore, NoSettings, ServerRequest

PREFIX = "/{{ cookiecutter.name }}/v1/"
STATES = {"starting", "running", "transferring", "holding", "finished", "failed"}
TEXT_WORDS = {
    "sub_state": ("job_sub_status", 80), "queue": ("site_name", 100), "node": ("node", 128),
    "pilot_id": ("pilot_id", 200), "batch_id": ("batch_id", 80), "scheduler_id": ("scheduler_id", 128),
    "cpu_unit": ("cpu_consumption_unit", 128), "payload_error": ("exe_error_diag", 500),
    "pilot_error": ("pilot_error_diag", 500),
}  # fmt: skip
"""Field of an update -> the store's word for it, and how many characters it takes; with more it takes nothing."""
NUMBER_WORDS = {
    "core_count": "core_count", "cpu_seconds": "cpu_consumption_time", "max_rss_kb": "max_rss",
    "input_files": "n_input_files", "events": "n_events", "payload_exit_code": "trans_exit_code",
    "payload_error_code": "exe_error_code", "pilot_error_code": "pilot_error_code",
}  # fmt: skip
LONGEST_TIMING, LONGEST_METRICS, LONGEST_LOG, LONGEST_STDOUT = 100, 500, 4000, 2048
NODE_WORDS = {
    "queue": "panda_queue", "cpu_model": "cpu_model", "logical_cpus": "n_logical_cpus", "sockets": "n_sockets",
    "cores_per_socket": "cores_per_socket", "threads_per_core": "threads_per_core", "memory_mb": "total_memory",
    "cpu_architecture": "cpu_architecture", "cpu_architecture_level": "cpu_architecture_level",
    "clock_mhz": "clock_speed", "disk_gb": "total_local_disk",
}  # fmt: skip

Answer = dict[str, Any]


class Refused(Exception):
    """The request makes no sense; the text says why."""


class Protocol:
    """The protocol. It keeps nothing between requests: everything is in the store."""

    def __init__(self, settings: NoSettings, context: Context) -> None:
        self._log = context.log
        # YOUR CODE: the calls of your protocol
        self._calls: Mapping[str, Callable[[Answer, JobStore], Answer]] = {
            f"{PREFIX}alive": lambda _, store: {"resource_types": len(store.resource_types())},
            f"{PREFIX}acquire": acquire,
            f"{PREFIX}update": update,
            f"{PREFIX}status": status,
            f"{PREFIX}worker": worker,
            f"{PREFIX}node": node,
        }

    def handles(self, request: ServerRequest) -> bool:
        """Say whether a request is for this protocol, by its path."""
        return request.path in self._calls

    def respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Answer a request; whatever it says, nothing is raised."""
        if request.method != "POST" or request.path not in self._calls:
            return response(405, {"error": "calls are posted"})
        # YOUR CODE: who may ask, and how your server says no
        if request.identity is None:
            return response(401, {"error": request.denied or "there is no credential"})
        if not request.identity.production:
            return response(403, {"error": "the credential lacks the role that pilots need"})
        try:
            said = json.loads(request.body)
            if not isinstance(said, dict):
                return response(400, {"error": "the body is no JSON object"})
            return response(200, {"ok": True, **self._calls[request.path](said, store)})
        except StoreUnavailable as error:
            return response(503, {"error": f"the database does not answer: {error}"})
        except Refused as error:
            return response(400, {"error": str(error)})
        except (ValueError, RecursionError):
            return response(400, {"error": "the body is no JSON"})


def acquire(said: Answer, store: JobStore) -> Answer:
    """Hand out jobs."""
    label = text(said, "label")
    wanted = JobFilter(
        queue=text(said, "queue"),
        # `unified`: production's jobs and users' alike
        labels=(label,) if label not in {"", "unified"} else (),
        limit=number(said, "jobs") or 1,
        memory_mb=number(said, "memory_mb"),
        disk_mb=number(said, "disk_mb"),
        remaining_seconds=number(said, "remaining_seconds"),
        resource_type=text(said, "resource_type"),
        task_id=number(said, "task_id"),
        user=text(said, "user"),
        node=text(said, "node"),
        computing_element=text(said, "computing_element") or None,
        scheduler_id=text(said, "scheduler_id") or None,
        harvester_id=text(said, "harvester_id"),
        worker_id=number(said, "worker_id"),
    )
    return {"jobs": [handed_out(job, store) for job in store.dispatch(wanted)]}


def handed_out(job: JobRecord, store: JobStore) -> Answer:
    """Return one job as it goes to a pilot, with the secrets that belong to it."""
    secrets = json.loads(store.secrets(job.user)) if job.uses_secrets else {}
    return {"description": dict(job.description), "secrets": secrets, "pilot_secrets": json.loads(store.secrets(""))}


def update(said: Answer, store: JobStore) -> Answer:
    """Keep what a pilot tells of a job, a `JobUpdate` as JSON; the answer has the commands for it."""
    job_id, attempt, state = needed(said, "job_id"), number(said, "attempt"), text(said, "state")
    if state not in STATES:
        raise Refused(f"state: is none of {', '.join(sorted(STATES))}")
    values: Answer = {word: text(said, field)[:longest] for field, (word, longest) in TEXT_WORDS.items()}
    values |= {word: number(said, field) for field, word in NUMBER_WORDS.items()}
    values |= {word: moment(said, word) for word in ("start_time", "end_time")}
    values["pilot_timing"] = joined("|", map(str, listed(said, "timing", int)), LONGEST_TIMING)
    pairs = [f"{name}={value}" for name, value in table(said, "metrics").items()]
    values["job_metrics"] = joined(" ", map(clean, pairs), LONGEST_METRICS)
    files = [file_words(file) for file in listed(said, "files", dict)]
    values["job_output_report"] = json.dumps(dict(files)) if files else ""
    # the store wants these first; of long ones the end says more
    if metadata := table(said, "metadata"):
        store.add_metadata(job_id, json.dumps(metadata), state=state)
    if log := text(said, "log_extract"):
        store.add_log(job_id, log[-LONGEST_LOG:])
    if stdout := text(said, "stdout"):
        store.add_stdout(job_id, stdout[-LONGEST_STDOUT:])
    known = {word: value for word, value in values.items() if value not in (None, "")}
    outcome = store.update(job_id, state, attempt=attempt, values=known)
    commands = [command for command in outcome.command.split(",") if command not in {"", "NULL"}]
    return {"commands": commands, "pilot_secrets": json.loads(outcome.pilot_secrets or "{}")}


def file_words(file: Answer) -> tuple[str, Answer]:
    """Return one stored file as the store's report has it."""
    name, _, value = text(file, "checksum").partition(":")
    words = {
        "guid": text(file, "guid"),
        "fsize": number(file, "size"),
        "md5sum" if name == "md5" else "adler32": value,
        "surl": text(file, "surl"),
        "endpoint": text(file, "rse"),
        "nevents": number(file, "events"),
    }
    return text(file, "lfn"), {word: value for word, value in words.items() if value not in (None, "")}


def status(said: Answer, store: JobStore) -> Answer:
    """Tell what is known of jobs."""
    job_ids = said.get("job_ids")
    if not isinstance(job_ids, list):
        raise Refused("job_ids: is no list")
    rows = []
    for job_id in [needed({"job_ids": each}, "job_ids") for each in job_ids]:
        job = store.get(job_id)
        rows.append(
            {"job_id": job_id, "status": job.status if job else "not found", "attempt": job.attempt if job else None}
        )
    return {"jobs": rows}


def worker(said: Answer, store: JobStore) -> Answer:
    """Keep what a pilot tells of itself."""
    values = {"status": text(said, "status"), "site": text(said, "site"), "node_id": text(said, "node")}
    store.worker_status(text(said, "harvester_id"), str(needed(said, "worker_id")), values)
    return {}


def node(said: Answer, store: JobStore) -> Answer:
    """Keep what a pilot tells of its machine."""
    for name in NODE_WORDS:
        if type(said.get(name, "")) not in {str, int, float}:
            raise Refused(f"{name}: is neither a text nor a number")
    values = {word: said[name] for name, word in NODE_WORDS.items() if name in said}
    store.worker_node(text(said, "site"), text(said, "host_name"), values)
    return {}


# -- reading what was said; whoever says nonsense is told ------------------------------------------------------------


def text(said: Answer, name: str) -> str:
    """Return a text, empty if nothing is said."""
    value = said.get(name) or ""
    if not isinstance(value, str):
        raise Refused(f"{name}: is no text")
    return clean(value)


def clean(value: str) -> str:
    """Return a text that any database can hold: no NUL, nothing that is not UTF-8."""
    return value.replace("\0", "?").encode("utf-8", "replace").decode()


def number(said: Answer, name: str) -> int | None:
    """Return a whole number, None if nothing is said."""
    value = said.get(name)
    if value is not None and (type(value) is not int or abs(value) >= 2**63):
        raise Refused(f"{name}: is no whole number of 64 bits")
    return value


def needed(said: Answer, name: str) -> int:
    """Return a whole number that has to be there."""
    value = number(said, name)
    if value is None:
        raise Refused(f"{name}: is missing")
    return value


def moment(said: Answer, name: str) -> str:
    """Return a wall time in UTC, empty if nothing is said."""
    value = said.get(name)
    if value is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value))
    except (TypeError, ValueError, OverflowError, OSError):
        raise Refused(f"{name}: is no time in seconds since 1970") from None


def table(said: Answer, name: str) -> Answer:
    """Return an object, empty if nothing is said."""
    value = said.get(name) or {}
    if not isinstance(value, dict):
        raise Refused(f"{name}: is no object")
    return value


def listed(said: Answer, name: str, kind: type) -> list[Any]:
    """Return a list of things of one kind, empty if nothing is said."""
    value = said.get(name) or []
    if not isinstance(value, list) or not all(type(each) is kind for each in value):
        raise Refused(f"{name}: is no list of the right things")
    return value


def joined(separator: str, parts: Iterable[str], longest: int) -> str:
    """Return as many of the parts as there is room for."""
    whole = separator.join(parts)
    return whole if len(whole) <= longest else whole[: longest + 1].rpartition(separator)[0]


def response(code: int, told: Answer) -> ServerResponse:
    """Return a response."""
    return ServerResponse(
        status=code, body=json.dumps({"ok": code == 200, **told}).encode(), content_type="application/json"
    )
