"""A correct stager for a directory, in small steps that faults can be planted in. Scheme `shelf`, one library."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pilot_core import (
    BackendUnavailable,
    FileStat,
    NoSpace,
    Provider,
    SizeMismatch,
    SourceNotFound,
    TargetExists,
    TransferError,
    TransferResult,
    hookimpl,
    setting,
    shown_url,
)
from pilot_core import ChecksumMismatch as WrongChecksum
from pilot_core.api.checksums import Digest, parse

BLOCK = 1 << 20
CAPABILITIES = frozenset({"checksum:adler32", "checksum:md5"})


@dataclass(frozen=True)
class Settings:
    root: Path = setting(help="directory of the library")


class Shelf:
    """Serves `shelf://library/PATH`."""

    def __init__(self, settings, context):
        self.root = settings.root
        self.log = context.log

    # -- steps ---------------------------------------------------------------------------------------------------

    def path(self, url):
        scheme, colon, rest = url.partition("://")
        host, slash, quoted = rest.partition("/")
        if scheme != "shelf" or not colon or host.rpartition("@")[2] != "library" or not slash:
            raise BackendUnavailable(f"{shown_url(url)}: not shelf://library/PATH")
        name = self.decoded(quoted)
        parts = name.split("/")
        if not name.isprintable() or any(part in {"", ".", ".."} for part in parts):
            raise SourceNotFound(f"{shown_url(url)}: names no file")
        return self.root / name

    def decoded(self, quoted):
        return unquote(quoted)

    def checks(self, cancel, deadline, what):
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(what)

    def wanted(self, text, what):
        try:
            return parse(text) if text else None
        except ValueError as error:
            raise TransferError(f"{what}: {error}") from None

    def digest(self, name, what):
        if f"checksum:{name}" not in CAPABILITIES:
            raise TransferError(f"{what}: the checksum {name[:40]!r} is not known here")
        return Digest(name)

    def temporary(self, path):
        return path.parent / f".{os.fsencode(path.name)[:50].hex()}-{secrets.token_hex(8)}"

    def mode(self):
        return 0o644

    def refused(self, error, what):
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return NoSpace(f"{what}: {error.strerror}")
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR}:
            return SourceNotFound(f"{what}: {error.strerror}")
        return TransferError(f"{what}: {error.strerror}")

    @contextmanager
    def translated(self, what):
        try:
            yield
        except OSError as error:
            raise self.refused(error, what) from error

    def opened(self, path, what):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise SourceNotFound(f"{what}: not a plain file")
        return descriptor

    def read(self, source):
        return os.read(source, BLOCK)

    def write(self, target, block):
        while block:
            block = block[os.write(target, block) :]

    def copy(self, source, target, digest, progress, cancel, deadline, what):
        size = 0
        while block := self.read(source):
            self.checks(cancel, deadline, what)
            digest.update(block)
            self.write(target, block)
            size += len(block)
            progress(size)
        self.checks(cancel, deadline, what)
        return size

    def verify(self, digest, size, wanted, expected, what):
        if expected is not None and size != expected:
            raise SizeMismatch(f"{what}: {size} bytes, {expected} were expected")
        if wanted is not None and digest.checksum() != wanted:
            raise WrongChecksum(f"{what}: {digest.checksum()}, {wanted} was expected")

    def publish(self, temporary, path, replace):
        if replace:
            os.rename(temporary, path)
        else:
            os.link(temporary, path)
            os.unlink(temporary)

    def discard(self, temporary):
        with suppress(OSError):
            os.unlink(temporary)

    def flush(self, writing):
        os.fsync(writing)

    def result(self, size, digest, url):
        return TransferResult(size=size, checksum=str(digest.checksum()), url=url)

    def move(self, source, path, digest, wanted, expected, request, cancel, deadline, what, replace):
        temporary = self.temporary(path)
        try:
            with self.translated(what):
                reading = self.opened(source, what)
                try:
                    writing = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                    try:
                        size = self.copy(reading, writing, digest, request.progress, cancel, deadline, what)
                        os.fchmod(writing, self.mode())
                        self.flush(writing)
                    finally:
                        os.close(writing)
                finally:
                    os.close(reading)
                self.verify(digest, size, wanted, expected, what)
                if path.is_dir() and not path.is_symlink():
                    raise TransferError(f"{what}: its destination is a directory")
                self.publish(temporary, path, replace)
        except BaseException:
            self.discard(temporary)
            raise
        return size

    # -- the task ------------------------------------------------------------------------------------------------

    def fetch(self, request, *, cancel, deadline):
        what = shown_url(request.url)
        self.checks(cancel, deadline, what)
        source = self.path(request.url)
        wanted = self.wanted(request.checksum, what)
        digest = self.digest(wanted.name if wanted else "adler32", what)
        size = self.move(
            source, request.destination, digest, wanted, request.size, request, cancel, deadline, what, True
        )
        return self.result(size, digest, request.url)

    def store(self, request, *, cancel, deadline):
        what = str(request.source)
        self.checks(cancel, deadline, what)
        path = self.path(request.url)
        name, colon, _ = request.checksum.partition(":")
        wanted = self.wanted(request.checksum if colon else "", what)
        digest = self.digest(wanted.name if wanted else name, what)
        with self.translated(what):
            self.opened_and_closed(request.source, what)
            if not request.overwrite and path.exists():
                raise TargetExists(f"{shown_url(request.url)}: is there already")
            self.folders(path)
        size = self.move(request.source, path, digest, wanted, None, request, cancel, deadline, what, request.overwrite)
        return self.result(size, digest, request.url)

    def opened_and_closed(self, source, what):
        os.close(self.opened(source, what))

    def folders(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)

    def stat(self, url, *, cancel, deadline):
        self.checks(cancel, deadline, shown_url(url))
        with self.translated(shown_url(url)):
            found = self.path(url).stat()
            if not stat.S_ISREG(found.st_mode):
                raise SourceNotFound(f"{shown_url(url)}: not a plain file")
            return FileStat(size=found.st_size)

    def remove(self, url, *, cancel, deadline):
        self.checks(cancel, deadline, shown_url(url))
        path = self.path(url)
        with self.translated(shown_url(url)):
            if path.is_dir():
                raise TransferError(f"{shown_url(url)}: a directory")
            path.unlink()


class Plugin:
    """The plugin's hooks, for any make of the shelf."""

    def __init__(self, stager=Shelf, *, capabilities=CAPABILITIES, settings=Settings, opt_outs=None, only=""):
        self._stager, self._capabilities, self._settings = stager, capabilities, settings
        self._only = only
        if opt_outs:
            self.KIT_OPT_OUTS = opt_outs

    def _provider(self):
        return Provider(
            name="shelf",
            factory=self._stager,
            settings=self._settings,
            schemes=frozenset({"shelf"}),
            capabilities=self._capabilities,
        )

    @hookimpl
    def pilot_stagein(self):
        return [self._provider()]

    @hookimpl
    def pilot_stageout(self):
        return [self._provider()]


def reference():
    return Plugin()
