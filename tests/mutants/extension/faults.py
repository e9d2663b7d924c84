"""Faults of extensions."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace

from extension.reference import Plugin, tail
from harness import Mutant

from pilot_core import Diagnosis, PayloadCommand, hookimpl


def changed(**members):
    """Return a plugin with other members."""
    return type("Changed", (Plugin,), members)


def environment(change):
    """Return a plugin that makes an environment in its own way."""
    return changed(environment=lambda _, job, given: change(job, given))


def command(change):
    """Return a plugin that wraps a command in its own way."""
    return changed(command=lambda _, job, given: change(job, given))


def diagnosis(change):
    """Return a plugin that diagnoses in its own way."""
    return changed(diagnosis=lambda _, payload: change(payload))


def metadata(change):
    """Return a plugin that collects metadata in its own way."""
    return changed(metadata=lambda self, payload: change(payload, Plugin.metadata(self, payload)))


def doing(what):
    """Return a plugin that does something besides, at the beginning of a task."""

    class Doing(Plugin):
        @hookimpl
        def pilot_task_started(self, task):
            what(self, task)

    return Doing


class Mutating(Plugin):
    def environment(self, job, environment):
        environment["FRONTIER_ID"] = str(job.id)


class MutatingJob(Plugin):
    def environment(self, job, environment):
        job.extra["seen"] = True


class MutatingQueue(Plugin):
    @hookimpl
    def pilot_wrap_command(self, job, queue, command):
        queue.extra.setdefault("jobs", job.id)


class MutatingSecrets(Plugin):
    def environment(self, job, environment):
        job.secrets.clear()


class MutatingUpdate(Plugin):
    def heard(self, update, answer):
        update.metadata["heard"] = True


class MutatingDeep(Plugin):
    def environment(self, job, environment):
        job.extra.get("unknownField", {}).setdefault("list", []).append(3)


class LastJob(Plugin):
    def environment(self, job, environment):
        self.job = job
        threading.Event().wait(0.005)
        return {**environment, "FRONTIER_ID": f"[{self.job.task_id}_{self.job.id}]"}


class FirstJob(Plugin):
    def environment(self, job, environment):
        self.answer = getattr(self, "answer", None) or super().environment(job, environment)
        return self.answer


class OneTable(Plugin):
    table: dict = {}  # noqa: RUF012  (that is the fault)

    def metadata(self, payload):
        self.table.update(super().metadata(payload))
        return self.table


class Counting(Plugin):
    def environment(self, job, environment):
        self.count = getattr(self, "count", 0) + 1
        return {**environment, "COUNT": str(self.count)}


class Prints(Plugin):
    def heard(self, update, answer):
        print(update.job_id)


class PrintsFromChild(Plugin):
    @hookimpl
    def pilot_task_started(self, task):
        if task.name == "report":
            subprocess.run(["echo", "report"], check=True)


class Answers(Plugin):
    def heard(self, update, answer):
        return True


def env_child(self, task):
    self.__dict__.setdefault("children", []).append(subprocess.Popen(["sleep", "20"]))


def thread(self, task):
    bell = self.__dict__.setdefault("bell", threading.Event())
    threading.Thread(target=bell.wait, daemon=True).start()


def descriptor(self, task):
    self.__dict__.setdefault("open", []).append(os.open("/", os.O_RDONLY))


def temporary(self, task):
    with tempfile.NamedTemporaryFile(delete=False) as stream:
        stream.write(b"x")


def own_file(self, task):
    if task.job_dir.is_dir():
        (task.job_dir / "started").write_text(task.name)


def moves(self, task):
    os.chdir(task.job_dir.parent)


def exports(self, task):
    os.environ["PANDA_JOB"] = str(task.job.id)


class Removes(Plugin):
    def metadata(self, payload):
        payload.stdout.unlink(missing_ok=True)
        return {}


def quick_failure(payload):
    return Diagnosis(error_code=1305, message=payload.stderr.read_text()[-100:])


def exit_code(payload):
    return Diagnosis(error_code=payload.result.exit_code or 1, message="it failed")


def opened(payload, found):
    if payload.stdout.exists():
        with payload.stdout.open("rb") as stream:
            found["first"] = len(stream.readline())
    return found


RIGHT = ("test_answers_are_what_the_pilot_takes",)
SURVIVES = ("test_jobs_of_every_sort_are_survived",)
CHANGES = ("test_it_changes_nothing_that_it_is_given",)
KEEPS = ("test_the_environment_keeps_the_rest",)
RUNS = ("test_a_wrapped_command_runs_the_same_program",)
WRAPPED = ("test_a_wrapped_command_keeps_its_environment",)
TOLD = ("test_a_diagnosis_can_be_reported",)
FITS = ("test_metadata_fits_into_an_update",)
FILES = ("test_files_stay_as_they_are",)
SAME = ("test_the_same_call_has_the_same_answer",)
LATER = ("test_what_it_returned_is_not_changed_later",)
BESIDE = ("test_jobs_may_run_side_by_side",)
CLEAN = ("test_it_is_quick_and_leaves_nothing_behind",)
SECRETS = ("test_secrets_go_nowhere",)

PLUGINS = {
    "environment-in-place": ("the environment is changed in place", Mutating, CHANGES),
    "job-in-place": ("the job is changed", MutatingJob, CHANGES),
    "job-deep-in-place": ("a list inside the job is changed", MutatingDeep, CHANGES),
    "queue-in-place": ("the queue is changed", MutatingQueue, CHANGES),
    "secrets-in-place": ("the job's secrets are cleared", MutatingSecrets, CHANGES),
    "update-in-place": ("the update is changed", MutatingUpdate, CHANGES),
    "only-additions": ("only what is added is returned", environment(lambda job, _: {"ID": str(job.id)}), KEEPS),
    "path-dropped": (
        "PATH is lost",
        environment(lambda _, given: {name: value for name, value in given.items() if name != "PATH"}),
        KEEPS,
    ),
    "values-lost": ("all values are emptied", environment(lambda _, given: dict.fromkeys(given, "")), KEEPS),
    "numbers": ("a variable is a number", environment(lambda job, given: {**given, "ID": job.id}), RIGHT),
    "none": ("a variable is None", environment(lambda job, given: {**given, "ID": None}), RIGHT),
    "own-environment": ("it is the pilot's own environment", environment(lambda *_: dict(os.environ)), KEEPS),
    "pairs": ("the environment is a list", environment(lambda _, given: [f"{n}={v}" for n, v in given.items()]), RIGHT),
    "pilot-secret-in-environment": (
        "the pilot's secrets are put into the environment",
        environment(lambda job, given: {**given, **job.pilot_secrets}),
        SECRETS,
    ),
    "task-assumed": (
        "a job without a task is an error",
        environment(lambda job, given: {**given, "TASK": f"{job.task_id:d}"}),
        SURVIVES,
    ),
    "inputs-assumed": (
        "a job without inputs is an error",
        environment(lambda job, given: {**given, "FIRST": job.inputs[0].lfn}),
        SURVIVES,
    ),
    "log-assumed": (
        "a job without a log is an error",
        environment(lambda job, given: {**given, "LOG": job.log.lfn}),
        SURVIVES,
    ),
    "argv-list": ("argv is a list", command(lambda _, c: replace(c, argv=["nice", *c.argv])), RIGHT),
    "argv-text": ("the command is a text", command(lambda _, c: f"nice {c.argv}"), RIGHT),
    "argv-only": ("the command is a tuple", command(lambda _, c: ("nice", *c.argv)), RIGHT),
    "program-dropped": (
        "the program's name is lost",
        command(lambda _, c: replace(c, argv=("nice", *c.argv[1:]))),
        RUNS,
    ),
    "shell-joined": (
        "arguments are joined by blanks",
        command(lambda _, c: replace(c, argv=("/bin/sh", "-c", " ".join(c.argv)))),
        RUNS,
    ),
    "quoted-badly": (
        "arguments are put into quotes",
        command(lambda _, c: replace(c, argv=("/bin/sh", "-c", " ".join(f'"{word}"' for word in c.argv)))),
        RUNS,
    ),
    "exit-code-lost": (
        "the exit code is lost",
        command(lambda _, c: replace(c, argv=("/bin/sh", "-c", '"$@"; true', "sh", *c.argv))),
        RUNS,
    ),
    "exit-code-is-one": (
        "every failure is exit code 1",
        command(lambda _, c: replace(c, argv=("/bin/sh", "-c", '"$@" || exit 1', "sh", *c.argv))),
        RUNS,
    ),
    "unquoted-words": (
        "empty arguments are lost",
        command(lambda _, c: replace(c, argv=("/bin/sh", "-c", "exec $@", "sh", *c.argv))),
        RUNS,
    ),
    "last-argument-lost": (
        "the last argument is lost",
        command(lambda _, c: replace(c, argv=("nice", *c.argv[:-1]))),
        RUNS,
    ),
    "wrapped-without-environment": (
        "the wrapped command has no environment",
        command(lambda _, c: PayloadCommand(argv=("nice", *c.argv), environment={})),
        WRAPPED,
    ),
    "secret-in-argv": (
        "the user's secret is in the arguments",
        command(lambda job, c: replace(c, argv=("env", *(f"{n}={v}" for n, v in job.secrets.items()), *c.argv))),
        SECRETS,
    ),
    "diagnosis-text": ("a diagnosis is a text", diagnosis(lambda _: "out of memory"), RIGHT),
    "diagnosis-pair": ("a diagnosis is a pair", diagnosis(lambda _: (1223, "out of memory")), RIGHT),
    "diagnosis-code": (
        "a diagnosis has an exit code",
        diagnosis(exit_code),
        TOLD,
    ),
    "diagnosis-empty": ("a diagnosis says nothing", diagnosis(lambda _: Diagnosis(error_code=1305, message="")), TOLD),
    "diagnosis-lines": (
        "a diagnosis has many lines",
        diagnosis(lambda p: Diagnosis(error_code=1305, message=tail(p.stderr).decode("utf-8", "replace")[:300] or "-")),
        TOLD,
    ),
    "diagnosis-long": (
        "a diagnosis is endless",
        diagnosis(lambda p: Diagnosis(error_code=1305, message="x" * 4000)),
        TOLD,
    ),
    "diagnosis-secret": (
        "a diagnosis shows the user's secret",
        diagnosis(lambda p: Diagnosis(error_code=1305, message=f"it failed with {dict(p.job.secrets)}")),
        SECRETS,
    ),
    "pipes-opened": ("a pipe in the place of a file stops it", metadata(opened), SURVIVES),
    "stderr-assumed": ("a missing stderr is an error", diagnosis(quick_failure), SURVIVES),
    "exit-code-assumed": (
        "a killed payload is an error",
        diagnosis(lambda p: Diagnosis(error_code=1305, message="it failed") if p.result.exit_code > 1 else None),
        SURVIVES,
    ),
    "stdout-text": (
        "output that is no text is an error",
        metadata(lambda p, m: {**m, "text": p.stdout.read_text() if p.stdout.exists() else ""}),
        SURVIVES,
    ),
    "last-line-assumed": (
        "empty output is an error",
        metadata(lambda p, m: {**m, "last": tail(p.stdout).splitlines()[-1].decode("latin-1")}),
        SURVIVES,
    ),
    "directory-assumed": (
        "a job without a directory is an error",
        metadata(lambda p, m: {**m, "files": len(os.listdir(p.job_dir))}),
        SURVIVES,
    ),
    "metadata-path": ("metadata is no JSON", metadata(lambda p, m: {**m, "dir": p.job_dir}), RIGHT),
    "metadata-nan": ("metadata has a number that is none", metadata(lambda p, m: {**m, "rate": float("nan")}), RIGHT),
    "metadata-list": ("metadata is a list", metadata(lambda p, m: [m]), RIGHT),
    "metadata-keys": ("metadata has numbers as keys", metadata(lambda p, m: {p.job.id: m}), RIGHT),
    "metadata-huge": (
        "all of the output goes into the metadata",
        metadata(lambda p, m: {**m, "out": p.stdout.read_bytes().decode("latin-1") if p.stdout.exists() else ""}),
        FITS,
    ),
    "metadata-secret": ("metadata has the user's secrets", metadata(lambda p, m: {**m, **p.job.secrets}), SECRETS),
    "metadata-pilot-secret": (
        "metadata has the pilot's secrets",
        metadata(lambda p, m: {**m, **p.job.pilot_secrets}),
        SECRETS,
    ),
    "metadata-times": (
        "metadata has other names each time",
        metadata(lambda p, m: {**m, str(random.random()): 1}),
        SAME,
    ),
    "metadata-shared": ("jobs share their metadata", OneTable, LATER),
    "counting": ("it answers something else each time", Counting, SAME),
    "first-job": ("it answers for the first job for ever", FirstJob, KEEPS),
    "threads-mixed": ("jobs are mixed up", LastJob, BESIDE),
    "secret-logged": (
        "the pilot's secrets are logged",
        changed(heard=lambda self, update, answer: self.log.debug("%s", answer and dict(answer.pilot_secrets))),
        SURVIVES,
    ),
    "job-logged": (
        "the job's secrets are logged",
        changed(environment=lambda self, job, given: self.log.debug("secrets: %s", json.dumps(dict(job.secrets)))),
        SURVIVES,
    ),
    "answer-assumed": (
        "an update that was not acknowledged is an error",
        changed(heard=lambda self, update, answer: self.log.info("%s", answer.commands)),
        SURVIVES,
    ),
    "prints": ("it prints", Prints, SURVIVES),
    "child-prints": ("what it starts prints", PrintsFromChild, SURVIVES),
    "event-answers": ("an event has an answer", Answers, ("test_events_have_no_answer",)),
    "leaves-processes": ("it leaves processes", doing(env_child), CLEAN),
    "leaves-threads": ("it leaves threads", doing(thread), CLEAN),
    "leaves-descriptors": ("it leaves descriptors", doing(descriptor), CLEAN),
    "leaves-files": ("it leaves temporary files", doing(temporary), FILES),
    "writes-into-the-job": ("it writes into the job's directory", doing(own_file), FILES),
    "removes-output": ("it removes a file of the job", Removes, FILES),
    "changes-directory": ("it changes the working directory", doing(moves), SURVIVES),
    "exports": ("it changes the pilot's environment", doing(exports), SURVIVES),
    "slow": ("it waits", doing(lambda *_: threading.Event().wait(0.15)), CLEAN),
    "exits": ("it ends the pilot", doing(lambda *_: sys.exit(3)), SURVIVES),
}

MUTANTS = [
    Mutant(name=name, fault=fault, caught_by=caught_by, plugin=plugin)
    for name, (fault, plugin, caught_by) in PLUGINS.items()
]
