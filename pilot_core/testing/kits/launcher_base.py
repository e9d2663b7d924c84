"""What the clauses for launchers share: pilots, instances, and how answers are judged."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import SystemClock
from pilot_core.api.launcher import LaunchedPilot, Launcher, LaunchRequest
from pilot_core.errors import AuthError, CommunicationError, ExecutorError, TransferTimeout
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.judging import eventually
from pilot_core.testing.kits.launched import LIVE, OVER, STATES, Pilots
from pilot_core.testing.kits.within import within

if TYPE_CHECKING:
    from pilot_core.api.provider import Context
    from pilot_core.testing.kits.subject import Subject

__all__ = ["ANY", "NO_IDS", "VARIABLES", "WORDS", "Launch", "LauncherBase", "Status", "Stop", "processes_of"]

Launch = Callable[[LaunchRequest], "list[str]"]
Status = Callable[..., "list[str]"]
Stop = Callable[..., None]

WORDS = (
    "plain", "two words", "", "-x", "--", "'single'", '"double"', "it's", "$HOME", "${PATH}", "$(id)", "`id`", "*", "~",
    "a;b&c|d>e<f", "!x", "#no comment", "back\\slash", "ends in \\", "tab\there", "%s%d%%", "ünïcödé 文", "{a,b}",
    "a=b", " blanks ", "@file", "(x)",
)  # fmt: skip
"""Arguments that a shell, or a batch system's own language, would change."""
VARIABLES = {
    "KIT_PLAIN": "plain",
    "KIT_BLANKS": " two  words ",
    "KIT_QUOTES": 'it\'s "quoted"',
    "KIT_SHELL": "$HOME `id` $(id) ; & | > <",
    "KIT_COMMA": "a,b=c,d",
    "KIT_UNICODE": "ünïcödé 文",
    "KIT_EMPTY": "",
    "KIT_BACKSLASH": "a\\b\\",
    "KIT_PERCENT": "%d%%",
}
"""Variables that a batch system's own language would change."""
NO_IDS = (
    "no-such-pilot", "", "0", "-1", "../x", "..", "/", ".", "a b", "$(id)", "x\ny", "x\0y", "*", "%", "ü", "x" * 5000,
)  # fmt: skip
"""Texts that are no pilot's id."""
ANY = (ExecutorError, CommunicationError, AuthError, TransferTimeout)


class LauncherBase(Kit):
    """Fixtures and helpers."""

    kind = "launcher"
    patience: ClassVar[float] = 15.0
    """Real seconds in which the batch system has to have started or ended a pilot."""

    # -- fixtures ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def pilots(self, tmp_path: Path) -> Pilots:
        """Pilots that tell what they got."""
        return Pilots(tmp_path / "pilots", self.patience)

    @pytest.fixture
    def make(self, subject: Subject, settings: Mapping[str, Any], context: Context) -> Callable[[], Launcher]:
        """Make an instance of the launcher."""
        return lambda: cast("Launcher", self.made(subject.providers["pilot_launchers"], settings, context))

    @pytest.fixture
    def launcher(self, make: Callable[[], Launcher]) -> Launcher:
        """The launcher under test."""
        return make()

    @pytest.fixture
    def launched(self, make: Callable[[], Launcher], pilots: Pilots) -> Iterator[list[str]]:
        """The ids of all pilots that a clause launched; those that still run are stopped after it."""
        ids: list[str] = []
        yield ids
        clock = SystemClock()
        try:
            make().stop(ids, cancel=CancelToken(), deadline=Deadline.after(clock, 30.0))
            eventually(
                lambda: not any(map(pilots.lives, processes_of(pilots))), "the pilots end", seconds=self.patience
            )
        finally:
            for process in filter(pilots.lives, processes_of(pilots)):
                os.kill(process[0], signal.SIGKILL)

    @pytest.fixture
    def launch(self, launcher: Launcher, launched: list[str], cancel: CancelToken, deadline: Deadline) -> Launch:
        """Launch pilots, and look at the answer as at any; return their ids."""

        def launch(request: LaunchRequest) -> list[str]:
            found = within(lambda: launcher.launch(request, cancel=cancel, deadline=deadline), "launch")
            self.check_sound(found, request.count)
            unknown = [pilot.id for pilot in found if pilot.state == "unknown"]
            assert not unknown, f"launch tells of pilots that it has just launched as unknown: {unknown}"
            ids = Pilots.ids(found)
            launched.extend(ids)
            return ids

        return launch

    @pytest.fixture
    def status(self, launcher: Launcher, cancel: CancelToken, deadline: Deadline) -> Status:
        """Return the states of pilots, by their ids."""

        def status(*ids: str, of: Launcher = launcher) -> list[str]:
            found = within(lambda: of.status(ids, cancel=cancel, deadline=deadline), "status")
            self.check_sound(found, len(ids))
            told = [pilot.id for pilot in found]
            assert told == list(ids), f"status of {list(ids)} told of {told}; one entry for each id, in that order"
            return [pilot.state for pilot in found]

        return status

    @pytest.fixture
    def stop(self, launcher: Launcher, cancel: CancelToken, deadline: Deadline) -> Stop:
        """Stop pilots."""

        def stop(*ids: str, of: Launcher = launcher) -> None:
            within(lambda: of.stop(ids, cancel=cancel, deadline=deadline), "stop", seconds=self.patience)

        return stop

    # -- helpers -------------------------------------------------------------------------------------------------

    def reached(self, status: Status, ids: Sequence[str], states: Sequence[str]) -> list[str]:
        """Return the states of pilots once all are among `states`; fail the test if that takes too long."""
        last: list[list[str]] = []

        def settled() -> bool:
            last[:] = [status(*ids)]
            over = set(states) <= set(LIVE) and bool(set(last[0]) & set(OVER))  # what has ended comes back no more
            return over or set(last[0]) <= set(states)

        what = f"pilots that are {' or '.join(states)} are told so"
        eventually(settled, what, seconds=self.patience)
        assert set(last[0]) <= set(states), f"pilots that are {' or '.join(states)} are told as {last[0]}"
        return last[0]

    def nothing_more(self, pilots: Pilots, what: str, *, begun: int = 0) -> None:
        """See that no more pilots begin than there are to be, and that none gets a signal."""
        clock = SystemClock()
        until = clock.monotonic() + 0.3
        while clock.monotonic() < until:
            clock.wait(until=clock.monotonic() + 0.03)
            count = len(pilots.told("begun"))
            assert count <= begun, f"{what}: {count} pilots run, where it is {begun}"
            assert not pilots.told("signal"), f"{what}: a pilot got a signal"

    @staticmethod
    def check_sound(found: Sequence[LaunchedPilot], count: int) -> None:
        """See that an answer tells of the right number of pilots."""
        assert isinstance(found, Sequence), f"a {type(found).__name__} was returned, not a sequence of LaunchedPilot"
        assert all(isinstance(each, LaunchedPilot) for each in found), f"{found!r} holds what is no LaunchedPilot"
        assert len(found) == count, f"{len(found)} pilots are told of, where it is {count}"
        for each in found:
            assert each.state in STATES, f"the state {each.state!r} is none of {', '.join(STATES)}"


def processes_of(pilots: Pilots) -> list[list[int]]:
    """Return the processes of all pilots that told of themselves, and their children."""
    told = pilots.told("begun")
    return [each[key] for each in told for key in ("process", "child") if each[key]]
