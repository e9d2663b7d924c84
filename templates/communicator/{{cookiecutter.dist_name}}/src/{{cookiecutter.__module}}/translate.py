"""Between pilot-core's neutral values and the words of the protocol.

The words here are PanDA's: what the development server keeps, so that its side has nothing to translate. A server of
yours has its own; whatever it cannot carry is named in `tests/test_kit.py`, with the reason.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pilot_core import BadJob, InputFile, Job, OutputFile, PilotErrorCode, Step

if TYPE_CHECKING:
    from pilot_core import Acquired, FileReport, JobUpdate

# -- what is told ------------------------------------------------------------------------------------------------------

UPDATE_WORDS = {
    "sub_state": "job_sub_status", "queue": "site_name", "node": "node", "pilot_id": "pilot_id", "batch_id": "batch_id",
    "scheduler_id": "scheduler_id", "core_count": "core_count", "cpu_seconds": "cpu_consumption_time",
    "cpu_unit": "cpu_consumption_unit", "max_rss_kb": "max_rss", "input_files": "n_input_files", "events": "n_events",
    "payload_exit_code": "trans_exit_code", "payload_error_code": "exe_error_code", "payload_error": "exe_error_diag",
    "pilot_error_code": "pilot_error_code", "pilot_error": "pilot_error_diag",
}  # fmt: skip
"""Field of `JobUpdate` -> word, for those whose value goes as it is."""
LONGEST = {
    "job_sub_status": 80, "node": 128, "pilot_id": 200, "batch_id": 80, "scheduler_id": 128, "pilot_timing": 100,
    "cpu_consumption_unit": 128, "exe_error_diag": 500, "pilot_error_diag": 500, "job_metrics": 500,
}  # fmt: skip
"""Characters that the server takes; with more it would lose the whole update."""
LONGEST_LOG, LONGEST_STDOUT = 4000, 2048


def update_words(update: JobUpdate) -> dict[str, Any]:
    """Return an update as the server takes it; what is not known is left out, what is too long is cut."""
    # YOUR CODE: the words of your protocol
    values: dict[str, Any] = {word: getattr(update, field) for field, word in UPDATE_WORDS.items()}
    values["start_time"], values["end_time"] = moment(update.start_time), moment(update.end_time)
    values["pilot_timing"] = joined("|", [str(number) for number in update.timing], LONGEST["pilot_timing"])
    pairs = [f"{name}={value}" for name, value in update.metrics.items()]
    values["job_metrics"] = joined(" ", pairs, LONGEST["job_metrics"])
    if update.files:
        values["job_output_report"] = json.dumps({file.lfn: file_words(file) for file in update.files})
    if update.metadata:
        values["meta_data"] = json.dumps(update.metadata)
    # of these the end says more
    values["pilot_log"] = clean(update.log_extract)[-LONGEST_LOG:]
    values["stdout"] = clean(update.stdout)[-LONGEST_STDOUT:]
    told = {
        word: clean(value)[: LONGEST.get(word)] if isinstance(value, str) else value for word, value in values.items()
    }
    return {
        "job_id": update.job_id,
        "attempt": update.attempt,
        "state": update.state,
        "values": {word: value for word, value in told.items() if value not in (None, "")},
    }


def file_words(file: FileReport) -> dict[str, Any]:
    """Return one stored file."""
    name, _, value = file.checksum.partition(":")
    told = {
        "guid": file.guid,
        "fsize": file.size,
        "md5sum" if name == "md5" else name: value,
        "surl": file.surl,
        "endpoint": file.rse,
        "nevents": file.events,
    }
    return {word: value for word, value in told.items() if value not in (None, "")}


def moment(seconds: float | None) -> str:
    """Return a wall time in UTC."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def joined(separator: str, parts: list[str], longest: int) -> str:
    """Return as many of the parts as there is room for."""
    text = separator.join(parts)
    return text if len(text) <= longest else text[: longest + 1].rpartition(separator)[0]


