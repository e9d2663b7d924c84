"""Replaying recordings: prepare, send, compare; and the table of what cannot be replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from pilot_devserver.replay.compare import Reply, differences
from pilot_devserver.replay.scene import Scene

if TYPE_CHECKING:
    from pilot_devserver.replay.recording import Exchange
    from pilot_devserver.store import SqliteStore

__all__ = ["KNOWN_LEFT_OUT", "Outcome", "Sender", "replay", "report"]

KNOWN_LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        "dbdown-007": "the real server gave no answer within 90 s: there is nothing to compare with",
    }
)
"""Recorded exchanges that cannot be replayed, with the reason."""


class Sender(Protocol):
    """A way to send a recorded request."""

    def obstacle(self, exchange: Exchange) -> str:
        """Return why this server cannot answer as the recorded one; empty = it can."""
        ...

    def send(self, exchange: Exchange) -> Reply:
        """Send a request and return the answer."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How one exchange went."""

    exchange: Exchange
    left_out: str = ""
    """Why it was not replayed; empty = it was."""
    differences: Sequence[str] = field(default=())

    @property
    def equal(self) -> bool:
        """Whether the answer was as recorded."""
        return not self.left_out and not self.differences


def replay(exchanges: Sequence[Exchange], store: SqliteStore, sender: Sender) -> list[Outcome]:
    """Replay exchanges in their order. The store must be empty; its Adder runs at the recordings' times only."""
    store.adder_held = True
    scene = Scene(store, exchanges)
    outcomes = []
    for index, exchange in enumerate(exchanges):
        scene.prepare(index)
        reason = _why_left_out(exchange) or sender.obstacle(exchange)
        found = [] if reason else differences(exchange, sender.send(exchange))
        outcomes.append(Outcome(exchange, reason, found))
    store.available, store.adder_held = True, False
    return outcomes


def _why_left_out(exchange: Exchange) -> str:
    if exchange.status is None:
        return KNOWN_LEFT_OUT.get(exchange.id, "no answer was recorded")
    if exchange.body is None:
        return f"the body was recorded as {exchange.recorded_body[:40]!r} and cannot be rebuilt"
    return ""


def report(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines that tell a reader how it went."""
    lines = [f"{item.exchange.id}  left out: {item.left_out}" for item in outcomes if item.left_out]
    for item in outcomes:
        if item.differences:
            lines.append(f"{item.exchange.id}  {item.exchange.title}")
            lines += [f"    {text}" for text in item.differences]
    equal, left_out = sum(item.equal for item in outcomes), sum(bool(item.left_out) for item in outcomes)
    differing = len(outcomes) - equal - left_out
    lines.append(f"{len(outcomes)} exchanges: {equal} equal, {differing} differing, {left_out} left out")
    return lines
