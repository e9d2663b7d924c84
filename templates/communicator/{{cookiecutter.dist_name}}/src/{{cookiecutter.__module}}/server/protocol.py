"""What the server answers: a request and a store of jobs become a response. No socket, no HTTP library.

The development server keeps jobs by PanDA's rules, in PanDA's words; here they are turned into what the protocol says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pilot_core import JobFilter, ServerResponse, StoreUnavailable

if TYPE_CHECKING:
    from pilot_core import Context, JobRecord, JobStore, NoSettings, ServerRequest

PREFIX = "/{{ cookiecutter.name }}/v1/"
STATES = {"starting", "running", "transferring", "holding", "finished", "failed"}
APART = {"meta_data", "pilot_log", "stdout"}
"""Words of an update that the store keeps apart from the others."""
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
            "alive": lambda _, store: {"resource_types": len(store.resource_types())},
            "acquire": acquire,
            "update": update,
            "status": status,
            "worker": worker,
            "node": node,
        }

    def handles(self, request: ServerRequest) -> bool:
        """Say whether a request is for this protocol."""
        return request.method == "POST" and request.path.removeprefix(PREFIX) in self._calls and PREFIX in request.path

    def respond(self, request: ServerRequest, store: JobStore) -> ServerResponse:
        """Answer a request; whatever it says, nothing is raised."""
        # YOUR CODE: who may ask, and how your server says no
        if request.identity is None:
            return response(401, {"error": request.denied or "there is no credential"})
        if not request.identity.production:
            return response(403, {"error": "the credential lacks the role that pilots need"})
        call = self._calls[request.path.removeprefix(PREFIX)]
        try:
            said = json.loads(request.body)
            if not isinstance(said, dict):
                return response(400, {"error": "the body is no JSON object"})
            return response(200, {"ok": True, **call(said, store)})
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
        labels=(label,) if label else (),
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
    """Keep what a pilot tells of a job; the answer has the commands for it."""
    job_id, state = needed(said, "job_id"), text(said, "state")
    if state not in STATES:
        raise Refused(f"state: is none of {', '.join(sorted(STATES))}")
    values = said.get("values", {})
    if not isinstance(values, dict) or not all(type(value) in {str, int} for value in values.values()):
        raise Refused("values: is no object of texts and whole numbers")
    if any(not isinstance(values.get(word, ""), str) for word in APART):
        raise Refused(f"values: {', '.join(sorted(APART))} are texts")
    attempt = number(said, "attempt")
    if "meta_data" in values:
        store.add_metadata(job_id, values["meta_data"], state=state)
    if "pilot_log" in values:
        store.add_log(job_id, values["pilot_log"])
    if "stdout" in values:
        store.add_stdout(job_id, values["stdout"])
    plain = {word: value for word, value in values.items() if word not in APART}
    outcome = store.update(job_id, state, attempt=attempt, values=plain)
    commands = [command for command in outcome.command.split(",") if command not in {"", "NULL"}]
    return {"commands": commands, "pilot_secrets": json.loads(outcome.pilot_secrets or "{}")}


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


def text(said: Answer, name: str) -> str:
    """Return a text, empty if nothing is said."""
    value = said.get(name, "")
    if not isinstance(value, str):
        raise Refused(f"{name}: is no text")
    return value


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


def response(code: int, told: Answer) -> ServerResponse:
    """Return a response."""
    return ServerResponse(
        status=code, body=json.dumps({"ok": code == 200, **told}).encode(), content_type="application/json"
    )
