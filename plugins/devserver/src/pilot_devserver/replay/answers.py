"""Jobs as answers show them, turned back into the specifications that they were submitted with.

The description is rebuilt by the server from the specification, so that a wrong encoding shows as a difference.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from pilot_devserver.store_jobs import FileSpec, JobSpec

if TYPE_CHECKING:
    from pilot_devserver.replay.recording import Exchange

__all__ = ["pilot_secrets", "shown_jobs", "specification"]

_NUMBERS = frozenset({"PandaID", "jobDefinitionID", "attemptNr", "maxCpuCount", "minRamCount", "maxDiskCount"}) | {
    "currentPriority",
    "taskID",
    "coreCount",
    "jobsetID",
    "reqID",
    "maxWalltime",
    "nSent",
    "ioIntensity",
}
_STEPS = frozenset({"preprocess", "postprocess", "coprocess", "containerOptions"})
_FLAGS = {"noExecStrCnv": "nc", "putLogToOS": "po", "inFilePosEvtNum": "if", "usePrefetcher": "up"} | {
    "debug": "dm",
    "writeToFile": "wf",
    "secrets": "us",
    "isHPO": "ho",
    "onSiteMerging": "om",
}


def shown_jobs(exchange: Exchange) -> list[dict[str, Any]]:
    """Return the job descriptions in an answer, with typed values whatever its form was."""
    if "PandaID" not in exchange.response:
        return []
    try:
        content: Any = json.loads(exchange.response)
    except ValueError:
        content = dict(parse_qsl(exchange.response, keep_blank_values=True))
    data = content.get("data") if isinstance(content.get("data"), dict) else content
    jobs = data.get("jobs", [data])
    jobs = json.loads(jobs) if isinstance(jobs, str) else jobs
    return [_typed(job) for job in jobs if isinstance(job, dict) and "PandaID" in job]


def _typed(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description with numbers as numbers; a form carries text only."""
    typed: dict[str, Any] = {}
    for name, value in job.items():
        if value == "None":
            typed[name] = None
        elif name in _NUMBERS and isinstance(value, str) and value.lstrip("-").isdigit():
            typed[name] = int(value)
        else:
            typed[name] = value
    return typed


def pilot_secrets(exchange: Exchange) -> dict[str, Any]:
    """Return the pilots' secrets that an answer shows."""
    if "pilotSecrets" not in exchange.response:
        return {}
    try:
        content: Any = json.loads(exchange.response)
    except ValueError:
        content = dict(parse_qsl(exchange.response))
    data = content.get("data", content)
    holders = data.get("jobs", [data]) if isinstance(data, dict) else []
    texts = [holder["pilotSecrets"] for holder in holders if "pilotSecrets" in holder]
    secrets: dict[str, Any] = json.loads(texts[0]) if texts else {}
    return secrets


def specification(job: Mapping[str, Any], queue: str, *, packed_parameters: bool) -> JobSpec:
    """Return what a described job was submitted with.

    `packed_parameters` says that its parameters were sent in Base64, which the description itself does not tell.
    """
    parameters = str(job["jobPars"])
    if packed_parameters:
        parameters = base64.b64decode(parameters).decode()
    steps = {name: job[name] for name in job if name in _STEPS}
    if steps:
        parameters += f"<MULTI_STEP_EXEC>{json.dumps(steps)}</MULTI_STEP_EXEC>"
    return JobSpec(
        queue=queue,
        transformation=_known(job["transformation"]),
        parameters=parameters,
        label=job["prodSourceLabel"],
        files=(*_inputs(job), *_outputs(job)),
        user=job["prodUserID"],
        name=_known(job["jobName"]),
        definition_id=job["jobDefinitionID"],
        attempt=job["attemptNr"],
        priority=job["currentPriority"],
        special=_special(job, packed_parameters=packed_parameters),
        software_release=_known(job["swRelease"]),
        home_package=_known(job["homepackage"]),
        cloud=_known(job["cloud"]),
        destination=_known(job["destinationSE"]),
        cpu_seconds=job["maxCpuCount"],
        memory_mb=job["minRamCount"],
        disk_mb=job["maxDiskCount"],
        walltime_seconds=_known(job["maxWalltime"]),
        platform=_known(job["cmtConfig"]) or None,
        processing_type=_known(job["processingType"]),
        transfer_type=_known(job["transferType"]),
        source_site=_known(job["sourceSite"]),
        task_id=_known(job["taskID"]),
        cores=None if job["coreCount"] == 1 else job["coreCount"],
        jobset_id=_known(job["jobsetID"]),
        request_id=_known(job["reqID"]),
        nucleus=_known(job["nucleus"]),
        resource_type=_known(job["resource_type"]),
        container=job.get("container_name"),
        io_intensity=job["ioIntensity"],
        io_intensity_unit=job["ioIntensityUnit"],
    )


def _known(value: Any) -> Any:
    return None if value == "NULL" else value


def _special(job: Mapping[str, Any], *, packed_parameters: bool) -> str:
    """Return `specialHandling`."""
    flags = [flag for name, flag in _FLAGS.items() if name in job]
    if packed_parameters:
        flags.append("ej")
    if job.get("loopingCheck") in (False, "False"):
        flags.append("lc")
    if "altStageOut" in job:
        flags.append(f"ao:{job['altStageOut']}")
    return ",".join(flags)


def _columns(job: Mapping[str, Any], length: int, *names: str) -> list[list[str]]:
    """Return lists of a job that belong together, each as long as the first; a shorter one is filled up."""
    columns = [str(job[name]).split(",") if job[name] != "" else [] for name in names]
    return [[*column, *[""] * (length - len(column))] for column in columns]


def _inputs(job: Mapping[str, Any]) -> list[FileSpec]:
    names = job["inFiles"].split(",") if job["inFiles"] else []
    wanted = ("GUID", "fsize", "checksum", "scopeIn", "realDatasetsIn", "ddmEndPointIn", "prodDBlocks")
    more = ("prodDBlockToken", "dispatchDblock", "dispatchDBlockToken")
    rows = zip(names, *_columns(job, len(names), *wanted, *more), strict=False)
    return [
        FileSpec(
            lfn=lfn,
            guid=guid,
            size=int(size) if size.isdigit() else None,
            checksum=checksum,
            scope=scope,
            dataset=dataset,
            endpoint=endpoint,
            block=block,
            token=token,
            dispatch_block=dispatch_block,
            dispatch_token=dispatch_token,
        )
        for lfn, guid, size, checksum, scope, dataset, endpoint, block, token, dispatch_block, dispatch_token in rows
    ]


def _outputs(job: Mapping[str, Any]) -> list[FileSpec]:
    names = job["outFiles"].split(",") if job["outFiles"] else []
    wanted = ("realDatasets", "ddmEndPointOut", "destinationDblock", "destinationDBlockToken", "fileDestinationSE")
    rows = zip(names, *_columns(job, len(names), *wanted, "dispatchDBlockTokenForOut"), strict=False)
    scopes = iter(str(job["scopeOut"]).split(","))
    files = []
    for lfn, dataset, endpoint, block, token, destination, dispatch_token in rows:
        is_log = lfn == job["logFile"]
        files.append(
            FileSpec(
                lfn=lfn,
                kind="log" if is_log else "output",
                guid=job["logGUID"] if is_log else "",
                scope=job["scopeLog"] if is_log else next(scopes, ""),
                dataset=dataset,
                endpoint=endpoint,
                block=block,
                token=token,
                destination=destination,
                dispatch_token=dispatch_token,
            )
        )
    return files
