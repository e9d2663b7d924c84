"""A correct extension: it implements every shaping hook and every event hook."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace

from pilot_core import Diagnosis, hookimpl

TAIL = 4096
"""Bytes at the end of a file that are looked at."""


def tail(path):
    """Return the end of a regular file, or nothing."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            return stream.read(TAIL)
    except OSError:
        return b""


class Plugin:
    """The plugin, as an object; faulty ones override a hook's body."""

    log = logging.getLogger("pilot_core.extension.under-test")

    @hookimpl
    def pilot_prepare_environment(self, job, environment):
        return self.environment(job, environment)

    def environment(self, job, environment):
        return {**environment, "FRONTIER_ID": f"[{job.task_id}_{job.id}]"}

    @hookimpl
    def pilot_wrap_command(self, job, command):
        return self.command(job, command)

    def command(self, job, command):
        return replace(command, argv=("nice", "-n", "1", *command.argv)) if job.core_count > 1 else None

    @hookimpl
    def pilot_diagnose_failure(self, payload):
        return self.diagnosis(payload)

    def diagnosis(self, payload):
        if b"bad_alloc" in tail(payload.stderr):
            return Diagnosis(error_code=1223, message="the payload could not get memory (bad_alloc)")
        return None

    @hookimpl
    def pilot_collect_metadata(self, payload):
        return self.metadata(payload)

    def metadata(self, payload):
        last = tail(payload.stdout).decode("utf-8", "replace").splitlines()[-1:]
        return {"lastLine": "".join(last)[-200:], "outputs": [file.lfn for file in payload.job.outputs]}

    @hookimpl
    def pilot_job_state_changed(self, job, old, new):
        self.log.info("job %d: %s -> %s", job.id, old, new)

    @hookimpl
    def pilot_task_started(self, task):
        self.log.info("job %d: %s begins", task.job.id, task.name)

    @hookimpl
    def pilot_task_finished(self, task, outcome):
        self.log.info("job %d: %s took %.3f s: %s", task.job.id, task.name, outcome.seconds, outcome.error)
        self.finished(task, outcome)

    def finished(self, task, outcome):
        self.log.debug("%s", json.dumps(dict(outcome.details)))

    @hookimpl
    def pilot_transfer_attempted(self, attempt):
        self.log.info("%s %s: %s", attempt.activity, attempt.lfn, attempt.outcome)

    @hookimpl
    def pilot_transfer_progress(self, progress):
        self.log.info("%s: %d of %d files", progress.activity, progress.files_done, progress.files)

    @hookimpl
    def pilot_heartbeat(self, update, answer):
        return self.heard(update, answer)

    def heard(self, update, answer):
        if answer is None:
            self.log.warning("job %d: the server did not answer", update.job_id)
