"""A job as the protocol tells it, from PanDA's words, in which the development server keeps its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["job_told"]

TEXTS = {
    "name": "jobName", "label": "prodSourceLabel", "program": "transformation", "processing_type": "processingType",
    "user": "prodUserID", "release": "swRelease", "home_package": "homepackage", "platform": "cmtConfig",
    "transfer_type": "transferType",
}  # fmt: skip
NUMBERS = {"attempt": "attemptNr", "task_id": "taskID", "jobset_id": "jobsetID", "priority": "currentPriority"}
RESOURCES = {
    "cores": "coreCount", "memory_mb": "minRamCount", "disk_mb": "maxDiskCount", "cpu_seconds": "maxCpuCount",
    "wall_seconds": "maxWalltime",
}  # fmt: skip
STEPS = ("preprocess", "postprocess", "coprocess")
INPUTS = {
    "guid": "GUID", "size": "fsize", "checksum": "checksum", "scope": "scopeIn", "dataset": "realDatasetsIn",
    "rse": "ddmEndPointIn", "token": "prodDBlockToken",
}  # fmt: skip
OTHERS = {
    "PandaID", "jobPars", "resource_type", "container_name", "inFiles", "outFiles", "scopeOut", "realDatasets",
    "ddmEndPointOut", "logFile", "logGUID", "scopeLog", "allowNoOutput", "loopingCheck", "debug", "containerOptions",
    "writeToFile",
}  # fmt: skip
KNOWN = {*TEXTS.values(), *NUMBERS.values(), *RESOURCES.values(), *STEPS, *INPUTS.values(), *OTHERS}


def job_told(words: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job. Of one that makes no sense, what is known and why it is unusable."""
    told: dict[str, Any] = {"job_id": words.get("PandaID"), "attempt": number(words.get("attemptNr"))}
    try:
        log = log_told(words)
        told["log"] = log
        inputs, outputs = inputs_told(words), outputs_told(words, log)
    except ValueError as error:
        return {**told, "unusable": str(error)}
    lists = [entry.partition(":") for entry in split(words.get("writeToFile"), "^")]
    return {
        **told,
        **{name: text(words.get(word)) for name, word in TEXTS.items()},
        **{name: number(words.get(word)) for name, word in NUMBERS.items()},
        "arguments": str(words.get("jobPars") or ""),
        "inputs": inputs,
        "outputs": outputs,
        "resources": {
            **{name: number(words.get(word)) for name, word in RESOURCES.items()},
            "type": text(words.get("resource_type")),
        },
        "steps": {
            name: {"command": words[name].get("command"), "arguments": words[name].get("args")}
            for name in STEPS
            if isinstance(words.get(name), dict)
        },
        "container": {"image": text(words.get("container_name")), "options": words.get("containerOptions") or {}},
        "input_lists": {name: lfns.split(",") for name, _, lfns in lists},
        "looping_check": str(words.get("loopingCheck")) != "False",
        "debug": str(words.get("debug")) == "True",
        "extra": {word: value for word, value in words.items() if word not in KNOWN},
    }


def inputs_told(words: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the input files, of which the store has lists; raises `ValueError` if these do not fit each other."""
    lfns = split(words.get("inFiles"))
    files: list[dict[str, Any]] = [{"lfn": lfn} for lfn in lfns]
    for field, word in INPUTS.items():
        column = split(words.get(word)) or [""] * len(lfns)
        if len(column) != len(lfns):
            raise ValueError(f"{word}: {len(column)} values for {len(lfns)} files")
        for file, value in zip(files, column, strict=True):
            file[field] = number(value) if field == "size" else checksum(value) if field == "checksum" else text(value)
    return files


def outputs_told(words: Mapping[str, Any], log: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the output files, without the log, which is the last of the lists."""
    lfns = [lfn for lfn in split(words.get("outFiles")) if log is None or lfn != log["lfn"]]
    columns = {"scope": "scopeOut", "dataset": "realDatasets", "rse": "ddmEndPointOut"}
    files: list[dict[str, Any]] = [
        {"lfn": lfn, "may_be_missing": lfn in split(words.get("allowNoOutput"))} for lfn in lfns
    ]
    for field, word in columns.items():
        column = split(words.get(word))
        if column and len(column) < len(lfns):
            raise ValueError(f"{word}: {len(column)} values for {len(lfns)} files")
        for file, value in zip(files, column, strict=False):
            file[field] = text(value)
    return files


def log_told(words: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the log's file, if there is one."""
    lfn, lfns = text(words.get("logFile")), split(words.get("outFiles"))
    if not lfn:
        return None
    told = {"lfn": lfn, "scope": text(words.get("scopeLog")), "guid": text(words.get("logGUID"))}
    place = lfns.index(lfn) if lfn in lfns else len(lfns)
    for field, word in {"dataset": "realDatasets", "rse": "ddmEndPointOut"}.items():
        column = split(words.get(word))
        told[field] = text(column[place]) if place < len(column) else ""
    return told


def text(value: Any) -> str:
    """Return a text; PanDA's word for nothing is NULL."""
    return "" if value in (None, "NULL") else str(value)


def number(value: Any) -> Any:
    """Return a whole number, None for nothing; what is none goes out as it is, and the client says so."""
    plain = text(value)
    return int(plain) if plain.isascii() and plain.removeprefix("-").isdigit() and len(plain) < 20 else plain or None


def checksum(value: Any) -> str:
    """Return a checksum with its whole name."""
    name, _, digits = text(value).lower().partition(":")
    return f"{ {'ad': 'adler32', 'md': 'md5'}.get(name, name) }:{digits}" if digits else name


def split(value: Any, separator: str = ",") -> list[str]:
    """Return the parts of a list in a text."""
    return str(value).split(separator) if value not in (None, "", "NULL") else []
