"""What PanDA's database does with an update of a pilot: apply it, pass it over, or refuse it.

The rules are those of `updateJobStatus` in panda-server 1.0.4 and 0.8.1 (they are the same), without the Event Service;
those that a pilot can meet were observed. Pure functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilot_core.api.server import StoreUnavailable

__all__ = ["ALREADY_DONE", "FINAL", "NO_COMMAND", "TO_BE_KILLED", "Decision", "Held", "decide", "pending_command"]

NO_COMMAND = "NULL"
ALREADY_DONE = "alreadydone"
TO_BE_KILLED = "tobekilled"

FINAL = frozenset({"finished", "failed"})
"""States that put a job into `holding`, where the Adder finds it."""
_PARKED = frozenset({"holding", "transferring"})
_NUMERIC_BATCH = re.compile(r"\d+\.*\d+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Held:
    """A job as the database holds it when the update comes."""

    status: str
    command: str
    debug: bool
    diag: str | None
    """`jobDispatcherErrorDiag`: set when the pilot itself asked for `holding` or `transferring`."""
    batch_id: str | None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do with an update."""

    reply: str
    """The command that the pilot is answered."""
    status: str | None
    """The job's new status; None = nothing of the update is kept."""


def pending_command(command: str, *, debug: bool) -> str:
    """Return the command for the pilot: `debug`, what was set for it, both with a comma, or `NULL`."""
    return ",".join((["debug"] if debug else []) + ([command] if command else [])) or NO_COMMAND


def decide(held: Held, state: str, batch_id: str | None) -> Decision:
    """Decide what the update of a pilot to `state` (its own word, so `finished` and not `holding`) does.

    Raises `StoreUnavailable` for another batch ID than the job's: the server means to answer `tobekilled`, and
    stumbles over an error of its own.
    """
    command = pending_command(held.command, debug=held.debug)
    wanted = "holding" if state in FINAL else state
    passed_over = Decision(reply=command, status=None)
    if wanted == "holding" and held.status in _PARKED:
        if held.status == "holding" and state == "holding":
            return passed_over
        if not held.diag:
            return Decision(reply=ALREADY_DONE, status=None)
    if held.status in _PARKED and wanted in ("running", "starting"):
        return passed_over
    if _is_other_batch(held.batch_id, batch_id):
        raise StoreUnavailable("module 'SupErrors' has no attribute 'error_codes'")
    if held.status == "running" and wanted == "starting":
        return Decision(reply=command, status="running")
    if held.status == "holding" and wanted == "transferring":
        return passed_over
    return Decision(reply=command, status=wanted)


def _is_other_batch(old: str | None, new: str | None) -> bool:
    """Say whether the batch ID changed; numbers are left alone, batch systems renumber them."""
    if not old or not new or old == new:
        return False
    return not _NUMERIC_BATCH.fullmatch(old) and not _NUMERIC_BATCH.fullmatch(new)
