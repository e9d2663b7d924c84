"""The stager: it finds out which faults strike, has the other stager do the rest, and spoils that."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pilot_core import BackendUnavailable, HandledError, TransientError
from pilot_core.api.url import shown_url
from pilot_stager_fault.damage import checksum_of, damage, damaged_copy, is_damage, misreport
from pilot_stager_fault.errors import raise_error
from pilot_stager_fault.grammar import parse
from pilot_stager_fault.pace import Pace

if TYPE_CHECKING:
    from pilot_core import (
        CancelToken,
        Context,
        Deadline,
        FetchRequest,
        FileStat,
        Stagers,
        StoreRequest,
        TransferResult,
    )
    from pilot_stager_fault.grammar import FaultUrl, StorageFault

    R = TypeVar("R", FetchRequest, StoreRequest)

__all__ = ["FaultStager"]


class FaultStager:
    """Serves `fault://FAULTS/URL`, both ways; safe in several threads.

    Attempts are counted for each operation and URL, in memory: from 1 again in the next pilot.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._attempts: dict[tuple[str, str], int] = {}

    def fetch(self, request: FetchRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Have the other stager copy a file in; see `StageIn.fetch`."""
        real, faults = self._due("fetch", request.url, cancel)
        inner = self._stagers().stage_in(real.url)
        pace = Pace(faults, request.progress, cancel, deadline)
        result = inner.fetch(_real(request, real, pace), cancel=cancel, deadline=deadline)
        if pace.stalls:
            # one that tells no progress, or does not look at the time afterwards, must not succeed either
            request.destination.unlink()
            self._end_stalled(pace, request.url, cancel, deadline)
        damage(request.destination, faults)
        self._raise_partial(faults, request.url)
        return misreport(replace(result, url=real.before + result.url), faults)

    def store(self, request: StoreRequest, *, cancel: CancelToken, deadline: Deadline) -> TransferResult:
        """Have the other stager copy a file out; see `StageOut.store`."""
        real, faults = self._due("store", request.url, cancel)
        inner = self._stagers().stage_out(real.url)
        pace = Pace(faults, request.progress, cancel, deadline)
        ours = _real(request, real, pace)
        if not any(is_damage(fault) for fault in faults):
            result = inner.store(ours, cancel=cancel, deadline=deadline)
        else:
            name = request.checksum.partition(":")[0]
            with damaged_copy(request.source, faults, self._context.work_dir) as copy:
                stored = inner.store(replace(ours, source=copy, checksum=name), cancel=cancel, deadline=deadline)
            size, good = request.source.stat().st_size, checksum_of(request.source, name)
            result = replace(stored, size=size, checksum=good)
        if pace.stalls:
            with contextlib.suppress(HandledError):
                inner.remove(real.url, cancel=cancel, deadline=deadline)
            self._end_stalled(pace, request.url, cancel, deadline)
        self._raise_partial(faults, request.url)
        return misreport(replace(result, url=real.before + result.url), faults)

    def stat(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> FileStat:
        """Have the other stager ask about a file."""
        real, faults = self._due("stat", url, cancel)
        found = self._stagers().stage_in(real.url).stat(real.url, cancel=cancel, deadline=deadline)
        return misreport(found, faults)

    def remove(self, url: str, *, cancel: CancelToken, deadline: Deadline) -> None:
        """Have the other stager delete a file."""
        real, _ = self._due("remove", url, cancel)
        self._stagers().stage_out(real.url).remove(real.url, cancel=cancel, deadline=deadline)

    def _due(self, operation: str, url: str, cancel: CancelToken) -> tuple[FaultUrl, list[StorageFault]]:
        """Count an attempt; return the URL taken apart and the faults that strike it.

        Raises what a fault raises that is an error and nothing else, and `BackendUnavailable` for a wrong URL.
        """
        cancel.raise_if_cancelled()
        real = parse(url)
        with self._lock:
            attempt = self._attempts[operation, url] = self._attempts.get((operation, url), 0) + 1
        faults = real.due(operation, attempt)
        for fault in faults:
            self._context.log.info("%s of %s, attempt %d: %s", operation, shown_url(url), attempt, fault.kind.name)
            raise_error(fault, url, self._context.clock, cancel)
        return real, faults

    def _stagers(self) -> Stagers:
        """Return the pilot's stagers; raises `BackendUnavailable` where there are none, as in a test of one's own."""
        if self._context.stagers is None:
            raise BackendUnavailable("the stager `fault` stands before others, and was given none")
        return self._context.stagers

    @staticmethod
    def _end_stalled(pace: Pace, url: str, cancel: CancelToken, deadline: Deadline) -> None:
        """Raise the error of a transfer that stood still."""
        if not pace.stalled:
            pace.stand_still()
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(shown_url(url))

    @staticmethod
    def _raise_partial(faults: list[StorageFault], url: str) -> None:
        """Raise the error that goes with a file that was left half done."""
        if any(fault.kind.name == "partial" for fault in faults):
            raise TransientError(f"{shown_url(url)}: partial on purpose: part of the file is left")


def _real(request: R, real: FaultUrl, pace: Pace) -> R:
    """Return a request for the real file, and of the real storage's folder."""
    root = request.root.removeprefix(real.before) if request.root.startswith(real.before) else ""
    return replace(request, url=real.url, root=root, progress=pace)
