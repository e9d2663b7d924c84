"""What plugin authors import: the hook marker, the descriptors, each task's protocol, the job, the errors.

A name's module is imported when the name is first asked for: `import pilot_core` itself costs next to nothing, and a
plugin pays only for what it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilot_core._version import __version__

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.catalog import HearsTransfers, NamesDestinations, ReplicaCatalog, SeenFromQueue
    from pilot_core.api.checksums import Checksum, Digest
    from pilot_core.api.clock import Clock, Event, SystemClock, Waitable
    from pilot_core.api.communicator import (
        Acquired,
        Communicator,
        FileReport,
        JobReader,
        JobRequest,
        JobStatus,
        JobUpdate,
        ServerAnswer,
        WorkerNode,
        WorkerStatus,
    )
    from pilot_core.api.credential import BearerToken, ClientCertificate, Credential, CredentialSource
    from pilot_core.api.disk_use import DiskUse
    from pilot_core.api.events import Diagnosis, FinishedPayload, JobState, Outcome, PayloadCommand, TaskInfo
    from pilot_core.api.executor import (
        Executor,
        FindsPayloads,
        OnThisMachine,
        Payload,
        PayloadHandle,
        PayloadResult,
        PayloadSpec,
    )
    from pilot_core.api.extents import Hole
    from pilot_core.api.job import BadJob, InputFile, Job, OutputFile, Step
    from pilot_core.api.launcher import LaunchedPilot, Launcher, LaunchRequest
    from pilot_core.api.passage import Incoming, Outgoing
    from pilot_core.api.processes import ProcessInfo, ProcessTree
    from pilot_core.api.provider import KINDS, Context, NoSettings, Provider, Stagers
    from pilot_core.api.queue import Queue, QueueSource, Storage, StorageProtocol, deterministic_path
    from pilot_core.api.server import (
        ExplainsRequests,
        FieldProblem,
        Identity,
        JobFilter,
        JobRecord,
        JobStore,
        NamesCalls,
        RequestedCall,
        ServerProtocol,
        ServerRequest,
        ServerResponse,
        StoreUnavailable,
        UpdateOutcome,
    )
    from pilot_core.api.settings import setting
    from pilot_core.api.staging import (
        FetchRequest,
        FileStat,
        Replica,
        StageIn,
        StageOut,
        StagingProgress,
        StoreRequest,
        TransferAttempt,
        TransferProgress,
        TransferResult,
    )
    from pilot_core.api.traffic import Exchange, TrafficListener
    from pilot_core.api.url import shown_url
    from pilot_core.api.watchdog import Violation, Watchdog, Watched
    from pilot_core.builtin.process_executor import process_executor
    from pilot_core.errors import (
        AuthError,
        BackendUnavailable,
        BadInput,
        Cancelled,
        ChecksumMismatch,
        CommunicationError,
        ConfigError,
        ExecutorError,
        HandledError,
        JobDescriptionError,
        NoSpace,
        PilotErrorCode,
        PluginError,
        RequestRefused,
        SizeMismatch,
        SourceNotFound,
        TargetExists,
        TransferError,
        TransferTimeout,
        TransientError,
    )
    from pilot_core.hookspecs import hookimpl

__all__ = [
    "KINDS",
    "Acquired",
    "AuthError",
    "BackendUnavailable",
    "BadInput",
    "BadJob",
    "BearerToken",
    "CancelToken",
    "Cancelled",
    "Checksum",
    "ChecksumMismatch",
    "ClientCertificate",
    "Clock",
    "CommunicationError",
    "Communicator",
    "ConfigError",
    "Context",
    "Credential",
    "CredentialSource",
    "Deadline",
    "Diagnosis",
    "Digest",
    "DiskUse",
    "Event",
    "Exchange",
    "Executor",
    "ExecutorError",
    "ExplainsRequests",
    "FetchRequest",
    "FieldProblem",
    "FileReport",
    "FileStat",
    "FindsPayloads",
    "FinishedPayload",
    "HandledError",
    "HearsTransfers",
    "Hole",
    "Identity",
    "Incoming",
    "InputFile",
    "Job",
    "JobDescriptionError",
    "JobFilter",
    "JobReader",
    "JobRecord",
    "JobRequest",
    "JobState",
    "JobStatus",
    "JobStore",
    "JobUpdate",
    "LaunchRequest",
    "LaunchedPilot",
    "Launcher",
    "NamesCalls",
    "NamesDestinations",
    "NoSettings",
    "NoSpace",
    "OnThisMachine",
    "Outcome",
    "Outgoing",
    "OutputFile",
    "Payload",
    "PayloadCommand",
    "PayloadHandle",
    "PayloadResult",
    "PayloadSpec",
    "PilotErrorCode",
    "PluginError",
    "ProcessInfo",
    "ProcessTree",
    "Provider",
    "Queue",
    "QueueSource",
    "Replica",
    "ReplicaCatalog",
    "RequestRefused",
    "RequestedCall",
    "SeenFromQueue",
    "ServerAnswer",
    "ServerProtocol",
    "ServerRequest",
    "ServerResponse",
    "SizeMismatch",
    "SourceNotFound",
    "StageIn",
    "StageOut",
    "Stagers",
    "StagingProgress",
    "Step",
    "Storage",
    "StorageProtocol",
    "StoreRequest",
    "StoreUnavailable",
    "SystemClock",
    "TargetExists",
    "TaskInfo",
    "TrafficListener",
    "TransferAttempt",
    "TransferError",
    "TransferProgress",
    "TransferResult",
    "TransferTimeout",
    "TransientError",
    "UpdateOutcome",
    "Violation",
    "Waitable",
    "Watchdog",
    "Watched",
    "WorkerNode",
    "WorkerStatus",
    "__version__",
    "deterministic_path",
    "hookimpl",
    "process_executor",
    "setting",
    "shown_url",
]

_HOME = {
    "pilot_core.api.cancel": "CancelToken Deadline",
    "pilot_core.api.catalog": "HearsTransfers NamesDestinations ReplicaCatalog SeenFromQueue",
    "pilot_core.api.checksums": "Checksum Digest",
    "pilot_core.api.clock": "Clock Event SystemClock Waitable",
    "pilot_core.api.communicator": """
        Acquired Communicator FileReport JobReader JobRequest JobStatus JobUpdate ServerAnswer WorkerNode WorkerStatus
    """,
    "pilot_core.api.credential": "BearerToken ClientCertificate Credential CredentialSource",
    "pilot_core.api.disk_use": "DiskUse",
    "pilot_core.api.events": "Diagnosis FinishedPayload JobState Outcome PayloadCommand TaskInfo",
    "pilot_core.api.executor": "Executor FindsPayloads OnThisMachine Payload PayloadHandle PayloadResult PayloadSpec",
    "pilot_core.api.extents": "Hole",
    "pilot_core.api.job": "BadJob InputFile Job OutputFile Step",
    "pilot_core.api.launcher": "LaunchedPilot Launcher LaunchRequest",
    "pilot_core.api.passage": "Incoming Outgoing",
    "pilot_core.api.processes": "ProcessInfo ProcessTree",
    "pilot_core.api.provider": "KINDS Context NoSettings Provider Stagers",
    "pilot_core.api.queue": "Queue QueueSource Storage StorageProtocol deterministic_path",
    "pilot_core.api.server": """
        ExplainsRequests FieldProblem Identity JobFilter JobRecord JobStore NamesCalls RequestedCall ServerProtocol
        ServerRequest ServerResponse StoreUnavailable UpdateOutcome
    """,
    "pilot_core.api.settings": "setting",
    "pilot_core.api.staging": """
        FetchRequest FileStat Replica StageIn StageOut StagingProgress StoreRequest TransferAttempt TransferProgress
        TransferResult
    """,
    "pilot_core.api.traffic": "Exchange TrafficListener",
    "pilot_core.api.url": "shown_url",
    "pilot_core.api.watchdog": "Violation Watchdog Watched",
    "pilot_core.builtin.process_executor": "process_executor",
    "pilot_core.errors": """
        AuthError BackendUnavailable BadInput Cancelled ChecksumMismatch CommunicationError ConfigError
        ExecutorError HandledError JobDescriptionError NoSpace PilotErrorCode PluginError RequestRefused
        SizeMismatch SourceNotFound TargetExists TransferError TransferTimeout TransientError
    """,
    "pilot_core.hookspecs": "hookimpl",
}
"""Where each public name lives, for importing it when it is asked for."""
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import the module that a public name lives in (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
