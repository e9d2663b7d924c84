"""The clauses for how a stager behaves towards others: other transfers, other users of a storage, the clock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pilot_core.api.cancel import Deadline
from pilot_core.api.clock import Event, SystemClock
from pilot_core.errors import HandledError, TransferTimeout
from pilot_core.testing.content import same_bytes
from pilot_core.testing.kits.stager_base import FILE, Bench, StagerBase, check_result, data_of, refused
from pilot_core.testing.kits.within import PATIENCE

if TYPE_CHECKING:
    from pilot_core.api.staging import TransferResult

__all__ = ["ConductClauses"]


SLOW, QUICK = 2 * 1024 * 1024, 700_000
"""Bytes of a file, and of one that is moved meanwhile."""


class Meanwhile:
    """A `progress` that has another file moved, by another thread: at the first block, and at the last."""

    def __init__(self, call: Callable[[], TransferResult]) -> None:
        self.waited = False
        """Whether the other one did not come to its end although only this one kept it."""
        self.results: list[TransferResult] = []
        self.errors: list[HandledError] = []
        self._call = call
        self._called = 0

    def __call__(self, done: int) -> None:
        """Move it."""
        if self.waited or (self._called and (done < SLOW or self._called > 1)):
            return
        self._called += 1
        ended = Event()

        def run() -> None:
            try:
                self.results.append(self._call())
            except HandledError as error:
                self.errors.append(error)
            ended.set()

        threading.Thread(target=run, name="kit", daemon=True).start()
        clock = SystemClock()
        self.waited = not clock.wait(ended, until=clock.monotonic() + PATIENCE / 2)


class ConductClauses(StagerBase):
    """What others see of a stager."""

    def test_one_fetch_does_not_hold_up_another(self, stage_in: Bench) -> None:
        """While one file is on its way another one is fetched: they do not wait for each other, nor get mixed up."""
        slow, quick = data_of(SLOW), data_of(QUICK)
        stage_in.storage.put("slow.dat", slow)
        stage_in.storage.put("quick.dat", quick)
        request = stage_in.fetch_request("quick.dat")
        meanwhile = Meanwhile(lambda: stage_in.stager.fetch(request, **stage_in.limits))
        check_result(stage_in.fetch("slow.dat", progress=meanwhile), slow, "a fetch during which another one was made")
        assert not meanwhile.waited, "a fetch waits until another one is done; threads call it at the same time"
        assert not meanwhile.errors, f"in the midst of a fetch another one fails: {meanwhile.errors[0]}"
        for result in meanwhile.results:
            check_result(result, quick, "a fetch in the midst of another one")
        same_bytes((stage_in.here / "slow.dat").read_bytes(), slow)
        same_bytes((stage_in.here / "quick.dat").read_bytes(), quick)

    def test_one_store_does_not_hold_up_another(self, stage_out: Bench) -> None:
        """While one file is on its way another one is stored: they do not wait for each other, nor get mixed up."""
        slow, quick = data_of(SLOW), data_of(QUICK)
        stage_out.write(slow, "slow.dat")
        stage_out.write(quick, "quick.dat")
        request = stage_out.store_request("quick.dat")
        meanwhile = Meanwhile(lambda: stage_out.stager.store(request, **stage_out.limits))
        check_result(stage_out.store("slow.dat", progress=meanwhile), slow, "a store during which another one was made")
        assert not meanwhile.waited, "a store waits until another one is done; threads call it at the same time"
        assert not meanwhile.errors, f"in the midst of a store another one fails: {meanwhile.errors[0]}"
        for result in meanwhile.results:
            check_result(result, quick, "a store in the midst of another one")
        same_bytes(stage_out.storage.get("slow.dat"), slow)
        same_bytes(stage_out.storage.get("quick.dat"), quick)

    def test_the_fetched_url_leads_to_the_file(self, stage_in: Bench) -> None:
        """The result's url is where the file was read from, without a password: `stat` finds it there."""
        stage_in.storage.put(FILE, data_of(4097))
        told = stage_in.fetch().url
        assert told == stage_in.storage.url(FILE) or stage_in.stat(url=told).size == 4097

    def test_a_stored_file_can_be_read_by_others(self, stage_out: Bench) -> None:
        """A stored file has the mode that the umask gives new files: others can read it, and only its owner writes."""
        place = stage_out.direct
        if place is None:
            self.does_not_apply("the stager does not write the storage's files itself")
        stage_out.write(b"x").chmod(0o700)
        before = os.umask(0o022)
        try:
            stage_out.store("folder/file.dat", source=stage_out.here / FILE)
        finally:
            os.umask(before)
        mode = place.path("folder/file.dat").lstat().st_mode & 0o7777
        assert mode & 0o444 == 0o444, f"others cannot read the stored file (mode {mode:o}): that of a temporary file?"
        assert not mode & 0o7022, f"others may write the stored file (mode {mode:o})"
        folder = place.path("folder").stat().st_mode & 0o777
        assert folder & 0o055 == 0o055, f"others cannot read the folder that was made (mode {folder:o})"
        assert not folder & 0o022, f"others may write into the folder that was made (mode {folder:o})"

    def test_without_time_nothing_is_asked(self, stage_in: Bench) -> None:
        """`stat` whose deadline has passed raises `TransferTimeout`."""
        stage_in.storage.put(FILE, b"x")
        stage_in.deadline = Deadline.after(stage_in.clock, 0.0)
        refused(stage_in.stat, TransferTimeout, what="a stat without time")

    def test_without_time_nothing_is_removed(self, stage_out: Bench) -> None:
        """`stat` and `remove` whose deadline has passed raise `TransferTimeout`, and the file stays."""
        stage_out.storage.put(FILE, b"x")
        stage_out.deadline = Deadline.after(stage_out.clock, 0.0)
        refused(stage_out.stat, TransferTimeout, what="a stat without time")
        refused(stage_out.remove, TransferTimeout, what="a remove without time")
        same_bytes(stage_out.storage.get(FILE), b"x", "a file was removed although the time was up")
