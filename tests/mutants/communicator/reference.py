"""A correct communicator, in small steps that faults can be planted in: JSON objects by POST below `/kit/`."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import asdict
from urllib.parse import urlsplit

from pilot_core import (
    AuthError,
    BadJob,
    CommunicationError,
    ConfigError,
    Event,
    InputFile,
    Job,
    JobStatus,
    OutputFile,
    Provider,
    RequestRefused,
    ServerAnswer,
    Step,
    hookimpl,
)

TEXTS = {
    "name": "jobName",
    "label": "prodSourceLabel",
    "resource_type": "resource_type",
    "processing_type": "processingType",
    "user": "prodUserID",
    "release": "swRelease",
    "home_package": "homepackage",
    "platform": "cmtConfig",
    "transfer_type": "transferType",
    "container_image": "container_name",
}
NUMBERS = {
    "memory_mb": "minRamCount",
    "disk_mb": "maxDiskCount",
    "max_cpu_seconds": "maxCpuCount",
    "max_wall_seconds": "maxWalltime",
    "priority": "currentPriority",
}


class Failed(CommunicationError):
    """One attempt failed. `sent`: the server may have carried the request out; `after`: seconds it wants to be left."""

    def __init__(self, text, *, sent=True, after=0.0):
        super().__init__(text)
        self.sent = sent
        self.after = after


def unset(value):
    return None if value in (None, "", "NULL") else value


class Client:
    """The communicator."""

    timeout = 60.0
    first_pause, longest_pause = 1.0, 60.0

    def __init__(self, settings, context):
        self.context = context
        self.clock = context.clock
        self.log = context.log
        try:
            parts = urlsplit(context.server_url)
            self.host, self.port = parts.hostname, parts.port or 443
        except ValueError:
            self.host = None
        usable = self.host and parts.scheme in {"https", "http"} and " " not in context.server_url
        if not usable:
            raise ConfigError(f"the server URL {context.server_url!r} is none: write https://HOST:PORT")
        if parts.scheme == "http" and context.credential is not None:
            raise ConfigError(f"{context.server_url}: no credential goes over plain http; write https://")
        self.secure = parts.scheme == "https"
        self.prefix = parts.path.rstrip("/")

    # -- one exchange --------------------------------------------------------------------------------------------

    def headers(self, cancel, deadline):
        headers = {"Content-Type": "application/json", "User-Agent": self.context.user_agent}
        if self.context.credential is not None:
            token = self.context.credential.credential(cancel=cancel, deadline=deadline)
            headers |= {"Authorization": f"Bearer {token.value}", "Origin": token.origin}
        return headers

    def connection(self):
        if not self.secure:
            return http.client.HTTPConnection(self.host, self.port)
        return http.client.HTTPSConnection(self.host, self.port, context=self.tls())

    def tls(self):
        return ssl.create_default_context(cafile=self.context.ca_file)

    def url(self, call):
        return f"{self.prefix}/kit/{call}"

    def converse(self, connection, call, body, headers, seen):
        """Send the request and read the answer, in a thread of its own."""
        connection.connect()
        seen["sent"] = True
        connection.request("POST", self.url(call), body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    def exchange(self, call, body, cancel, deadline):
        """Return status, headers and body of an answer; raises `Failed` or `Cancelled`."""
        cancel.raise_if_cancelled()
        if deadline.passed:
            raise Failed("there is no time left", sent=False)
        headers = self.headers(cancel, deadline)
        connection, done, seen = self.connection(), Event(), {"sent": False}

        def run():
            try:
                seen["answer"] = self.converse(connection, call, body, headers, seen)
            except Exception as error:
                seen["error"] = error
            finally:
                connection.close()
                done.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        until = min(deadline.at, self.clock.monotonic() + self.timeout)
        try:
            self.clock.wait(done, cancel, until=until)
            if not done.is_set():
                cancel.raise_if_cancelled()
                raise Failed(f"{self.host} does not answer")
        finally:
            if not done.is_set():
                self.hang_up(connection)
        thread.join()
        if "error" in seen:
            raise self.failure(seen["error"], sent=seen["sent"])
        return seen["answer"]

    def hang_up(self, connection):
        with suppress(OSError, TypeError):  # the second where there is no socket yet
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def failure(self, error, *, sent):
        if isinstance(error, ssl.SSLCertVerificationError):
            return CommunicationError(f"{self.host}: its certificate is not trusted: {error.verify_message}")
        return Failed(f"{self.host}: {type(error).__name__} while talking to it", sent=sent)

    # -- one call ------------------------------------------------------------------------------------------------

    def call(self, call, values, cancel, deadline):
        """Return the answer's object."""
        status, headers, body = self.exchange(call, self.encode(values), cancel, deadline)
        if status != 200:
            raise self.refusal(status, headers)
        answer = self.decode(body)
        if not answer["ok"]:
            raise self.not_done(answer)
        return answer

    def encode(self, values):
        return json.dumps(values).encode()

    def decode(self, body):
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
            raise Failed(f"{self.host} answers with something else: is there a portal in between?")
        return answer

    def refusal(self, status, headers):
        if status == 401:
            return AuthError(f"{self.host} does not accept the credential (HTTP 401): renew it")
        if status in {429, 503}:
            wish = headers.get("Retry-After", "")
            return Failed(f"{self.host} is busy", sent=False, after=float(wish) if wish.isdigit() else 0.0)
        if status < 500:
            return RequestRefused(f"{self.host} refuses the request (HTTP {status})")
        return Failed(f"{self.host} failed (HTTP {status})")

    def not_done(self, answer):
        text = self.shown(answer.get("text", ""))
        if answer.get("kind") == "credential":
            return AuthError(f"{self.host} refuses the credential: {text}")
        if answer.get("kind") == "later":
            return Failed(f"{self.host} cannot do it now: {text}")
        return RequestRefused(f"{self.host} refuses the request: {text}")

    def shown(self, text):
        for secret in self.context.credential.secrets() if self.context.credential else ():
            text = text.replace(secret, "***")
        return "".join(c if c.isprintable() else " " for c in text)[:200]

    def repeat(self, attempt, again, cancel, deadline):
        """Make attempts until one succeeds, none is worth it any more, or the time is used up."""
        pause = self.first_pause
        while True:
            cancel.raise_if_cancelled()
            try:
                return attempt()
            except Failed as failure:
                wait = max(pause, failure.after)
                if not again(failure) or wait >= deadline.remaining():
                    raise CommunicationError(f"given up: {failure}") from None
                self.log.warning("%s; next attempt in %.0f s", failure, wait)
            self.pause(wait, cancel)
            pause = min(2 * pause, self.longest_pause)

    def pause(self, seconds, cancel):
        self.clock.wait(cancel, until=self.clock.monotonic() + seconds)

    # -- the communicator's methods --------------------------------------------------------------------------------

    def is_alive(self, *, cancel, deadline):
        return self.call("alive", {}, cancel, deadline)["ok"]

    def acquire(self, request, *, cancel, deadline):
        values = self.request_values(request)
        answer = self.repeat(
            lambda: self.call("acquire", values, cancel, deadline), self.may_ask_again, cancel, deadline
        )
        return [self.job(entry) for entry in answer["jobs"]]

    def request_values(self, request):
        return {name: value for name, value in asdict(request).items() if value not in (None, "")}

    def may_ask_again(self, failure):
        return not failure.sent

    def may_tell_again(self, failure):
        return True

    def update(self, update, *, cancel, deadline):
        values = self.update_values(update)
        answer = self.repeat(
            lambda: self.call("update", values, cancel, deadline), self.may_tell_again, cancel, deadline
        )
        return self.answer(answer)

    def update_values(self, update):
        return self.cleaned(update.to_json())

    def cleaned(self, value):
        """Return the values without what no database can hold."""
        if isinstance(value, dict):
            return {self.cleaned(key): self.cleaned(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.cleaned(item) for item in value]
        if isinstance(value, str):
            return value.replace("\0", "").encode(errors="replace").decode()
        return value

    def answer(self, answer):
        return ServerAnswer(commands=tuple(answer["commands"]))

    def job_status(self, job_ids, *, cancel, deadline):
        if not job_ids:
            return []
        values = {"job_ids": list(job_ids)}
        answer = self.repeat(lambda: self.call("status", values, cancel, deadline), lambda _: True, cancel, deadline)
        return [JobStatus(**entry) for entry in answer["jobs"]]

    def worker_status(self, status, *, cancel, deadline):
        self.call("worker", asdict(status), cancel, deadline)

    def worker_node(self, node, *, cancel, deadline):
        self.call("node", asdict(node), cancel, deadline)

    def close(self):
        pass

    # -- jobs ----------------------------------------------------------------------------------------------------

    def job(self, entry):
        """Return a job, or a bad one."""
        try:
            return self.good_job(entry)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the description makes no sense: {str(error)[:200]!r}"
            return BadJob(
                id=entry["PandaID"],
                attempt=unset(entry.get("attemptNr")),
                reason=reason,
                error_code=1302,
                log=OutputFile(lfn=entry["logFile"]) if entry.get("logFile") else None,
            )

    def good_job(self, entry):
        if unset(entry["transformation"]) is None:
            raise ValueError("no program")
        texts = {name: unset(entry.get(field)) or "" for name, field in TEXTS.items()}
        numbers = {name: int(unset(entry[field]) or 0) for name, field in NUMBERS.items()}
        outputs, log = self.outputs(entry)
        steps = ("preprocess", "postprocess", "coprocess")
        return Job(
            id=entry["PandaID"],
            attempt=unset(entry["attemptNr"]),
            transformation=entry["transformation"],
            parameters=self.parameters(entry),
            inputs=self.inputs(entry),
            outputs=outputs,
            log=log,
            task_id=unset(entry["taskID"]),
            jobset_id=unset(entry["jobsetID"]),
            core_count=entry["coreCount"],
            looping_check=entry.get("loopingCheck", True),
            debug=entry.get("debug") == "True",
            **{
                name: Step(command=entry[name]["command"], arguments=entry[name]["args"])
                for name in steps
                if name in entry
            },
            container_options=entry.get("containerOptions", {}),
            input_lists=self.lists(entry.get("writeToFile", "")),
            secrets=entry.get("secrets", {}),
            pilot_secrets=entry.get("pilotSecrets", {}),
            extra={name: value for name, value in entry.items() if name.startswith("kit")},
            **texts,
            **numbers,
        )

    def parameters(self, entry):
        return entry["jobPars"]

    def parts(self, entry, field, count):
        values = [unset(part) for part in entry[field].split(",")] if entry[field] else []
        if len(values) != count:
            raise ValueError(f"{field} has {len(values)} entries for {count} files")
        return values

    def inputs(self, entry):
        names = entry["inFiles"].split(",") if entry["inFiles"] else []
        fields = ("scopeIn", "GUID", "fsize", "checksum", "realDatasetsIn", "ddmEndPointIn", "prodDBlockToken")
        rows = zip(names, *(self.parts(entry, field, len(names)) for field in fields), strict=True)
        return tuple(self.input(*row) for row in rows)

    def input(self, lfn, scope, guid, size, checksum, dataset, rse, token):
        return InputFile(
            lfn=lfn,
            scope=scope or "",
            guid=guid or "",
            size=None if size is None else int(size),
            checksum=self.checksum(checksum),
            dataset=dataset or "",
            rse=rse or "",
            token=token or "",
        )

    def checksum(self, text):
        kind, _, value = (text or "").partition(":")
        if not text:
            return ""
        int(value, 16)
        return f"{kind.replace('ad', 'adler32') if kind == 'ad' else kind}:{value}"

    def outputs(self, entry):
        names = entry["outFiles"].split(",") if entry["outFiles"] else []
        datasets, rses = (self.parts(entry, field, len(names)) for field in ("realDatasets", "ddmEndPointOut"))
        scopes = iter(entry["scopeOut"].split(","))
        optional = entry.get("allowNoOutput", "").split(",")
        outputs, log = [], None
        for lfn, dataset, rse in zip(names, datasets, rses, strict=True):
            told = {"lfn": lfn, "dataset": dataset or "", "rse": rse or ""}
            if lfn == entry["logFile"]:
                log = OutputFile(scope=unset(entry["scopeLog"]) or "", guid=unset(entry["logGUID"]) or "", **told)
            else:
                outputs.append(OutputFile(scope=unset(next(scopes)) or "", may_be_missing=lfn in optional, **told))
        return tuple(outputs), log

    def lists(self, text):
        pairs = (part.partition(":") for part in text.split("^") if part)
        return {name: tuple(lfns.split(",")) for name, _, lfns in pairs}


class Plugin:
    """The plugin, as an entry point would name it."""

    def __init__(self, client):
        self.client = client

    @hookimpl
    def pilot_communicators(self):
        yield Provider(name="reference", factory=self.client)


def reference():
    return Plugin(Client)
