"""What a job's description means: from the words of the protocol to pilot-core's neutral `Job`.

The words here are PanDA's, as the development server keeps jobs; a server of yours has its own. What a pilot tells
needs no translation: this protocol takes `JobUpdate` as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pilot_core import BadJob, InputFile, Job, OutputFile, PilotErrorCode, Step

if TYPE_CHECKING:
    from pilot_core import Acquired

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
