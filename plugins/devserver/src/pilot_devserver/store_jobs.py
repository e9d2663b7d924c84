"""A job as it is submitted, and the description that PanDA's server makes of it for the pilot.

Fields, their order, the string `NULL` for what is not set and the encoding of lists are those observed in the answers
of panda-server 1.0.4 and 0.8.1 (`jobdispatcher/Protocol.py`).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FileSpec", "JobSpec", "describe", "flags", "is_debug", "user_name"]

_STEPS = ("<MULTI_STEP_EXEC>", "</MULTI_STEP_EXEC>")
_FLAGS_OF_FIELDS = {
    "putLogToOS": "po",
    "noExecStrCnv": "nc",
    "inFilePosEvtNum": "if",
    "usePrefetcher": "up",
}


@dataclass(frozen=True, kw_only=True)
class FileSpec:
    """One file of a job, with PanDA's attributes."""

    lfn: str
    kind: str = "input"
    """input, output or log."""
    guid: str = ""
    """Empty = made when the job is submitted (inputs and the log; the pilot makes those of outputs)."""
    size: int | None = None
    """Bytes; inputs only."""
    checksum: str = "NULL"
    """`ad:` and eight hexadecimal digits, or `md5:` and 32; inputs only."""
    scope: str = "NULL"
    dataset: str = "NULL"
    endpoint: str = ""
    """The storage endpoint (RSE) it lies at or goes to."""
    block: str = "NULL"
    """`prodDBlock` of an input, `destinationDBlock` of an output."""
    token: str = "NULL"  # noqa: S105  (a storage token: the name of a space)
    """`prodDBlockToken` of an input, `destinationDBlockToken` of an output."""
    dispatch_block: str = "NULL"
    dispatch_token: str = "NULL"  # noqa: S105
    """Comma-separated; `an` in it allows the payload not to write this output."""
    destination: str = "NULL"
    """`destinationSE`; outputs only."""

    @property
    def may_be_missing(self) -> bool:
        """Whether the job finishes without this output."""
        return "an" in self.dispatch_token.split(",")


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One job to be run; None stands for what PanDA calls `NULL`."""

    queue: str
    transformation: str | None = None
    parameters: str = ""
    """Arguments; may end with `<MULTI_STEP_EXEC>{json}</MULTI_STEP_EXEC>`."""
    label: str = "managed"
    files: tuple[FileSpec, ...] = ()
    user: str = "Lab User"
    """A DN or a name."""
    name: str | None = None
    definition_id: int = 0
    attempt: int = 1
    priority: int = 1000
    special: str = ""
    """`specialHandling`: comma-separated flags (dm, ej, lc, nc, us, wf, ao:on ...)."""
    software_release: str | None = None
    home_package: str | None = None
    cloud: str | None = None
    destination: str | None = "local"
    cpu_seconds: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    walltime_seconds: int | None = None
    platform: str | None = None
    processing_type: str | None = None
    transfer_type: str | None = None
    source_site: str | None = None
    task_id: int | None = None
    cores: int | None = None
    jobset_id: int | None = None
    request_id: int | None = None
    nucleus: str | None = None
    resource_type: str | None = "Undefined"
    container: str | None = None
    io_intensity: int | None = None
    io_intensity_unit: str | None = None
    background: bool = False
    """Whether a pilot that asks for background jobs gets it."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the description, put at its end."""


def flags(special: str | None) -> list[str]:
    """Return the flags of `specialHandling`."""
    return special.split(",") if special else []


def is_debug(special: str | None) -> bool:
    """Say whether a job is in debug mode."""
    return bool({"dm", "debug"} & set(flags(special)))


def user_name(identity: str) -> str:
    """Return the name by which PanDA matches users: the last CN of a DN that is a name, without digits and brackets.

    Raises nothing: what is no DN is returned without digits and brackets.
    """
    common = re.findall(r"/CN=([^/]+)", identity)
    names = [cn for cn in common if not re.fullmatch(r"\d+|proxy|limited proxy|(Robot|nickname):.*", cn)]
    if names:
        identity = names[-1]
    elif not identity.startswith("/"):
        identity = identity.partition("/CN=")[0]
    return re.sub(r"[ _][0-9]+|[()']", "", identity)


def describe(spec: JobSpec, job_id: int, special: str | None = None) -> dict[str, Any]:
    """Return the job as it is dispatched. `special` replaces the specification's own flags, as debug mode does."""
    special = spec.special if special is None else special
    told = set(flags(special))
    job: dict[str, Any] = {"PandaID": job_id, "prodSourceLabel": spec.label}
    job |= {"swRelease": _null(spec.software_release), "homepackage": _null(spec.home_package)}
    job |= {"transformation": _null(spec.transformation), "jobName": _null(spec.name)}
    job |= {"jobDefinitionID": spec.definition_id, "cloud": _null(spec.cloud)}
    inputs, outputs = _inputs(spec), [file for file in spec.files if file.kind != "input"]
    job |= _file_names(inputs, outputs)
    parameters, steps = _split_steps(spec.parameters)
    job["jobPars"] = parameters
    job |= steps or {}
    if "ej" in told:
        job["jobPars"] = base64.b64encode(parameters.encode()).decode()
    job["attemptNr"] = spec.attempt
    job |= _file_attributes(inputs, outputs)
    job |= _requirements(spec, has_steps=steps is not None)
    job |= _options(spec, special, told, inputs, outputs)
    return job | spec.extra


def _null(value: Any) -> Any:
    return "NULL" if value is None else value


def _join(files: Sequence[FileSpec], pick: Callable[[FileSpec], Any]) -> str:
    return ",".join(str(_null(pick(file))) for file in files)


