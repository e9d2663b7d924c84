"""The clauses for stage-in that look at a transfer's midst: disks, destinations, cancellation, many at a time."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import Event, SystemClock
from pilot_core.errors import Cancelled, HandledError, TransferError, TransferTimeout
from pilot_core.testing.content import same_bytes
from pilot_core.testing.kits.apart import Disk, adopt_orphans, apart, children, running_children
from pilot_core.testing.kits.stager_base import (
    ANY,
    FILE,
    MIDWAY,
    REASON,
    Bench,
    StagerBase,
    check_result,
    checksum_of,
    data_of,
    listing,
    ran_programs,
    refused,
)
from pilot_core.testing.kits.within import at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilot_core.api.staging import FetchRequest

__all__ = ["QUICK", "MidstClauses", "cancelled_soon", "die_midway", "make_huge", "open_descriptors"]

HUGE = 4 * 1024**3
"""Bytes of a file that nobody moves in a moment."""
SOON = 5.0
"""Real seconds in which a cancelled call has to end on a machine that is busy; a second is what is promised."""
QUICK = "another program moves the bytes, and was done before it was looked at"


class MidstClauses(StagerBase):
    """Fetching where something is in the way, or happens meanwhile."""

    # -- the destination ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("older", [b"", b"older and much longer than what comes" * 1000], ids=["empty", "long"])
    def test_an_older_file_is_replaced_whole(self, older: bytes, stage_in: Bench) -> None:
        """A file that already has the destination's name is replaced, and nothing of it stays."""
        stage_in.storage.put(FILE, b"new")
        stage_in.write(older)
        stage_in.fetch(size=3)
        same_bytes((stage_in.here / FILE).read_bytes(), b"new")
        assert listing(stage_in.here) == {FILE}

    def test_a_link_at_the_destination_is_not_followed(self, stage_in: Bench) -> None:
        """A symbolic link with the destination's name is replaced; what it leads to stays as it is."""
        stage_in.storage.put(FILE, b"new")
        victim = stage_in.here.parent / "victim"
        victim.write_bytes(b"somebody's")
        (stage_in.here / FILE).symlink_to(victim)
        with contextlib.suppress(*ANY):
            stage_in.fetch()
            assert not (stage_in.here / FILE).is_symlink(), "the destination is still the link"
            same_bytes((stage_in.here / FILE).read_bytes(), b"new")
        same_bytes(victim.read_bytes(), b"somebody's", "the link was followed and another file overwritten")

    def test_an_impossible_destination_harms_nothing(self, stage_in: Bench) -> None:
        """A destination that is a directory, or below a file, is refused; what is there stays."""
        stage_in.storage.put(FILE, b"new")
        stage_in.write(b"kept", "folder/content")
        stage_in.write(b"kept", "plain")
        refused(lambda: stage_in.fetch(to=stage_in.here / "folder"), *ANY, what="fetching to a directory")
        refused(lambda: stage_in.fetch(to=stage_in.here / "plain" / FILE), *ANY, what="fetching to below a file")
        assert listing(stage_in.here) == {"folder", "folder/content", "plain"}
        assert (stage_in.here / "plain").read_bytes() == (stage_in.here / "folder/content").read_bytes() == b"kept"

    def test_a_full_disk_is_no_space(self, stage_in: Bench) -> None:
        """A destination without room is `NoSpace`, and the partial file is removed."""
        told = self._fetched_to(Disk(stage_in.here, 256), stage_in)
        assert told["kinds"], "a file that is larger than the disk was fetched"
        assert "NoSpace" in told["kinds"], f"{told['kinds'][0]} was raised where NoSpace is due: {told['text']}"
        assert not told["left"], f"on the full disk is left: {told['left']}"

    def test_a_read_only_disk_is_a_transfer_error(self, stage_in: Bench) -> None:
        """A destination that cannot be written is a transfer error like any other."""
        told = self._fetched_to(Disk(stage_in.here, 256, read_only=True), stage_in)
        first = (told["kinds"] or ["nothing"])[0]
        due = {"TransferError", "AuthError"} & set(told["kinds"])
        assert due, f"{first} was raised where TransferError is due: {told['text']}"

    @staticmethod
    def _fetched_to(disk: Disk, bench: Bench) -> dict[str, Any]:
        """Fetch a file to a disk, in a process of its own, and return what came of it."""
        data = data_of(4 * 1024 * 1024)
        bench.storage.put(FILE, data)
        request = bench.fetch_request(size=len(data))

        def part() -> dict[str, Any]:
            kinds: list[str] = []
            text = ""
            try:
                bench.fresh().fetch(request, **bench.limits)
            except Exception as error:  # noqa: BLE001  (told, and judged by the clause)
                kinds, text = [kind.__name__ for kind in type(error).__mro__], str(error)
            return {"kinds": kinds, "text": text, "left": sorted(listing(bench.here))}

        told: dict[str, Any] = apart(part, disk)
        return told

    def test_permissions_are_kept_and_told(self, stage_in: Bench) -> None:
        """A file that may not be read, or a directory that may not be written, is an error; not "not found"."""
        place = stage_in.direct
        if place is None:
            self.does_not_apply("the stager does not read the storage's files itself")
        for name in ("closed.dat", "open.dat"):
            place.put(name, b"x")
        place.path("closed.dat").chmod(0)
        locked = stage_in.here / "locked"
        locked.mkdir()
        locked.chmod(0o555)
        requests = [
            stage_in.fetch_request("closed.dat"),
            stage_in.fetch_request("open.dat", to=locked / FILE),
        ]
        told = apart(lambda: [_outcome(stage_in, request) for request in requests], permissions=True)
        for what, kinds in zip(
            ("a file that may not be read", "a directory that may not be written"), told, strict=True
        ):
            first = (kinds or ["nothing"])[0]
            assert {"TransferError", "AuthError"} & set(kinds), f"{what}: {first} was raised where AuthError is due"
        assert "SourceNotFound" not in told[0], "a file that may not be read is told as one that is not there"
        assert listing(stage_in.here) == {"locked"}

    # -- the midst -----------------------------------------------------------------------------------------------------

    def test_progress_is_told(self, stage_in: Bench) -> None:
        """`progress` is told the bytes moved so far, never less than before, in the end all of them."""
        stage_in.storage.put(FILE, data_of(MIDWAY))
        told: list[int] = []
        stage_in.fetch(progress=told.append)
        stage_in.saw_midst(told, "fetch")
        assert told == sorted(told), f"progress went backwards: {told[:20]}"
        assert told[-1] == MIDWAY, f"progress ended at {told[-1]} of {MIDWAY} bytes"

    def test_a_fetched_file_appears_whole(self, stage_in: Bench) -> None:
        """While a file is being fetched nothing has its final name."""
        stage_in.storage.put(FILE, data_of(MIDWAY))
        seen: list[bool] = []
        stage_in.fetch(progress=lambda done: seen.append(done < MIDWAY and (stage_in.here / FILE).exists()))
        assert seen, "progress was never called: nothing can be seen of the transfer's midst"
        assert not any(seen), "a part of the file had its final name: write to a temporary one beside it, and rename"

    def test_a_pilot_that_is_killed_leaves_no_half_file(self, stage_in: Bench) -> None:
        """If the pilot is killed in the midst of a transfer, no part of the file has its final name."""
        stage_in.storage.put(FILE, data_of(MIDWAY))
        request = stage_in.fetch_request(progress=die_midway)

        def part() -> bool:
            stage_in.programs = ran_programs()
            stage_in.fresh().fetch(request, **stage_in.limits)
            return stage_in.saw_midst([MIDWAY], "fetch")

        if apart(part) is not None:
            self.does_not_apply(QUICK)
        assert not (stage_in.here / FILE).exists(), "a part of the file has its final name"

    def test_a_fetch_is_cancelled_in_its_midst(self, stage_in: Bench) -> None:
        """Cancelling while bytes flow raises `Cancelled` soon, and nothing is left."""
        stage_in.storage.put(FILE, data_of(MIDWAY))
        told: list[int] = []

        def stop(done: int) -> None:
            told.append(done)
            stage_in.cancel.cancel(REASON)

        refused(lambda: stage_in.fetch(progress=stop), Cancelled, what="cancelling a fetch")
        stage_in.check_clean()
        if stage_in.saw_midst(told, "fetch"):
            assert told[-1] < MIDWAY, "all bytes were still moved after the fetch was cancelled"

    def test_a_fetch_of_a_huge_file_is_cancelled(self, stage_in: Bench) -> None:
        """Cancelling from another thread ends the fetch of a file of 4 GiB soon, whoever moves the bytes."""
        place = stage_in.direct
        if place is None:
            self.does_not_apply("the stager does not read the storage's files itself")
        place.put(FILE, b"")
        make_huge(place.path(FILE))
        request = stage_in.fetch_request()
        told = apart(lambda: cancelled_soon(stage_in, lambda: stage_in.fresh().fetch(request, **stage_in.limits)))
        assert told == "Cancelled", f"cancelling the fetch of a huge file: {told}; Cancelled is due within a second"
        stage_in.check_clean()

    def test_a_deadline_ends_a_fetch(self, stage_in: Bench) -> None:
        """A fetch whose time is up, before or in its midst, raises `TransferTimeout`, and nothing is left."""
        stage_in.storage.put(FILE, data_of(MIDWAY))

        def late(_: int) -> None:
            stage_in.clock.jumped += 3600

        refused(lambda: stage_in.fetch(progress=late), TransferTimeout, what="a fetch that takes too long")
        stage_in.check_clean()
        stage_in.deadline = Deadline.after(stage_in.clock, 0.0)
        refused(stage_in.fetch, TransferTimeout, what="a fetch without time")
        stage_in.check_clean()

    def test_a_file_that_shrinks_is_refused(self, stage_in: Bench) -> None:
        """If the file is cut short while it is read, and its size is known, that is an error and nothing is left."""
        place = stage_in.direct
        if place is None:
            self.does_not_apply("the stager does not read the storage's files itself")
        place.put(FILE, data_of(MIDWAY))

        def shrink(_: int) -> None:
            os.truncate(place.path(FILE), 100)

        try:
            stage_in.fetch(size=MIDWAY, progress=shrink)
        except TransferError:
            stage_in.check_clean()
        else:
            same = (stage_in.here / FILE).read_bytes() == data_of(MIDWAY)
            assert same, "the file was cut short, and that was told as a success"

    def test_a_transfer_that_waits_can_be_cancelled(self, stage_in: Bench) -> None:
        """Cancelling from another thread, while the storage says nothing, raises `Cancelled` soon."""
        stall = getattr(stage_in.storage, "stall", None)
        if stall is None:
            self.does_not_apply("the storage fixture has no stall()")
        stall(FILE, data_of(MIDWAY))
        begun, clock = Event(), SystemClock()
        told: list[int] = []

        def tell(done: int) -> None:
            told.append(done)
            begun.set()

        def cancel() -> None:
            clock.wait(begun, until=clock.monotonic() + 2.0)
            seen = -1
            while seen != len(told):  # until nothing moves any more
                seen = len(told)
                clock.wait(until=clock.monotonic() + 0.3)
            stage_in.cancel.cancel(REASON)

        caller = threading.Thread(target=cancel)
        caller.start()
        try:
            refused(lambda: stage_in.fetch(progress=tell), Cancelled, what="cancelling a stalled fetch")
        finally:
            caller.join()
        stage_in.check_clean()

    def test_a_file_that_changes_is_not_told_wrong(self, stage_in: Bench) -> None:
        """If the file grows while it is read, that is an error, or the result tells the bytes that were moved."""
        place = stage_in.direct
        if place is None:
            self.does_not_apply("the stager does not read the storage's files itself")
        place.put(FILE, data_of(MIDWAY))

        def grow(done: int) -> None:
            if done < MIDWAY:
                with place.path(FILE).open("ab") as file:
                    file.write(b"more")

        try:
            result = stage_in.fetch(progress=grow)
        except TransferError:
            assert not listing(stage_in.here)
        else:
            check_result(result, (stage_in.here / FILE).read_bytes(), "fetching a file that grows")

    # -- many, and again -------------------------------------------------------------------------------------------

    def test_files_are_fetched_at_the_same_time(self, stage_in: Bench) -> None:
        """One instance serves eight threads; each gets its own file."""
        files = {f"{number}.dat": data_of(300_000 + number, number) for number in range(8)}
        for name, data in files.items():
            stage_in.storage.put(name, data)
        requests = [stage_in.fetch_request(name, checksum=checksum_of("adler32", data)) for name, data in files.items()]
        results = at_once(
            [lambda r=r: stage_in.stager.fetch(r, **stage_in.limits) for r in requests],  # type: ignore[misc]
            "eight fetches at the same time",
        )
        for (name, data), result in zip(files.items(), results, strict=True):
            same_bytes((stage_in.here / name).read_bytes(), data, f"{name} has not its own bytes")
            check_result(result, data, name)
        assert listing(stage_in.here) == set(files)

    def test_fetches_to_one_destination_do_not_mix(self, stage_in: Bench) -> None:
        """Of several files fetched to one destination at the same time one is there in the end, whole."""
        files = [data_of(2 * 1024 * 1024, seed) for seed in range(4)]
        for number, data in enumerate(files):
            stage_in.storage.put(f"{number}.dat", data)
        requests = [stage_in.fetch_request(f"{n}.dat", to=stage_in.here / FILE) for n in range(len(files))]

        def one(number: int) -> None:
            with contextlib.suppress(TransferError):
                stage_in.stager.fetch(requests[number], **stage_in.limits)

        at_once([lambda n=n: one(n) for n in range(len(files))], "fetches to one destination")  # type: ignore[misc]
        assert (stage_in.here / FILE).read_bytes() in files, "the file is a mixture"
        assert listing(stage_in.here) == {FILE}

    def test_it_fetches_again_after_errors(self, stage_in: Bench) -> None:
        """An instance that has failed and was cancelled fetches the next file, and the same file, like a new one."""
        data, token = data_of(4097), stage_in.cancel
        stage_in.storage.put(FILE, data)
        called_off = CancelToken()
        called_off.cancel(REASON)
        for name, checksum, cancel in (
            ("absent.dat", "", token),
            (FILE, "adler32:deadbeef", token),
            (FILE, "", called_off),
        ):
            stage_in.cancel = cancel
            with contextlib.suppress(HandledError):
                stage_in.fetch(name, to=stage_in.here / FILE, checksum=checksum)
        stage_in.cancel = token
        for _ in range(2):
            check_result(stage_in.fetch(), data, "a fetch after errors")
            same_bytes((stage_in.here / FILE).read_bytes(), data)
        stage_in.storage.put(FILE, b"changed meanwhile")
        stage_in.fetch()
        same_bytes((stage_in.here / FILE).read_bytes(), b"changed meanwhile", "an old copy was handed out")

    def test_fetching_leaks_nothing(self, stage_in: Bench) -> None:
        """Descriptors and threads do not grow with the number of files, whether they are fetched or refused."""
        stage_in.storage.put(FILE, b"x" * 5000)

        def round_of_calls() -> None:
            stage_in.stager.fetch(stage_in.fetch_request(), **stage_in.limits)
            stage_in.stager.stat(stage_in.storage.url(FILE), **stage_in.limits)
            for name, checksum, size in (("absent.dat", "", None), (FILE, "adler32:deadbeef", None), (FILE, "", 1)):
                with contextlib.suppress(HandledError):
                    request = stage_in.fetch_request(name, checksum=checksum, size=size)
                    stage_in.stager.fetch(request, **stage_in.limits)

        for _ in range(3):
            round_of_calls()
        before = open_descriptors(), threading.active_count(), len(children())
        for _ in range(20):
            round_of_calls()
        grown = open_descriptors() - before[0]
        assert grown <= 2, f"{grown} descriptors are left open by 20 rounds of calls"
        assert threading.active_count() - before[1] <= 2, "threads are left running"
        assert len(children()) - before[2] <= 2, "processes are left, or were not waited for"


