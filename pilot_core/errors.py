"""What can go wrong, by class: the class decides what happens next, the text is for the reader.

`HandledError` is one line to the user; any exception outside this tree is a bug. The transfer errors drive retry
and fallback (see `pilot_core.staging`). Every error carries the PanDA pilot error code it is reported with; the
numbers are those of PanDA Pilot 3 (`pilot/common/errorcodes.py`, 3.11.5.1), which PanDA's monitor knows.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "AuthError",
    "BackendUnavailable",
    "BadInput",
    "Cancelled",
    "ChecksumMismatch",
    "CommunicationError",
    "ConfigError",
    "ExecutorError",
    "HandledError",
    "JobDescriptionError",
    "NoSpace",
    "PilotErrorCode",
    "PluginError",
    "RequestRefused",
    "SizeMismatch",
    "SourceNotFound",
    "TargetExists",
    "TransferError",
    "TransferTimeout",
    "TransientError",
]


class PilotErrorCode(IntEnum):
    """The pilot error codes that this pilot reports, with PanDA's numbers."""

    OK = 0
    GENERALERROR = 1008
    NOLOCALSPACE = 1098
    STAGEINFAILED = 1099
    NOSUCHFILE = 1103
    USERDIRTOOLARGE = 1104
    STDOUTTOOBIG = 1106
    SETUPFAILURE = 1110
    QUEUEDATA = 1116
    OUTPUTFILETOOLARGE = 1124
    STAGEOUTFAILED = 1137
    PUTMD5MISMATCH = 1141
    PANDAKILL = 1144
    GETMD5MISMATCH = 1145
    TRFDOWNLOADFAILURE = 1149
    LOOPINGJOB = 1150
    STAGEINTIMEOUT = 1151
    STAGEOUTTIMEOUT = 1152
    MISSINGOUTPUTFILE = 1165
    GETADMISMATCH = 1171
    PUTADMISMATCH = 1172
    MKDIR = 1199
    KILLSIGNAL = 1200
    SIGTERM = 1201
    SIGQUIT = 1202
    SIGSEGV = 1203
    SIGXCPU = 1204
    USERKILL = 1205
    SIGBUS = 1206
    SIGUSR1 = 1207
    SIGINT = 1208
    PAYLOADOUTOFMEMORY = 1212
    REACHEDMAXTIME = 1213
    PAYLOADEXCEEDMAXMEM = 1235
    CHKSUMNOTSUP = 1242
    NOTIMPLEMENTED = 1300
    UNKNOWNEXCEPTION = 1301
    CONVERSIONFAILURE = 1302
    FILEHANDLINGFAILURE = 1303
    PAYLOADEXECUTIONFAILURE = 1305
    PAYLOADEXECUTIONEXCEPTION = 1310
    NOTDEFINED = 1311
    NOTSAMELENGTH = 1312
    NOSTORAGEPROTOCOL = 1313
    COMMUNICATIONFAILURE = 1318
    INTERNALPILOTPROBLEM = 1319
    LOGFILECREATIONFAILURE = 1320
    RUCIOLISTREPLICASFAILED = 1322
    SERVICENOTAVAILABLE = 1324
    NOREPLICAS = 1326
    PAYLOADSIGSEGV = 1328
    MISSINGINPUTFILE = 1331
    NOREMOTESPACE = 1333
    STAGEINAUTHENTICATIONFAILURE = 1338
    BADQUEUECONFIGURATION = 1341
    RESOURCEUNAVAILABLE = 1344
    TRANSFORMNOTFOUND = 1346
    STATFILEPROBLEM = 1352
    VOMSPROXYABOUTTOEXPIRE = 1370
    BADOUTPUTFILENAME = 1371
    CERTIFICATEHASEXPIRED = 1373
    PREEMPTION = 1379
    STAGEOUTAUTHENTICATIONFAILURE = 1383


class HandledError(Exception):
    """Something the user or the site can act on: one line that says what, where and what to do next."""

    exit_code = 1
    """The process's exit code when this ends a command."""
    error_code = PilotErrorCode.GENERALERROR
    """The PanDA pilot error code when this ends a job."""

    def __init__(self, message: str, *, error_code: PilotErrorCode | None = None) -> None:
        super().__init__(message)
        if error_code is not None:
            self.error_code = error_code


class BadInput(HandledError):
    """Wrong command line or argument."""

    exit_code = 2


class ConfigError(HandledError):
    """Wrong or missing configuration: file, environment or option, named with its path."""

    exit_code = 2
    error_code = PilotErrorCode.BADQUEUECONFIGURATION


class PluginError(HandledError):
    """A plugin that is missing, broken or ambiguous, or a provider that failed in a way it must not."""

    exit_code = 3
    error_code = PilotErrorCode.INTERNALPILOTPROBLEM


class JobDescriptionError(HandledError):
    """A job description that cannot be understood or asks for what this pilot does not have."""

    error_code = PilotErrorCode.CONVERSIONFAILURE


class ExecutorError(HandledError):
    """The executor itself failed; not the payload."""

    error_code = PilotErrorCode.PAYLOADEXECUTIONEXCEPTION


class CommunicationError(HandledError):
    """The server could not be reached or did not answer sensibly within the retry budget."""

    exit_code = 4
    error_code = PilotErrorCode.COMMUNICATIONFAILURE


class RequestRefused(CommunicationError):
    """The server understood and refused: repeating the same request cannot help."""


class Cancelled(HandledError):
    """The work was called off; the message is the reason."""

    error_code = PilotErrorCode.KILLSIGNAL


class AuthError(HandledError):
    """A credential is missing, expired or not accepted."""

    exit_code = 5
    error_code = PilotErrorCode.CERTIFICATEHASEXPIRED


class TransferError(HandledError):
    """A file could not be moved. Raise a subclass: its class says what is worth trying next."""

    error_code = PilotErrorCode.STAGEINFAILED


class SourceNotFound(TransferError):
    """The file is not there: try the next replica."""

    error_code = PilotErrorCode.MISSINGINPUTFILE


class TargetExists(TransferError):
    """Something is at the place already that must not be replaced: try the next place."""

    error_code = PilotErrorCode.STAGEOUTFAILED


class BackendUnavailable(TransferError):
    """This backend cannot work here (no binary, no such service): try the next backend."""

    error_code = PilotErrorCode.SERVICENOTAVAILABLE


class TransientError(TransferError):
    """May well work later: back off, try again, then the next.

    `retry_after` is the pause in seconds that the storage asked for, if it did.
    """

    def __init__(
        self, message: str, *, retry_after: float | None = None, error_code: PilotErrorCode | None = None
    ) -> None:
        super().__init__(message, error_code=error_code)
        self.retry_after = retry_after


class TransferTimeout(TransferError):
    """Took longer than allowed: back off, try again, then the next."""

    error_code = PilotErrorCode.STAGEINTIMEOUT


class ChecksumMismatch(TransferError):
    """The bytes are not those of the catalogue: remove them, try the next replica."""

    error_code = PilotErrorCode.GETADMISMATCH


class SizeMismatch(ChecksumMismatch):
    """The number of bytes is not that of the catalogue: as a wrong checksum."""


class NoSpace(TransferError):
    """The target is full: stop."""

    error_code = PilotErrorCode.NOLOCALSPACE
