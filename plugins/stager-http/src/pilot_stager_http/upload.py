"""One file stored: there whole or not at all, compared afterwards with what the storage says of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pilot_core import (
    Cancelled,
    CancelToken,
    ChecksumMismatch,
    Deadline,
    HandledError,
    Outgoing,
    PilotErrorCode,
    SizeMismatch,
    SourceNotFound,
    TargetExists,
    TransferResult,
    TransferTimeout,
    TransientError,
)
from pilot_core.api.web import WebBody
from pilot_stager_http.digests import WIRE_NAMES, digests
from pilot_stager_http.look import seen
from pilot_stager_http.storage import Limits, Question

if TYPE_CHECKING:
    from pilot_core import Checksum, Clock, StoreRequest
    from pilot_core.api.web import WebAddress, WebAnswer
    from pilot_stager_http.names import RemoteFile
    from pilot_stager_http.settings import Settings
    from pilot_stager_http.storage import Storage

__all__ = ["Upload"]

CLEANING = 5.0
"""Seconds for removing what a failed store may have left."""
CLEANING_AT_ONCE = 0.5
"""Seconds for that when the job was called off, or its time is up: the caller waits a second."""
_MADE = frozenset({200, 201, 202, 204})
_REFUSED = frozenset({400, 401, 403, 404, 405, 409, 411, 412, 413, 417, 501})
"""Statuses with which a storage refuses a PUT before it has taken anything."""
_GONE = frozenset({200, 202, 204, 404, 410})
_CODES = {"adler32": PilotErrorCode.PUTADMISMATCH, "md5": PilotErrorCode.PUTMD5MISMATCH}


class Upload:
    """Stores one file, once."""

    def __init__(
        self,
        storage: Storage,
        file: RemoteFile,
        request: StoreRequest,
        limits: Limits,
        *,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._file = file
        self._request = request
        self._limits = limits
        self._settings = settings
        self._clock = clock
        self._target: WebAddress = file.address
        if settings.temporary_names:
            self._target = file.beside(f".pilot-{secrets.token_hex(8)}.part")
        self._begun = False
        """Whether the storage may have begun to write."""

    def run(self) -> TransferResult:
        """Store the file; raises as `StageOut.store`."""
        with Outgoing(self._request, cancel=self._limits.cancel, deadline=self._limits.deadline) as outgoing:
            outgoing.check()
            if not self._request.overwrite:
                self._check_absent()
            try:
                told = self._put(outgoing)
                checksum = outgoing.finish()
                self._compare(told, outgoing.size, checksum)
                if self._target != self._file.address:
                    self._move()
            except BaseException as error:
                if self._begun:
                    self._clean(error)
                raise
        return TransferResult(size=outgoing.sent, checksum=str(checksum), url=self._file.url)

    def _check_absent(self) -> None:
        """Raise `TargetExists` if the file is there already."""
        question = Question(method="HEAD", file=self._file, writing=True)
        with self._storage.ask(question, self._limits) as answer:
            if answer.status in {404, 410}:
                return
            if answer.status == 200:
                raise TargetExists(f"{self._file.what}: is there already")
            raise self._storage.refusal(question, answer)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _put(self, outgoing: Outgoing) -> dict[str, Checksum]:
        """Send the file, its folders made if the storage wants them to be; return the checksums that are told then."""
        headers = {"Content-Type": "application/octet-stream"}
        if self._settings.verify == "checksum":
            headers["Want-Digest"] = WIRE_NAMES[outgoing.checksum_name]
        if not self._request.overwrite:
            headers["If-None-Match"] = "*"

        def blocks() -> Iterator[memoryview]:
            self._begun = True
            yield from outgoing.blocks()
            outgoing.finish()  # the storage does not get the whole of what is not right

        question = Question(
            method="PUT",
            file=self._file,
            address=self._target,
            headers=headers,
            body=WebBody(length=outgoing.size, blocks=blocks),
            expect=outgoing.size >= self._settings.expect_from,
            writing=True,
        )
        with self._storage.ask(question, self._limits) as answer:
            if answer.status in _MADE:
                self._begun = True
                return digests(answer.headers)
            error = self._refused(question, answer)
            folders = self._file.folders()
            if answer.status not in {404, 409} or not folders:
                raise error
        self._make_folders(folders, error)
        with self._storage.ask(question, self._limits) as answer:
            if answer.status in _MADE:
                self._begun = True
                return digests(answer.headers)
            raise self._refused(question, answer)

    def _refused(self, question: Question, answer: WebAnswer) -> HandledError:
        """Return the error of a PUT that failed."""
        if answer.status in _REFUSED:
            self._begun = False
        error = self._storage.refusal(question, answer)
        if isinstance(error, SourceNotFound):  # that is what a missing folder amounts to
            return TransientError(str(error), error_code=PilotErrorCode.STAGEOUTFAILED)
        return error

    def _make_folders(self, folders: list[WebAddress], error: HandledError) -> None:
        """Make the folders that are missing, looked for from the deepest one up; raises `error` if that fails."""
        missing = []
        for folder in folders:
            status = self._mkcol(folder)
            if status not in {404, 409}:
                break
            missing.append(folder)
        else:
            raise error
        for folder in reversed(missing):
            if self._mkcol(folder) in {404, 409}:
                raise error

    def _mkcol(self, folder: WebAddress) -> int:
        """Make a folder and return the status: 405 says that it is there."""
        question = Question(method="MKCOL", file=self._file, address=folder, writing=True)
        with self._storage.ask(question, self._limits) as answer:
            if answer.status in {401, 403, 507} or answer.status >= 500:
                raise self._storage.refusal(question, answer)
            return answer.status

    # -- afterwards --------------------------------------------------------------------------------------------------

    def _compare(self, told: Mapping[str, Checksum], size: int, checksum: Checksum) -> None:
        """Compare what was stored with what the storage says of it; raises `ChecksumMismatch`."""
        wanted = checksum.name if self._settings.verify == "checksum" else ""
        if wanted not in told:
            told = self._told_now(size, wanted, _CODES.get(checksum.name))
        found = told.get(wanted)
        if found is not None and found != checksum:
            raise ChecksumMismatch(
                f"{self._file.what}: the storage says {found}, {checksum} was stored",
                error_code=_CODES.get(checksum.name),
            )

    def _told_now(self, size: int, wanted: str, code: PilotErrorCode | None) -> Mapping[str, Checksum]:
        """Ask for the checksums of what was stored, and see that it has the right size."""
        try:
            found = seen(self._storage, self._file, self._limits, checksum=wanted, address=self._target, writing=True)
        except SourceNotFound:
            text = f"{self._file.what}: was stored, and is not there"
            raise TransientError(text, error_code=PilotErrorCode.STAGEOUTFAILED) from None
        if found.size is not None and found.size != size:
            text = f"{self._file.what}: {found.size} bytes are there, {size} were stored"
            raise SizeMismatch(text, error_code=code)
        return found.checksums

    def _move(self) -> None:
        """Give the stored file its name."""
        headers = {"Destination": self._file.address.url, "Overwrite": "T" if self._request.overwrite else "F"}
        question = Question(method="MOVE", file=self._file, address=self._target, headers=headers, writing=True)
        with self._storage.ask(question, self._limits) as answer:
            if answer.status not in _MADE:
                raise self._storage.refusal(question, answer)
        self._begun = False

    def _clean(self, error: BaseException) -> None:
        """Remove what a failed store may have left, as well as that can be done; raises nothing."""
        called_off = isinstance(error, (Cancelled, TransferTimeout)) or not isinstance(error, HandledError)
        seconds = CLEANING_AT_ONCE if called_off else CLEANING
        limits = Limits(CancelToken(), Deadline.after(self._clock, seconds))
        question = Question(method="DELETE", file=self._file, address=self._target, writing=True)
        try:
            with self._storage.ask(question, limits) as answer:
                if answer.status not in _GONE:
                    raise self._storage.refusal(question, answer)
        except HandledError as trouble:
            self._storage.log.warning("%s: may be left on the storage, in part: %s", self._target, trouble)
