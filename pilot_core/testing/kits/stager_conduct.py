"""The clauses for how a stager behaves towards others: other transfers, other users of a storage, the clock."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

from pilot_core.api.cancel import Deadline
from pilot_core.api.clock import Event, SystemClock
from pilot_core.errors import HandledError, TransferTimeout
from pilot_core.testing.kits.stager_base import FILE, Bench, StagerBase, data_of, refused
from pilot_core.testing.kits.within import PATIENCE

__all__ = ["ConductClauses"]


class ConductClauses(StagerBase):
    """What others see of a stager."""

    def test_one_fetch_does_not_hold_up_another(self, stage_in: Bench) -> None:
        """While one file is on its way another one is fetched: no lock is held for the length of a transfer."""
        for name in ("slow.dat", "quick.dat"):
            stage_in.storage.put(name, data_of(2 * 1024 * 1024))
        quick = stage_in.fetch_request("quick.dat")
        held: list[bool] = []

        def meanwhile(_: int) -> None:
            if not held:
                held.append(_hangs(lambda: stage_in.stager.fetch(quick, **stage_in.limits)))

        stage_in.fetch("slow.dat", progress=meanwhile)
        assert not any(held), "a fetch waits until another one is done: it may be called from several threads at once"

    def test_one_store_does_not_hold_up_another(self, stage_out: Bench) -> None:
        """While one file is on its way another one is stored: no lock is held for the length of a transfer."""
        for name in ("slow.dat", "quick.dat"):
            stage_out.write(data_of(2 * 1024 * 1024), name)
        quick = stage_out.store_request("quick.dat")
        held: list[bool] = []

        def meanwhile(_: int) -> None:
            if not held:
                held.append(_hangs(lambda: stage_out.stager.store(quick, **stage_out.limits)))

        stage_out.store("slow.dat", progress=meanwhile)
        assert not any(held), "a store waits until another one is done: it may be called from several threads at once"

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
        assert stage_out.storage.get(FILE) == b"x", "a file was removed although the time was up"


def _hangs(call: Callable[[], object]) -> bool:
    """Say whether a call does not come to its end although nothing keeps it but another call."""
    done = Event()

    def run() -> None:
        with contextlib.suppress(HandledError):
            call()
        done.set()

    threading.Thread(target=run, name="kit", daemon=True).start()
    clock = SystemClock()
    return not clock.wait(done, until=clock.monotonic() + PATIENCE / 2)
