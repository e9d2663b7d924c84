"""Calls that must return: a clause that meets a hanging plugin fails instead of hanging itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from pilot_core.api.clock import Event, SystemClock

__all__ = ["PATIENCE", "at_once", "within"]

T = TypeVar("T")
PATIENCE = 10.0
"""Real seconds in which a call must have returned that has nothing to wait for."""


class _Call:
    """One call in a thread of its own, which a hanging one keeps."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.done = Event()
        self.result: list[object] = []
        self.error: BaseException | None = None
        self._function = function
        threading.Thread(target=self._run, name="kit", daemon=True).start()

    def _run(self) -> None:
        try:
            self.result.append(self._function())
        except BaseException as error:  # noqa: BLE001  (raised again where it was called)
            self.error = error
        finally:
            self.done.set()


def within(function: Callable[[], T], what: str, *, seconds: float = PATIENCE) -> T:
    """Return what a call returns, or raise what it raises; fail the test if it takes longer than `seconds`."""
    return _await(_Call(function), what, seconds)  # type: ignore[return-value]


def at_once(functions: Sequence[Callable[[], T]], what: str, *, seconds: float = PATIENCE * 3) -> list[T]:
    """Make calls at the same time, each in a thread of its own; return their results, in order.

    Raises the first error; fails the test if any of them takes longer than `seconds`.
    """
    return [_await(call, what, seconds) for call in [_Call(function) for function in functions]]  # type: ignore[misc]


def _await(call: _Call, what: str, seconds: float) -> object:
    clock = SystemClock()
    if not clock.wait(call.done, until=clock.monotonic() + seconds):
        pytest.fail(f"{what} did not return within {seconds:g} s", pytrace=False)
    if call.error is not None:
        raise call.error
    return call.result[0]
