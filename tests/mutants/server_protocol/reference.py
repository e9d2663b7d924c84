"""A correct server protocol, in small steps that faults can be planted in: JSON objects by POST below `/kit/`."""

from __future__ import annotations

import json
import time

from pilot_core import JobFilter, Provider, ServerResponse, StoreUnavailable, hookimpl

STATES = ("starting", "running", "transferring", "holding", "finished", "failed")
SIZES = {"node": 128, "pilot_id": 200, "batch_id": 80, "scheduler_id": 128, "cpu_consumption_unit": 128}
TEXTS = {
    "sub_state": "job_sub_status",
    "queue": "site_name",
    "node": "node",
    "pilot_id": "pilot_id",
    "batch_id": "batch_id",
    "scheduler_id": "scheduler_id",
    "cpu_unit": "cpu_consumption_unit",
    "payload_error": "exe_error_diag",
    "pilot_error": "pilot_error_diag",
}
NUMBERS = {
    "core_count": "core_count",
    "cpu_seconds": "cpu_consumption_time",
    "max_rss_kb": "max_rss",
    "input_files": "n_input_files",
    "events": "n_events",
    "payload_exit_code": "trans_exit_code",
    "payload_error_code": "exe_error_code",
    "pilot_error_code": "pilot_error_code",
}


class Refused(Exception):
    """The request is not carried out; `kind` says whether it is the request, the credential or the moment."""

    def __init__(self, kind, text):
        super().__init__(text)
        self.kind = kind


