"""What a server tells a job's pilot to do with its answers: look at the job, be more talkative, end it softly.

PanDA's server repeats a command with every answer for as long as it holds, so the answer of now is what counts: `debug`
is over when an answer comes without it. What the pilot looked at goes out with the next update, in its `stdout`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pilot_core.api.clock import Event

if TYPE_CHECKING:
    import logging
    from pathlib import Path

    from pilot_core.api.cancel import CancelToken
    from pilot_core.api.clock import Clock

__all__ = ["DEBUG_INTERVAL", "Commands", "HasProcess", "Whereabouts"]

DEBUG_INTERVAL = 60.0
"""Seconds between updates while the server looks on (Pilot 3: `debug_heartbeat`)."""
PATIENCE = 10.0
"""Seconds for looking at the job; a file system that hangs must not keep the heartbeats."""
NOTHING = frozenset({"", "NULL", "tobekilled", "alreadydone"})
"""Commands that say nothing, or that are heard elsewhere."""


@dataclass
class Whereabouts:
    """Where a job's payload is, as far as it has come. Nothing of the job's own, which would be kept alive by it."""

    folder: Path | None = None
    """The payload's directory."""
    run: HasProcess | None = None
    """What knows the payload's uppermost process."""


class HasProcess(Protocol):
    """What has a process, or none yet."""

    process: tuple[int, int] | None
    """Pid and start time."""


class Commands:
    """The commands of one job's server. `heard` and `text` are called by the heartbeat's thread only."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: logging.LoggerAdapter[logging.Logger],
        clean: Callable[[str], str],
        where: Whereabouts,
        soft: CancelToken,
        debug: bool,
    ) -> None:
        """`clean` takes secrets out of a text, `soft` is cancelled to have the payload asked to end; `debug` = the
        job's description asks for it already."""
        self._clock = clock
        self._log = log
        self._clean = clean
        self._where = where
        self._soft = soft
        self._debug = debug
        self._request = ""
        """The verb and its arguments that the server wants to see the answer of."""
        self._refused: tuple[str, ...] = ()
        """What is still to be reported as refused."""
        self._known: set[str] = set()
        """What was logged: a server repeats itself with every update."""
        self._busy: Event | None = None
        """Set when the last look, which took too long, has come to its end."""

    @property
    def watched(self) -> bool:
        """Whether the server looks on, and so wants to hear more often."""
        return self._debug or bool(self._request)

    def heard(self, commands: Sequence[str]) -> bool:
        """Do what an answer's commands say; True if there is something to tell the server now."""
        before = (self._debug, self._request)
        words = [command.strip() for command in commands if command.strip() not in NOTHING]
        self._debug = "debug" in words and "debugoff" not in words
        self._request = next((word for word in reversed(words) if _is_verb(word)), "")
        for word in words:
            known = word in {"softkill", "debug", "debugoff"} or _is_verb(word)
            if word not in self._known:
                self._known.add(word)
                if known:
                    self._log.info("the server asks: %.250s", word)
                else:
                    self._log.warning("the server's command %.250r is refused: it is none of this pilot's", word)
                    self._refused = (*self._refused, word)
            if word == "softkill":
                self._soft.cancel("the server wants the payload to come to its end (softkill)")
        return bool(self._refused) or (self.watched and before != (self._debug, self._request))

    def text(self) -> str:
        """Return what the next update shows the server; empty if it asked for nothing."""
        lines = [
            f"pilot-core refuses {word[:250]!r}: it knows tail, ls, ps, du, debug, debugoff, softkill, tobekilled"
            for word in self._refused
        ]
        self._refused = ()
        if self.watched:
            lines.append(self._look())
        if not lines:
            return ""
        from pilot_core.diagnostics import LONGEST  # noqa: PLC0415  (few jobs are looked at)

        return self._clean("\n".join(lines))[-LONGEST:]

    def _look(self) -> str:
        """Look at the job in a thread that nobody has to wait for."""
        if self._busy is not None and not self._busy.is_set():
            return "the job's directory still does not answer"
        done, found = Event(), list[str]()
        request, folder, run = self._request, self._where.folder, self._where.run
        process = run.process if run else None

        def look() -> None:
            try:
                found.append(self._shown(request, folder, process))
            except Exception as error:  # noqa: BLE001  (it must not end without a word)
                found.append(f"{type(error).__name__}: {error}")
            finally:
                done.set()

        threading.Thread(target=look, name="diagnostics", daemon=True).start()
        if self._clock.wait(done, until=self._clock.monotonic() + PATIENCE):
            return found[0]
        self._busy = done
        return f"the job's directory has not answered within {PATIENCE:.0f} s"

    def _shown(self, request: str, folder: Path | None, process: tuple[int, int] | None) -> str:
        """Return what a request shows; without one it is the end of the payload's output."""
        from pilot_core.diagnostics import Refused, answer, last_lines  # noqa: PLC0415

        if folder is None:
            return "the job has no directory yet"
        try:
            if request:
                return answer(request, folder, process)
            return last_lines(folder / "payload.stdout", folder)
        except Refused as error:
            if not request:
                return ""  # no payload has run yet
            self._log.warning("the server's command %.250r is refused: %s", request, error)
            return f"pilot-core refuses {request[:250]!r}: {error}"
        except OSError as error:
            return f"the job's directory cannot be read: {error.strerror}"


def _is_verb(word: str) -> bool:
    """Say whether a command is one of those that look at a job."""
    from pilot_core.diagnostics import verb_of  # noqa: PLC0415

    return bool(verb_of(word))
