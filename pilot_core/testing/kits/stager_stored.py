"""The clauses for stage-out that look at a transfer's midst, at stat and remove, and at many files."""

from __future__ import annotations

import contextlib
import threading

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.errors import (
    Cancelled,
    HandledError,
    SourceNotFound,
    TransferError,
    TransferTimeout,
)
from pilot_core.testing.content import same_bytes
from pilot_core.testing.kits.apart import apart, children
from pilot_core.testing.kits.stager_base import (
    ANY,
    FILE,
    MIDWAY,
    REASON,
    Bench,
    StagerBase,
    check_result,
    data_of,
    ran_programs,
    refused,
)
from pilot_core.testing.kits.stager_midst import QUICK, cancelled_soon, die_midway, make_huge, open_descriptors
from pilot_core.testing.kits.within import at_once

__all__ = ["StoredClauses"]


class StoredClauses(StagerBase):
    """Storing while something happens; asking, removing; many at a time."""

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
        stage_out.saw_midst(told, "store")
        assert told == sorted(told), "progress went backwards"
        assert told[-1] == MIDWAY, f"progress ended at {told[-1]} of {MIDWAY} bytes"
        assert not any(seen), "a part of the file could be seen on the storage"

    def test_a_pilot_that_is_killed_leaves_no_half_file_there(self, stage_out: Bench) -> None:
        """If the pilot is killed in the midst of a transfer, no part of the file has its final name there."""
        stage_out.write(data_of(MIDWAY))
        request = stage_out.store_request(progress=die_midway)

        def part() -> bool:
            stage_out.programs = ran_programs()
            stage_out.fresh().store(request, **stage_out.limits)
            return stage_out.saw_midst([MIDWAY], "store")

        if apart(part) is not None:
            self.does_not_apply(QUICK)
        assert stage_out.storage.get(FILE) is None, "a part of the file has its final name"

    def test_a_cancelled_store_does_not_begin(self, stage_out: Bench) -> None:
        """With a token that is cancelled already, store, stat and remove raise `Cancelled` and do nothing."""
        stage_out.storage.put("there.dat", b"x")
        stage_out.write(data_of(4097))
        stage_out.cancel.cancel(REASON)
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
            stage_out.cancel.cancel(REASON)

        refused(lambda: stage_out.store(progress=stop), Cancelled, what="cancelling a store")
        if stage_out.saw_midst(told, "store"):
            assert told[-1] < MIDWAY, "all bytes were still moved after the store was cancelled"
        assert not stage_out.storage.names(), f"on the storage is left: {stage_out.storage.names()}"
        stage_out.check_clean(here=False)

    def test_a_store_of_a_huge_file_is_cancelled(self, stage_out: Bench) -> None:
        """Cancelling from another thread ends the store of a file of 4 GiB soon, whoever moves the bytes."""
        if stage_out.direct is None:
            self.does_not_apply("the stager does not write the storage's files itself")
        make_huge(stage_out.write(b""))
        request = stage_out.store_request()
        told = apart(lambda: cancelled_soon(stage_out, lambda: stage_out.fresh().store(request, **stage_out.limits)))
        assert told == "Cancelled", f"cancelling the store of a huge file: {told}; Cancelled is due within a second"
        assert not stage_out.storage.names(), f"on the storage is left: {stage_out.storage.names()}"

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

        def grow(done: int) -> None:
            if done < MIDWAY:
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
            same_bytes(stage_out.storage.get(name), data, f"{name} has not its own bytes")
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
        stage_out.cancel.cancel(REASON)
        with contextlib.suppress(HandledError):
            stage_out.store()
        stage_out.cancel = token
        for name, checksum in (("absent.dat", "adler32"), (FILE, "adler32:deadbeef")):
            with contextlib.suppress(HandledError):
                stage_out.store(name, checksum=checksum)
        for data in (data_of(4097), b"another", b""):
            stage_out.write(data)
            check_result(stage_out.store(), data, "a store after errors")
            same_bytes(stage_out.storage.get(FILE), data)

    def test_storing_leaks_nothing(self, stage_out: Bench) -> None:
        """Descriptors and threads do not grow with the number of files, whether they are stored or refused."""
        stage_out.write(b"x" * 5000)

        def round_of_calls() -> None:
            url = stage_out.storage.url(FILE)
            stage_out.stager.store(stage_out.store_request(), **stage_out.limits)
            stage_out.stager.stat(url, **stage_out.limits)
            stage_out.stager.remove(url, **stage_out.limits)
            for name, checksum in (("absent.dat", "adler32"), (FILE, "adler32:deadbeef")):
                with contextlib.suppress(HandledError):
                    stage_out.stager.store(stage_out.store_request(name, checksum=checksum), **stage_out.limits)

        for _ in range(3):
            round_of_calls()
        before = open_descriptors(), threading.active_count(), len(children())
        for _ in range(20):
            round_of_calls()
        grown = open_descriptors() - before[0]
        assert grown <= 2, f"{grown} descriptors are left open by 20 rounds of calls"
        assert threading.active_count() - before[1] <= 2, "threads are left running"
        assert len(children()) - before[2] <= 2, "processes are left, or were not waited for"

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
