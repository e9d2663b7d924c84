"""The clauses for stage-out: what is stored is the very file, there whole or not at all; what is removed is gone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from pilot_core.api.checksums import DIGITS
from pilot_core.errors import (
    ChecksumMismatch,
    HandledError,
    SourceNotFound,
    TargetExists,
    TransferError,
)
from pilot_core.testing.content import same_bytes
from pilot_core.testing.kits.apart import Disk, apart
from pilot_core.testing.kits.stager_base import (
    ANY,
    FILE,
    NAMES,
    NASTY,
    ODD_NAMES,
    SIZES,
    Bench,
    StagerBase,
    allowed,
    check_result,
    checksum_of,
    data_of,
    listing,
    ran_programs,
    refused,
)
from pilot_core.testing.kits.storage import DirectoryStorage

__all__ = ["StageOutClauses"]


class StageOutClauses(StagerBase):
    """Storing, asking, removing."""

    # -- the very bytes --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", SIZES)
    def test_the_very_bytes_are_stored(self, size: int, stage_out: Bench) -> None:
        """A stored file has the bytes of its source, and the result their size and adler32, and where it lies."""
        data = data_of(size)
        source = stage_out.write(data)
        result = stage_out.store()
        same_bytes(stage_out.storage.get(FILE), data, "the bytes on the storage are not those of the source")
        check_result(result, data, "store")
        assert result.checksum.startswith("adler32:"), f"asked for was an adler32, told is {result.checksum}"
        same_bytes(source.read_bytes(), data, "storing changed the source")
        assert stage_out.stat(url=result.url).size == size, "the result's url does not lead to the stored file"

    def test_bytes_of_any_kind_are_stored(self, stage_out: Bench) -> None:
        """Line ends, marks of encodings, NULs and long runs of zeros, also at the end, arrive as they are."""
        stage_out.write(NASTY)
        check_result(stage_out.store(), NASTY, "store")
        same_bytes(stage_out.storage.get(FILE), NASTY, "the stored bytes are not those of the source")

    def test_a_link_is_stored_as_a_file(self, stage_out: Bench) -> None:
        """A source that is a symbolic link is stored as the file that it leads to, or refused; never as a link."""
        stage_out.write(b"the file")
        (stage_out.here / "link.dat").symlink_to(FILE)
        try:
            stage_out.store("link.dat")
        except ANY:
            assert not stage_out.storage.names()
        else:
            (stage_out.here / FILE).unlink()
            same_bytes(stage_out.storage.get("link.dat"), b"the file", "a link was stored in the place of a file")

    def test_nothing_but_the_stored_file_is_left(self, stage_out: Bench) -> None:
        """After a store there is the file on the storage and nothing else anywhere."""
        stage_out.storage.put("other.dat", b"other")
        stage_out.write(data_of(4097))
        stage_out.store()
        left = stage_out.storage.names() - {FILE, "other.dat"}
        assert not left, f"beside the stored file lies {sorted(left)}"
        same_bytes(stage_out.storage.get("other.dat"), b"other", "storing changed another file")
        assert listing(stage_out.here) == {FILE}, f"beside the source lies {sorted(listing(stage_out.here) - {FILE})}"
        stage_out.check_clean(here=False)

    def test_it_stores_into_new_folders(self, stage_out: Bench) -> None:
        """Folders of the URL that are not there yet are made."""
        stage_out.write(b"deep")
        stage_out.store("new/and deeper/é/file.dat", source=stage_out.here / FILE)
        same_bytes(stage_out.storage.get("new/and deeper/é/file.dat"), b"deep")

    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
    def test_files_of_any_name_are_stored(self, name: str, stage_out: Bench) -> None:
        """A name with spaces, unicode, 255 bytes or characters of shells and URLs is a name like any other."""
        stage_out.write(b"the right one", name)
        stage_out.store(name)
        same_bytes(stage_out.storage.get(name), b"the right one")
        assert stage_out.storage.names() == {name}

    @pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
    def test_an_odd_name_is_stored_or_refused(self, name: str, stage_out: Bench) -> None:
        """A name with control characters is stored exactly, or refused in one line; nothing else is made."""
        source = stage_out.write(b"odd", "plain.dat")
        try:
            stage_out.store(name, source=source)
        except ANY as error:
            assert str(error).isprintable(), f"the error's text has control characters: {str(error)!r}"
            assert not stage_out.storage.names(), f"something was made: {stage_out.storage.names()}"
        else:
            assert stage_out.storage.names() == {name}, f"another file was made: {stage_out.storage.names()}"

    # -- an older file -------------------------------------------------------------------------------------------------

    def test_an_older_stored_file_is_replaced_whole(self, stage_out: Bench) -> None:
        """With `overwrite` an older file at that place is replaced, and nothing of it stays."""
        stage_out.storage.put(FILE, b"older and much longer" * 1000)
        stage_out.write(b"new")
        stage_out.store()
        same_bytes(stage_out.storage.get(FILE), b"new")
        assert stage_out.storage.names() == {FILE}

    def test_without_overwrite_an_older_file_stays(self, stage_out: Bench) -> None:
        """Without `overwrite` an older file is `TargetExists` and stays as it is; a free place is no error."""
        stage_out.storage.put(FILE, b"older")
        stage_out.write(b"new")
        refused(lambda: stage_out.store(overwrite=False), TargetExists, what="storing over an older file")
        same_bytes(stage_out.storage.get(FILE), b"older", "the older file was touched")
        assert stage_out.storage.names() == {FILE}
        stage_out.store("free.dat", source=stage_out.here / FILE, overwrite=False)
        same_bytes(stage_out.storage.get("free.dat"), b"new")

    # -- checksums -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", DIGITS)
    def test_a_claimed_checksum_is_computed_and_verified(self, name: str, stage_out: Bench) -> None:
        """A checksum that is asked for, or given, is computed or verified, if the provider claims it; else refused."""
        data = data_of(4097)
        stage_out.write(data)
        needed = name == "adler32" or stage_out.claims(f"checksum:{name}")
        right, wrong = checksum_of(name, data), checksum_of(name, data + b"!")
        due = ChecksumMismatch if needed else TransferError
        refused(lambda: stage_out.store(checksum=wrong), due, what=f"storing with a wrong {name}")
        assert not stage_out.storage.names(), f"a file with a wrong checksum was stored: {stage_out.storage.names()}"
        for asked in (name, right):
            try:
                result = stage_out.store(checksum=asked)
            except TransferError as error:
                assert not needed, f"{name} is {'claimed' if name != 'adler32' else 'needed'}, and refused: {error}"
            else:
                assert result.checksum == right, f"asked for was {asked}, told is {result.checksum}"

    @pytest.mark.parametrize("checksum", ["crc99", "crc99:0011", "adler32:xyz"])
    def test_an_unknown_checksum_is_not_stored(self, checksum: str, stage_out: Bench) -> None:
        """A checksum that the stager cannot read or does not know is an error, and nothing is stored."""
        stage_out.write(b"x")
        refused(lambda: stage_out.store(checksum=checksum), TransferError, what=f"the checksum {checksum!r}")
        assert not stage_out.storage.names()

    def test_a_wrong_checksum_spares_an_older_file(self, stage_out: Bench) -> None:
        """A refused store leaves an older file whole, or removes it; never a mixture, never the refused bytes."""
        stage_out.storage.put(FILE, b"older")
        stage_out.write(data_of(4097))
        refused(lambda: stage_out.store(checksum="adler32:deadbeef"), ChecksumMismatch, what="a wrong checksum")
        assert stage_out.storage.get(FILE) in {b"older", None}
        assert stage_out.storage.names() <= {FILE}

    # -- what is wrong -------------------------------------------------------------------------------------------------

    def test_a_missing_source_is_source_not_found(self, stage_out: Bench) -> None:
        """A source that is not there is `SourceNotFound`, which names it, and nothing is stored."""
        error = refused(lambda: stage_out.store("absent.dat"), SourceNotFound, what="storing a missing file")
        assert "absent.dat" in str(error), f"the error does not name the missing file: {error}"
        assert not stage_out.storage.names()

    def test_what_is_no_file_is_not_stored(self, stage_out: Bench) -> None:
        """A directory or a named pipe as source is refused, at once."""
        (stage_out.here / "folder").mkdir()
        os.mkfifo(stage_out.here / "pipe")
        for name in ("folder", "pipe"):
            refused(lambda: stage_out.store(name), *ANY, what=f"storing a {name}")  # noqa: B023
        assert not stage_out.storage.names()

    def test_bad_targets_are_refused(self, stage_out: Bench) -> None:
        """URLs that name no file, or no file of this stager, are refused with a transfer error; nothing is stored."""
        source = stage_out.write(b"x")
        for url in stage_out.bad_urls():
            shown = repr(url[:60])
            refused(lambda: stage_out.store(url=url, source=source), *ANY, what=f"storing to {shown}")  # noqa: B023
            refused(lambda: stage_out.remove(url=url), *ANY, what=f"removing {shown}")  # noqa: B023
            refused(lambda: stage_out.stat(url=url), *ANY, what=f"asking about {shown}")  # noqa: B023
        assert not stage_out.storage.names()
        for url in stage_out.doubtful_urls():
            shown = repr(url[:60])
            allowed(lambda: stage_out.store(url=url, source=source), what=f"storing to {shown}")  # noqa: B023
            allowed(lambda: stage_out.stat(url=url), what=f"asking about {shown}")  # noqa: B023
            allowed(lambda: stage_out.remove(url=url), what=f"removing {shown}")  # noqa: B023

    def test_nothing_is_stored_beside_the_storage(self, stage_out: Bench) -> None:
        """A URL with `..` in it, plain or encoded, never makes, changes or removes a file beside the storage."""
        folder = getattr(stage_out.storage, "folder", None)
        if not isinstance(folder, Path):
            self.does_not_apply("the storage is no directory")
        (folder.parent / "beside.dat").write_bytes(b"not for jobs")
        base = stage_out.storage.url("x").removesuffix("/x")
        source = stage_out.write(b"x")
        for way in ("..", "%2e%2e", ".%2E", "a/../..", "a/%2e%2e/%2e%2e", "..%2f", "%2e%2e%2f", "a%2f..%2f.."):
            for name in ("beside.dat", "made.dat"):
                url = f"{base}/{way}/{name}"
                with contextlib.suppress(HandledError):
                    stage_out.store(url=url, source=source)
                with contextlib.suppress(HandledError):
                    stage_out.remove(url=url)
        same_bytes(
            (folder.parent / "beside.dat").read_bytes(), b"not for jobs", "a file beside the storage was changed"
        )
        assert not (folder.parent / "made.dat").exists(), "a file was made beside the storage"

    def test_a_file_in_the_place_of_a_folder_is_an_error(self, stage_out: Bench) -> None:
        """A target below a file is refused, and that file stays."""
        if not isinstance(stage_out.storage, DirectoryStorage):
            self.does_not_apply("the storage is no directory: its names may have slashes")
        stage_out.storage.put("plain", b"kept")
        source = stage_out.write(b"x")
        refused(lambda: stage_out.store("plain/file.dat", source=source), *ANY, what="storing to below a file")
        same_bytes(stage_out.storage.get("plain"), b"kept")
        assert stage_out.storage.names() == {"plain"}

    def test_a_storage_that_may_not_be_written_is_an_error(self, stage_out: Bench) -> None:
        """A storage that refuses writing is a transfer or authorisation error, and nothing is left there."""
        place = stage_out.direct
        if place is None:
            self.does_not_apply("the stager does not write the storage's files itself")
        stage_out.write(b"x")
        request = stage_out.store_request()
        place.folder.chmod(0o555)

        def part() -> list[str]:
            try:
                stage_out.fresh().store(request, **stage_out.limits)
            except Exception as error:  # noqa: BLE001  (told, and judged below)
                return [kind.__name__ for kind in type(error).__mro__]
            return []

        kinds = apart(part, permissions=True)
        place.folder.chmod(0o755)
        first = (kinds or ["nothing"])[0]
        assert {"TransferError", "AuthError"} & set(kinds), f"{first} was raised where AuthError is due"
        assert not place.names()

    def test_a_stored_file_is_flushed(self, stage_out: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """On return a stored file is safe on disk: flushed (`os.fsync`) before it gets its name, or written so."""
        if stage_out.direct is None:
            self.does_not_apply("the stager does not write the storage's files itself")
        flushed: list[tuple[int, int]] = []
        written_so: list[int] = []
        opened = os.open

        def remember(descriptor: int) -> None:
            found = os.fstat(descriptor)
            flushed.append((found.st_ino, found.st_size))

        def open_(path: Any, flags: int, *rest: Any, **named: Any) -> int:
            if flags & (os.O_SYNC | os.O_DSYNC):
                written_so.append(flags)
            return opened(path, flags, *rest, **named)

        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, remember)
        monkeypatch.setattr(os, "sync", lambda: written_so.append(0))
        monkeypatch.setattr(os, "open", open_)
        stage_out.write(data_of(4097))
        stage_out.store()
        if written_so or ran_programs() > stage_out.programs:
            return
        assert flushed, "nothing was flushed: a crash of the machine would lose what was told as stored"
        place = stage_out.direct.path(FILE).stat().st_ino
        sizes = [size for inode, size in flushed if inode == place]
        assert sizes, "other things were flushed than the stored file: its bytes could be lost by a crash"
        assert 4097 in sizes, f"the file was flushed when it had {max(sizes)} of 4097 bytes: empty the buffer before"

    def test_a_full_storage_is_no_space(self, stage_out: Bench) -> None:
        """A storage without room is `NoSpace`, and nothing of the file stays there."""
        place = stage_out.direct
        if place is None:
            self.does_not_apply("the stager does not write the storage's files itself")
        stage_out.write(data_of(4 * 1024 * 1024))
        request = stage_out.store_request()

        def part() -> dict[str, Any]:
            kinds: list[str] = []
            try:
                stage_out.fresh().store(request, **stage_out.limits)
            except Exception as error:  # noqa: BLE001  (told, and judged below)
                kinds = [kind.__name__ for kind in type(error).__mro__]
            return {"kinds": kinds, "left": sorted(listing(place.folder))}

        told = apart(part, Disk(place.folder, 256))
        assert told["kinds"], "a file that is larger than the storage was stored"
        assert "NoSpace" in told["kinds"], f"{told['kinds'][0]} was raised where NoSpace is due"
        assert not told["left"], f"on the full storage is left: {told['left']}"
