"""The faults that are planted in the reference stager."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness import Mutant
from stager.reference import BLOCK, CAPABILITIES, Plugin, Settings, Shelf

from pilot_core import (
    Cancelled,
    CancelToken,
    Deadline,
    FileStat,
    SourceNotFound,
    SystemClock,
    TransferError,
    TransferResult,
    TransientError,
    setting,
)
from pilot_core.api.checksums import Digest

BYTES, STORED = "test_the_very_bytes_are_fetched", "test_the_very_bytes_are_stored"
MUTANTS = []
NOBODY = CancelToken()


def mutant(fault, *caught_by, **options):
    """Plant a fault: the decorated class is a stager that has it. Its name is the mutant's."""

    def plant(stager):
        name = "".join(f"-{c.lower()}" if c.isupper() else c for c in stager.__name__).lstrip("-")
        made = {"fault": fault, "caught_by": caught_by, "plugin": lambda: Plugin(stager, **options)}
        MUTANTS.append(Mutant(name=name, **made))
        return stager

    return plant


def direction(request):
    return "in" if hasattr(request, "destination") else "out"


def after(change, only):
    """Return a `move` that changes the published file when it goes `only` that way."""

    def move(self, source, path, digest, wanted, expected, request, *rest):
        size = Shelf.move(self, source, path, digest, wanted, expected, request, *rest)
        if direction(request) == only:
            change(path)
        return size

    return move


# -- bytes, sizes, checksums -------------------------------------------------------------------------------------------


def cut(path):
    os.truncate(path, max(0, path.stat().st_size - 1))


def grow(path):
    with path.open("ab") as file:
        file.write(b"\0")


@mutant("a fetched file lacks its last byte", BYTES)
class FetchTruncates(Shelf):
    move = after(cut, "in")


@mutant("a fetched file has a byte more", BYTES)
class FetchAppends(Shelf):
    move = after(grow, "in")


@mutant("a stored file lacks its last byte", STORED)
class StoreTruncates(Shelf):
    move = after(cut, "out")


@mutant("a stored file has a byte more", STORED)
class StoreAppends(Shelf):
    move = after(grow, "out")


@mutant("of a large file only the first block is moved, and told as the whole", BYTES, STORED)
class OneBlockOnly(Shelf):
    def copy(self, source, target, digest, progress, cancel, deadline, what):
        block = os.read(source, BLOCK)
        self.write(target, block)
        progress(len(block))
        digest.update(block)
        while more := os.read(source, BLOCK):
            digest.update(more)
        return os.fstat(source).st_size


@mutant("a short write loses the rest of a block", BYTES)
class ShortWrite(Shelf):
    def write(self, target, block):
        os.write(target, block[:500_000])


@mutant("the size is off by one", BYTES, STORED)
class SizeOffByOne(Shelf):
    def result(self, size, digest, url):
        return TransferResult(size=size + 1, checksum=str(digest.checksum()), url=url)


@mutant("the size is always 0", BYTES)
class SizeZero(Shelf):
    def result(self, size, digest, url):
        return TransferResult(size=0, checksum=str(digest.checksum()), url=url)


@mutant("the checksum is that of nothing", BYTES, STORED)
class ChecksumConstant(Shelf):
    def result(self, size, digest, url):
        return TransferResult(size=size, checksum="adler32:00000001", url=url)


@mutant("the checksum lacks its leading zeros", BYTES)
class ChecksumUnpadded(Shelf):
    def result(self, size, digest, url):
        name, _, value = str(digest.checksum()).partition(":")
        return TransferResult(size=size, checksum=f"{name}:{value.lstrip('0')}", url=url)


@mutant("the checksum has no name", BYTES)
class ChecksumUnnamed(Shelf):
    def result(self, size, digest, url):
        return TransferResult(size=size, checksum=str(digest.checksum()).partition(":")[2], url=url)


@mutant("no checksum is told", "test_it_fetches_what_the_catalogue_knows_nothing_of")
class ChecksumMissing(Shelf):
    def result(self, size, digest, url):
        return TransferResult(size=size, checksum="", url=url)


@mutant("the checksum is computed of all but the last block", BYTES)
class ChecksumOfAllButLast(Shelf):
    def copy(self, source, target, digest, progress, cancel, deadline, what):
        size, last = 0, b""
        while block := os.read(source, BLOCK):
            self.checks(cancel, deadline, what)
            digest.update(last)
            self.write(target, block)
            size, last = size + len(block), block
            progress(size)
        return size


@mutant("wrong checksums pass", "test_a_wrong_checksum_is_refused", "test_a_file_that_was_damaged_is_refused")
class ChecksumNotVerified(Shelf):
    def verify(self, digest, size, wanted, expected, what):
        super().verify(digest, size, None, expected, what)


@mutant("wrong sizes pass", "test_a_wrong_size_is_refused", "test_an_empty_file_is_not_taken_for_a_full_one")
class SizeNotVerified(Shelf):
    def verify(self, digest, size, wanted, expected, what):
        super().verify(digest, size, wanted, None, what)


