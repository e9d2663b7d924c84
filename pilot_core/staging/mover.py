"""Moving one file: candidates in order, retry and fallback by the error's class, a ledger of attempts."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import Deadline
from pilot_core.api.staging import FetchRequest, Replica, StoreRequest, TransferAttempt, TransferResult
from pilot_core.api.url import shown_url, without_password
from pilot_core.errors import HandledError, PluginError, SourceNotFound, TransientError
from pilot_core.routes import Routes
from pilot_core.selection import Candidate, NextStep, candidates, explain, next_step, remaining
from pilot_core.staging.telling import no_stager, telling

if TYPE_CHECKING:
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.clock import Clock
    from pilot_core.api.job import InputFile, OutputFile
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import StageIn, StageOut
    from pilot_core.plugins import Loaded
    from pilot_core.selection import Verdict
    from pilot_core.staging.backends import Backends

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "START_ALLOWANCE", "TRIES", "Mover", "time_allowed"]

HOOKS = {"read": "pilot_stagein", "write": "pilot_stageout", "log": "pilot_stageout"}
"""The hook that serves an activity."""
TRIES = 3
"""Tries of one backend with one replica while the errors are transient."""
FIRST_PAUSE = 1.0
"""Seconds before the second try; doubles with each, times a random factor of 0.5 to 1."""
LONGEST_PAUSE = 60.0
SLOWEST_RATE = 256 * 1024
"""Bytes a second below which a transfer is given up."""
START_ALLOWANCE = 600.0
"""Seconds that every transfer may take on top, for tapes to turn and servers to wake."""


def time_allowed(size: int | None) -> float:
    """Return the seconds that moving a file of `size` bytes may take."""
    return START_ALLOWANCE + (size or 0) / SLOWEST_RATE


class Mover:
    """Moves one job's files, and keeps the ledger of every attempt."""

    def __init__(
        self,
        *,
        queue: Queue,
        backends: Backends,
        clock: Clock,
        log: logging.LoggerAdapter[logging.Logger],
        listener: Callable[[TransferAttempt], None],
        routes: Routes | None = None,
    ) -> None:
        self.ledger: list[TransferAttempt] = []
        self.routes = routes or Routes(queue)
        self._queue = queue
        self._backends = backends
        self._clock = clock
        self._log = log
        self._listener = listener
        self._unhealthy: set[str] = set()

    # -- by what -------------------------------------------------------------------------------------------------

    def explain(self, activity: str, replicas: Sequence[Replica]) -> list[Verdict[Loaded[Any]]]:
        """Return what would be tried, in order, and what would not, each with the rule that says so."""
        return explain(self._stagers(activity, replicas), replicas, **self._rules(activity))

    # -- moving --------------------------------------------------------------------------------------------------

    def bring_in(self, file: InputFile, destination: Path, *, cancel: CancelToken) -> TransferResult:
        """Fetch an input, verified against what the catalogue knows of it. Raises `TransferError`, `AuthError`."""
        replicas = self.routes.sources(file)

        def fetch(backend: StageIn, replica: Replica, deadline: Deadline) -> TransferResult:
            request = FetchRequest(
                url=replica.url,
                destination=destination,
                size=file.size,
                checksum=file.checksum,
                root=replica.root,
            )
            return backend.fetch(request, cancel=cancel, deadline=deadline)

        transfer = _Transfer("read", file.lfn, "pilot_stagein", file.size, fetch)
        return self._move(transfer, replicas, cancel)[0]

    def bring_out(
        self, file: OutputFile, source: Path, activity: str, *, cancel: CancelToken
    ) -> tuple[TransferResult, str]:
        """Store an output or the log; returns what was stored and the RSE. Raises as `bring_in`."""
        replicas = self.routes.destinations(file, activity)

        def store(backend: StageOut, replica: Replica, deadline: Deadline) -> TransferResult:
            request = StoreRequest(source=source, url=replica.url, root=replica.root)
            return backend.store(request, cancel=cancel, deadline=deadline)

        transfer = _Transfer(activity, file.lfn, "pilot_stageout", source.stat().st_size, store)
        result, replica = self._move(transfer, replicas, cancel)
        return result, replica.rse

    def remove(self, rse: str, url: str, *, cancel: CancelToken) -> None:
        """Take a stored file away again, as well as that can be done; raises nothing."""
        why: object = "no stager here serves it"
        found: Sequence[Candidate[Loaded[Any]]] = ()
        try:
            found = self._candidates("write", [Replica(url=url, rse=rse)])
        except HandledError as error:
            why = error
        for candidate in found:
            try:
                backend: StageOut = self._backends.instance("pilot_stageout", candidate.stager.name)
                backend.remove(url, cancel=cancel, deadline=Deadline.after(self._clock, START_ALLOWANCE))
            except SourceNotFound:
                return
            except HandledError as error:
                why = error
            except (Exception, SystemExit) as error:  # noqa: BLE001  (the next backend may do better)
                why = self._broken(candidate, error)
            else:
                self._log.info("%s removed from the storage", shown_url(url))
                return
        self._log.warning("%s stays on the storage: %s", shown_url(url), why)

    def _candidates(self, activity: str, replicas: Sequence[Replica]) -> list[Candidate[Loaded[Any]]]:
        """Return what to try, in order."""
        return candidates(self._stagers(activity, replicas), replicas, **self._rules(activity))

    def _stagers(self, activity: str, replicas: Sequence[Replica]) -> list[Loaded[Any]]:
        """Return the stagers that may serve some of the replicas."""
        return self._backends.stagers(HOOKS[activity], [replica.url for replica in replicas])

    def _rules(self, activity: str) -> dict[str, Any]:
        """Return by what the candidates are put in order."""
        return {
            "activity": activity,
            "site_order": self._queue.stagers,
            "unhealthy": frozenset(self._unhealthy),
            "storage_stagers": {rse: storage.stagers for rse, storage in self._queue.storages.items()},
        }

    def _move(
        self, transfer: _Transfer, replicas: Sequence[Replica], cancel: CancelToken
    ) -> tuple[TransferResult, Replica]:
        """Try the candidates until one succeeds; raises the error that says most about the failure."""
        queue = self._candidates(transfer.activity, replicas)
        if not queue:
            raise no_stager(transfer.lfn, replicas)
        errors: list[HandledError] = []
        tries = 0
        while queue:
            candidate = queue[0]
            tries += 1
            try:
                return self._try(transfer, candidate, cancel), candidate.replica
            except HandledError as error:
                errors.append(error)
                step = next_step(error)
            if step is NextStep.RETRY and tries < TRIES:
                self._pause(errors[-1], tries, cancel)
                continue
            if step in {NextStep.NEXT_BACKEND, NextStep.PLUGIN_BUG}:
                self._unhealthy.add(candidate.stager.name)
            queue, tries = remaining(queue, candidate, step), 0
        raise telling(errors, out=transfer.hook == "pilot_stageout")

    def _try(self, transfer: _Transfer, candidate: Candidate[Loaded[Any]], cancel: CancelToken) -> TransferResult:
        """Make one attempt and enter it into the ledger; raises `HandledError` only."""
        stager, replica = candidate.stager, candidate.replica
        cancel.raise_if_cancelled()
        started, wall = self._clock.monotonic(), self._clock.wall()
        result: TransferResult | None = None
        failure: HandledError | None = None
        try:
            backend = self._backends.instance(transfer.hook, stager.name)
            deadline = Deadline.after(self._clock, time_allowed(transfer.size))
            result = _checked(transfer.call(backend, replica, deadline))
        except HandledError as error:
            failure = error
        except (Exception, SystemExit) as error:  # noqa: BLE001  (what a plugin raises must not take the job with it)
            failure = self._broken(candidate, error)
        attempt = TransferAttempt(
            activity=transfer.activity,
            lfn=transfer.lfn,
            url=without_password(replica.url),
            rse=replica.rse,
            backend=stager.name,
            backend_version=stager.version,
            number=1 + sum(known.lfn == transfer.lfn for known in self.ledger),
            started=wall,
            seconds=round(self._clock.monotonic() - started, 6),
            bytes=result.size if result else 0,
            outcome="ok" if result else type(failure).__name__,
            error=str(failure or ""),
        )
        self.ledger.append(attempt)
        self._tell(attempt)
        if result is None:
            raise failure or AssertionError("a transfer without result and error")
        return result

    def _broken(self, candidate: Candidate[Loaded[Any]], error: BaseException) -> PluginError:
        """Return the error for a plugin that broke its contract, and log where."""
        failure = PluginError(f"plugin {candidate.stager.label} broke: {type(error).__name__}: {error}")
        self._log.error("%s", failure, exc_info=error)
        return failure

    def _tell(self, attempt: TransferAttempt) -> None:
        """Log an attempt and let the plugins hear of it."""
        if attempt.outcome == "ok":
            way = "from" if attempt.activity == "read" else "to"
            self._log.info("%s %s %s (%d bytes, %.3f s)", attempt.lfn, way, attempt.url, attempt.bytes, attempt.seconds)
        else:
            self._log.warning("%s: attempt %d failed: %s", attempt.lfn, attempt.number, attempt.error)
        self._listener(attempt)

    def _pause(self, error: HandledError, tries: int, cancel: CancelToken) -> None:
        """Wait before the next try, as long as the storage asked for or twice as long as before."""
        asked = error.retry_after if isinstance(error, TransientError) else None
        if asked is None or not asked >= 0:
            asked = FIRST_PAUSE * 2 ** (tries - 1) * random.uniform(0.5, 1)  # noqa: S311  (not for secrets)
        if self._clock.wait(cancel, until=self._clock.monotonic() + min(asked, LONGEST_PAUSE)):
            cancel.raise_if_cancelled()


@dataclass(frozen=True)
class _Transfer:
    """One file on its way: what to call on a backend to move it."""

    activity: str
    lfn: str
    hook: str
    size: int | None
    call: Callable[[Any, Replica, Deadline], TransferResult]


def _checked(result: object) -> TransferResult:
    """Return what a backend returned, if that is what it has to return; raises `TypeError`."""
    if not isinstance(result, TransferResult):
        raise TypeError(f"it returned {type(result).__name__}, not TransferResult")
    return result
