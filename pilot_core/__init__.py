"""What plugin authors import: the hook marker, the descriptors, each task's protocol, the job, the errors.

Only the standard library and pluggy are imported here, and pluggy only when `hookimpl` is first asked for, so that
`import pilot_core` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilot_core._version import __version__
from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.catalog import ReplicaCatalog
from pilot_core.api.clock import Clock, Event, SystemClock, Waitable
from pilot_core.api.communicator import (
    Acquired,
    Communicator,
    FileReport,
    JobRequest,
    JobStatus,
    JobUpdate,
    ServerAnswer,
    WorkerNode,
    WorkerStatus,
)
from pilot_core.api.credential import BearerToken, ClientCertificate, Credential, CredentialSource
from pilot_core.api.events import Diagnosis, FinishedPayload, JobState, Outcome, PayloadCommand, TaskInfo
from pilot_core.api.executor import Executor, Payload, PayloadHandle, PayloadResult, PayloadSpec
from pilot_core.api.job import BadJob, InputFile, Job, OutputFile, Step
from pilot_core.api.launcher import LaunchedPilot, Launcher, LaunchRequest
from pilot_core.api.provider import KINDS, Context, NoSettings, Provider
from pilot_core.api.queue import Queue, QueueSource, Storage, deterministic_path
from pilot_core.api.server import (
    Identity,
    JobFilter,
    JobRecord,
    JobStore,
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
    StoreRequest,
    TransferAttempt,
    TransferResult,
)
from pilot_core.api.watchdog import Violation, Watchdog, Watched
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
    TransferError,
    TransferTimeout,
    TransientError,
)

if TYPE_CHECKING:
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
    "Event",
    "Executor",
    "ExecutorError",
    "FetchRequest",
    "FileReport",
    "FileStat",
    "FinishedPayload",
    "HandledError",
    "Identity",
    "InputFile",
    "Job",
    "JobDescriptionError",
    "JobFilter",
    "JobRecord",
    "JobRequest",
    "JobState",
    "JobStatus",
    "JobStore",
    "JobUpdate",
    "LaunchRequest",
    "LaunchedPilot",
    "Launcher",
    "NoSettings",
    "NoSpace",
    "Outcome",
    "OutputFile",
    "Payload",
    "PayloadCommand",
    "PayloadHandle",
    "PayloadResult",
    "PayloadSpec",
    "PilotErrorCode",
    "PluginError",
    "Provider",
    "Queue",
    "QueueSource",
    "Replica",
    "ReplicaCatalog",
    "RequestRefused",
    "ServerAnswer",
    "ServerProtocol",
    "ServerRequest",
    "ServerResponse",
    "SizeMismatch",
    "SourceNotFound",
    "StageIn",
    "StageOut",
    "Step",
    "Storage",
    "StoreRequest",
    "StoreUnavailable",
    "SystemClock",
    "TaskInfo",
    "TransferAttempt",
    "TransferError",
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
    "setting",
]


def __getattr__(name: str) -> Any:
    """Import `hookimpl`, and with it pluggy, when it is first asked for."""
    if name == "hookimpl":
        from pilot_core.hookspecs import hookimpl  # noqa: PLC0415

        return hookimpl
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
