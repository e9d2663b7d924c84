"""What was recorded, as a script: what comes next, what was played already, and where the play left the script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from pilot_core.api.traffic import NOT_CONNECTED
from pilot_core.replay.compare import Comparison, Difference, Message
from pilot_core.staging import TRIES

if TYPE_CHECKING:
    from pilot_core.recording.reading import RecordedExchange, Recording

__all__ = ["Divergence", "Script"]

NOT_THERE = "(nothing)"
_COMPARED: Mapping[str, tuple[str, ...]] = {
    "state": ("job", "old", "new"),
    "task-finished": ("job", "task", "outcome"),
    "command": ("job", "before", "after"),
    "payload-start": ("job", "argv"),
    "payload-error": ("job", "error"),
    "payload-end": ("job", "result"),
    "stager-call": ("method", "url", "stager", "answer", "error"),
    "stager-error": ("hook", "name", "error"),
    "catalog-call": ("method", "files", "rse", "answer", "error"),
}
"""The events that are compared, and what of them."""
_SIDE_BY_SIDE: Mapping[str, tuple[str, ...]] = {
    "stager-call": ("stager", "method", "url"),
    "stager-error": ("hook", "name"),
}
"""Events of files that are moved side by side, so that their order says nothing, and what tells them apart."""


@dataclass(frozen=True)
class Divergence:
    """One place where the pilot did not do what is recorded."""

    place: str
    """`exchange 3` or `event 17`, by the recording's own numbers."""
    about: str
    """The endpoint, or the kind of event."""
    field: str
    recorded: str
    now: str

    def __str__(self) -> str:
        return f"{self.place} ({self.about}): {self.field}: recorded {self.recorded!r}, now {self.now!r}"

    def to_json(self) -> dict[str, str]:
        """Return plain JSON data."""
        return dict(vars(self))