def _inputs(spec: JobSpec) -> list[FileSpec]:
    """Return the inputs; a name that comes twice is handed out once."""
    unique: dict[str, FileSpec] = {}
    for file in spec.files:
        if file.kind == "input":
            unique.setdefault(file.lfn, file)
    return list(unique.values())


def _log(outputs: Sequence[FileSpec]) -> FileSpec:
    logs = [file for file in outputs if file.kind == "log"]
    return logs[-1] if logs else FileSpec(lfn="", kind="log", scope="")


def _destination_token(file: FileSpec) -> str:
    return re.sub("^ddd:", "dst:", file.token.split(",")[0])


def _file_names(inputs: Sequence[FileSpec], outputs: Sequence[FileSpec]) -> dict[str, Any]:
    return {
        "inFiles": _join(inputs, lambda file: file.lfn),
        "dispatchDblock": _join(inputs, lambda file: file.dispatch_block),
        "dispatchDBlockToken": _join(inputs, lambda file: file.dispatch_token),
        "dispatchDBlockTokenForOut": _join(outputs, lambda file: file.dispatch_token),
        "outFiles": _join(outputs, lambda file: file.lfn),
        "destinationDblock": _join(outputs, lambda file: file.block),
        "destinationDBlockToken": _join(outputs, _destination_token),
        "prodDBlocks": _join(inputs, lambda file: file.block),
        "prodDBlockToken": _join(inputs, lambda file: file.token),
        "realDatasets": _join(outputs, lambda file: file.dataset),
        "realDatasetsIn": _join(inputs, lambda file: file.dataset),
        "fileDestinationSE": _join(outputs, lambda file: file.destination),
        "logFile": _log(outputs).lfn,
        "logGUID": _log(outputs).guid,
    }


def _file_attributes(inputs: Sequence[FileSpec], outputs: Sequence[FileSpec]) -> dict[str, Any]:
    return {
        "GUID": _join(inputs, lambda file: file.guid),
        "checksum": _join(inputs, lambda file: file.checksum),
        "fsize": _join(inputs, lambda file: file.size),
        "scopeIn": _join(inputs, lambda file: file.scope),
        "scopeOut": _join([file for file in outputs if file.kind == "output"], lambda file: file.scope),
        "scopeLog": _log(outputs).scope,
        "ddmEndPointIn": _join(inputs, lambda file: file.endpoint),
        "ddmEndPointOut": _join(outputs, lambda file: file.endpoint),
    }


def _requirements(spec: JobSpec, *, has_steps: bool) -> dict[str, Any]:
    return {
        "destinationSE": _null(spec.destination),
        "prodUserID": spec.user,
        "maxCpuCount": spec.cpu_seconds,
        "minRamCount": spec.memory_mb,
        "maxDiskCount": spec.disk_mb,
        "cmtConfig": "" if has_steps and spec.platform is None else _null(spec.platform),
        "processingType": _null(spec.processing_type),
        "transferType": _null(spec.transfer_type),
        "sourceSite": _null(spec.source_site),
        "currentPriority": spec.priority,
        "taskID": _null(spec.task_id),
        "coreCount": 1 if spec.cores is None else spec.cores,
        "jobsetID": _null(spec.jobset_id),
        "reqID": _null(spec.request_id),
        "nucleus": _null(spec.nucleus),
        "maxWalltime": _null(spec.walltime_seconds),
        "resource_type": _null(spec.resource_type),
    }


def _options(
    spec: JobSpec, special: str, told: set[str], inputs: Sequence[FileSpec], outputs: Sequence[FileSpec]
) -> dict[str, Any]:
    job: dict[str, Any] = {}
    if "lc" in told:
        job["loopingCheck"] = False
    if is_debug(special):
        job["debug"] = "True"
    if "wf" in told:
        job["writeToFile"] = _input_lists(inputs)
    missing = [file.lfn for file in outputs if file.may_be_missing]
    if missing:
        job["allowNoOutput"] = ",".join(missing)
    alternatives = [flag for flag in flags(special) if flag.startswith("ao:")]
    if alternatives:
        job["altStageOut"] = alternatives[0].rpartition(":")[2]
    job |= {name: "True" for name, flag in _FLAGS_OF_FIELDS.items() if flag in told}
    if spec.container is not None:
        job["container_name"] = spec.container
    job |= {"ioIntensity": spec.io_intensity, "ioIntensityUnit": spec.io_intensity_unit}
    job |= {name: "True" for name, flag in (("isHPO", "ho"), ("onSiteMerging", "om")) if flag in told}
    return job


def _input_lists(inputs: Sequence[FileSpec]) -> str:
    """Return `writeToFile`: the inputs of each dataset, for a list file that the payload reads."""
    lists: dict[str, list[str]] = {}
    for file in inputs:
        lists.setdefault(file.dataset, []).append(file.lfn)
    return "^".join(
        f"tmpin_{dataset.removesuffix('/').rpartition(':')[2]}:{','.join(lfns)}" for dataset, lfns in lists.items()
    )


def _split_steps(parameters: str) -> tuple[str, dict[str, Any] | None]:
    """Take `<MULTI_STEP_EXEC>` out of the parameters; what cannot be read stays in them."""
    opening, closing = _STEPS
    if opening not in parameters or closing not in parameters or parameters.count(opening) != 1:
        return parameters, None
    before, _, rest = parameters.partition(opening)
    try:
        steps = json.loads(rest.split(closing)[0])
    except ValueError:
        return parameters, None
    return (before, steps) if isinstance(steps, dict) else (parameters, None)