@mutant("an expected size of 0 is not verified", "test_a_wrong_size_is_refused")
class SizeZeroNotVerified(Shelf):
    def verify(self, digest, size, wanted, expected, what):
        super().verify(digest, size, wanted, expected or None, what)


@mutant("only files that are too short are refused", "test_a_wrong_size_is_refused")
class TooLongPasses(Shelf):
    def verify(self, digest, size, wanted, expected, what):
        super().verify(digest, size, wanted, max(size, expected) if expected is not None else None, what)


@mutant("an empty file passes whatever is expected", "test_an_empty_file_is_not_taken_for_a_full_one")
class EmptyPasses(Shelf):
    def verify(self, digest, size, wanted, expected, what):
        if size:
            super().verify(digest, size, wanted, expected, what)


@mutant("md5 is claimed and not verified", "test_a_claimed_checksum_is_verified")
class Md5NotVerified(Shelf):
    def verify(self, digest, size, wanted, expected, what):
        super().verify(digest, size, None if wanted and wanted.name == "md5" else wanted, expected, what)


@mutant(
    "checksums that are not known are passed over",
    "test_an_unknown_checksum_is_refused",
    "test_a_claimed_checksum_is_verified",
)
class UnknownChecksumPasses(Shelf):
    def wanted(self, text, what):
        try:
            found = super().wanted(text, what)
        except TransferError:
            return None
        return found if found is None or f"checksum:{found.name}" in CAPABILITIES else None


@mutant("whatever checksum is asked for, an adler32 is told", "test_a_claimed_checksum_is_computed_and_verified")
class AlwaysAdler(Shelf):
    def store(self, request, *, cancel, deadline):
        _, _, value = request.checksum.partition(":")
        asked = request.checksum if value else "adler32"
        return super().store(replace(request, checksum=asked), cancel=cancel, deadline=deadline)


@mutant(
    "a store with a wrong checksum is refused, and the file is there",
    "test_a_claimed_checksum_is_computed_and_verified",
)
class StoredAllTheSame(Shelf):
    def verify(self, digest, size, wanted, expected, what):
        self.late = wanted if wanted is not None and wanted != digest.checksum() else None

    def store(self, request, *, cancel, deadline):
        result = super().store(request, cancel=cancel, deadline=deadline)
        if self.late:
            Shelf.verify(self, Digest("adler32"), 0, self.late, None, "late")
        return result


# -- names and URLs ----------------------------------------------------------------------------------------------------


@mutant("percent signs of URLs are not decoded", "test_files_of_any_name_are_fetched")
class NotDecoded(Shelf):
    def decoded(self, quoted):
        return quoted


@mutant("URLs are decoded twice", "test_files_of_any_name_are_fetched", "test_files_of_any_name_are_stored")
class DecodedTwice(Shelf):
    def decoded(self, quoted):
        return unquote(unquote(quoted))


@mutant("a question mark in a name ends it", "test_files_of_any_name_are_fetched")
class QueryCut(Shelf):
    def decoded(self, quoted):
        return unquote(quoted).partition("?")[0]


@mutant("a plus sign in a name is taken for a space", "test_files_of_any_name_are_stored")
class PlusIsSpace(Shelf):
    def decoded(self, quoted):
        return unquote(quoted.replace("+", " ").replace("%2B", " "))


@mutant("control characters vanish from URLs", "test_an_odd_name_is_fetched_or_refused")
class ControlDropped(Shelf):
    def decoded(self, quoted):
        return "".join(filter(str.isprintable, unquote(quoted)))


@mutant("a NUL ends a name", "test_an_odd_name_is_stored_or_refused")
class NulEnds(Shelf):
    def decoded(self, quoted):
        return unquote(quoted).partition("\0")[0]


@mutant("names that differ by their folder only are one file", "test_files_of_one_name_in_two_folders_are_told_apart")
class FoldersIgnored(Shelf):
    def path(self, url):
        path = super().path(url)
        found = sorted(self.root.rglob(path.name))
        return found[0] if found else path


@mutant(
    "`..` leads out of the storage", "test_no_url_leads_out_of_the_storage", "test_nothing_is_stored_beside_the_storage"
)
class DotsFollowed(Shelf):
    def path(self, url):
        if ".." not in self.decoded(url):
            return super().path(url)
        return Path(os.path.normpath(self.root / self.decoded(url.partition("library/")[2])))


@mutant("another scheme is served too", "test_bad_urls_are_refused")
class AnyScheme(Shelf):
    def path(self, url):
        return super().path("shelf://library/file.dat" if url.startswith("other-scheme:") else url)


@mutant("odd URLs end in ValueError", "test_bad_urls_are_refused", "test_bad_targets_are_refused")
class RawUrlError(Shelf):
    def path(self, url):
        urlsplit(url)
        return super().path(url)


@mutant("the temporary name of a long name is too long", "test_files_of_any_name_are_fetched")
class LongTemporary(Shelf):
    def temporary(self, path):
        return path.parent / f"{path.name}.{os.getpid()}.{threading.get_ident()}.part"


# -- errors ------------------------------------------------------------------------------------------------------------


