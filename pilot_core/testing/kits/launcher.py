"""The conformance kit of launchers: as many pilots as asked for, just as asked for, and an end of those only."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.api.cancel import CancelToken, Deadline
from pilot_core.api.clock import SystemClock
from pilot_core.api.launcher import Launcher, LaunchRequest
from pilot_core.errors import Cancelled, ExecutorError
from pilot_core.testing.kits.canary import CANARY, shows_secret
from pilot_core.testing.kits.judging import Footprint, children, eventually, pids, refused
from pilot_core.testing.kits.launched import LIVE, OVER, Pilots
from pilot_core.testing.kits.launcher_base import (
    ANY,
    NO_IDS,
    VARIABLES,
    WORDS,
    Launch,
    LauncherBase,
    Status,
    Stop,
    processes_of,
)
from pilot_core.testing.kits.within import at_once, within

if TYPE_CHECKING:
    import pytest

    from pilot_core.api.provider import Context

__all__ = ["LauncherKit"]


class LauncherKit(LauncherBase):
    """What a launcher has to do.

    Override `plugin`, and `settings` where the defaults do not reach a batch system that a test may use. The pilots
    that the kit launches write into a folder below `tmp_path`, and run the Python that runs the tests::

        class TestQueueing(LauncherKit):
            patience = 60.0  # seconds that this batch system may take to start or end a pilot

            @pytest.fixture
            def plugin(self):
                return "launcher.queueing"
    """

    # -- launching -----------------------------------------------------------------------------------------------

    def test_as_many_pilots_as_asked_for_are_launched(self, pilots: Pilots, launch: Launch, status: Status) -> None:
        """Each of the pilots runs, once, and has an id of its own."""
        ids = launch(pilots.request(count=4))
        begun = pilots.begun(4)
        assert len({tuple(each["process"]) for each in begun}) == 4
        assert self.reached(status, ids, LIVE) == ["running"] * 4, "pilots that run are not told as running"
        self.nothing_more(pilots, "asked for four pilots", begun=4)

    def test_no_pilots_are_none(self, pilots: Pilots, launch: Launch, status: Status, stop: Stop) -> None:
        """Asked for none, it launches none; asked about none, or to stop none, it does nothing."""
        ids = launch(pilots.request())
        pilots.begun(1)
        assert launch(pilots.request(count=0)) == []
        assert status() == []
        stop()
        self.nothing_more(pilots, "asked for no pilots, and to stop none", begun=1)
        assert self.reached(status, ids, LIVE) == ["running"], "stopping no pilots stopped one"

    def test_arguments_arrive_as_they_are(self, pilots: Pilots, launch: Launch) -> None:
        """No shell, and no language of the batch system, changes an argument: blanks, quotes, dollars, empty ones."""
        launch(pilots.request(*WORDS, code=0))
        (told,) = pilots.begun(1)
        for sent, arrived in zip(WORDS, told["words"], strict=False):
            assert arrived == sent, f"the argument {sent!r} arrived as {arrived!r}"
        assert len(told["words"]) == len(WORDS), f"{len(WORDS)} arguments were sent, {len(told['words'])} arrived"

    def test_a_newline_in_an_argument_arrives(self, pilots: Pilots, launch: Launch) -> None:
        """An argument with several lines arrives as it is."""
        words = ("two\nlines", "\n", "ends in one\n")
        launch(pilots.request(*words, code=0, environment={"KIT_LINES": "two\nlines\n"}))
        (told,) = pilots.begun(1)
        assert told["words"] == list(words)
        assert told["environment"].get("KIT_LINES") == "two\nlines\n"

    def test_the_environment_arrives(self, pilots: Pilots, launch: Launch) -> None:
        """Every variable of the request arrives with its value as it is."""
        launch(pilots.request(code=0, environment=VARIABLES))
        (told,) = pilots.begun(1)
        for name, value in VARIABLES.items():
            arrived = told["environment"].get(name)
            assert arrived == value, f"the variable {name}={value!r} arrived as {arrived!r}"

    def test_its_own_environment_is_not_passed_on(
        self, pilots: Pilots, launch: Launch, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What the launching process has in its environment, its credentials above all, stays there."""
        monkeypatch.setenv("KIT_OWN_SECRET", CANARY)
        monkeypatch.setenv("BEARER_TOKEN", CANARY)
        monkeypatch.setenv("PILOT_KIT_OWN", "own")
        launch(pilots.request(code=0, environment={"KIT_PLAIN": "plain"}))
        (told,) = pilots.begun(1)
        for name, value in told["environment"].items():
            assert not shows_secret(value), f"the variable {name} shows the pilot a secret of the launching process"
        for name in ("PILOT_KIT_OWN", "PYTEST_CURRENT_TEST"):
            assert name not in told["environment"], f"{name}, a variable of the launching process, was passed on"

    def test_values_of_the_environment_are_told_nobody(self, pilots: Pilots, launch: Launch, context: Context) -> None:
        """The values of variables may be secret: no log, no command line and no readable file shows them."""
        launch(pilots.request(environment={"KIT_TOKEN": CANARY}))
        (told,) = pilots.begun(1)
        assert told["environment"].get("KIT_TOKEN") == CANARY  # the base fixture looks into the log
        for pid in pids():
            with suppress(OSError):
                shown = shows_secret(Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace"))
                assert not shown, "a variable's value is in a command line, which everybody can read"
        for path in [path for path in context.work_dir.rglob("*") if path.is_file()]:
            shown = shows_secret(path.read_bytes().decode("utf-8", "replace"))
            private = not path.stat().st_mode & 0o077
            assert private or not shown, f"a variable's value is in the file {path.name}, which others can read"

    def test_pilots_live_on_their_own(self, pilots: Pilots, launch: Launch) -> None:
        """They have no input, no descriptor and no terminal of the launching process: its end is not theirs."""
        reading, writing = os.pipe()
        own = os.dup(0)
        os.write(writing, b"typed by somebody")
        os.set_inheritable(writing, True)
        try:
            os.dup2(reading, 0)
            launch(pilots.request())
            (told,) = pilots.begun(1)
            inherited = str(Path(f"/proc/self/fd/{writing}").readlink()) in told["descriptors"].values()
        finally:
            os.dup2(own, 0)
            for each in (own, reading, writing):
                os.close(each)
        assert not inherited, "a descriptor of the launching process, its input perhaps, is open in the pilot"
        for name in ("1", "2"):
            theirs, ours = told["descriptors"].get(name), str(Path(f"/proc/self/fd/{name}").readlink())
            assert theirs != ours or ours == os.devnull, "the pilot writes to the launching process's own output"
        assert told["stdin"] == "", "the pilot reads the launching process's input"
        here = told["session"] == os.getsid(0) and told["process"][0] != 1
        assert not here, "the pilot is in the launching process's session: the end of its terminal ends it"

    def test_launching_does_not_wait_for_the_pilots(self, pilots: Pilots, launch: Launch, status: Status) -> None:
        """It returns while the pilots run, or are queued."""
        states = status(*launch(pilots.request(count=2)))
        assert set(states) <= set(LIVE), f"pilots that run until they are stopped are {states}"
        pilots.begun(2)

    def test_a_program_that_is_not_there_has_failed(
        self, pilots: Pilots, launcher: Launcher, launched: list[str], status: Status, deadline: Deadline
    ) -> None:
        """A program that cannot be started is an error, or a pilot that has failed; never one that is done."""
        request = LaunchRequest(argv=(str(pilots.folder / "not" / "there"),))
        try:
            found = within(lambda: launcher.launch(request, cancel=CancelToken(), deadline=deadline), "launch")
        except ExecutorError as error:
            text = str(error)
        else:
            launched.extend(Pilots.ids(found))
            assert self.reached(status, Pilots.ids(found), OVER) == ["failed"], "a program that is not there is `done`"
            return
        assert text.isprintable(), f"the error is not one line: {text!r}"

    # -- states --------------------------------------------------------------------------------------------------

    def test_a_pilot_that_ended_well_is_done(self, pilots: Pilots, launch: Launch, status: Status) -> None:
        """Exit code 0 is `done`, and stays it."""
        ids = launch(pilots.request(code=0, count=2))
        assert self.reached(status, ids, OVER) == ["done"] * 2, "pilots that ended with exit code 0 are not done"
        assert status(*ids) == ["done"] * 2, "asked again, a pilot that is done is something else"

    def test_a_pilot_that_ended_badly_has_failed(self, pilots: Pilots, launch: Launch, status: Status) -> None:
        """Any other exit code is `failed`, and stays it."""
        codes = {each: code for code in (1, 7, 255) for each in launch(pilots.request(code=code))}
        states = dict(zip(codes, self.reached(status, list(codes), OVER), strict=True))
        good = [code for each, code in codes.items() if states[each] != "failed"]
        assert not good, f"pilots that ended with exit code {good} have not failed"
        assert status(*codes) == ["failed"] * 3, "asked again, a pilot that failed is something else"

    def test_a_pilot_that_was_killed_has_failed(self, pilots: Pilots, launch: Launch, status: Status) -> None:
        """A pilot that a signal ended, which nobody here asked for, has failed."""
        ids = launch(pilots.request())
        (told,) = pilots.begun(1)
        if not pilots.lives(told["process"]):
            self.does_not_apply(f"the pilots run elsewhere than on {socket.gethostname()}")
        os.kill(told["process"][0], 9)
        assert self.reached(status, ids, OVER) == ["failed"], "a pilot that SIGKILL ended has not failed"
        os.kill(told["child"][0], 9)

    def test_states_are_told_pilot_by_pilot(self, pilots: Pilots, launch: Launch, status: Status) -> None:
        """Asked about several, in any order and twice, it tells of each what is true of it."""
        (good,), (bad,) = launch(pilots.request(code=0)), launch(pilots.request(code=3))
        (runs,) = launch(pilots.request())
        pilots.begun(3)
        self.reached(status, [good, bad], OVER)
        self.reached(status, [runs], ("running",))
        assert status(bad, runs, good, bad, "no-such-pilot") == ["failed", "running", "done", "failed", "unknown"]

    def test_an_id_that_means_nothing_is_unknown(
        self, pilots: Pilots, launch: Launch, status: Status, stop: Stop
    ) -> None:
        """What is no pilot's id is `unknown`; stopping it does nothing, and is no error."""
        ids = launch(pilots.request())
        pilots.begun(1)
        for name in NO_IDS:
            (state,) = status(name)
            assert state == "unknown", f"{name[:40]!r} is no pilot's id, and it is told as {state}"
            stop(name)
        self.nothing_more(pilots, "stopping what is no pilot's id", begun=1)
        assert self.reached(status, ids, LIVE) == ["running"], "stopping what is no pilot's id stopped a pilot"

    def test_other_processes_are_no_pilots(self, status: Status, stop: Stop) -> None:
        """The id of a process that was not launched is nothing to it: that process is let alone."""
        with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
            try:
                pid = str(process.pid)
                assert status(pid) == ["unknown"], "a process that was not launched is told as a pilot"
                stop(pid)
                stop(f"{pid}.", f"0{pid}", f"-{pid}", f" {pid}")
                clock = SystemClock()
                clock.wait(until=clock.monotonic() + 0.05)
                assert process.poll() is None, "a process that was not launched was ended"
            finally:
                process.kill()

    # -- stopping ------------------------------------------------------------------------------------------------

    def test_stopped_pilots_end_with_all_they_started(
        self, pilots: Pilots, launch: Launch, status: Status, stop: Stop
    ) -> None:
        """Those that are stopped end, with their children; they are told as ended."""
        ids = launch(pilots.request(count=2))
        pilots.begun(2)
        stop(*ids)
        states = self.reached(status, ids, (*OVER, "unknown"))
        assert "done" not in states, "a pilot that was stopped, and ended with exit code 90, is told as done"
        lives = lambda: not any(map(pilots.lives, processes_of(pilots)))  # noqa: E731
        eventually(lives, "pilots that were stopped end with their children", seconds=self.patience)

    def test_only_those_are_stopped(self, pilots: Pilots, launch: Launch, status: Status, stop: Stop) -> None:
        """The others run on, those of the same launch too."""
        first, second, third = launch(pilots.request(count=3))
        other = launch(pilots.request())
        pilots.begun(4)
        stop(second)
        self.reached(status, [second], (*OVER, "unknown"))
        assert self.reached(status, [first, third, *other], LIVE) == ["running"] * 3, "others were stopped as well"
        left = [each for each in pilots.told("begun") if pilots.lives(each["process"])]
        assert len(left) in {0, 3}, f"of four pilots one was stopped, and {len(left)} run"

    def test_a_pilot_is_asked_to_end(self, pilots: Pilots, launch: Launch, stop: Stop) -> None:
        """A pilot that is stopped gets SIGTERM first, so that it can tell its server."""
        ids = launch(pilots.request())
        pilots.begun(1)
        stop(*ids)
        told = eventually(
            lambda: pilots.told("signal"), "the pilot that is stopped gets SIGTERM", seconds=self.patience
        )
        assert told[0]["number"] == 15

    def test_stopping_what_has_ended_is_harmless(
        self, pilots: Pilots, launch: Launch, status: Status, stop: Stop
    ) -> None:
        """Stopped again, or after its end, a pilot stays what it is; the others of the call are stopped."""
        ended = launch(pilots.request(code=0))
        self.reached(status, ended, OVER)
        runs = launch(pilots.request())
        pilots.begun(2)
        stop(*ended, "no-such-pilot", *runs)
        self.reached(status, runs, (*OVER, "unknown"))
        stop(*ended, *runs)
        assert status(*ended) == ["done"], "a pilot that was done, and was stopped after that, is something else"

    # -- later, and by others ------------------------------------------------------------------------------------

    def test_another_instance_knows_the_pilots(
        self,
        pilots: Pilots,
        make: Callable[[], Launcher],
        launched: list[str],
        status: Status,
        stop: Stop,
        deadline: Deadline,
    ) -> None:
        """Pilots outlive the launcher that started them; a later one tells what became of them, and stops them."""
        first = make()
        found = [*first.launch(pilots.request(), cancel=CancelToken(), deadline=deadline)]
        found += first.launch(pilots.request(code=0), cancel=CancelToken(), deadline=deadline)
        found += first.launch(pilots.request(code=5), cancel=CancelToken(), deadline=deadline)
        ids = Pilots.ids(found)
        launched.extend(ids)
        pilots.begun(3)
        del first
        gc.collect()
        later = make()
        states = lambda *ids: status(*ids, of=later)  # noqa: E731
        assert self.reached(states, ids[1:], OVER) == ["done", "failed"], "another instance tells other states"
        assert self.reached(states, ids[:1], ("running",)) == ["running"]
        stop(ids[0], of=later)
        self.reached(states, ids[:1], (*OVER, "unknown"))

    def test_many_may_launch_at_once(self, pilots: Pilots, launch: Launch, status: Status) -> None:
        """Threads that launch at the same time get each their own pilots."""
        answers = at_once([lambda: launch(pilots.request(code=0, count=2))] * 4, "launch")
        ids = [each for answer in answers for each in answer]
        assert len(set(ids)) == 8, "launched at the same time, two pilots have one id"
        pilots.begun(8)
        assert self.reached(status, ids, OVER) == ["done"] * 8

    # -- what goes wrong -----------------------------------------------------------------------------------------

    def test_cancellation_is_heeded(self, pilots: Pilots, launcher: Launcher, deadline: Deadline) -> None:
        """A cancelled launch ends with `Cancelled`, and nothing is launched."""
        off = CancelToken()
        off.cancel("the kit says so")
        call = lambda: launcher.launch(pilots.request(code=0), cancel=off, deadline=deadline)  # noqa: E731
        refused(call, Cancelled, what="a cancelled launch")
        self.nothing_more(pilots, "a cancelled launch")

    def test_a_deadline_is_heeded(
        self, pilots: Pilots, launcher: Launcher, cancel: CancelToken, clock: SystemClock
    ) -> None:
        """A launch whose deadline has passed ends with an error, and nothing is launched."""
        late = Deadline.after(clock, -1.0)
        call = lambda: launcher.launch(pilots.request(code=0), cancel=cancel, deadline=late)  # noqa: E731
        refused(call, *ANY, what="a launch past its deadline")
        self.nothing_more(pilots, "a launch past its deadline")

    def test_it_leaves_nothing_behind(self, pilots: Pilots, launch: Launch, status: Status, stop: Stop) -> None:
        """After the pilots' end there are no zombies, descriptors, threads or processes of it."""
        ids = launch(pilots.request(code=0))
        self.reached(status, ids, OVER)
        footprint = Footprint.now()
        ids = launch(pilots.request(code=0, count=3))
        pilots.begun(4)
        self.reached(status, ids, OVER)
        ids = launch(pilots.request())
        pilots.begun(5)
        stop(*ids)
        self.reached(status, ids, (*OVER, "unknown"))
        footprint.check("launching and stopping", slack=2)
        assert not children(zombies=True), "the pilots' processes are left as zombies: wait for their end"
