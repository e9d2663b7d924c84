"""The stager: what is asked of a worker for each of the pilot's calls, and what its answers come to."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot_core import (
    AuthError,
    BackendUnavailable,
    ChecksumMismatch,
    Deadline,
    FileStat,
    HandledError,
    Incoming,
    Outgoing,
    PilotErrorCode,
    SizeMismatch,
    SourceNotFound,
    TargetExists,
    TransferResult,
    TransferTimeout,
    TransientError,
    shown_url,
)
from pilot_core.api.checksums import parse
from pilot_core.api.local_files import INPUT, OUTPUT
from pilot_stager_xrootd.access import access
from pilot_stager_xrootd.places import Location, location_of
from pilot_stager_xrootd.processes import Workers
from pilot_stager_xrootd.settings import Settings, check
from pilot_stager_xrootd.trouble import TLS_FAILED, Trouble, handled
from pilot_stager_xrootd.worker import BLOCK, SLOTS

if TYPE_CHECKING:
    import logging

    from pilot_core import CancelToken, Context, FetchRequest, StoreRequest
    from pilot_core.api.checksums import Checksum
    from pilot_core.api.local_files import Place
    from pilot_stager_xrootd.processes import WorkerProcess

__all__ = ["XrootdStager"]

LONGEST = 65_535
"""Seconds that the client takes as a timeout (uint16_t)."""
CLEANING = 0.8
"""Seconds for taking back what was stored in part, once a store was called off."""
CHECKSUM = "adler32"
"""The checksum that storages are asked for."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of the pilot: its file, and until when."""

    location: Location
    what: str
    place: Place
    absent: bool
    cancel: CancelToken
    deadline: Deadline

    @property
    def seconds(self) -> int:
        """What the client is given as a timeout; the deadline itself is kept here."""
        return min(LONGEST, int(self.deadline.remaining()) + 2)

    def check(self) -> None:
        """Raise `Cancelled` or `TransferTimeout` if it is time to stop."""
        self.cancel.raise_if_cancelled()
        if self.deadline.passed:
            raise TransferTimeout(f"{self.what}: not done within the time allowed for it", error_code=self.place.late)


