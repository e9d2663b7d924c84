"""The faults that are planted in the reference server protocol."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

from harness import Mutant
from server_protocol.reference import STATES, Plugin, Protocol, Refused

from pilot_core import ServerResponse, StoreUnavailable

MUTANTS = []
FIELD, WISH = "test_a_field_of_an_update_reaches_the_store", "test_a_wish_reaches_the_store"
ROLE, DOWN = "test_only_pilots_are_served", "test_a_store_that_is_down_is_told"
BODY, VALUE = "test_any_body_is_answered", "test_any_value_is_answered"
ONCE, COMMANDS = "test_a_job_goes_out_once", "test_commands_come_back"


def mutant(fault, *caught_by):
    """Plant a fault: the decorated class is a protocol that has it. Its name is the mutant's."""

    def plant(protocol):
        name = "".join(f"-{c.lower()}" if c.isupper() else c for c in protocol.__name__).lstrip("-")
        MUTANTS.append(Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda: Plugin(protocol)))
        return protocol

    return plant


@mutant("every path is its own", "test_only_its_own_paths_are_its_own", "test_handles_says_yes_or_no")
class Everything(Protocol):
    def handles(self, request):
        return True


@mutant("only good requests are its own", "test_handles_says_yes_or_no")
class GoodOnly(Protocol):
    def handles(self, request):
        return super().handles(request) and request.identity is not None


@mutant("handles returns a match instead of True", "test_handles_says_yes_or_no")
class TruthyHandles(Protocol):
    def handles(self, request):
        import re

        return re.match("/kit/", request.path)


@mutant("a body that is no JSON raises", BODY, "test_half_a_request_is_refused")
class RaisesForNonsense(Protocol):
    def respond(self, request, store):
        if request.method == "POST":
            json.loads(request.body)
        return super().respond(request, store)


@mutant("JSON that is no object raises", BODY)
class RaisesForLists(Protocol):
    def respond(self, request, store):
        with suppress(ValueError):
            list(json.loads(request.body).items())
        return super().respond(request, store)


@mutant("a value of the wrong type raises", VALUE)
class RaisesForTypes(Protocol):
    def columns(self, values):
        try:
            return super().columns(values)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise RuntimeError("a wrong type") from error


@mutant("a store that is down raises", DOWN)
class RaisesDown(Protocol):
    def unavailable(self, error):
        raise error


@mutant("an update is taken while the store is down", DOWN)
class TakenDown(Protocol):
    def unavailable(self, error):
        return {"ok": True, "commands": [], "jobs": []}


@mutant("what the store refuses is said to be taken", "test_a_value_that_the_store_refuses_is_told", DOWN)
class RefusedIsTaken(Protocol):
    def columns(self, values):
        return {**super().columns(values), "cpu_consumption_unit": values.get("cpu_unit", "")}

    def update(self, values, store):
        try:
            return super().update(values, store)
        except StoreUnavailable:
            return {"commands": []}


@mutant("the jobs are kept in the protocol", "test_it_keeps_nothing_itself")
class KeepsJobs(Protocol):
    waiting = ()

    def acquire(self, values, store):
        if not self.waiting:
            self.waiting = super().acquire({**values, "jobs": 100}, store)["jobs"]
        job, *self.waiting = self.waiting or [None]
        return {"jobs": [job] if job else []}

    def status(self, values, store):
        self.waiting = ()
        return super().status(values, store)


@mutant("ends of jobs are kept in the protocol", "test_it_keeps_nothing_itself")
class KeepsEnds(Protocol):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.ended = set()

    def commands(self, outcome):
        return [command for command in super().commands(outcome) if command != "alreadydone"]

    def update(self, values, store):
        answer = super().update(values, store)
        if values["job_id"] in self.ended:
            answer["commands"] = ["alreadydone"]
        if values["state"] in {"finished", "failed"}:
            self.ended.add(values["job_id"])
        return answer


@mutant("the last answer is given again to whoever asks next", ONCE)
class HandsOutTwice(Protocol):
    last = None

    def acquire(self, values, store):
        answer = super().acquire(values, store)
        self.last, answer = (answer, answer) if answer["jobs"] else (None, self.last or answer)
        return answer


@mutant("no job is a refusal", "test_no_job_is_said")
class NoJobIsRefused(Protocol):
    def acquire(self, values, store):
        answer = super().acquire(values, store)
        if not answer["jobs"]:
            raise Refused("later", "no job")
        return answer


@mutant("only ids go out", "test_a_job_goes_out_with_what_it_says")
class IdsOnly(Protocol):
    def told(self, job, store):
        return {"PandaID": job.id}


@mutant("one job goes out whatever was asked for", "test_as_many_jobs_go_out_as_are_asked_for", WISH)
class OneJob(Protocol):
    def wanted(self, values):
        return replace(super().wanted(values), limit=1)


@mutant("the queue is not passed on", "test_only_fitting_jobs_go_out")
class AnyQueue(Protocol):
    def wanted(self, values):
        return replace(super().wanted(values), queue="KIT_QUEUE")


@mutant("memory is not passed on", "test_only_fitting_jobs_go_out", WISH)
class AnyMemory(Protocol):
    def wanted(self, values):
        return replace(super().wanted(values), memory_mb=None)


@mutant("a field of an update is dropped", FIELD)
class DroppedField(Protocol):
    def columns(self, values):
        return {name: value for name, value in super().columns(values).items() if name != "exe_error_code"}


