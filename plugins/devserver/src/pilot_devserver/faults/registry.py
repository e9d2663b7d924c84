"""The faults of one server: added and removed while it runs, counted when they strike, and who is told of it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pilot_core.api.clock import Event, SystemClock
from pilot_devserver.faults.kinds import Place

if TYPE_CHECKING:
    from pilot_devserver.faults.rules import Rule
    from pilot_devserver.faults.subject import Subject

__all__ = ["Fault", "Faults"]

_log = logging.getLogger(__name__)


class Fault:
    """One rule in force, with its counters. Its owner is a `Faults`."""

    def __init__(self, owner: Faults, number: int, rule: Rule, chance: random.Random) -> None:
        self._owner = owner
        self.number = number
        """By which it is removed; never used twice in one server."""
        self.rule = rule
        self.chance = chance
        """From which it draws whatever is left to chance: probability, garbage."""
        self.seen = 0
        """Requests that the rule is about, whether it struck them or not."""
        self.fired = 0
        """How many times it struck."""

    @property
    def spent(self) -> bool:
        """Whether it has struck as often as it was to."""
        return bool(self.rule.count) and self.fired >= self.rule.count

    def __repr__(self) -> str:
        return f"<fault {self.number}: {self.rule}, seen {self.seen}, fired {self.fired}>"

    def to_json(self) -> dict[str, Any]:
        """Return number, counters and rule as plain values."""
        counters = {"number": self.number, "seen": self.seen, "fired": self.fired, "spent": self.spent}
        return {**counters, "rule": self.rule.to_json(), "text": str(self.rule)}

    def remove(self) -> bool:
        """Take the fault away, and back what it did to the server; False if it was removed before."""
        return self._owner.remove(self.number)

    def until_fired(self, count: int = 1, *, patience: float = 30.0) -> None:
        """Return once it has struck `count` times; raises `TimeoutError` after `patience` real seconds.

        For tests: the server's own clock may stand still.
        """
        clock = SystemClock()
        end = clock.monotonic() + patience
        while True:
            change = self._owner.next_change()
            if self.fired >= count:
                return
            if not clock.wait(change, until=end):
                raise TimeoutError(f"{self!r} has not struck {count} times within {patience:g} s")

    def due(self) -> bool:
        """Count a request that the rule is about; say whether the fault is to strike it."""
        self.seen += 1
        if self.seen <= self.rule.after or self.spent:
            return False
        return self.rule.probability >= 1.0 or self.chance.random() < self.rule.probability


class Faults:
    """The faults in force, oldest first. Safe to use from several threads.

    Everything that is left to chance comes from `seed` and the fault's number: the same requests in the same order
    meet the same faults again.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._lock = threading.RLock()
        self._faults: dict[int, Fault] = {}
        self._last = 0
        self._struck = 0
        self._listeners: list[Callable[[], None]] = []
        self._waiters: list[Event] = []

    # -- rules ---------------------------------------------------------------------------------------------------------

    def add(self, rule: Rule) -> Fault:
        """Put a rule in force."""
        with self._lock:
            self._last += 1
            # a text, so that neighbours have nothing in common
            chance = random.Random(f"{self.seed}/{self._last}")  # noqa: S311  (to be repeatable is the point)
            fault = self._faults[self._last] = Fault(self, self._last, rule, chance)
        _log.info("fault %d added: %s", fault.number, rule)
        self._tell()
        return fault

    def remove(self, number: int) -> bool:
        """Take one fault away; False if there is none of this number."""
        with self._lock:
            fault = self._faults.pop(number, None)
        if fault is None:
            return False
        _log.info("fault %d removed: %s, struck %d times", number, fault.rule, fault.fired)
        self._tell()
        return True

    def clear(self) -> int:
        """Take all faults away; return how many there were."""
        with self._lock:
            removed, self._faults = self._faults, {}
        if removed:
            _log.info("%d faults removed", len(removed))
            self._tell()
        return len(removed)

    def rules(self) -> list[Fault]:
        """Return the faults in force, those that are spent included, oldest first."""
        with self._lock:
            return list(self._faults.values())

    @property
    def fired(self) -> int:
        """How many times any fault struck, removed ones included."""
        return self._struck

    def __bool__(self) -> bool:
        """Say whether there is any fault, spent or not."""
        return bool(self._faults)

    # -- who is told ---------------------------------------------------------------------------------------------------

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a function called after every change: added, removed, struck; return what ends that.

        It is called in the thread that made the change: it must be quick and raise nothing.
        """
        with self._lock:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return unsubscribe

    def next_change(self) -> Event:
        """Return an event that is set with the next change: take it first and look afterwards."""
        event = Event()
        with self._lock:
            self._waiters.append(event)
        return event

    def _tell(self) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, []
            listeners = list(self._listeners)
        for waiter in waiters:
            waiter.set()
        for listener in listeners:
            listener()

    # -- striking ------------------------------------------------------------------------------------------------------

    def meet(self, subject: Subject, queue_of: Callable[[int], str]) -> list[Fault]:
        """Return the faults that strike a request, and count them: all of the server, one at most of the answer."""
        about = [fault for fault in self.rules() if fault.rule.matches(subject, queue_of)]
        return self._strike(about, ", ".join(dict.fromkeys(subject.calls)) or subject.path)

    def refuses(self) -> bool:
        """Say whether a connection that is being accepted is to be refused, and count that."""
        about = [fault for fault in self.rules() if fault.rule.kind.place is Place.CONNECTION]
        return bool(self._strike(about, "a connection"))

    def undo(self, fault: Fault) -> None:
        """Take back one strike that found nothing to strike."""
        with self._lock:
            fault.fired -= 1
            self._struck -= 1
        _log.info("fault %d (%s) found nothing to strike", fault.number, fault.rule.kind.name)
        self._tell()

    def _strike(self, about: Iterable[Fault], what: str) -> list[Fault]:
        struck: list[Fault] = []
        with self._lock:
            for fault in about:
                # counted in any case: `after` is about requests, not about what else happened to them
                if not fault.due() or fault.number not in self._faults:
                    continue
                if fault.rule.kind.place is not Place.SERVER and any(
                    other.rule.kind.place is not Place.SERVER for other in struck
                ):
                    continue
                fault.fired += 1
                self._struck += 1
                struck.append(fault)
        for fault in struck:
            times = f" ({fault.fired} of {fault.rule.count})" if fault.rule.count else f" ({fault.fired})"
            _log.info("fault %d strikes %s: %s%s", fault.number, what, fault.rule, times)
        if struck:
            self._tell()
        return struck