class Protocol:
    """`POST /kit/acquire`, `update`, `status`, `alive`, `worker`, `node`."""

    needs_role = True

    def __init__(self, settings, context):
        self.log = context.log

    # -- steps ---------------------------------------------------------------------------------------------------

    def handles(self, request):
        return request.path.startswith("/kit/")

    def respond(self, request, store):
        try:
            self.admit(request)
            call = self.calls().get(request.path.removeprefix("/kit/"))
            if call is None or request.method != "POST":
                raise Refused("request", "there is no such call")
            answer = {"ok": True, **call(self.read(request), store)}
        except Refused as refusal:
            answer = {"ok": False, "kind": refusal.kind, "text": str(refusal)}
        except StoreUnavailable as error:
            answer = self.unavailable(error)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            self.log.debug("a request that makes no sense: %s", type(error).__name__)
            answer = {"ok": False, "kind": "request", "text": f"the request makes no sense ({type(error).__name__})"}
        return ServerResponse(body=json.dumps(answer).encode(), content_type="application/json")

    def calls(self):
        return {
            "acquire": self.acquire,
            "update": self.update,
            "status": self.status,
            "alive": lambda values, store: {},
            "worker": self.worker,
            "node": self.node,
        }

    def unavailable(self, error):
        return {"ok": False, "kind": "later", "text": "the database does not answer"}

    def admit(self, request):
        if request.denied or request.identity is None or not request.identity.production:
            raise Refused("credential", request.denied or "a credential with the role production is needed")

    def read(self, request):
        values = json.loads(request.body)
        if not isinstance(values, dict):
            raise Refused("request", "an object is expected")
        return values

    def wanted(self, values):
        return JobFilter(
            queue=str(values["queue"]),
            labels=(values["label"],) if values.get("label") not in {None, "", "unified"} else (),
            limit=int(values.get("jobs", 1)),
            memory_mb=values.get("memory_mb"),
            disk_mb=values.get("disk_mb"),
            remaining_seconds=values.get("remaining_seconds"),
            resource_type=values.get("resource_type", ""),
            task_id=values.get("task_id"),
            user=values.get("user", ""),
            node=values.get("node", ""),
            computing_element=values.get("computing_element"),
            scheduler_id=values.get("scheduler_id"),
            harvester_id=values.get("harvester_id", ""),
            worker_id=values.get("worker_id"),
        )

    def acquire(self, values, store):
        jobs = store.dispatch(self.wanted(values))
        return {"jobs": [self.told(job, store) for job in jobs]}

    def told(self, job, store):
        secrets = {"secrets": json.loads(store.secrets(job.user))} if job.uses_secrets else {}
        pilots = {"pilotSecrets": json.loads(store.secrets(""))} if job.debug else {}
        return {**job.description, **secrets, **pilots}

    def update(self, values, store):
        job_id, state = int(values["job_id"]), values["state"]
        if state not in STATES:
            raise Refused("request", f"there is no state {state!r}")
        if values.get("metadata"):
            store.add_metadata(job_id, json.dumps(values["metadata"]), state=state)
        if values.get("log_extract"):
            store.add_log(job_id, values["log_extract"])
        if values.get("stdout"):
            store.add_stdout(job_id, values["stdout"][-2048:])
        outcome = store.update(job_id, state, attempt=values["attempt"], values=self.columns(values))
        return {"commands": self.commands(outcome)}

    def commands(self, outcome):
        return [] if outcome.command == "NULL" else outcome.command.split(",")

    def columns(self, values):
        told = {}
        for name, column in TEXTS.items():
            if values.get(name):
                told[column] = str(values[name])[: SIZES.get(column)]
        for name, column in NUMBERS.items():
            if values.get(name) is not None:
                told[column] = int(values[name])
        for name in ("start_time", "end_time"):
            if values.get(name) is not None:
                told[name] = self.moment(values[name])
        if values.get("timing"):
            told["pilot_timing"] = "|".join(str(int(part)) for part in values["timing"])[:100].rpartition("|")[0]
            if len(values["timing"]) < 12:
                told["pilot_timing"] = "|".join(str(int(part)) for part in values["timing"])
        if values.get("metrics"):
            pairs = " ".join(f"{key}={value}" for key, value in values["metrics"].items())
            told["job_metrics"] = pairs if len(pairs) <= 500 else pairs[:501].rpartition(" ")[0]
        if values.get("files"):
            told["job_output_report"] = json.dumps(self.report(values["files"]))
        return told

    def moment(self, seconds):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))

    def report(self, files):
        entries = {}
        for file in files:
            kind, _, checksum = file["checksum"].partition(":")
            entry = {"guid": file["guid"], "fsize": file["size"], "md5sum" if kind == "md5" else kind: checksum}
            entry |= {"surl": file["surl"], "endpoint": file["rse"]}
            entries[file["lfn"]] = entry if file["events"] is None else {**entry, "nevents": file["events"]}
        return entries

    def status(self, values, store):
        return {"jobs": [self.state(int(job_id), store) for job_id in values["job_ids"]]}

    def state(self, job_id, store):
        job = store.get(job_id)
        if job is None:
            return {"job_id": job_id, "status": "not found", "attempt": None}
        return {"job_id": job_id, "status": job.status, "attempt": job.attempt}

    def worker(self, values, store):
        told = {"status": values["status"], "node_id": values["node"], "site": values["site"]}
        store.worker_status(values["harvester_id"], str(values["worker_id"]), told)
        return {}

    def node(self, values, store):
        told = {
            "panda_queue": values["queue"],
            "cpu_model": values["cpu_model"],
            "n_logical_cpus": values["logical_cpus"],
            "n_sockets": values["sockets"],
            "cores_per_socket": values["cores_per_socket"],
            "threads_per_core": values["threads_per_core"],
            "cpu_architecture": values["cpu_architecture"],
            "cpu_architecture_level": values["cpu_architecture_level"],
            "clock_speed": values["clock_mhz"],
            "total_memory": values["memory_mb"],
            "total_local_disk": values["disk_gb"],
        }
        store.worker_node(values["site"], values["host_name"], told)
        return {}


class Plugin:
    """The plugin, as an entry point would name it."""

    def __init__(self, protocol):
        self.protocol = protocol

    @hookimpl
    def pilot_server_protocols(self):
        yield Provider(name="reference", factory=self.protocol)


def reference():
    return Plugin(Protocol)
