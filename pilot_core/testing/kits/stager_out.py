"""The clauses for stage-out: what is stored is the very file, there whole or not at all; what is removed is gone."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.checksums import DIGITS
from pilot_core.errors import (
    Cancelled,
    ChecksumMismatch,
    HandledError,
    SourceNotFound,
    TransferError,
    TransferTimeout,
)
from pilot_core.testing.kits.apart import Disk, apart
from pilot_core.testing.kits.stager_base import (
    ANY,
    FILE,
    MIDWAY,
    NAMES,
    ODD_NAMES,
    SIZES,
    Bench,
    StagerBase,
    check_result,
    checksum_of,
    data_of,
    listing,
    refused,
)
from pilot_core.testing.kits.stager_midst import die_midway, open_descriptors
from pilot_core.testing.kits.within import at_once

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
        assert stage_out.storage.get(FILE) == data, "the bytes on the storage are not those of the source"
        check_result(result, data, "store")
        assert result.checksum.startswith("adler32:"), f"asked for was an adler32, told is {result.checksum}"
        assert source.read_bytes() == data, "storing changed the source"
        assert stage_out.stat(url=result.url).size == size, "the result's url does not lead to the stored file"

    def test_nothing_but_the_stored_file_is_left(self, stage_out: Bench) -> None:
        """After a store there is the file on the storage and nothing else anywhere."""
        stage_out.storage.put("other.dat", b"other")
        stage_out.write(data_of(4097))
        stage_out.store()
        left = stage_out.storage.names() - {FILE, "other.dat"}
        assert not left, f"beside the stored file lies {sorted(left)}"
        assert stage_out.storage.get("other.dat") == b"other", "storing changed another file"
        assert listing(stage_out.here) == {FILE}, f"beside the source lies {sorted(listing(stage_out.here) - {FILE})}"
        stage_out.check_clean(here=False)

    def test_it_stores_into_new_folders(self, stage_out: Bench) -> None:
        """Folders of the URL that are not there yet are made."""
        stage_out.write(b"deep")
        stage_out.store("new/and deeper/é/file.dat", source=stage_out.here / FILE)
        assert stage_out.storage.get("new/and deeper/é/file.dat") == b"deep"

    @pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
    def test_files_of_any_name_are_stored(self, name: str, stage_out: Bench) -> None:
        """A name with spaces, unicode, 255 bytes or characters of shells and URLs is a name like any other."""
        stage_out.write(b"the right one", name)
        stage_out.store(name)
        assert stage_out.storage.get(name) == b"the right one"
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
        assert stage_out.storage.get(FILE) == b"new"
        assert stage_out.storage.names() == {FILE}

    def test_without_overwrite_an_older_file_stays(self, stage_out: Bench) -> None:
        """Without `overwrite` an older file at that place is an error and stays as it is; a free place is no error."""
        stage_out.storage.put(FILE, b"older")
        stage_out.write(b"new")
        refused(lambda: stage_out.store(overwrite=False), TransferError, what="storing over an older file")
        assert stage_out.storage.get(FILE) == b"older", "the older file was touched"
        assert stage_out.storage.names() == {FILE}
        stage_out.store("free.dat", source=stage_out.here / FILE, overwrite=False)
        assert stage_out.storage.get("free.dat") == b"new"

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

    @pytest.mark.parametrize("checksum", ["crc99", "crc99:0011", "adler32:xyz", ":"])
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
        assert (folder.parent / "beside.dat").read_bytes() == b"not for jobs", "a file beside the storage was changed"
        assert not (folder.parent / "made.dat").exists(), "a file was made beside the storage"

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

    # -- the midst -----------------------------------------------------------------------------------------------------

    def test_a_stored_file_appears_whole(self, stage_out: Bench) -> None:
        """While a file is being stored nothing is there under its name; progress tells how far it is."""
        stage_out.write(data_of(MIDWAY))
        told: list[int] = []
        seen: list[bool] = []

        def look(done: int) -> None:
            told.append(done)
            seen.append(done < MIDWAY and stage_out.storage.get(FILE) is not None)

        stage_out.store(progress=look)
        assert min(told, default=MIDWAY) < MIDWAY, "progress was not called before the end: move files block by block"
        assert told == sorted(told), "progress went backwards"
        assert told[-1] == MIDWAY, f"progress ended at {told[-1]} of {MIDWAY} bytes"
        assert not any(seen), "a part of the file could be seen on the storage"

    def test_a_pilot_that_is_killed_leaves_no_half_file_there(self, stage_out: Bench) -> None:
        """If the pilot is killed in the midst of a transfer, no part of the file has its final name there."""
        stage_out.write(data_of(MIDWAY))
        request = stage_out.store_request(progress=die_midway)

        def part() -> str:
            stage_out.fresh().store(request, **stage_out.limits)
            return "stored"

        assert apart(part) is None, "progress was not called before the end: the transfer could not be interrupted"
        assert stage_out.storage.get(FILE) is None, "a part of the file has its final name"

    def test_a_cancelled_store_does_not_begin(self, stage_out: Bench) -> None:
        """With a token that is cancelled already, store, stat and remove raise `Cancelled` and do nothing."""
        stage_out.storage.put("there.dat", b"x")
        stage_out.write(data_of(4097))
        stage_out.cancel.cancel("the kit says so")
        refused(stage_out.store, Cancelled, what="a store that is cancelled before")
        refused(lambda: stage_out.stat("there.dat"), Cancelled, what="a stat that is cancelled before")
        refused(lambda: stage_out.remove("there.dat"), Cancelled, what="a remove that is cancelled before")
        assert stage_out.storage.names() == {"there.dat"}

    def test_a_store_is_cancelled_in_its_midst(self, stage_out: Bench) -> None:
        """Cancelling while bytes flow raises `Cancelled` soon, and nothing of the file is on the storage."""
        stage_out.write(data_of(MIDWAY))
        told: list[int] = []

        def stop(done: int) -> None:
            told.append(done)
            stage_out.cancel.cancel("the kit says so")

        refused(lambda: stage_out.store(progress=stop), Cancelled, what="cancelling a store")
        assert told[-1] < MIDWAY, "all bytes were still moved after the store was cancelled"
        assert not stage_out.storage.names(), f"on the storage is left: {stage_out.storage.names()}"
        stage_out.check_clean(here=False)

    def test_a_deadline_ends_a_store(self, stage_out: Bench) -> None:
        """A store whose time is up, before or in its midst, raises `TransferTimeout`, and nothing is there."""
        stage_out.write(data_of(MIDWAY))

        def late(_: int) -> None:
            stage_out.clock.jumped += 3600

        refused(lambda: stage_out.store(progress=late), TransferTimeout, what="a store that takes too long")
        assert not stage_out.storage.names()
        stage_out.deadline = Deadline.after(stage_out.clock, 0.0)
        refused(stage_out.store, TransferTimeout, what="a store without time")
        assert not stage_out.storage.names()

    def test_a_source_that_changes_is_not_told_wrong(self, stage_out: Bench) -> None:
        """If the source grows while it is read, that is an error, or the result tells the bytes that were stored."""
        source = stage_out.write(data_of(MIDWAY))

        def grow(_: int) -> None:
            with source.open("ab") as file:
                file.write(b"more")

        try:
            result = stage_out.store(progress=grow)
        except TransferError:
            assert not stage_out.storage.names()
        else:
            check_result(result, stage_out.storage.get(FILE) or b"", "storing a file that grows")

    # -- asking and removing -------------------------------------------------------------------------------------------

    def test_stat_tells_of_stored_files(self, stage_out: Bench) -> None:
        """The writing side's `stat` tells the size of what was stored, and `SourceNotFound` of what was not."""
        stage_out.write(data_of(4097))
        stage_out.store()
        assert stage_out.stat().size == 4097
        refused(lambda: stage_out.stat("absent.dat"), SourceNotFound, what="asking about a missing file")

    def test_a_removed_file_is_gone(self, stage_out: Bench) -> None:
        """`remove` deletes that file and no other; a second time it is `SourceNotFound`."""
        for name in (FILE, "other.dat", f"{FILE}.more", f"folder/{FILE}"):
            stage_out.storage.put(name, name.encode())
        stage_out.remove()
        assert stage_out.storage.names() == {"other.dat", f"{FILE}.more", f"folder/{FILE}"}
        refused(stage_out.remove, SourceNotFound, what="removing a file for the second time")
        refused(lambda: stage_out.remove("absent.dat"), SourceNotFound, what="removing a file that never was")

    def test_a_directory_is_not_removed(self, stage_out: Bench) -> None:
        """`remove` of a directory is refused, and what is in it stays."""
        stage_out.storage.put("folder/kept.dat", b"kept")
        refused(lambda: stage_out.remove("folder"), *ANY, what="removing a directory")
        assert stage_out.storage.names() == {"folder/kept.dat"}

    # -- many, and again -------------------------------------------------------------------------------------------

    def test_files_are_stored_at_the_same_time(self, stage_out: Bench) -> None:
        """One instance serves eight threads, into one new folder; each file has its own bytes."""
        files = {f"new/{number}.dat": data_of(300_000 + number, number) for number in range(8)}
        for name, data in files.items():
            stage_out.write(data, name)
        requests = [stage_out.store_request(name) for name in files]
        results = at_once(
            [lambda r=r: stage_out.stager.store(r, **stage_out.limits) for r in requests],  # type: ignore[misc]
            "eight stores at the same time",
        )
        for (name, data), result in zip(files.items(), results, strict=True):
            assert stage_out.storage.get(name) == data, f"{name} has not its own bytes"
            check_result(result, data, name)
        assert stage_out.storage.names() == set(files)

    def test_stores_to_one_place_do_not_mix(self, stage_out: Bench) -> None:
        """Of several files stored to one place at the same time one is there in the end, whole."""
        files = [data_of(2 * 1024 * 1024, seed) for seed in range(4)]
        requests = [stage_out.store_request(source=stage_out.write(d, f"{n}.dat")) for n, d in enumerate(files)]

        def one(number: int) -> None:
            with contextlib.suppress(TransferError):
                stage_out.stager.store(requests[number], **stage_out.limits)

        at_once([lambda n=n: one(n) for n in range(len(files))], "stores to one place")  # type: ignore[misc]
        assert stage_out.storage.get(FILE) in files, "the file is a mixture"
        assert stage_out.storage.names() == {FILE}

    def test_it_stores_again_after_errors(self, stage_out: Bench) -> None:
        """An instance that has failed and was cancelled stores the next file like a new one."""
        stage_out.write(data_of(4097))
        token = stage_out.cancel
        stage_out.cancel = CancelToken()
        stage_out.cancel.cancel("the kit says so")
        with contextlib.suppress(HandledError):
            stage_out.store()
        stage_out.cancel = token
        for name, checksum in (("absent.dat", "adler32"), (FILE, "adler32:deadbeef")):
            with contextlib.suppress(HandledError):
                stage_out.store(name, checksum=checksum)
        for data in (data_of(4097), b"another", b""):
            stage_out.write(data)
            check_result(stage_out.store(), data, "a store after errors")
            assert stage_out.storage.get(FILE) == data

    def test_storing_leaks_nothing(self, stage_out: Bench) -> None:
        """Descriptors and threads do not grow with the number of files, whether they are stored or refused."""
        stage_out.write(b"x" * 5000)

        def round_of_calls() -> None:
            stage_out.store()
            stage_out.stat()
            stage_out.remove()
            for name, checksum in (("absent.dat", "adler32"), (FILE, "adler32:deadbeef")):
                with contextlib.suppress(HandledError):
                    stage_out.stager.store(stage_out.store_request(name, checksum=checksum), **stage_out.limits)

        for _ in range(3):
            round_of_calls()
        before = open_descriptors(), threading.active_count()
        for _ in range(20):
            round_of_calls()
        grown = open_descriptors() - before[0]
        assert grown <= 2, f"{grown} descriptors are left open by 20 rounds of calls"
        assert threading.active_count() - before[1] <= 2, "threads are left running"

    def test_passwords_of_targets_are_not_told(self, stage_out: Bench) -> None:
        """A password in a URL shows neither in errors nor in the log nor in reprs."""
        url = stage_out.with_password("absent.dat")
        refused(lambda: stage_out.remove(url=url), *ANY, what="removing a URL with a password")
        refused(
            lambda: stage_out.store(url=url, source=stage_out.here / "absent.dat"),
            *ANY,
            what="storing to a URL with a password",
        )
        assert "canary" not in repr(stage_out.stager), "the instance's repr shows a secret"