class Script:
    """One recording being played. Safe in several threads."""

    def __init__(self, recording: Recording, comparison: Comparison, *, strict: bool) -> None:
        self.divergences: list[Divergence] = []
        self.played = 0
        """Exchanges that took place as, or instead of, recorded ones."""
        self.changed: Callable[[], None] = lambda: None
        """Called, without the lock, when something was played."""
        self._whole = recording.whole
        self._strict = strict
        self._comparison = comparison
        self._left = list(recording.exchanges)
        self._last = len(self._left)
        self._events = [event for event in recording.events if event["what"] in _COMPARED]
        self._lock = threading.RLock()

    # -- exchanges ---------------------------------------------------------------------------------------------------

    def next(self) -> RecordedExchange | None:
        """Return the exchange that comes next; None = all were played."""
        with self._lock:
            return self._left[0] if self._left else None

    def next_of(self, call: int) -> RecordedExchange | None:
        """Return the next exchange of one call, which need not be the next of all."""
        with self._lock:
            return next((exchange for exchange in self._left if exchange.call == call), None)

    @property
    def over(self) -> bool:
        """Whether a recording that breaks off has been played to its end: nothing can be said of what follows."""
        with self._lock:
            return not self._whole and not self._left

    def skip(self, call: int) -> None:
        """Take all of a call's exchanges as played."""
        with self._lock:
            self._left = [exchange for exchange in self._left if exchange.call != call]
        self.changed()

    def answer(self, message: Message) -> RecordedExchange | None:
        """Return the recorded exchange that answers a request; None = the recording has none for it."""
        with self._lock:
            found = self._match(message)
            if found is not None:
                found = self._renewed(found)
                self.played += 1
        self.changed()
        return found

    def not_connected(self, message: Message) -> RecordedExchange | None:
        """Take notice of a request that found no connection; returns the exchange if that is recorded so."""
        with self._lock:
            found = self._left[0] if self._left else None
            if found is None or found.failure != NOT_CONNECTED:
                return None
            self._left.remove(found)
            self.played += 1
            if found.endpoint != message.endpoint:
                self._add(found, [Difference("request", found.endpoint, message.endpoint)])
        self.changed()
        return found

    def end(self) -> None:
        """Take notice of the pilot's end: what is left was not done."""
        with self._lock:
            for exchange in self._left:
                self._add(exchange, [Difference("request", exchange.endpoint, NOT_THERE)])
            for event in self._events if self._whole else ():
                if _called_off(event):
                    continue
                self._diverge(f"event {event['n']}", event["what"], [Difference("event", event["what"], NOT_THERE)])

    def _match(self, message: Message) -> RecordedExchange | None:
        """Find the exchange for a request, note how it differs, and take it out."""
        if not self._left:
            if self._whole:
                where = Difference("request", NOT_THERE, message.endpoint)
                self._diverge(f"exchange {self._last + 1}", message.endpoint, [where])
            return None
        first = self._left[0]
        alike = [
            exchange for exchange in self._left if exchange.endpoint == message.endpoint and not _refused(exchange)
        ]
        if self._strict and (not alike or alike[0] is not first):
            self._add(first, [Difference("request", first.endpoint, message.endpoint)])
        elif not alike:
            where = Difference("request", NOT_THERE, message.endpoint)
            self._diverge(f"exchange {self._last + 1}", message.endpoint, [where])
        if not alike:
            return None
        compared = [
            (exchange, self._differences(exchange, message)) for exchange in alike[: 1 if self._strict else None]
        ]
        found, differences = next(((e, d) for e, d in compared if not d), compared[0])
        self._add(found, differences)
        self._left.remove(found)
        return found

    def _differences(self, exchange: RecordedExchange, message: Message) -> list[Difference]:
        recorded = Message(exchange.method, exchange.target, exchange.headers, exchange.body)
        return self._comparison.requests(recorded, message)

    def _renewed(self, exchange: RecordedExchange) -> RecordedExchange:
        """Return the exchange that follows when a token was refused and the renewed one taken: there is none here."""
        follows = self.next_of(exchange.call) if exchange.call else None
        if exchange.status != 401 or follows is None or follows.endpoint != exchange.endpoint or not follows.status:
            return exchange
        self._left.remove(follows)
        return self._renewed(follows)

    # -- events ------------------------------------------------------------------------------------------------------

    def event(self, what: str, **details: Any) -> None:
        """Compare an event with the recorded one that comes next."""
        if what not in _COMPARED:
            return
        with self._lock:
            if not self._events:
                if self._whole:
                    self._diverge("after the last event", what, [Difference("event", NOT_THERE, what)])
                return
            recorded = self._next_event(what, details)
            if recorded is None:
                return
            place = f"event {recorded['n']}"
            if recorded["what"] != what:
                self._diverge(place, recorded["what"], [Difference("event", recorded["what"], what)])
                return
            one, other = ({name: each.get(name) for name in _COMPARED[what]} for each in (recorded, details))
            for name in _COMPARED[what]:
                self._diverge(place, what, self._comparison.values(one[name], other[name], name, what))

    def in_turn(self, files: Sequence[Sequence[str]]) -> Sequence[int]:
        """Return which files, given the URLs of each, were tried when recorded, in an order in which they may be again.

        Then they moved side by side, now they do one after the other. What ended well comes first: it did so whatever
        became of the others. Then what failed, in the order of the failures: the first may have called off the rest.
        """
        with self._lock:
            run = list(takewhile(lambda event: event["what"] in _SIDE_BY_SIDE, self._events))
        ends: dict[int, tuple[int, int]] = {}
        for number, urls in enumerate(files):
            places = [place for place, event in enumerate(run) if event.get("url") in urls]
            if places:
                error = run[places[-1]].get("error") or {}
                ends[number] = (_rank(error.get("type", ""), len(places)), places[-1])
        return sorted(ends, key=lambda number: ends[number])

    def _next_event(self, what: str, details: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Take out the recorded event that comes next, or belongs to a transfer; None if it is not to be compared.

        Which transfers had begun when the others were called off is a matter of microseconds, so it is not compared.
        """
        names = _SIDE_BY_SIDE.get(what, ())
        for index, event in enumerate(takewhile(lambda event: event["what"] in _SIDE_BY_SIDE, self._events)):
            if event["what"] == what and all(event.get(name) == details.get(name) for name in names):
                return self._events.pop(index)
        if names and _called_off(details):
            return None
        while len(self._events) > 1 and _called_off(self._events[0]):
            self._events.pop(0)
        return self._events.pop(0)

    # -- divergences -------------------------------------------------------------------------------------------------

    def differs(self, place: str, about: str, recorded: Any, now: Any, path: str) -> None:
        """Compare two values, and note where they differ."""
        with self._lock:
            self._diverge(place, about, self._comparison.values(recorded, now, path, about))

    def _add(self, exchange: RecordedExchange, differences: Iterable[Difference]) -> None:
        self._diverge(f"exchange {exchange.number}", exchange.endpoint, differences)

    def _diverge(self, place: str, about: str, differences: Iterable[Difference]) -> None:
        self.divergences += [Divergence(place, about, each.field, each.recorded, each.now) for each in differences]


def _refused(exchange: RecordedExchange) -> bool:
    """Say whether an exchange had no connection, so that no request of it can arrive."""
    return exchange.failure == NOT_CONNECTED


def _rank(error: str, calls: int) -> int:
    """Return how late a file comes in a replay whose last call, of so many, ended with an error of that class."""
    if not error:
        return 0
    waits = error in {"TransientError", "TransferTimeout"} and calls < TRIES
    return 2 if waits or error == "Cancelled" else 1


def _called_off(event: Mapping[str, Any]) -> bool:
    """Say whether an event is the end of a transfer that was called off."""
    return bool(event.get("method")) and (event.get("error") or {}).get("type") == "Cancelled"