def clean(text: str) -> str:
    """Return a text that any database can hold: no NUL, nothing that is not UTF-8."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode()


# -- what is got -------------------------------------------------------------------------------------------------------

TEXTS = {
    "name": "jobName", "label": "prodSourceLabel", "transformation": "transformation",
    "resource_type": "resource_type", "processing_type": "processingType", "user": "prodUserID", "release": "swRelease",
    "home_package": "homepackage", "platform": "cmtConfig", "transfer_type": "transferType",
    "container_image": "container_name",
}  # fmt: skip
NUMBERS = {
    "task_id": "taskID", "jobset_id": "jobsetID", "core_count": "coreCount", "memory_mb": "minRamCount",
    "disk_mb": "maxDiskCount", "max_cpu_seconds": "maxCpuCount", "max_wall_seconds": "maxWalltime",
    "priority": "currentPriority",
}  # fmt: skip
STEPS = ("preprocess", "postprocess", "coprocess")
INPUTS = {
    "guid": "GUID", "size": "fsize", "checksum": "checksum", "scope": "scopeIn", "dataset": "realDatasetsIn",
    "rse": "ddmEndPointIn", "token": "prodDBlockToken",
}  # fmt: skip
OTHERS = {
    "PandaID", "attemptNr", "jobPars", "inFiles", "outFiles", "scopeOut", "realDatasets", "ddmEndPointOut", "logFile",
    "logGUID", "scopeLog", "allowNoOutput", "loopingCheck", "debug", "containerOptions", "writeToFile",
}  # fmt: skip
KNOWN = {*TEXTS.values(), *NUMBERS.values(), *STEPS, *INPUTS.values(), *OTHERS}
CHECKSUM = re.compile(r"(ad|adler32):([0-9a-f]{8})|(md|md5):([0-9a-f]{32})")
DEFAULTS = {item.name: item.default for item in fields(Job)}


def acquired(told: Mapping[str, Any]) -> Acquired:
    """Return a job, or what is wrong with it: it is then reported as failed, and nothing of it is run."""
    # YOUR CODE: the description of a job in your protocol
    description = told.get("description")
    words: Mapping[str, Any] = description if isinstance(description, dict) else {}
    log = None
    try:
        log = log_of(words)
        return job_of(words, told, log)
    except (ValueError, TypeError, AttributeError) as error:
        return BadJob(
            id=whole(words.get("PandaID")) or 0,
            attempt=whole(words.get("attemptNr")),
            reason=" ".join(f"the job's description cannot be used: {error}".split()),
            error_code=PilotErrorCode.CONVERSIONFAILURE,
            log=log,
        )


def job_of(words: Mapping[str, Any], told: Mapping[str, Any], log: OutputFile | None) -> Job:
    """Return the job; raises `ValueError`, or what comes of words of another type, if there is none in it."""
    values: dict[str, Any] = {field: text(words.get(word)) for field, word in TEXTS.items()}
    values |= {field: number(words, word, DEFAULTS[field]) for field, word in NUMBERS.items()}
    if not values["transformation"]:
        raise ValueError("transformation: there is no program to run")
    steps: dict[str, Any] = {
        name: Step(command=words[name]["command"], arguments=words[name]["args"]) for name in STEPS if words.get(name)
    }
    lists = [entry.partition(":") for entry in split(words.get("writeToFile"), "^")]
    return Job(
        id=int(words["PandaID"]) if "PandaID" in words else fail("PandaID: is missing"),
        attempt=number(words, "attemptNr", None),
        parameters=str(words.get("jobPars") or ""),
        inputs=inputs_of(words),
        outputs=outputs_of(words, log),
        log=log,
        looping_check=str(words.get("loopingCheck", True)) != "False",
        debug=str(words.get("debug")) == "True",
        container_options=dict(words.get("containerOptions") or {}),
        input_lists={name: tuple(lfns.split(",")) for name, _, lfns in lists},
        secrets=dict(told.get("secrets") or {}),
        pilot_secrets=dict(told.get("pilot_secrets") or {}),
        extra={word: value for word, value in words.items() if word not in KNOWN},
        **steps,
        **values,
    )


def inputs_of(words: Mapping[str, Any]) -> tuple[InputFile, ...]:
    """Return the input files, of which the description has lists."""
    lfns = split(words.get("inFiles"))
    columns: dict[str, list[Any]] = {
        field: split(words.get(word)) or [""] * len(lfns) for field, word in INPUTS.items()
    }
    for field, column in columns.items():
        if len(column) != len(lfns):
            raise ValueError(f"{INPUTS[field]}: {len(column)} values for {len(lfns)} files")
    columns["size"] = [int(size) if text(size) else None for size in columns["size"]]
    columns["checksum"] = [checksum(value) for value in columns["checksum"]]
    others = [field for field in INPUTS if field not in {"size", "checksum"}]
    columns |= {field: [text(value) for value in columns[field]] for field in others}
    return tuple(
        InputFile(lfn=lfn, **{field: column[place] for field, column in columns.items()})
        for place, lfn in enumerate(lfns)
    )


def outputs_of(words: Mapping[str, Any], log: OutputFile | None) -> tuple[OutputFile, ...]:
    """Return the output files, without the log, which is the last of the lists."""
    lfns = split(words.get("outFiles"))
    lfns = [lfn for lfn in lfns if log is None or lfn != log.lfn]
    scopes, datasets, places = (split(words.get(word)) for word in ("scopeOut", "realDatasets", "ddmEndPointOut"))
    if any(column and len(column) < len(lfns) for column in (scopes, datasets, places)):
        raise ValueError("outFiles: has more files than scopeOut, realDatasets or ddmEndPointOut")
    return tuple(
        OutputFile(
            lfn=lfn,
            scope=text(scopes[place] if scopes else ""),
            dataset=text(datasets[place] if datasets else ""),
            rse=text(places[place] if places else ""),
            may_be_missing=lfn in split(words.get("allowNoOutput")),
        )
        for place, lfn in enumerate(lfns)
    )


def log_of(words: Mapping[str, Any]) -> OutputFile | None:
    """Return the log's file, which the server expects even of a job that failed."""
    lfn = text(words.get("logFile"))
    if not lfn:
        return None
    lfns = split(words.get("outFiles"))
    place = lfns.index(lfn) if lfn in lfns else -1
    dataset, rse = (
        text(column[place]) if 0 <= place < len(column) else ""
        for column in (split(words.get("realDatasets")), split(words.get("ddmEndPointOut")))
    )
    return OutputFile(
        lfn=lfn, scope=text(words.get("scopeLog")), guid=text(words.get("logGUID")), dataset=dataset, rse=rse
    )


def text(value: Any) -> str:
    """Return a text; PanDA's word for nothing is NULL."""
    return "" if value in (None, "NULL") else str(value)


def number(words: Mapping[str, Any], word: str, default: Any) -> Any:
    """Return a whole number; raises `ValueError` for anything else."""
    value = text(words.get(word))
    try:
        return int(value) if value else default
    except ValueError:
        raise ValueError(f"{word}: {value!r} is no whole number") from None


def whole(value: Any) -> int | None:
    """Return a whole number if it is one."""
    return int(value) if str(value).isdecimal() else None


def checksum(value: str) -> str:
    """Return a checksum as `name:value`."""
    found = CHECKSUM.fullmatch(text(value).lower())
    if not found:
        return "" if not text(value) else fail(f"checksum: {value!r} is none")
    return f"adler32:{found[2]}" if found[1] else f"md5:{found[4]}"


def split(value: Any, separator: str = ",") -> list[str]:
    """Return the parts of a list in a text."""
    return str(value).split(separator) if value not in (None, "", "NULL") else []


def fail(reason: str) -> Any:
    """Raise `ValueError`."""
    raise ValueError(reason)
