"""A correct stager that speaks HTTP, in small steps that faults can be planted in. Scheme `http`."""

from __future__ import annotations

import errno
import http.client
import os
import secrets
import stat
from contextlib import suppress
from urllib.parse import unquote, urlsplit

from pilot_core import (
    AuthError,
    BackendUnavailable,
    ChecksumMismatch,
    FileStat,
    HandledError,
    NoSpace,
    Provider,
    SizeMismatch,
    SourceNotFound,
    TargetExists,
    TransferError,
    TransferResult,
    TransientError,
    hookimpl,
    shown_url,
)
from pilot_core.api.checksums import Digest, parse

BLOCK = 1 << 18
CAPABILITIES = frozenset({"checksum:adler32", "checksum:md5"})


class Web:
    """Serves `http://host:port/PATH`."""

    def __init__(self, settings, context):
        self.clock = context.clock

    # -- steps ---------------------------------------------------------------------------------------------------

    def target(self, url):
        what = shown_url(url)
        try:
            parts = urlsplit(url)
            name = unquote(parts.path, errors="strict").removeprefix("/")
            good = parts.scheme == "http" and parts.hostname and url.isascii() and url.isprintable() and parts.port != 0
        except ValueError:
            good = False
        if not good or parts.query or parts.fragment or len(url) > 8000:
            raise BackendUnavailable(f"{what}: not http://host:port/PATH")
        if not name.isprintable() or any(part in {"", ".", ".."} for part in name.split("/")):
            raise SourceNotFound(f"{what}: names no file")
        return parts.hostname, parts.port or 80, parts.path

    def unreachable(self, what, error):
        return TransientError(f"{what}: {type(error).__name__}")

    def refused(self, status, what):
        if status in {401, 403}:
            return AuthError(f"{what}: HTTP {status}")
        if status in {404, 410}:
            return SourceNotFound(f"{what}: HTTP {status}")
        if status == 412:
            return TargetExists(f"{what}: HTTP 412")
        return NoSpace(f"{what}: HTTP 507") if status == 507 else TransferError(f"{what}: HTTP {status}")

    def checks(self, cancel, deadline, what):
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(what)

    def ask(self, method, url, cancel, deadline, headers=(), body=()):
        """Send a request; return the connection and its answer, which has status 2xx."""
        what = shown_url(url)
        self.checks(cancel, deadline, what)
        host, port, path = self.target(url)
        connection = http.client.HTTPConnection(host, port, timeout=10)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders()
            for block in body:
                connection.send(block)
            self.wait(connection.sock, cancel, deadline, what)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self.unreachable(what, error) from error
        except BaseException:
            connection.close()
            raise
        if answer.status >= 300:
            connection.close()
            raise self.refused(answer.status, what)
        return connection, answer

    def wait(self, sock, cancel, deadline, what):
        deadline.wait(sock, cancel)
        self.checks(cancel, deadline, what)

    def digest(self, text, what):
        name, colon, _ = text.partition(":")
        try:
            wanted = parse(text) if colon else None
        except ValueError as error:
            raise TransferError(f"{what}: {error}") from None
        name = wanted.name if wanted else name or "adler32"
        if f"checksum:{name}" not in CAPABILITIES:
            raise TransferError(f"{what}: the checksum {name[:40]!r} is not known here")
        return Digest(name), wanted

    def blocks(self, connection, answer, cancel, deadline, what):
        left = answer.length
        try:
            while left is None or left > 0:
                # HTTP/1.0: what is buffered already is followed by more, or by the end of the connection
                self.wait(connection.sock or answer, cancel, deadline, what)
                block = answer.read1(BLOCK)
                if not block:
                    break
                left = None if left is None else left - len(block)
                yield block
        except OSError as error:
            raise self.unreachable(what, error) from error
        if left:
            raise self.broken_off(what, left)

    def broken_off(self, what, left):
        return TransientError(f"{what}: the connection ended {left} bytes before the file did")

    # -- the task ------------------------------------------------------------------------------------------------

    def fetch(self, request, *, cancel, deadline):
        what = shown_url(request.url)
        digest, wanted = self.digest(request.checksum, what)
        temporary = request.destination.parent / f".{secrets.token_hex(12)}"
        connection, answer = self.ask("GET", request.url, cancel, deadline)
        size = 0
        try:
            with temporary.open("xb") as file:
                for block in self.blocks(connection, answer, cancel, deadline, what):
                    digest.update(block)
                    file.write(block)
                    size += len(block)
                    request.progress(size)
                    self.checks(cancel, deadline, what)
                os.fchmod(file.fileno(), 0o644)
            if request.size is not None and size != request.size:
                raise SizeMismatch(f"{what}: {size} bytes, {request.size} were expected")
            if wanted and digest.checksum() != wanted:
                raise ChecksumMismatch(f"{what}: {digest.checksum()}, {wanted} was expected")
            temporary.replace(request.destination)
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise (NoSpace if full else TransferError)(f"{str(request.destination)!r}: {error.strerror}") from error
        finally:
            connection.close()
            with suppress(OSError):
                temporary.unlink()
        return TransferResult(size=size, checksum=str(digest.checksum()), url=request.url)

    def store(self, request, *, cancel, deadline):
        what = str(request.source)
        self.checks(cancel, deadline, what)
        self.target(request.url)
        digest, wanted = self.digest(request.checksum, what)
        try:
            descriptor = os.open(request.source, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise SourceNotFound(f"{what}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SourceNotFound(f"{what}: not a plain file")
        base = request.url.rpartition("/")[0]
        part = f"{base}/.{secrets.token_hex(12)}"
        with open(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            moved = []

            def body():
                left = found.st_size
                while left:
                    self.checks(cancel, deadline, what)
                    block = file.read(min(BLOCK, left))
                    if not block:
                        raise TransferError(f"{what}: became shorter while it was read")
                    left -= len(block)
                    digest.update(block)
                    moved.append(len(block))
                    yield block
                    request.progress(found.st_size - left)

            try:
                headers = [("Content-Length", str(found.st_size))]
                self.ask("PUT", part, cancel, deadline, headers, body())[0].close()
                if wanted and digest.checksum() != wanted:
                    raise ChecksumMismatch(f"{what}: {digest.checksum()}, {wanted} was expected")
                headers = [("Destination", request.url), ("Overwrite", "T" if request.overwrite else "F")]
                self.ask("MOVE", part, cancel, deadline, headers)[0].close()
            except BaseException:
                self.forget(part)
                raise
        return TransferResult(size=sum(moved), checksum=str(digest.checksum()), url=request.url)

    def forget(self, url):
        host, port, path = self.target(url)
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(host, port, timeout=2)
            connection.request("DELETE", path)
            connection.getresponse()
            connection.close()

    def stat(self, url, *, cancel, deadline):
        connection, answer = self.ask("HEAD", url, cancel, deadline)
        connection.close()
        return FileStat(size=int(answer.headers["Content-Length"]))

    def remove(self, url, *, cancel, deadline):
        self.ask("DELETE", url, cancel, deadline)[0].close()


class Plugin:
    """The plugin's hooks, for any make of the stager."""

    def __init__(self, stager=Web):
        self._stager = stager

    def _provider(self):
        return Provider(name="web", factory=self._stager, schemes=frozenset({"http"}), capabilities=CAPABILITIES)

    @hookimpl
    def pilot_stagein(self):
        return [self._provider()]

    @hookimpl
    def pilot_stageout(self):
        return [self._provider()]


def reference():
    return Plugin()


__all__ = ["HandledError", "Plugin", "Web", "reference"]
