"""PanDA's job dictionary as a `Job`. Total: any JSON gives a job, or a bad job that says which field is wrong.

Layout and encodings of the dictionary: observed on panda-server 1.0.4 and 0.8.1, which agree.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pilot_communicator_panda.files import input_files, input_lists, log_file, output_files
from pilot_communicator_panda.jobpars import Parameters, parse_parameters
from pilot_communicator_panda.retry import AttemptFailed
from pilot_communicator_panda.values import BadField, Fields
from pilot_core import PilotErrorCode
from pilot_core.api.job import BadJob, Job, Step

__all__ = ["acquired_jobs", "translate"]

_ENVELOPE = ("StatusCode",)
"""Fields that belong to the answer rather than to the job."""


def acquired_jobs(entries: Iterable[Any], log: logging.Logger, *, decode: bool = True) -> list[Job | BadJob]:
    """Translate every entry; one without a usable PandaID cannot even be reported and is only logged.

    Raises `AttemptFailed` if that is all there is: it is not the same as no job.
    """
    found = [translate(entry, log, decode=decode) for entry in entries]
    usable = [job for job in found if job is not None]
    if found and not usable:
        raise AttemptFailed("the server gave a job without a usable PandaID, which can be neither run nor reported")
    return usable


def translate(entry: Any, log: logging.Logger, *, decode: bool = True) -> Job | BadJob | None:
    """Translate one job dictionary; None if it has no usable PandaID. `decode`: recognise base64 parameters."""
    if not isinstance(entry, Mapping):
        log.error("the server gave a job that is no object (%s): dropped", type(entry).__name__)
        return None
    fields = Fields({str(name): value for name, value in entry.items() if name not in _ENVELOPE})
    try:
        job_id = fields.integer("PandaID") or 0
    except BadField as error:
        log.error("the server gave a job without a usable PandaID, which cannot be reported: %s", error)  # noqa: TRY400
        return None
    if job_id < 1:
        log.error("the server gave a job without a PandaID, which cannot be reported: dropped")
        return None
    try:
        return _job(job_id, fields, log, decode=decode)
    except (BadField, RecursionError) as error:
        reason = error if isinstance(error, BadField) else BadField("the description", "is nested too deeply")
        log.debug("job %d: the description cannot be used: %s", job_id, reason)  # whoever runs the job tells it
        return _bad_job(job_id, Fields(entry), reason)


def _bad_job(job_id: int, fields: Fields, error: BadField) -> BadJob:
    """Return what can be told of a job that cannot be used."""
    try:
        attempt = fields.integer("attemptNr")
    except BadField:
        attempt = None
    log = log_file(fields)
    return BadJob(
        id=job_id, attempt=attempt, reason=str(error), error_code=int(error.error_code), log=log, extra=fields.rest()
    )


def _step(name: str, value: Any) -> Step | None:
    """Return a step of a multi-step job: `{"command": ..., "args": ...}`."""
    if value is None:
        return None
    command = value.get("command") if isinstance(value, dict) else None
    arguments = value.get("args") if isinstance(value, dict) else None
    if not isinstance(command, str) or not command.strip() or not isinstance(arguments, (str, type(None))):
        raise BadField(name, "a command with args was expected")
    return Step(command=command, arguments=arguments or "")


def _texts(name: str, fields: Fields) -> dict[str, str]:
    """Return an object of secrets with every value as text."""
    values = fields.mapping(name, secret=True)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _refuse_event_service(fields: Fields) -> None:
    """Refuse what the neutral job has no words for."""
    for name in ("eventService", "eventServiceMerge"):
        value = fields.raw(name)
        if value is not None and str(value).strip().lower() not in {"false", "0", "none"}:
            raise BadField(name, "this pilot has no event service", PilotErrorCode.NOTIMPLEMENTED)


def _parameters(fields: Fields, *, decode: bool) -> Parameters:
    """Return the job parameters; what a decoded text may not hold is checked again."""
    made = parse_parameters(fields.text("jobPars"), decode=decode)
    if "\0" in made.text:
        raise BadField("jobPars", "has a NUL character in it")
    return made


def _job(job_id: int, fields: Fields, log: logging.Logger, *, decode: bool) -> Job:
    """Translate the dictionary; raises `BadField`."""
    transformation = fields.text("transformation").strip()
    if not transformation:
        raise BadField("transformation", "the job names no program to run", PilotErrorCode.TRANSFORMNOTFOUND)
    _refuse_event_service(fields)
    parameters = _parameters(fields, decode=decode)
    multi = Fields(parameters.multi_step)
    outputs, job_log = output_files(fields)
    inputs = input_files(fields, log)
    clash = {file.lfn for file in inputs} & {file.lfn for file in (*outputs, *((job_log,) if job_log else ()))}
    if clash:
        raise BadField("outFiles", f"{min(clash)!r} is an input too", PilotErrorCode.BADOUTPUTFILENAME)
    options = fields.mapping("containerOptions") or multi.mapping("containerOptions")
    image = parameters.container_image or fields.text("container_name") or str(options.get("containerImage") or "")
    steps = {name: fields.raw(name) or multi.raw(name) for name in ("preprocess", "postprocess", "coprocess")}
    return Job(
        id=job_id,
        attempt=fields.integer("attemptNr"),
        name=fields.text("jobName"),
        label=fields.text("prodSourceLabel"),
        transformation=transformation,
        parameters=parameters.text,
        inputs=inputs,
        outputs=outputs,
        log=job_log,
        task_id=fields.integer("taskID"),
        jobset_id=fields.integer("jobsetID"),
        core_count=max(1, fields.integer("coreCount") or 1),
        memory_mb=fields.amount("minRamCount"),
        disk_mb=fields.amount("maxDiskCount"),
        max_cpu_seconds=fields.amount("maxCpuCount"),
        max_wall_seconds=fields.amount("maxWalltime"),
        resource_type=fields.text("resource_type"),
        processing_type=fields.text("processingType"),
        priority=fields.integer("currentPriority") or 0,
        user=fields.text("prodUserID"),
        release=fields.text("swRelease"),
        home_package=fields.text("homepackage"),
        platform=fields.text("cmtConfig"),
        transfer_type=_transfer_type(fields, parameters),
        access_mode=parameters.access_mode,
        alt_stageout=_on_or_off(fields, "altStageOut"),
        nucleus=fields.text("nucleus"),
        archives=parameters.archives,
        looping_check=fields.flag("loopingCheck", default=True),
        debug=fields.flag("debug"),
        container_image=image,
        preprocess=_step("preprocess", steps["preprocess"]),
        postprocess=_step("postprocess", steps["postprocess"]),
        coprocess=_step("coprocess", steps["coprocess"]),
        container_options=options,
        input_lists=input_lists(fields),
        queue_overrides=parameters.queue_overrides,
        secrets=_texts("secrets", fields),
        pilot_secrets=_texts("pilotSecrets", fields),
        extra={**fields.rest(), **parameters.extra},
    )


def _transfer_type(fields: Fields, parameters: Parameters) -> str:
    """Return `direct` if the job asks for remote I/O; its own --accessmode wins over the task's transferType."""
    asked = fields.text("transferType")
    if parameters.access_mode:
        return "direct" if parameters.access_mode == "direct" else ""
    return asked


def _on_or_off(fields: Fields, name: str) -> str:
    """Return `on`, `off`, or nothing where the server says something else: Pilot 3 passes over that, too."""
    word = fields.text(name).strip().lower()
    return word if word in {"on", "off"} else ""
