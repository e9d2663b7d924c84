"""The program that talks XRootD: a process of its own, which the stager starts, feeds and, if it has to, kills.

XRootD's client keeps its connections, threads and credentials for the whole process, takes the credentials from
environment variables, waits through outages on its own, and cannot be called off. In a process of its own all of that
is somebody else's: the pilot's environment stays as it is, the pilot has no threads that it did not make, and what
stalls is killed.

It is started as a script, knows nothing of pilot-core, and serves one request at a time. Messages are JSON texts on a
socket (descriptor 3), the files' bytes lie in shared memory (descriptor 4). It ends when descriptor 5 does.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, NoReturn

__all__ = ["BLOCK", "SLOTS", "main"]

BLOCK = 4 << 20
"""Bytes of a slot of the shared memory."""
SLOTS = 4
AHEAD = 4
"""Requests for blocks that are under way at a time."""
CONTROL, MEMORY, LIFE = 3, 4, 5
"""Descriptors."""
LONGEST = 1 << 16
"""Bytes of a message."""
CLEANING = 5
"""Seconds for each step of removing what was stored in part."""
NO_CHECKSUM_BUT = frozenset({3010, 3011, 3030})
"""Answers to the question for a checksum that say more than that the storage knows none."""
ANSWERED, EXPIRED = 400, 206
"""errErrorResponse: the server said no. errOperationExpired: it said nothing in time."""
NOT_OPEN = 3
"""errInvalidOp."""
EXISTS = 3018
"""kXR_ItExists."""
PATIENCE, SLOWEST = 2, 50_000_000
"""Seconds, and bytes a second that a storage reads, before it is asked for a checksum again."""


class Refused(Exception):
    """An XRootDStatus that is not ok."""


class Stopped(Exception):
    """The stager wants no more of this."""


class Reads:
    """A file's blocks, in order, some of them always asked for ahead."""

    def __init__(self, file: Any, start: int, end: int) -> None:
        self._file = file
        self._next = self._start = start
        self._end = end
        self._arrived: SimpleQueue[tuple[int, Any, bytes]] = SimpleQueue()
        self.under_way = 0

    def __iter__(self) -> Iterator[bytes]:
        early: dict[int, bytes] = {}
        offset = self._start
        while offset < self._end:
            while self.under_way < AHEAD and self._next < self._end:
                self._ask()
            while offset not in early:
                at, status, data = self._arrived.get()
                self.under_way -= 1
                _check(status)
                early[at] = data or b""
            block = early.pop(offset)
            wanted = min(BLOCK, self._end - offset)
            yield block
            if len(block) < wanted:
                return  # the file has become shorter: the stager counts
            offset += wanted

    def _ask(self) -> None:
        at, size = self._next, min(BLOCK, self._end - self._next)
        self._next += size

        def arrived(status: Any, data: Any, _: Any) -> None:
            self._arrived.put((at, status, data))

        _check(self._file.read(at, size, callback=arrived))
        self.under_way += 1


