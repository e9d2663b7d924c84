"""The clauses for stage-in: what is fetched is the very file; what is wrong is refused, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest

from pilot_core.api.checksums import DIGITS
from pilot_core.errors import Cancelled, ChecksumMismatch, SourceNotFound, TransferError
from pilot_core.testing.content import same_bytes
from pilot_core.testing.kits.stager_base import (
    ANY,
    FILE,
    NAMES,
    NASTY,
    ODD_NAMES,
    REASON,
    SIZES,
    Bench,
    StagerBase,
    allowed,
    check_result,
    checksum_of,
    data_of,
    listing,
    refused,
)

__all__ = ["StageInClauses"]


class StageInClauses(StagerBase):
    """Fetching and asking."""

    # -- the very bytes --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", SIZES)
    def test_the_very_bytes_are_fetched(self, size: int, stage_in: Bench) -> None:
        """A fetched file has the bytes of the file on the storage, and the result their size and checksum."""
        data = data_of(size)
        stage_in.storage.put(FILE, data)
        result = stage_in.fetch(size=size, checksum=checksum_of("adler32", data))
        assert (stage_in.here / FILE).is_file(), "fetch returned, and the file is not at its destination"
        same_bytes((stage_in.here / FILE).read_bytes(), data, "the fetched bytes are not those on the storage")
        check_result(result, data, "fetch")

    def test_bytes_of_any_kind_are_fetched(self, stage_in: Bench) -> None:
        """Line ends, marks of encodings, NULs and long runs of zeros, also at the end, arrive as they are."""
        stage_in.storage.put(FILE, NASTY)
        check_result(stage_in.fetch(size=len(NASTY)), NASTY, "fetch")
        same_bytes((stage_in.here / FILE).read_bytes(), NASTY, "the fetched bytes are not those on the storage")

    def test_it_fetches_what_the_catalogue_knows_nothing_of(self, stage_in: Bench) -> None:
        """Without an expected size and checksum a file is fetched all the same, and the result tells both."""
        data = data_of(4097, 1)
        stage_in.storage.put(FILE, data)
        check_result(stage_in.fetch(), data, "fetch")
        same_bytes((stage_in.here / FILE).read_bytes(), data)

    def test_an_empty_file_is_a_file(self, stage_in: Bench) -> None:
        """A file without a byte, known to be so, is fetched like any other."""
        stage_in.storage.put(FILE, b"")
        check_result(stage_in.fetch(size=0, checksum="adler32:00000001"), b"", "fetching an empty file")
        same_bytes((stage_in.here / FILE).read_bytes(), b"")

    def test_nothing_but_the_file_is_left(self, stage_in: Bench) -> None:
        """After a fetch there is the file and nothing else: not here, not on the storage, not among temporary files."""
        stage_in.storage.put(FILE, data_of(4097))
        before = stage_in.storage.names()
        stage_in.fetch(to=stage_in.here / "in.dat")
        left = listing(stage_in.here) - {"in.dat"}
        assert not left, f"beside the fetched file lies {sorted(left)}"
        assert stage_in.storage.names() == before, "fetching changed what lies on the storage"
        same_bytes(stage_in.storage.get(FILE), data_of(4097), "fetching changed the file on the storage")
        stage_in.check_clean(here=False)

    def test_a_fetched_file_is_the_pilots_alone_to_write(self, stage_in: Bench) -> None:
        """A fetched file is a plain file that its owner can read and neither group nor others can write."""
        stage_in.storage.put(FILE, b"x")
        before = os.umask(0o022)
        try:
            stage_in.fetch()
        finally:
            os.umask(before)
        mode = (stage_in.here / FILE).lstat().st_mode
        assert stat.S_ISREG(mode), "the fetched file is not a plain file (a link?)"
        assert not mode & 0o022, f"group or others may write the fetched file (mode {mode & 0o7777:o})"
        assert mode & 0o400, f"its owner cannot read the fetched file (mode {mode & 0o7777:o})"
        assert not mode & 0o7000, f"the fetched file has odd bits in its mode ({mode & 0o7777:o})"
        stage_in.storage.put(FILE, b"y")
        same_bytes(
            (stage_in.here / FILE).read_bytes(), b"x", "the fetched file is the storage's own: it changes with it"
        )

    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
    def test_files_of_any_name_are_fetched(self, name: str, stage_in: Bench) -> None:
        """A name with spaces, unicode, 255 bytes or characters of shells and URLs is a name like any other."""
        stage_in.storage.put(name, b"the right one")
        before = stage_in.storage.names()
        destination = stage_in.here / "in" / name
        destination.parent.mkdir(parents=True)
        stage_in.fetch(name, to=destination, size=13)
        same_bytes(destination.read_bytes(), b"the right one")
        folders = {str(folder) for folder in Path(name).parents} - {"."}
        assert listing(stage_in.here / "in") == {name, *folders}
        assert stage_in.storage.names() == before

    @pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
    def test_an_odd_name_is_fetched_or_refused(self, name: str, stage_in: Bench) -> None:
        """A name with control characters is fetched exactly, or refused in one line; no other file is taken for it."""
        with contextlib.suppress(ValueError, OSError):
            stage_in.storage.put(name, b"odd")
        shortened = {name.partition(char)[0] for char in name if not char.isprintable()}
        for other in shortened | {"".join(filter(str.isprintable, name)), name.rpartition("b.dat")[1]}:
            stage_in.storage.put(other, b"another")
        for destination in (stage_in.here / "plain.dat", stage_in.here / name):
            try:
                stage_in.fetch(name, to=destination)
            except ANY as error:
                assert str(error).isprintable(), f"the error's text has control characters: {str(error)!r}"
                assert listing(stage_in.here) <= {"plain.dat", name}, f"something is left: {listing(stage_in.here)}"
            else:
                same_bytes(destination.read_bytes(), b"odd", "another file was fetched than the one that was asked for")

    def test_files_of_one_name_in_two_folders_are_told_apart(self, stage_in: Bench) -> None:
        """Two files whose names differ by their folder only are not taken for each other, neither here nor there."""
        for folder in ("one", "two"):
            stage_in.storage.put(f"{folder}/{FILE}", folder.encode())
            (stage_in.here / folder).mkdir()
        for folder in ("one", "two"):
            stage_in.fetch(f"{folder}/{FILE}")
        for folder in ("one", "two"):
            same_bytes((stage_in.here / folder / FILE).read_bytes(), folder.encode())

    # -- what is wrong -----------------------------------------------------------------------------------------------

    def test_a_missing_file_is_source_not_found(self, stage_in: Bench) -> None:
        """A file that is not on the storage is `SourceNotFound`, which names it, and nothing is left."""
        stage_in.storage.put(FILE, b"x")
        for name in ("absent.dat", "no-such-folder/absent.dat"):
            error = refused(
                lambda name=name: stage_in.fetch(name, to=stage_in.here / FILE),  # type: ignore[misc]
                SourceNotFound,
                what="fetching a missing file",
            )
            assert "absent.dat" in str(error), f"the error does not name the missing file: {error}"
        stage_in.check_clean()

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("wrong", ["00000000", "deadbeef"])
    def test_a_wrong_checksum_is_refused(self, size: int, wrong: str, stage_in: Bench) -> None:
        """Bytes with another adler32 than the catalogue's are `ChecksumMismatch`, and nothing is left."""
        stage_in.storage.put(FILE, data_of(size))
        for known in (size, None):
            refused(
                lambda: stage_in.fetch(size=known, checksum=f"adler32:{wrong}"),  # noqa: B023
                ChecksumMismatch,
                what=f"a wrong checksum, {'with' if known is not None else 'without'} a known size",
            )
            stage_in.check_clean()

    @pytest.mark.parametrize("expected", [0, 1, 4096, 4098, 10**15])
    def test_a_wrong_size_is_refused(self, expected: int, stage_in: Bench) -> None:
        """Another number of bytes than the catalogue's is `SizeMismatch` (or `ChecksumMismatch`), nothing is left."""
        stage_in.storage.put(FILE, data_of(4097))
        what = f"fetching 4097 bytes where the catalogue says {expected}"
        refused(lambda: stage_in.fetch(size=expected), ChecksumMismatch, what=what)
        stage_in.check_clean()

    def test_an_empty_file_is_not_taken_for_a_full_one(self, stage_in: Bench) -> None:
        """An empty file on the storage where the catalogue knows some bytes is refused."""
        stage_in.storage.put(FILE, b"")
        refused(lambda: stage_in.fetch(size=10), ChecksumMismatch, what="an empty file of ten bytes")
        stage_in.check_clean()

    def test_a_file_that_was_damaged_is_refused(self, stage_in: Bench) -> None:
        """One bit that changed, at the beginning, in the midst or at the end of a large file, is seen."""
        data = data_of(3 * 1024 * 1024 + 1)
        for place in (0, len(data) // 2, len(data) - 1):
            damaged = bytearray(data)
            damaged[place] ^= 1
            stage_in.storage.put(FILE, bytes(damaged))
            what = f"a file whose byte {place} was damaged"
            checksum = checksum_of("adler32", data)
            refused(lambda: stage_in.fetch(size=len(data), checksum=checksum), ChecksumMismatch, what=what)  # noqa: B023
            stage_in.check_clean()

    @pytest.mark.parametrize("name", [name for name in DIGITS if name != "adler32"])
    def test_a_claimed_checksum_is_verified(self, name: str, stage_in: Bench) -> None:
        """A checksum that the provider claims (`checksum:md5`) is verified; any other is refused, never passed over."""
        data, claimed = data_of(4097), stage_in.claims(f"checksum:{name}")
        stage_in.storage.put(FILE, data)
        right, wrong = checksum_of(name, data), checksum_of(name, data + b"!")
        due = ChecksumMismatch if claimed else TransferError
        refused(lambda: stage_in.fetch(checksum=wrong), due, what=f"a wrong {name}")
        stage_in.check_clean()
        try:
            result = stage_in.fetch(checksum=right)
        except TransferError as error:
            assert not claimed, f"{name} is claimed, and the right one is refused: {error}"
        else:
            assert result.checksum == right, f"the result's checksum is {result.checksum}, asked for was {right}"

    @pytest.mark.parametrize("checksum", ["crc99:0011", "adler32:xyz", "nothing", "adler32:123456789"])
    def test_an_unknown_checksum_is_refused(self, checksum: str, stage_in: Bench) -> None:
        """A checksum that the stager cannot read or does not know is an error: it cannot be verified."""
        stage_in.storage.put(FILE, b"x")
        refused(lambda: stage_in.fetch(checksum=checksum), TransferError, what=f"the checksum {checksum!r}")
        stage_in.check_clean()

    def test_bad_urls_are_refused(self, stage_in: Bench) -> None:
        """URLs that name no file, or no file of this stager, are refused with a transfer error."""
        stage_in.storage.put(FILE, b"x")
        for url in stage_in.bad_urls():
            shown = repr(url[:60])
            refused(lambda: stage_in.fetch(url=url), *ANY, what=f"fetching {shown}")  # noqa: B023
            refused(lambda: stage_in.stat(url=url), *ANY, what=f"asking about {shown}")  # noqa: B023
        stage_in.check_clean()
        for url in stage_in.doubtful_urls():
            shown = repr(url[:60])
            allowed(lambda: stage_in.fetch(url=url), what=f"fetching {shown}")  # noqa: B023
            allowed(lambda: stage_in.stat(url=url), what=f"asking about {shown}")  # noqa: B023

    def test_what_is_no_file_is_not_fetched(self, stage_in: Bench) -> None:
        """A directory on the storage is refused, at once; so are named pipes and links that lead nowhere."""
        stage_in.storage.put("folder/x.dat", b"x")
        names, place = ["folder"], stage_in.direct
        if place is not None:
            os.mkfifo(place.path("pipe"))
            place.path("nowhere").symlink_to("absent")
            place.path("circle").symlink_to("circle")
            names += ["pipe", "nowhere", "circle"]
        for name in names:
            refused(lambda: stage_in.fetch(name, to=stage_in.here / FILE), *ANY, what=f"fetching a {name}")  # noqa: B023
        stage_in.check_clean()

    def test_no_url_leads_out_of_the_storage(self, stage_in: Bench) -> None:
        """A URL with `..` in it, plain or encoded, never leads to a file beside the storage."""
        folder = getattr(stage_in.storage, "folder", None)
        if not isinstance(folder, Path):
            self.does_not_apply("the storage is no directory")
        (folder.parent / "beside.dat").write_bytes(b"not for jobs")
        base = stage_in.storage.url("x").removesuffix("/x")
        for way in ("..", "%2e%2e", ".%2E", "a/../..", "a/%2e%2e/%2e%2e", "..%2f", "%2e%2e%2f", "a%2f..%2f.."):
            url = f"{base}/{way}/beside.dat"
            refused(lambda: stage_in.fetch(url=url, to=stage_in.here / FILE), *ANY, what=f"fetching {way}/")  # noqa: B023
            refused(lambda: stage_in.stat(url=url), *ANY, what=f"asking about {way}/")  # noqa: B023
        stage_in.check_clean()

    # -- asking ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", SIZES)
    def test_stat_tells_size_and_checksum(self, size: int, stage_in: Bench) -> None:
        """`stat` tells a file's size and its right checksum, or none."""
        data = data_of(size)
        stage_in.storage.put(FILE, data)
        found = stage_in.stat()
        assert found.size == size, f"stat says {found.size} of {size} bytes"
        if found.checksum:
            name = found.checksum.partition(":")[0]
            assert name in DIGITS, f"stat tells a checksum that is not name:value: {found.checksum!r}"
            assert found.checksum == checksum_of(name, data), f"stat tells a wrong checksum: {found.checksum}"
        same_bytes(stage_in.storage.get(FILE), data, "asking changed the file")
        stage_in.check_clean()
        stage_in.storage.put(FILE, data + b"more")
        assert stage_in.stat().size == size + 4, "stat tells an old size of a file that has changed"

    def test_stat_of_a_missing_file_is_source_not_found(self, stage_in: Bench) -> None:
        """`stat` of a file that is not there, or of a directory, is `SourceNotFound`, and makes nothing."""
        stage_in.storage.put("folder/x.dat", b"x")
        before = stage_in.storage.names()
        error = refused(lambda: stage_in.stat("absent.dat"), SourceNotFound, what="asking about a missing file")
        assert "absent.dat" in str(error), f"the error does not name the missing file: {error}"
        refused(lambda: stage_in.stat("folder"), *ANY, what="asking about a directory")
        assert stage_in.storage.names() == before

    def test_a_cancelled_fetch_does_not_begin(self, stage_in: Bench) -> None:
        """With a token that is cancelled already, fetch and stat raise `Cancelled`, and nothing is left."""
        stage_in.storage.put(FILE, data_of(4097))
        stage_in.cancel.cancel(REASON)
        refused(stage_in.fetch, Cancelled, what="a fetch that is cancelled before")
        refused(stage_in.stat, Cancelled, what="a stat that is cancelled before")
        stage_in.check_clean()

    def test_passwords_in_urls_are_not_told(self, stage_in: Bench) -> None:
        """A password in a URL shows neither in errors nor in the log nor in reprs."""
        url = stage_in.with_password("absent.dat")
        refused(lambda: stage_in.fetch(url=url), *ANY, what="fetching a URL with a password")
        refused(lambda: stage_in.stat(url=url), *ANY, what="asking about a URL with a password")
        assert "canary" not in repr(stage_in.stager), "the instance's repr shows a secret"