@mutant("a field goes by its neutral name", FIELD)
class NeutralName(Protocol):
    def columns(self, values):
        told = super().columns(values)
        return {"max_rss_kb" if name == "max_rss" else name: value for name, value in told.items()}


@mutant("moments as seconds", FIELD)
class RawMoments(Protocol):
    def moment(self, seconds):
        return str(seconds)


@mutant("the report lacks the storages", FIELD)
class ThinReport(Protocol):
    def report(self, files):
        return {lfn: {**entry, "endpoint": ""} for lfn, entry in super().report(files).items()}


@mutant("the metadata do not reach the store", FIELD)
class NoMetadata(Protocol):
    def update(self, values, store):
        return super().update({**values, "metadata": {}}, store)


@mutant("stdout does not reach the store", FIELD)
class NoStdout(Protocol):
    def update(self, values, store):
        return super().update({**values, "stdout": ""}, store)


@mutant(
    "the attempt is not passed on",
    "test_what_the_store_does_not_know_is_told",
    "test_states_and_attempt_reach_the_store",
)
class AnyAttempt(Protocol):
    def update(self, values, store):
        return super().update({**values, "attempt": None}, store)


@mutant("the state is not looked at", "test_a_state_that_there_is_not_is_told")
class AnyState(Protocol):
    def update(self, values, store):
        state = values["state"] if values["state"] in STATES else "running"
        return super().update({**values, "state": state}, store)


@mutant(
    "an update reaches the store twice",
    "test_states_and_attempt_reach_the_store",
    "test_a_second_final_update_is_already_done",
)
class Twice(Protocol):
    def update(self, values, store):
        super().update(values, store)
        return super().update(values, store)


@mutant("commands do not come back", COMMANDS, "test_a_second_final_update_is_already_done")
class NoCommands(Protocol):
    def commands(self, outcome):
        return []


@mutant("unknown commands do not come back", COMMANDS)
class KnownCommands(Protocol):
    def commands(self, outcome):
        return [command for command in super().commands(outcome) if command in {"tobekilled", "alreadydone"}]


@mutant("no command is told as NULL", "test_states_and_attempt_reach_the_store")
class NullCommand(Protocol):
    def commands(self, outcome):
        return outcome.command.split(",")


@mutant(
    "tobekilled for a job that the store does not know is dropped",
    "test_what_the_store_does_not_know_is_told",
    COMMANDS,
)
class NeverKilled(Protocol):
    def commands(self, outcome):
        return [command for command in super().commands(outcome) if command != "tobekilled"]


@mutant("nobody's role is looked at", ROLE)
class NoRole(Protocol):
    def admit(self, request):
        if request.denied or request.identity is None:
            raise Refused("credential", "a credential is needed")


@mutant("a denied credential is none, and none is fine", ROLE)
class Anonymous(Protocol):
    def admit(self, request):
        if request.identity is not None:
            super().admit(request)


@mutant("who asks is looked at after the job is out", ROLE)
class LateAdmission(Protocol):
    def admit(self, request):
        self.request = request

    def acquire(self, values, store):
        answer = super().acquire(values, store)
        super().admit(self.request)
        return answer


@mutant("unknown jobs are activated", "test_states_of_jobs_are_told")
class UnknownIsActivated(Protocol):
    def state(self, job_id, store):
        told = super().state(job_id, store)
        return {**told, "status": told["status"].replace("not found", "activated")}


@mutant("a question hands a job out", "test_asking_changes_nothing")
class AskingTakes(Protocol):
    def status(self, values, store):
        super().acquire({"queue": "KIT_QUEUE"}, store)
        return super().status(values, store)


@mutant("a GET with the same body does the same", "test_another_method_does_nothing")
class AnyMethod(Protocol):
    def respond(self, request, store):
        return super().respond(replace(request, method="POST"), store)


@mutant("the answer is text", ONCE, BODY)
class TextBody(Protocol):
    def respond(self, request, store):
        response = super().respond(request, store)
        return replace(response, body=response.body.decode())


@mutant("the status is a text", ONCE)
class TextStatus(Protocol):
    def respond(self, request, store):
        return replace(super().respond(request, store), status="200 OK")


@mutant("the answer repeats the headers", "test_secrets_do_not_show")
class Echo(Protocol):
    def respond(self, request, store):
        response = super().respond(request, store)
        told = {**json.loads(response.body), "asked": dict(request.headers)}
        return ServerResponse(body=json.dumps(told).encode())


@mutant("requests are logged with their headers", "test_secrets_do_not_show")
class LogsHeaders(Protocol):
    def respond(self, request, store):
        self.log.debug("asked by %s", request.headers)
        return super().respond(request, store)


@mutant("what one thread answers another one may send", "test_updates_at_the_same_time_do_not_mix")
class SharedAnswer(Protocol):
    def commands(self, outcome):
        import time

        self.answer = super().commands(outcome)
        time.sleep(0.05)
        return self.answer


@mutant("half a request is completed", "test_half_a_request_is_refused")
class Completes(Protocol):
    def read(self, request):
        text = request.body.decode("utf-8", "replace")
        for end in ("", '"}', "}", ": null}"):
            try:
                return {"jobs": 1, "attempt": None, "state": "running", **json.loads(text + end)}
            except ValueError:
                continue
        text = text.rpartition(",")[0]
        return {"attempt": None, "state": "running", **json.loads(text + "}")}


@mutant("a header with what was sent in it", BODY)
class HeaderSplit(Protocol):
    def respond(self, request, store):
        response = super().respond(request, store)
        return replace(response, headers={"X-Asked": request.body[:80].decode("latin-1") + "\n"})