class Writes:
    """Blocks on their way to a file."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.sent = 0
        """Bytes."""
        self._done: SimpleQueue[tuple[Any, bytes]] = SimpleQueue()
        self.under_way = 0

    def send(self, block: bytes) -> None:
        """Send a block; waits while too many are under way."""
        if self.under_way >= AHEAD:
            self._await_one()

        # the block is named in the callback, so that it lives as long as the client reads from it
        def done(status: Any, _: Any, __: Any) -> None:
            self._done.put((status, block))

        _check(self._file.write(block, self.sent, callback=done))
        self.sent += len(block)
        self.under_way += 1

    def finish(self) -> None:
        """Wait for all that is under way."""
        while self.under_way:
            self._await_one()

    def _await_one(self) -> None:
        status, _ = self._done.get()
        self.under_way -= 1
        _check(status)


class Worker:
    """Serves requests until the stager has no more."""

    def __init__(self, client: Any, flags: Any) -> None:
        self._client = client
        self._flags = flags
        self._socket = socket.socket(fileno=CONTROL)
        self._memory = memoryview(mmap.mmap(MEMORY, BLOCK * SLOTS))

    def serve(self) -> None:
        """Serve requests, one after the other."""
        while True:
            request = self._hear()
            if "do" not in request:
                continue  # of a transfer that was refused while the stager went on with it
            try:
                answer = getattr(self, f"do_{request.pop('do')}")(**request)
            except Refused as error:
                (status,) = error.args
                answer = {"refused": [status.code, status.errno, status.message]}
            except ValueError as error:
                # so the client says that a file, whose connection could not be made again, is no longer open
                answer = {"refused": [NOT_OPEN, 0, str(error)]}
            except Stopped:
                answer = {"stopped": True}
            self._tell(answer)

    # -- requests --------------------------------------------------------------------------------------------------

    def do_stat(self, *, endpoint: str, path: str, checksum: str, seconds: int) -> dict[str, Any]:
        """Tell a file's size and, if its name is given, its checksum."""
        system = self._client.FileSystem(endpoint)
        status, found = system.stat(path, seconds)
        _check(status)
        folder = bool(found.flags & self._flags.StatInfoFlags.IS_DIR)
        told = ""
        if checksum and not folder:
            told = self._checksum(system, path, checksum, size=found.size, seconds=seconds)
        return {"size": found.size, "folder": folder, "checksum": told}

    def do_remove(self, *, endpoint: str, path: str, seconds: int) -> dict[str, Any]:
        """Remove a file."""
        status, _ = self._client.FileSystem(endpoint).rm(path, seconds)
        _check(status)
        return {}

    def do_move(self, *, endpoint: str, path: str, to: str, overwrite: bool, seconds: int) -> dict[str, Any]:
        """Give a file its name. Some servers replace an older file by themselves, others say that it is there."""
        system = self._client.FileSystem(endpoint)
        if not overwrite and system.stat(to, seconds)[0].ok:
            return {"exists": True}
        status, _ = system.mv(path, to, seconds)
        if status.code == ANSWERED and status.errno == EXISTS:
            if not overwrite:
                return {"exists": True}
            _check(system.rm(to, seconds)[0])
            status, _ = system.mv(path, to, seconds)
        _check(status)
        return {}

    def do_read(self, *, url: str, start: int, seconds: int) -> dict[str, Any]:
        """Send a file's bytes from `start` on."""
        file = self._client.File()
        status, _ = file.open(url, self._flags.OpenFlags.READ, timeout=seconds)
        _check(status)
        status, found = file.stat(timeout=seconds)
        _check(status)
        end, free = found.size, list(range(SLOTS))
        message = {"size": end, "changed": found.modtime, "server": file.get_property("DataServer") or ""}
        for block in Reads(file, start, end):
            if not free:
                free.append(self._hear()["free"])
            slot = free.pop()
            self._memory[slot * BLOCK : slot * BLOCK + len(block)] = block
            message |= {"block": slot, "length": len(block)}
            start += len(block)
            if start < end:
                self._tell(message)
                message = {}
        # all is here: what closing a file that was only read may say is of no use to anybody, nor waited for
        file.close(callback=partial(_hold, file))
        return {**message, "end": True}

    def do_write(
        self, *, url: str, endpoint: str, path: str, checksum: str, flush: bool, seconds: int
    ) -> dict[str, Any]:
        """Store the bytes that come as a new file; tell the checksum that the storage finds it to have, or its size."""
        flags = self._flags.OpenFlags
        file = self._client.File()
        # POSC: the server removes the file if this process ends before it has closed it
        wanted = flags.NEW | flags.UPDATE | flags.MAKEPATH | flags.POSC
        status, _ = file.open(url, wanted, 0o644, timeout=seconds)
        _check(status)
        self._tell({"opened": True})
        writes = Writes(file)
        try:
            for block in self._blocks():
                writes.send(block)
            writes.finish()
            if flush:
                self._flush(file, seconds)
            _check(file.close(timeout=seconds)[0])
        except (Refused, Stopped, ValueError):
            with suppress(ValueError):
                file.close(timeout=CLEANING)
            with suppress(Refused):
                self.do_remove(endpoint=endpoint, path=path, seconds=CLEANING)
            raise
        system = self._client.FileSystem(endpoint)
        told = self._checksum(system, path, checksum, size=writes.sent, seconds=seconds) if checksum else ""
        if told:
            return {"checksum": told, "stored": None}
        status, found = system.stat(path, seconds)
        _check(status)
        return {"checksum": "", "stored": found.size}

    # -- parts of them ---------------------------------------------------------------------------------------------

    def _blocks(self) -> Iterator[bytes]:
        """Yield the blocks that the stager has laid into the memory, until it says that these are all."""
        while True:
            message = self._hear()
            if "block" not in message:
                if message.get("stop"):
                    raise Stopped
                return
            slot = message["block"]
            block = bytes(self._memory[slot * BLOCK : slot * BLOCK + message["length"]])
            self._tell({"free": slot})
            yield block

    @staticmethod
    def _flush(file: Any, seconds: int) -> None:
        """Have the file written to the storage's disk; not every storage has a disk of its own to write to."""
        status, _ = file.sync(timeout=seconds)
        if not (status.code == ANSWERED and status.errno in {3006, 3013}):
            _check(status)

    def _checksum(self, system: Any, path: str, name: str, *, size: int, seconds: int) -> str:
        """Return `name value` of a file as the storage tells it, or an empty text if it knows none.

        A server that is asked for more checksums at a time than it computes forgets one for half a minute (measured,
        xrootd 5.5.3 with `xrootd.chksum max 4`); asked again it answers at once.
        """
        question = f"{path}?cks.type={name}"
        patience = PATIENCE + size // SLOWEST
        while True:
            status, answer = system.query(self._flags.QueryCode.CHECKSUM, question, min(patience, seconds))
            if status.ok or status.code != EXPIRED or patience >= seconds:
                break
            seconds -= patience
            patience *= 2
        if status.ok:
            return bytes(answer or b"").rstrip(b"\0 \n").decode("utf-8", "replace")
        if status.code == ANSWERED and status.errno not in NO_CHECKSUM_BUT:
            return ""
        raise Refused(status)

    # -- messages --------------------------------------------------------------------------------------------------

    def _hear(self) -> dict[str, Any]:
        """Return the next message; ends the process if there is none."""
        data = self._socket.recv(LONGEST)
        if not data:
            _end()
        message: dict[str, Any] = json.loads(data)
        return message

    def _tell(self, message: dict[str, Any]) -> None:
        self._socket.send(json.dumps(message).encode())


def _check(status: Any) -> None:
    """Raise unless all is well."""
    status = status[0] if isinstance(status, tuple) else status
    if not status.ok:
        raise Refused(status)


def _hold(*_: Any) -> None:
    """Do nothing; whoever is to call it holds on to its arguments until then."""


def _end() -> NoReturn:
    """End at once: nothing here is worth waiting for."""
    os._exit(0)


def _live() -> None:
    """End with the pilot."""
    with suppress(OSError):
        os.read(LIFE, 1)
    _end()


def main() -> NoReturn:
    """Serve; the only argument is the folder of the client library."""
    threading.Thread(target=_live, daemon=True).start()
    control = socket.socket(fileno=os.dup(CONTROL))
    try:
        sys.path.append(sys.argv[1])
        from XRootD import client  # noqa: PLC0415
        from XRootD.client import flags  # noqa: PLC0415

        Worker(client, flags).serve()
    except Exception as error:  # noqa: BLE001  (told to the stager, which has a log)
        with suppress(OSError):
            control.send(json.dumps({"broken": f"{type(error).__name__}: {error}"[:2000]}).encode())
    _end()


if __name__ == "__main__":
    main()