@mutant("a missing file becomes an empty one", "test_a_missing_file_is_source_not_found")
class MissingIsEmpty(Shelf):
    def fetch(self, request, *, cancel, deadline):
        try:
            return super().fetch(request, cancel=cancel, deadline=deadline)
        except SourceNotFound:
            request.destination.touch()
            return TransferResult(size=0, checksum="adler32:00000001", url=request.url)


@mutant("a missing file is told as a passing trouble", "test_a_missing_file_is_source_not_found")
class MissingIsTransient(Shelf):
    def refused(self, error, what):
        found = super().refused(error, what)
        return TransientError(str(found)) if isinstance(found, SourceNotFound) else found


@mutant("errors of the system come out as they are", "test_a_missing_file_is_source_not_found")
class RawErrors(Shelf):
    def refused(self, error, what):
        return error


@mutant("the error does not say which file is missing", "test_a_missing_file_is_source_not_found")
class NamelessError(Shelf):
    def refused(self, error, what):
        return super().refused(error, "stage-in")


@mutant("errors have several lines", "test_a_missing_file_is_source_not_found")
class ManyLines(Shelf):
    def refused(self, error, what):
        found = super().refused(error, what)
        return type(found)(f"{found}\nTraceback (most recent call last): ...")


@mutant("a full disk is told as a passing trouble", "test_a_full_disk_is_no_space", "test_a_full_storage_is_no_space")
class FullIsTransient(Shelf):
    def refused(self, error, what):
        return TransientError(what) if error.errno == errno.ENOSPC else super().refused(error, what)


@mutant("on a full disk the partial file stays", "test_a_full_disk_is_no_space")
class FullLeavesPartial(Shelf):
    def discard(self, temporary):
        if shutil.disk_usage(temporary.parent).free > 4096:
            super().discard(temporary)


@mutant("a read-only disk ends in an OSError", "test_a_read_only_disk_is_a_transfer_error")
class ReadOnlyRaw(Shelf):
    def refused(self, error, what):
        return error if error.errno == errno.EROFS else super().refused(error, what)


@mutant("a wrong checksum leaves the file", "test_a_wrong_checksum_is_refused")
class WrongStays(Shelf):
    def discard(self, temporary):
        shutil.copyfile(temporary, temporary.parent / "file.dat")
        super().discard(temporary)


@mutant("after an error the temporary file stays", "test_a_wrong_checksum_is_refused", "test_a_wrong_size_is_refused")
class PartialStays(Shelf):
    def discard(self, temporary):
        pass


@mutant(
    "passwords of URLs are in errors", "test_passwords_in_urls_are_not_told", "test_passwords_of_targets_are_not_told"
)
class PasswordInError(Shelf):
    def path(self, url):
        if "@" in url:
            raise SourceNotFound(f"{url}: not found")
        return super().path(url)


@mutant("passwords of URLs are logged", "test_passwords_in_urls_are_not_told")
class PasswordInLog(Shelf):
    def path(self, url):
        self.log.debug("opening %s", url)
        return super().path(url)


@mutant("passwords of URLs are kept in the instance's repr", "test_passwords_in_urls_are_not_told")
class PasswordInRepr(Shelf):
    last = ""

    def path(self, url):
        self.last = url
        return super().path(url)

    def __repr__(self):
        return f"Shelf({self.last})"


# -- whole or not at all -----------------------------------------------------------------------------------------------


@mutant(
    "files are written under their final name",
    "test_a_fetched_file_appears_whole",
    "test_a_pilot_that_is_killed_leaves_no_half_file",
    "test_a_stored_file_appears_whole",
    "test_a_pilot_that_is_killed_leaves_no_half_file_there",
)
class NotAtomic(Shelf):
    def temporary(self, path):
        if path.exists() and not path.is_dir():
            path.unlink()
        return path


@mutant(
    "what was longer before keeps its end",
    "test_an_older_file_is_replaced_whole",
    "test_an_older_stored_file_is_replaced_whole",
)
class OlderEndStays(Shelf):
    def publish(self, temporary, path, replace):
        older = path.read_bytes() if path.is_file() else b""
        new = temporary.read_bytes()
        temporary.write_bytes(new + older[len(new) :])
        super().publish(temporary, path, replace)


@mutant("an older file makes a fetch fail", "test_an_older_file_is_replaced_whole")
class OlderIsError(Shelf):
    def fetch(self, request, *, cancel, deadline):
        if request.destination.exists():
            raise TransferError("is there already")
        return super().fetch(request, cancel=cancel, deadline=deadline)


@mutant("a link at the destination is followed", "test_a_link_at_the_destination_is_not_followed")
class LinkFollowed(Shelf):
    def publish(self, temporary, path, replace):
        super().publish(temporary, path.resolve(), replace)


@mutant("the fetched file is a link to the storage's", "test_a_fetched_file_is_the_pilots_alone_to_write")
class HardLink(Shelf):
    def fetch(self, request, *, cancel, deadline):
        result = super().fetch(request, cancel=cancel, deadline=deadline)
        request.destination.unlink()
        os.link(self.path(request.url), request.destination)
        return result


