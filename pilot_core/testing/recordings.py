"""Recordings as tests: one line says that the pilot still does what it did when `run --record` looked on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilot_core.replay import ReplayResult, replay

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["assert_replays"]

MOST_SHOWN = 10


def assert_replays(recording: Path, *, strict: bool = True, real: bool = False) -> ReplayResult:
    """Fail the test, with the divergences, unless a pilot does what the recording says; returns the result.

    `strict` = in the recorded order; `real` = payloads are run and files moved instead of played. Raises `BadInput`
    for a recording that is damaged or of another version.
    """
    __tracebackhide__ = True
    result = replay(recording, strict=strict, real=real)
    if not result.same:
        shown = "\n  ".join(map(str, result.divergences[:MOST_SHOWN]))
        raise AssertionError(f"{recording} does not replay: {len(result.divergences)} divergences, first:\n  {shown}")
    return result