class XrootdStager:
    """Both ways of the stager; any number of threads may use it, each call with a worker of its own."""

    def __init__(self, settings: Settings, context: Context) -> None:
        check(settings)
        self._settings = settings
        self._context = context
        self._log = context.log
        self._workers = Workers()

    # -- the pilot's calls -----------------------------------------------------------------------------------------

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Bring a file in; raises as `pilot_core.StageIn.fetch` says."""
        call = self._call(request.url, INPUT, cancel, deadline)
        with Incoming(request, cancel=cancel, deadline=deadline) as incoming:
            download = _Download(call, incoming)
            tries = self._settings.resumes
            while True:
                before = incoming.received
                try:
                    with self._worker(call) as worker:
                        download.run(worker)
                    break
                except TransientError as error:
                    if not tries or not incoming.received or incoming.received == before:
                        raise
                    tries -= 1
                    self._log.info("%s; going on at byte %d", error, incoming.received)
            server = download.server
            same = server in {"", call.location.server, f"{call.location.server}:1094"}
            return incoming.publish(url=request.url if same else call.location.url_on(server))

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Bring a file out; raises as `pilot_core.StageOut.store` says."""
        call = self._call(request.url, OUTPUT, cancel, deadline, absent=False)
        with Outgoing(request, cancel=cancel, deadline=deadline) as outgoing:
            call.check()
            upload = _Upload(call, outgoing, self._settings, self._log)
            with self._worker(call) as worker:
                found = upload.run(worker, overwrite=request.overwrite)
            return TransferResult(size=outgoing.size, checksum=str(found), url=request.url)

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        """Ask the storage about a file: its size and, unless the site has that switched off, its adler32."""
        call = self._call(url, INPUT, cancel, deadline)
        with self._worker(call) as worker:
            name = CHECKSUM if self._settings.stat_checksum else ""
            found = _ask(worker, call, do="stat", checksum=name)
        if found["folder"]:
            raise SourceNotFound(f"{call.what}: is a directory", error_code=INPUT.absent)
        told = _told(found["checksum"])
        return FileStat(size=found["size"], checksum=str(told) if told else "")

    def remove(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Delete a file."""
        call = self._call(url, OUTPUT, cancel, deadline)
        with self._worker(call) as worker:
            _ask(worker, call, do="remove")

    # -- workers ---------------------------------------------------------------------------------------------------

    def _call(self, url: str, place: Place, cancel: CancelToken, deadline: Deadline, *, absent: bool = True) -> _Call:
        """Read the URL of a call, and see that there is time for it."""
        call = _Call(
            location=location_of(url, place),
            what=shown_url(url),
            place=place,
            absent=absent,
            cancel=cancel,
            deadline=deadline,
        )
        call.check()
        return call

    @contextmanager
    def _worker(self, call: _Call) -> Iterator[WorkerProcess]:
        """Hold a worker; it is kept if all went well, or the storage refused before anything had begun."""
        allowed = access(self._settings, self._context, cancel=call.cancel, deadline=call.deadline)
        worker, keep = self._workers.take(allowed.environment), False
        try:
            yield worker
            keep = True
        except Trouble as trouble:
            error = handled(trouble, call.what, call.place, absent=call.absent)
            # one that was refused, or failed at TLS, begins anew the next time, with what the files have then
            keep = (
                trouble.clean and trouble.code != TLS_FAILED and not isinstance(error, AuthError | BackendUnavailable)
            )
            if isinstance(error, AuthError):
                error.args = (f"{error}; {allowed.credentials}",)
            elif trouble.code == TLS_FAILED and isinstance(error, BackendUnavailable):
                error.args = (
                    f"{error}; trusted are the authorities of {allowed.authorities}; check ca_dir and ca_file",
                )
            raise error from None
        except _Settled as settled:
            keep = True
            raise settled.error from None
        finally:
            if keep:
                self._workers.give_back(worker)
            else:
                worker.kill()


class _Settled(Exception):
    """An error after which the worker has nothing left to do."""

    def __init__(self, error: HandledError) -> None:
        super().__init__(str(error))
        self.error = error


class _Download:
    """A file on its way in; goes on where it ended."""

    def __init__(self, call: _Call, incoming: Incoming) -> None:
        self.server = ""
        """Where it came from in the end."""
        self._call = call
        self._incoming = incoming
        self._known: tuple[int, int] | None = None

    def run(self, worker: WorkerProcess) -> None:
        """Take what is missing; raises `Trouble`, and transfer errors."""
        call, incoming = self._call, self._incoming
        worker.say(do="read", url=call.location.address, start=incoming.received, seconds=call.seconds)
        message = _hear(worker, call)
        found = message["size"], message["changed"]
        if self._known not in {None, found}:
            raise TransientError(f"{call.what}: was changed while it was fetched", error_code=call.place.failed)
        self._known = found
        self.server = message["server"]
        incoming.expect(message["size"])
        try:
            self._take(worker, message)
        except Trouble as trouble:
            raise trouble.amid() from None
        if incoming.received != found[0]:
            raise SizeMismatch(f"{call.what}: {incoming.received} bytes came of {found[0]}")

    def _take(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """Take blocks until the end."""
        while True:
            if "block" in message:
                self._incoming.write(worker.slot(message["block"], message["length"]))
            if "end" in message:
                return
            worker.say(free=message["block"])
            message = _hear(worker, self._call)


class _Upload:
    """A file on its way out: under a name of its own beside the final one, verified there, and then renamed."""

    def __init__(self, call: _Call, outgoing: Outgoing, settings: Settings, log: logging.Logger) -> None:
        self._call = call
        self._outgoing = outgoing
        self._settings = settings
        self._log = log
        name = os.path.basename(call.location.path)  # noqa: PTH119  (a URL's path)
        # a name of the length limit leaves no room for more, so only its beginning is used
        start = name.encode()[:100].decode(errors="ignore")
        self._part = call.location.beside(f".{start}.part-{secrets.token_hex(8)}")

    def run(self, worker: WorkerProcess, *, overwrite: bool) -> Checksum:
        """Store it and return the checksum of what was stored; raises `Trouble`, and transfer errors."""
        if not overwrite:
            self._refuse_older(worker)
        self._begin(worker)
        try:
            self._send(worker)
            found = self._outgoing.finish()
        except Trouble as trouble:
            raise trouble.amid() from None
        except BaseException:
            self._take_back(worker, say={"stop": True})
            raise
        worker.say(finish=True)
        try:
            self._publish(worker, found, overwrite=overwrite)
        except Trouble as trouble:
            self._take_back(worker, say={"do": "remove", **_named(self._part), "seconds": 1})
            raise trouble.amid() from None
        except BaseException:
            self._take_back(worker, say={"do": "remove", **_named(self._part), "seconds": 1})
            raise
        return found

    def _publish(self, worker: WorkerProcess, sent: Checksum, *, overwrite: bool) -> None:
        """Give the file its name, if it is what was sent."""
        self._verify(_hear(worker, self._call), sent)
        target = self._call.location.path
        moved = _ask(worker, self._call, do="move", location=self._part, to=target, overwrite=overwrite)
        if moved.get("exists"):
            raise self._exists()

    def _refuse_older(self, worker: WorkerProcess) -> None:
        """Raise if something has the final name, before anything is sent."""
        try:
            _ask(worker, self._call, do="stat", checksum="")
        except Trouble as trouble:
            if not isinstance(handled(trouble, "", self._call.place, absent=True), SourceNotFound):
                raise
        else:
            raise _Settled(self._exists())

    def _begin(self, worker: WorkerProcess) -> None:
        """Open the new file."""
        name = self._outgoing.checksum_name if self._settings.verify_stored else ""
        worker.say(
            do="write",
            url=self._part.address,
            **_named(self._part),
            checksum=name,
            flush=self._settings.flush,
            seconds=self._call.seconds,
        )
        _hear(worker, self._call)

    def _send(self, worker: WorkerProcess) -> None:
        """Send all blocks."""
        free = list(range(SLOTS))
        for block in self._outgoing.blocks(BLOCK):
            while not free:
                free.append(_hear(worker, self._call)["free"])
            slot = free.pop()
            worker.slot(slot, len(block))[:] = block
            worker.say(block=slot, length=len(block))
        while len(free) < SLOTS:
            free.append(_hear(worker, self._call)["free"])

    def _verify(self, message: dict[str, Any], sent: Checksum) -> None:
        """Compare what the storage has with what was sent."""
        what, size = self._call.what, self._outgoing.size
        if message["stored"] not in {None, size}:
            raise SizeMismatch(f"{what}: {size} bytes were sent, and the storage has {message['stored']}")
        told = _told(message["checksum"])
        if told is None or told.name != sent.name:
            if self._settings.verify_stored:
                self._log.debug("%s: the storage knows no %s of it; its size is right", what, sent.name)
        elif told != sent:
            codes = {"adler32": PilotErrorCode.PUTADMISMATCH, "md5": PilotErrorCode.PUTMD5MISMATCH}
            raise ChecksumMismatch(
                f"{what}: the storage's {told} is not the {sent} that was sent", error_code=codes.get(sent.name)
            )

    def _take_back(self, worker: WorkerProcess, *, say: dict[str, Any]) -> None:
        """Have what was stored in part removed, if that is possible at once; XRootD does it itself later (POSC)."""
        clock = self._call.deadline.clock
        until = Deadline.after(clock, CLEANING)
        try:
            worker.say(**say)
            while not until.passed:
                message = worker.hear(lambda: None, cancel=None, deadline=until)
                if message and not {"free", "opened"} & set(message):
                    return
        except (Trouble, HandledError) as error:
            self._log.debug("%s: %s", self._part.path, error)
        self._log.warning(
            "%s: the part %s stays until the storage removes it itself", self._call.what, shown_url(self._part.path)
        )

    def _exists(self) -> TargetExists:
        return TargetExists(f"{self._call.what}: is there already")


def _named(location: Location) -> dict[str, str]:
    """Return how a worker is told of a file."""
    return {"endpoint": location.endpoint, "path": location.path}


def _hear(worker: WorkerProcess, call: _Call) -> dict[str, Any]:
    """Wait for a worker's next message, as long as the call may take."""
    return worker.hear(call.check, cancel=call.cancel, deadline=call.deadline)


def _ask(worker: WorkerProcess, call: _Call, *, location: Location | None = None, **request: Any) -> dict[str, Any]:
    """Ask a worker something that has one answer."""
    worker.say(**_named(location or call.location), seconds=call.seconds, **request)
    return _hear(worker, call)


def _told(text: str) -> Checksum | None:
    """Read `name value` as storages tell it; None for what is no checksum that is known here."""
    name, _, value = text.strip().partition(" ")
    with suppress(ValueError):
        return parse(f"{name}:{value.strip()}")
    return None