@mutant("the fetched file is a symbolic link", "test_a_fetched_file_is_the_pilots_alone_to_write")
class SymbolicLink(Shelf):
    def fetch(self, request, *, cancel, deadline):
        result = super().fetch(request, cancel=cancel, deadline=deadline)
        request.destination.unlink()
        request.destination.symlink_to(self.path(request.url))
        return result


@mutant("everybody may write fetched files", "test_a_fetched_file_is_the_pilots_alone_to_write")
class WorldWritable(Shelf):
    def mode(self):
        return 0o666


@mutant("fetching deletes the file on the storage", "test_nothing_but_the_file_is_left")
class FetchMoves(Shelf):
    def fetch(self, request, *, cancel, deadline):
        result = super().fetch(request, cancel=cancel, deadline=deadline)
        self.path(request.url).unlink()
        return result


@mutant("storing deletes the source", STORED)
class StoreMoves(Shelf):
    def store(self, request, *, cancel, deadline):
        result = super().store(request, cancel=cancel, deadline=deadline)
        request.source.unlink()
        return result


@mutant("beside a fetched file a temporary one is left", "test_nothing_but_the_file_is_left")
class TemporaryLeft(Shelf):
    def publish(self, temporary, path, replace):
        shutil.copy(temporary, path.parent / f".{path.name}.part")
        super().publish(temporary, path, replace)


@mutant("a copy is left among the system's temporary files", "test_nothing_but_the_file_is_left")
class TemporaryElsewhere(Shelf):
    def publish(self, temporary, path, replace):
        shutil.copy(temporary, tempfile.mkstemp()[1])
        super().publish(temporary, path, replace)


@mutant("an older file is replaced although it must not be", "test_without_overwrite_an_older_file_stays")
class OverwriteAlways(Shelf):
    def store(self, request, *, cancel, deadline):
        return super().store(replace(request, overwrite=True), cancel=cancel, deadline=deadline)


@mutant("an older file is never replaced, and that is told as success", "test_an_older_stored_file_is_replaced_whole")
class OverwriteNever(Shelf):
    def publish(self, temporary, path, replace):
        if path.exists():
            self.discard(temporary)
        else:
            super().publish(temporary, path, replace)


@mutant("without overwrite nothing is ever stored", "test_without_overwrite_an_older_file_stays")
class OverwriteNeeded(Shelf):
    def store(self, request, *, cancel, deadline):
        if not request.overwrite:
            raise TransferError("overwriting is needed")
        return super().store(request, cancel=cancel, deadline=deadline)


@mutant("new folders are not made", "test_it_stores_into_new_folders")
class NoFolders(Shelf):
    def folders(self, path):
        pass


@mutant("store returns while it still writes", STORED)
class StoreLater(Shelf):
    def store(self, request, *, cancel, deadline):
        data = request.source.read_bytes()
        digest = self.digest("adler32", "")
        digest.update(data)
        late = Deadline.after(SystemClock(), 60)
        timer = threading.Timer(0.3, lambda: Shelf.store(self, request, cancel=NOBODY, deadline=late))
        timer.daemon = True
        timer.start()
        return self.result(len(data), digest, request.url)


