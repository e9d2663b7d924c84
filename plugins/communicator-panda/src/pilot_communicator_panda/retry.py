"""Repeating a request with jittered exponential back-off, inside a budget that the log shows."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pilot_core import AuthError, CommunicationError

if TYPE_CHECKING:
    from pilot_core.api.cancel import CancelToken, Deadline
    from pilot_core.api.clock import Clock

__all__ = ["AttemptFailed", "NoCredential", "Retrier", "RetryPolicy"]

T = TypeVar("T")


class AttemptFailed(CommunicationError):
    """One attempt at a request failed; whether another is worth it, and safe, is the caller's to say."""

    def __init__(
        self,
        message: str,
        *,
        processed: bool = True,
        permanent: bool = False,
        retry_after: float | None = None,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message)
        self.processed = processed
        """Whether the server may have carried the request out (its answer is what was lost)."""
        self.permanent = permanent
        """Whether only a change of configuration, here or there, can help: an untrusted certificate, say."""
        self.retry_after = retry_after
        """Seconds that the server asked to wait."""
        self.timed_out = timed_out
        """Whether the request was sent and no answer came in time."""


class NoCredential(AuthError):
    """There is no usable credential on this side; nothing was sent."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long and how often to repeat."""

    budget: float
    """Seconds after the first attempt during which new attempts begin; 0 = a single attempt."""
    pause: float
    """Upper limit of the first pause in seconds; each further one is twice as long ..."""
    pause_limit: float
    """... up to this."""


class Retrier:
    """Runs attempts until one succeeds, the budget or the deadline is used up, or the work is called off.

    The pauses are drawn evenly between 0 and their upper limit ("full jitter"), so that thousands of pilots that lost
    the same server do not come back in step.
    """

    def __init__(self, clock: Clock, log: logging.Logger, jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._log = log
        self._jitter = jitter

    def run(
        self,
        what: str,
        attempt: Callable[[], T],
        policy: RetryPolicy,
        *,
        repeatable: Callable[[AttemptFailed], bool],
        cancel: CancelToken,
        deadline: Deadline,
    ) -> T:
        """Return what `attempt` returns in the end.

        Raises `CommunicationError` with the last failure, and whatever else `attempt` raises.
        """
        started = self._clock.monotonic()
        until = min(started + policy.budget, deadline.at)
        number = 0
        while True:
            number += 1
            cancel.raise_if_cancelled()
            try:
                return attempt()
            except AttemptFailed as failure:
                if not repeatable(failure):
                    raise CommunicationError(f"{what}: {failure}") from failure
                now = self._clock.monotonic()
                pause = self._pause(policy, number, failure, until - now)
                if pause is None:
                    tries = f" (gave up after {number} attempts in {now - started:.0f} s)" if number > 1 else ""
                    raise CommunicationError(f"{what}: {failure}{tries}") from failure
                self._log.warning(
                    "%s: %s; attempt %d, next in %.1f s, budget %.0f s left", what, failure, number, pause, until - now
                )
            self._clock.wait(cancel, until=now + pause)

    def _pause(self, policy: RetryPolicy, number: int, failure: AttemptFailed, left: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up."""
        asked = failure.retry_after or 0.0
        if left <= 0 or asked > left:
            return None
        # 2**60 is beyond every limit, and a float can still hold it
        longest = min(policy.pause_limit, policy.pause * 2.0 ** min(number - 1, 60))
        return min(max(self._jitter() * longest, asked), left)