def make_huge(path: Path) -> None:
    """Make an empty file one of `HUGE` bytes that takes little room, and time to copy even for who keeps its holes."""
    os.truncate(path, HUGE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        # as far as `cancelled_soon` lets a copy grow
        for offset in range(0, HUGE // 2, 64 << 10):
            os.pwrite(descriptor, b"data", offset)
    finally:
        os.close(descriptor)


def cancelled_soon(bench: Bench, call: Callable[[], object]) -> str:
    """Cancel what a call does, soon after it has begun, and return the name of what it raised.

    For a process of its own: files cannot grow beyond 2 GiB afterwards, so that one that is not cancelled ends, too.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HUGE // 2, HUGE // 2))
    adopt_orphans()
    clock = SystemClock()

    def cancel() -> None:
        clock.wait(until=clock.monotonic() + 0.05)
        bench.cancel.cancel(REASON)

    threading.Thread(target=cancel, daemon=True).start()
    begun = clock.monotonic()
    try:
        call()
    except Exception as error:  # noqa: BLE001  (told, and judged by the clause)
        took = clock.monotonic() - begun
        if running_children(1.0):
            return "a program that it started still runs"
        return type(error).__name__ if took < SOON else f"it ended after {took:.1f} s"
    return "it was moved to its end"


def _outcome(bench: Bench, request: FetchRequest) -> list[str]:
    """Return the classes of what a fetch raises."""
    try:
        bench.fresh().fetch(request, **bench.limits)
    except Exception as error:  # noqa: BLE001  (told, and judged by the clause)
        return [kind.__name__ for kind in type(error).__mro__]
    return []


def open_descriptors() -> int:
    """Return how many descriptors this process has open, without those that nobody holds any more."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (a number)


def die_midway(done: int) -> None:
    """End this process at once, as a batch system does, in the midst of a transfer."""
    if 0 < done < MIDWAY:
        os.kill(os.getpid(), signal.SIGKILL)