@mutant("only the folder of a stored file is flushed", "test_a_stored_file_is_flushed")
class FolderFlushed(Shelf):
    def flush(self, writing):
        folder = os.open("/proc/self", os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


@mutant("a stored file is flushed before its bytes are written", "test_a_stored_file_is_flushed")
class FlushedTooEarly(Shelf):
    def copy(self, source, target, *rest):
        os.fsync(target)
        return super().copy(source, target, *rest)

    def flush(self, writing):
        pass


@mutant("stored files have the mode of temporary ones", "test_a_stored_file_can_be_read_by_others")
class StoredClosed(Shelf):
    def move(self, *given):
        size = super().move(*given)
        if direction(given[5]) == "out":
            os.chmod(given[1], 0o600)
        return size


@mutant("everybody may change stored files", "test_a_stored_file_can_be_read_by_others")
class StoredOpen(Shelf):
    def move(self, *given):
        size = super().move(*given)
        if direction(given[5]) == "out":
            os.chmod(given[1], 0o777)
        return size


@mutant("the folders that are made are closed to others", "test_a_stored_file_can_be_read_by_others")
class FoldersClosed(Shelf):
    def folders(self, path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


@mutant(
    "one transfer at a time",
    "test_one_fetch_does_not_hold_up_another",
    "test_one_store_does_not_hold_up_another",
)
class WaitsForOthers(Shelf):
    lock = threading.Lock()

    def move(self, *given):
        with self.lock:
            return super().move(*given)


@mutant(
    "the size told is that of whichever file was moved last",
    "test_one_fetch_does_not_hold_up_another",
    "test_one_store_does_not_hold_up_another",
)
class SizeOfTheLast(Shelf):
    moved = 0

    def copy(self, source, target, digest, progress, *rest):
        def note(done):
            self.moved = done
            progress(done)

        return super().copy(source, target, digest, note, *rest)

    def result(self, size, digest, url):
        return super().result(self.moved, digest, url)


@mutant(
    "the reason of a cancellation is lost",
    "test_a_cancelled_fetch_does_not_begin",
    "test_a_store_is_cancelled_in_its_midst",
)
class ReasonLost(Shelf):
    def checks(self, cancel, deadline, what):
        if cancel.cancelled:
            raise Cancelled("the transfer was cancelled")
        super().checks(cancel, deadline, what)


@mutant(
    "stat and remove have all the time in the world",
    "test_without_time_nothing_is_asked",
    "test_without_time_nothing_is_removed",
)
class Timeless(Shelf):
    def stat(self, url, *, cancel, deadline):
        return super().stat(url, cancel=cancel, deadline=Deadline.after(SystemClock(), 60))

    def remove(self, url, *, cancel, deadline):
        super().remove(url, cancel=cancel, deadline=Deadline.after(SystemClock(), 60))


@mutant("the fetched result's url is a path", "test_the_fetched_url_leads_to_the_file")
class PathForUrl(Shelf):
    def fetch(self, request, **limits):
        return replace(super().fetch(request, **limits), url=str(request.destination))


@mutant("the text about another scheme shows passwords", "test_bad_urls_are_refused", "test_bad_targets_are_refused")
class PasswordOfOtherScheme(Shelf):
    def path(self, url):
        if not url.startswith("shelf:"):
            raise TransferError(f"{url[:200]!r} is not for this stager")
        return super().path(url)


@mutant(
    "passwords are written to stderr", "test_passwords_in_urls_are_not_told", "test_passwords_of_targets_are_not_told"
)
class ToldOnStderr(Shelf):
    def path(self, url):
        print(ascii(url), file=sys.stderr)
        return super().path(url)


@mutant(
    "NULs at the end of a block are lost", "test_bytes_of_any_kind_are_fetched", "test_bytes_of_any_kind_are_stored"
)
class NulsLost(Shelf):
    def write(self, target, block):
        super().write(target, block.rstrip(b"\0"))


@mutant(
    "blocks of zeros are holes, also the last",
    "test_bytes_of_any_kind_are_fetched",
    "test_bytes_of_any_kind_are_stored",
)
class HolesAtTheEnd(Shelf):
    def write(self, target, block):
        if block.strip(b"\0"):
            super().write(target, block)
        else:
            os.lseek(target, len(block), os.SEEK_CUR)


@mutant("line ends are translated", "test_bytes_of_any_kind_are_fetched")
class LineEnds(Shelf):
    def write(self, target, block):
        super().write(target, block.replace(b"\r\n", b"\n"))


@mutant("names are normalised", "test_files_of_any_name_are_fetched", "test_files_of_any_name_are_stored")
class NormalisedNames(Shelf):
    def decoded(self, quoted):
        return unicodedata.normalize("NFC", unquote(quoted))


@mutant("spaces around names are lost", "test_files_of_any_name_are_fetched", "test_files_of_any_name_are_stored")
class StrippedNames(Shelf):
    def decoded(self, quoted):
        return unquote(quoted).strip()


@mutant("names are lower-case", "test_files_of_any_name_are_fetched", "test_files_of_any_name_are_stored")
class LowerCaseNames(Shelf):
    def decoded(self, quoted):
        return unquote(quoted).lower()


@mutant("a link is stored as a link", "test_a_link_is_stored_as_a_file")
class LinkStored(Shelf):
    def store(self, request, **limits):
        result = super().store(request, **limits)
        if request.source.is_symlink():
            path = self.path(request.url)
            path.unlink()
            path.symlink_to(request.source.resolve())
        return result


class ByProgram(Shelf):
    """Has another program move the bytes."""

    def copy(self, source, target, digest, progress, cancel, deadline, what):
        with subprocess.Popen(["cat"], stdin=source, stdout=target) as program:
            self.await_(program, cancel)
        size = os.lseek(target, 0, os.SEEK_CUR)
        digest.update(os.pread(source, size, 0))
        progress(size)
        self.checks(cancel, deadline, what)
        return size

    def await_(self, program, cancel):
        program.wait()


@mutant(
    "another program moves the bytes, and is waited for whatever happens",
    "test_a_fetch_of_a_huge_file_is_cancelled",
    "test_a_store_of_a_huge_file_is_cancelled",
)
class DeafProgram(ByProgram):
    pass


@mutant(
    "another program moves the bytes, and goes on when it was cancelled",
    "test_a_fetch_of_a_huge_file_is_cancelled",
    "test_a_store_of_a_huge_file_is_cancelled",
)
class ProgramGoesOn(ByProgram):
    def copy(self, source, target, digest, progress, cancel, deadline, what):
        size = super().copy(source, target, digest, progress, cancel, deadline, what)
        self.checks(cancel, deadline, what)
        return size

    def await_(self, program, cancel):
        waiting = os.pidfd_open(program.pid)
        with os.fdopen(waiting) as end:
            SystemClock().wait(end, cancel)
        if cancel.cancelled:
            program.returncode = -1
        else:
            program.wait()


@mutant("every transfer leaves a zombie", "test_fetching_leaks_nothing", "test_storing_leaks_nothing")
class Zombies(Shelf):
    def move(self, *given):
        os.posix_spawn("/bin/true", ["true"], {})
        return super().move(*given)


@mutant("the time limit of all sockets is changed", "test_it_fetches_what_the_catalogue_knows_nothing_of")
class SocketTime(Shelf):
    def path(self, url):
        socket.setdefaulttimeout(10)
        return super().path(url)


@mutant("a signal's handler is changed", "test_it_fetches_what_the_catalogue_knows_nothing_of")
class SignalIgnored(Shelf):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@mutant("a handler is added to the root logger", "test_it_fetches_what_the_catalogue_knows_nothing_of")
class RootHandler(Shelf):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        logging.getLogger().addHandler(logging.NullHandler())


@mutant("stored files are not flushed", "test_a_stored_file_is_flushed")
class NotFlushed(Shelf):
    def flush(self, writing):
        pass


@mutant("a checksum is verified only where the size is known", "test_a_wrong_checksum_is_refused")
class ChecksumOnlyWithSize(Shelf):
    def verify(self, digest, size, wanted, expected, what):
        if expected is not None:
            super().verify(digest, size, wanted, expected, what)


@mutant("what may not be read is told as missing", "test_permissions_are_kept_and_told")
class DeniedIsMissing(Shelf):
    def refused(self, error, what):
        return SourceNotFound(what) if error.errno == errno.EACCES else super().refused(error, what)


@mutant(
    "permissions come out as they are",
    "test_permissions_are_kept_and_told",
    "test_a_storage_that_may_not_be_written_is_an_error",
)
class DeniedRaw(Shelf):
    def refused(self, error, what):
        return error if error.errno == errno.EACCES else super().refused(error, what)


@mutant("a named pipe on the storage is waited for", "test_what_is_no_file_is_not_fetched")
class FetchWaitsForPipe(Shelf):
    def opened(self, path, what):
        return os.open(path, os.O_RDONLY)


@mutant("a file that is cut short while it is read passes", "test_a_file_that_shrinks_is_refused")
class ShrinkingPasses(Shelf):
    def copy(self, source, *rest):
        size = os.fstat(source).st_size
        super().copy(source, *rest)
        return size


@mutant("stat remembers what it was told once", "test_stat_tells_size_and_checksum")
class StatRemembers(Shelf):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.known = {}

    def stat(self, url, *, cancel, deadline):
        if url not in self.known:
            self.known[url] = super().stat(url, cancel=cancel, deadline=deadline)
        return self.known[url]


@mutant("storing appends to an older file", "test_an_older_stored_file_is_replaced_whole")
class StoreAppendsToOlder(Shelf):
    def publish(self, temporary, path, replace):
        older = path.read_bytes() if path.is_file() else b""
        temporary.write_bytes(older + temporary.read_bytes())
        super().publish(temporary, path, replace)


# -- cancellation and time ---------------------------------------------------------------------------------------------


@mutant(
    "cancellation is not heard of",
    "test_a_cancelled_fetch_does_not_begin",
    "test_a_fetch_is_cancelled_in_its_midst",
    "test_a_cancelled_store_does_not_begin",
    "test_a_store_is_cancelled_in_its_midst",
)
class DeafToCancel(Shelf):
    def checks(self, cancel, deadline, what):
        deadline.raise_if_passed(what)


@mutant(
    "cancellation is heard of at the beginning only",
    "test_a_fetch_is_cancelled_in_its_midst",
    "test_a_store_is_cancelled_in_its_midst",
)
class CancelAtStartOnly(Shelf):
    def copy(self, source, target, digest, progress, cancel, deadline, what):
        return super().copy(source, target, digest, progress, NOBODY, deadline, what)


@mutant("cancellation is heard of when all bytes were moved", "test_a_fetch_is_cancelled_in_its_midst")
class CancelAtEnd(Shelf):
    def copy(self, source, target, digest, progress, cancel, deadline, what):
        size = super().copy(source, target, digest, progress, NOBODY, deadline, what)
        cancel.raise_if_cancelled()
        return size


@mutant("a cancelled fetch is told as a success", "test_a_fetch_is_cancelled_in_its_midst")
class CancelSwallowed(Shelf):
    def fetch(self, request, *, cancel, deadline):
        try:
            return super().fetch(request, cancel=cancel, deadline=deadline)
        except Cancelled:
            return TransferResult(size=0, checksum="adler32:00000001", url=request.url)


@mutant("a cancelled transfer is told as a transfer error", "test_a_fetch_is_cancelled_in_its_midst")
class CancelIsError(Shelf):
    def checks(self, cancel, deadline, what):
        if cancel.cancelled:
            raise TransferError(f"{what}: interrupted")
        super().checks(cancel, deadline, what)


@mutant("a cancelled fetch leaves its partial file", "test_a_fetch_is_cancelled_in_its_midst")
class CancelLeavesPartial(Shelf):
    def move(self, *arguments):
        try:
            return super().move(*arguments)
        except Cancelled:
            arguments[1].with_suffix(".part").touch()
            raise


@mutant("a cancelled remove removes", "test_a_cancelled_store_does_not_begin")
class CancelledRemoves(Shelf):
    def remove(self, url, *, cancel, deadline):
        super().remove(url, cancel=NOBODY, deadline=deadline)
        cancel.raise_if_cancelled()


@mutant("deadlines are passed over", "test_a_deadline_ends_a_fetch", "test_a_deadline_ends_a_store")
class NoDeadline(Shelf):
    def checks(self, cancel, deadline, what):
        cancel.raise_if_cancelled()


@mutant("a deadline is told as a cancellation", "test_a_deadline_ends_a_fetch")
class DeadlineIsCancel(Shelf):
    def checks(self, cancel, deadline, what):
        if deadline.passed:
            raise Cancelled("out of time")
        super().checks(cancel, deadline, what)


@mutant("a cancelled fetch waits for somebody for ever", "test_a_cancelled_fetch_does_not_begin")
class CancelHangs(Shelf):
    def checks(self, cancel, deadline, what):
        if cancel.cancelled:
            threading.Event().wait()
        super().checks(cancel, deadline, what)


@mutant("progress is never told", "test_progress_is_told", "test_a_stored_file_appears_whole")
class NoProgress(Shelf):
    def copy(self, source, target, digest, progress, cancel, deadline, what):
        return super().copy(source, target, digest, lambda _: None, cancel, deadline, what)


@mutant("progress tells the size of each block", "test_progress_is_told")
class ProgressByBlock(Shelf):
    def copy(self, source, target, digest, progress, cancel, deadline, what):
        return super().copy(source, target, digest, lambda _: progress(BLOCK), cancel, deadline, what)


@mutant("progress is told at the end only", "test_progress_is_told")
class ProgressAtEnd(Shelf):
    def copy(self, source, target, digest, progress, cancel, deadline, what):
        size = super().copy(source, target, digest, lambda _: None, cancel, deadline, what)
        progress(size)
        return size


# -- many, and again ---------------------------------------------------------------------------------------------------


@mutant(
    "all threads share one buffer",
    "test_files_are_fetched_at_the_same_time",
    "test_files_are_stored_at_the_same_time",
)
class SharedBuffer(Shelf):
    block = b""
    meeting = threading.Barrier(2)

    def read(self, source):
        block = super().read(source)
        self.block = block or self.block
        try:
            self.meeting.wait(0.2)
        except threading.BrokenBarrierError:
            self.meeting.reset()
        return self.block if block else b""


@mutant("one instance serves one file at a time, and says so to the others", "test_files_are_fetched_at_the_same_time")
class OneAtATime(Shelf):
    busy = threading.Lock()

    def copy(self, *arguments):
        if not self.busy.acquire(blocking=False):
            raise TransientError("busy")
        try:
            threading.Event().wait(0.05)
            return super().copy(*arguments)
        finally:
            self.busy.release()


@mutant(
    "temporary files of one folder have one name",
    "test_files_are_fetched_at_the_same_time",
    "test_files_are_stored_at_the_same_time",
)
class OneTemporary(Shelf):
    def temporary(self, path):
        return path.parent / ".part"

    def copy(self, *arguments):
        threading.Event().wait(0.05)
        return super().copy(*arguments)


@mutant("a file that was fetched once is not looked at again", "test_it_fetches_again_after_errors")
class Cached(Shelf):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.known = {}

    def fetch(self, request, *, cancel, deadline):
        if request.url in self.known and request.destination.exists():
            return self.known[request.url]
        self.known[request.url] = super().fetch(request, cancel=cancel, deadline=deadline)
        return self.known[request.url]


@mutant(
    "after an error an instance is of no use", "test_it_fetches_again_after_errors", "test_it_stores_again_after_errors"
)
class Poisoned(Shelf):
    broken = False

    def move(self, *arguments):
        if self.broken:
            raise TransferError("not after an error")
        try:
            return super().move(*arguments)
        except BaseException:
            self.broken = True
            raise


@mutant("every transfer leaves a descriptor open", "test_fetching_leaks_nothing", "test_storing_leaks_nothing")
class DescriptorLeak(Shelf):
    def opened(self, path, what):
        os.dup(super().opened(path, what))
        return super().opened(path, what)


@mutant("every error leaves a descriptor open", "test_fetching_leaks_nothing")
class DescriptorLeakOnError(Shelf):
    def refused(self, error, what):
        os.open(os.devnull, os.O_RDONLY)
        return super().refused(error, what)


@mutant("every fetch leaves a thread", "test_fetching_leaks_nothing")
class ThreadLeak(Shelf):
    def fetch(self, request, *, cancel, deadline):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return super().fetch(request, cancel=cancel, deadline=deadline)


@mutant("the working directory is changed", BYTES)
class ChangesDirectory(Shelf):
    def fetch(self, request, *, cancel, deadline):
        os.chdir(request.destination.parent)
        return super().fetch(request, cancel=cancel, deadline=deadline)


@mutant("the umask is changed", BYTES)
class ChangesUmask(Shelf):
    def fetch(self, request, *, cancel, deadline):
        os.umask(0o777)
        return super().fetch(request, cancel=cancel, deadline=deadline)


@mutant("the environment is changed", STORED)
class ChangesEnvironment(Shelf):
    def store(self, request, *, cancel, deadline):
        os.environ["SHELF"] = str(request.source)
        return super().store(request, cancel=cancel, deadline=deadline)


# -- asking and removing -----------------------------------------------------------------------------------------------


@mutant("stat tells a size that is off by one", "test_stat_tells_size_and_checksum", "test_stat_tells_of_stored_files")
class StatOffByOne(Shelf):
    def stat(self, url, *, cancel, deadline):
        return FileStat(size=super().stat(url, cancel=cancel, deadline=deadline).size + 1)


@mutant("stat tells a checksum that it made up", "test_stat_tells_size_and_checksum")
class StatMadeUp(Shelf):
    def stat(self, url, *, cancel, deadline):
        return replace(super().stat(url, cancel=cancel, deadline=deadline), checksum="adler32:00000001")


@mutant("stat of a missing file says that it is empty", "test_stat_of_a_missing_file_is_source_not_found")
class StatMissing(Shelf):
    def stat(self, url, *, cancel, deadline):
        try:
            return super().stat(url, cancel=cancel, deadline=deadline)
        except SourceNotFound:
            return FileStat(size=0)


@mutant("stat makes the file that it is asked about", "test_stat_of_a_missing_file_is_source_not_found")
class StatMakes(Shelf):
    def stat(self, url, *, cancel, deadline):
        try:
            return super().stat(url, cancel=cancel, deadline=deadline)
        except SourceNotFound:
            if url.endswith("absent.dat"):
                (self.root / "absent.dat").touch()
            raise


@mutant("remove does nothing", "test_a_removed_file_is_gone")
class RemoveNothing(Shelf):
    def remove(self, url, *, cancel, deadline):
        self.stat(url, cancel=cancel, deadline=deadline)


@mutant("a second remove says nothing", "test_a_removed_file_is_gone")
class RemoveTwice(Shelf):
    def remove(self, url, *, cancel, deadline):
        with suppress(SourceNotFound):
            super().remove(url, cancel=cancel, deadline=deadline)


@mutant("remove takes every file whose name begins so", "test_a_removed_file_is_gone")
class RemoveByPrefix(Shelf):
    def remove(self, url, *, cancel, deadline):
        super().remove(url, cancel=cancel, deadline=deadline)
        for path in self.root.glob(f"{self.path(url).name}*"):
            path.unlink()


@mutant("remove takes whole directories", "test_a_directory_is_not_removed")
class RemoveDirectory(Shelf):
    def remove(self, url, *, cancel, deadline):
        if self.path(url).is_dir():
            shutil.rmtree(self.path(url))
        else:
            super().remove(url, cancel=cancel, deadline=deadline)


@mutant("a missing source is stored as an empty file", "test_a_missing_source_is_source_not_found")
class StoresNothing(Shelf):
    def store(self, request, *, cancel, deadline):
        if not request.source.exists():
            self.path(request.url).touch()
            return TransferResult(size=0, checksum="adler32:00000001", url=request.url)
        return super().store(request, cancel=cancel, deadline=deadline)


@mutant("a named pipe as source is waited for", "test_what_is_no_file_is_not_stored")
class WaitsForPipe(Shelf):
    def opened(self, path, what):
        return os.open(path, os.O_RDONLY)


@mutant("the result's url is that of the source", STORED)
class UrlOfSource(Shelf):
    def store(self, request, *, cancel, deadline):
        return replace(super().store(request, cancel=cancel, deadline=deadline), url=f"file://{request.source}")


# -- the plugin itself -------------------------------------------------------------------------------------------------


@mutant(
    "a capability is claimed that nobody tests",
    "test_its_capabilities_are_known_to_the_kit",
    capabilities=CAPABILITIES | {"teleport"},
)
class ClaimsTeleport(Shelf):
    pass


@mutant(
    "sha256 is claimed and not there",
    "test_a_claimed_checksum_is_verified",
    "test_a_claimed_checksum_is_computed_and_verified",
    capabilities=CAPABILITIES | {"checksum:sha256"},
)
class ClaimsSha256(Shelf):
    pass


@dataclass(frozen=True)
class OpenSettings(Settings):
    password: str = setting("", help="password of the library")


@mutant("a password is a setting like any other", "test_its_settings_keep_secrets", settings=OpenSettings)
class OpenPassword(Shelf):
    pass


@mutant("it opts out of what is no clause", "test_its_opt_outs_name_clauses", opt_outs={"test_nothing": "no reason"})
class OptsOutOfNothing(Shelf):
    pass


@mutant("every file is logged with the pilot's token", BYTES)
class LogsToken(Shelf):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.token = context.credential.secrets()[0]

    def fetch(self, request, *, cancel, deadline):
        logging.getLogger("shelf").info("token %s", self.token)
        return super().fetch(request, cancel=cancel, deadline=deadline)
