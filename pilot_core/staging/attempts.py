"""Moving one file: candidates in order, retry and fallback by the error's class, every attempt in the ledger."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pilot_core.api.cancel import Deadline
from pilot_core.api.staging import Replica, TransferAttempt
from pilot_core.api.url import shown_url, without_password
from pilot_core.errors import (
    BackendUnavailable,
    HandledError,
    PilotErrorCode,
    PluginError,
    TransferTimeout,
    TransientError,
)
from pilot_core.selection import Candidate, NextStep, candidates, explain, next_step, remaining
from pilot_core.staging.health import DOWN_AFTER, Health
from pilot_core.staging.lane import Attempt
from pilot_core.staging.limits import Rates, time_allowed
from pilot_core.staging.telling import no_stager, telling
from pilot_core.staging.transfer import Moved

if TYPE_CHECKING:
    from pilot_core.api.clock import Clock
    from pilot_core.api.queue import Queue
    from pilot_core.api.staging import TransferResult
    from pilot_core.plugins import Loaded
    from pilot_core.selection import Verdict
    from pilot_core.staging.backends import Backends
    from pilot_core.staging.lane import Lane
    from pilot_core.staging.ledger import Ledger
    from pilot_core.staging.transfer import Transfer

__all__ = ["FIRST_PAUSE", "HOOKS", "LONGEST_PAUSE", "TRIES", "Attempts"]

HOOKS = {"read": "pilot_stagein", "write": "pilot_stageout", "log": "pilot_stageout"}
"""The hook that serves an activity."""
TRIES = 3
"""Tries of one backend with one replica while the errors are transient."""
FIRST_PAUSE = 1.0
"""Seconds before the second try; doubles with each, times a random factor of 0.5 to 1."""
LONGEST_PAUSE = 60.0
DOWN = 0.5
"""The rank of a candidate whose storage is down; between those of the others and what is no place in a recording."""


class Attempts:
    """Tries one file's candidates until one has moved it. Safe in several threads."""

    def __init__(
        self,
        *,
        queue: Queue,
        backends: Backends,
        clock: Clock,
        log: logging.LoggerAdapter[logging.Logger],
        ledger: Ledger,
    ) -> None:
        self._queue = queue
        self._backends = backends
        self._clock = clock
        self._log = log
        self._ledger = ledger
        self._unhealthy: set[str] = set()
        self._health = Health()
        self._lost = False
        """Whether an input could not be had, so that the job fails whatever becomes of the others."""
        self._rates = Rates()
        self._storage_stagers = {rse: storage.stagers for rse, storage in queue.storages.items()}

    def explain(self, activity: str, replicas: Sequence[Replica]) -> list[Verdict[Loaded[Any]]]:
        """Return what would be tried, in order, and what would not, each with the rule that says so."""
        return explain(self._stagers(activity, replicas), replicas, **self._rules(activity))

    def candidates(self, activity: str, replicas: Sequence[Replica]) -> list[Candidate[Loaded[Any]]]:
        """Return what to try, in order."""
        return candidates(self._stagers(activity, replicas), replicas, **self._rules(activity))

    def plan(self, transfer: Transfer) -> Transfer:
        """Return the transfer with its candidates; raises `BackendUnavailable` if nothing here can move the file."""
        found = self.candidates(transfer.activity, transfer.replicas)
        if not found:
            excluded = self.explain(transfer.activity, transfer.replicas)
            raise no_stager(transfer.lfn, transfer.replicas, excluded)
        return replace(transfer, planned=tuple(found))

    def move(self, transfer: Transfer, lane: Lane) -> Moved:
        """Try the candidates until one succeeds; raises the error that says most about the failure."""
        queue = self._in_order(transfer)
        errors: list[HandledError] = []
        tries = 0
        while queue:
            candidate = queue[0]
            tries += 1
            try:
                self._check_use(transfer, candidate)
                result = self._try(transfer, candidate, lane)
                self._health.answered(candidate, out=transfer.out)
                return Moved(transfer=transfer, result=result, replica=candidate.replica)
            except HandledError as error:
                errors.append(error)
                step = next_step(error)
            if step is NextStep.RETRY and tries < TRIES:
                self._pause(errors[-1], tries, lane)
                continue
            self._take_notice(transfer, candidate, step)
            queue, tries = remaining(queue, candidate, step), 0
        self._lost = self._lost or not transfer.out
        raise telling(errors, out=transfer.out)

    def _in_order(self, transfer: Transfer) -> list[Candidate[Loaded[Any]]]:
        """Return the candidates of a file: as planned, but what failed since then comes later."""
        queue = list(transfer.planned)
        if len(queue) > 1:
            if self._unhealthy:
                queue = self.candidates(transfer.activity, transfer.replicas)
            queue.sort(key=lambda candidate: self._rank(transfer, candidate))
        return queue

    def _rank(self, transfer: Transfer, candidate: Candidate[Loaded[Any]]) -> float:
        """Return how late a candidate comes: `DOWN` if its storage is down; in a replay, as it was recorded.

        What had failed by then, side by side, cannot be known from what fails one after the other.
        """
        recorded = self._backends.recorded(transfer.hook, candidate)
        if recorded is not None:
            return recorded
        return DOWN if self._health.is_down(candidate, out=transfer.out) else 0

    def _check_use(self, transfer: Transfer, candidate: Candidate[Loaded[Any]]) -> None:
        """Raise `BackendUnavailable` for an input that lies on a storage that is down, if the job has failed already.

        Each of a thousand such inputs may take minutes, and none of them could help.
        """
        if self._lost and not transfer.out and self._rank(transfer, candidate) in {DOWN, math.inf}:
            raise BackendUnavailable(
                f"{shown_url(candidate.replica.url)}: not asked for: the last {DOWN_AFTER} files could not be had there"
            )

    def _take_notice(self, transfer: Transfer, candidate: Candidate[Loaded[Any]], step: NextStep) -> None:
        """Remember what a failure, after all tries, says about the stager and the storage."""
        if step in {NextStep.NEXT_BACKEND, NextStep.PLUGIN_BUG}:
            self._unhealthy.add(candidate.stager.name)
        if step in {NextStep.NEXT_BACKEND, NextStep.RETRY}:
            self._health.failed(candidate, out=transfer.out)
        elif step is NextStep.NEXT_REPLICA:
            self._health.answered(candidate, out=transfer.out)

    def broken(self, stager: Loaded[Any], error: BaseException) -> PluginError:
        """Return the error for a plugin that broke its contract, and log where."""
        failure = PluginError(f"plugin {stager.label} broke: {type(error).__name__}: {error}")
        self._log.error("%s", failure, exc_info=error)
        return failure

    def _stagers(self, activity: str, replicas: Sequence[Replica]) -> list[Loaded[Any]]:
        """Return the stagers that may serve some of the replicas."""
        return self._backends.stagers(HOOKS[activity], [replica.url for replica in replicas])

    def _rules(self, activity: str) -> dict[str, Any]:
        """Return by what the candidates are put in order."""
        return {
            "activity": activity,
            "site_order": self._queue.stagers,
            "unhealthy": frozenset(self._unhealthy),
            "storage_stagers": self._storage_stagers,
        }

    def _try(self, transfer: Transfer, candidate: Candidate[Loaded[Any]], lane: Lane) -> TransferResult:
        """Make one attempt and enter it into the ledger; raises `HandledError` only."""
        stager, replica = candidate.stager, candidate.replica
        lane.raise_if_stopped()
        wall = self._clock.wall()
        allowed = time_allowed(transfer.size, self._rates.of(stager.name, replica.rse))
        attempt = Attempt(transfer, replica, stager, self._clock, allowed=allowed)
        result: TransferResult | None = None
        failure: HandledError | None = None
        lane.begin(attempt)
        try:
            backend = self._backends.instance(transfer.hook, stager.name)
            deadline = Deadline.after(self._clock, allowed)
            result = transfer.call(backend, replica, attempt.progress, cancel=lane.token, deadline=deadline)
        except HandledError as error:
            failure = error
        except (Exception, SystemExit) as error:  # noqa: BLE001  (what a plugin raises must not take the job with it)
            failure = self.broken(stager, error)
        finally:
            lane.end()
        if failure is not None and attempt.too_slow:
            failure = _too_slow(attempt)
        self._enter(attempt, stager, wall, result, failure)
        if result is None:
            raise failure or AssertionError("a transfer without result and error")
        return result

    def _enter(
        self,
        attempt: Attempt,
        stager: Loaded[Any],
        wall: float,
        result: TransferResult | None,
        failure: HandledError | None,
    ) -> None:
        """Enter an attempt that has ended into the ledger."""
        seconds = self._clock.monotonic() - attempt.began
        transfer, replica = attempt.transfer, attempt.replica
        if result is not None:
            self._rates.observe(stager.name, replica.rse, result.size, seconds)
        self._ledger.add(
            TransferAttempt(
                activity=transfer.activity,
                lfn=transfer.lfn,
                url=without_password(replica.url),
                rse=replica.rse,
                backend=stager.name,
                backend_version=stager.version,
                number=1,
                started=wall,
                seconds=round(seconds, 6),
                bytes=result.size if result else 0,
                outcome="ok" if result else type(failure).__name__,
                error=str(failure or ""),
            )
        )

    def _pause(self, error: HandledError, tries: int, lane: Lane) -> None:
        """Wait before the next try, as long as the storage asked for or twice as long as before."""
        asked = error.retry_after if isinstance(error, TransientError) else None
        if asked is None or not asked >= 0:
            asked = FIRST_PAUSE * 2 ** (tries - 1) * random.uniform(0.5, 1)  # noqa: S311  (not for secrets)
        lane.pause(self._clock, self._clock.monotonic() + min(asked, LONGEST_PAUSE))


def _too_slow(attempt: Attempt) -> TransferTimeout:
    """Return the error of an attempt that was called off for its slowness."""
    out = attempt.transfer.out
    code = PilotErrorCode.STAGEOUTTIMEOUT if out else PilotErrorCode.STAGEINTIMEOUT
    return TransferTimeout(attempt.too_slow, error_code=code)
