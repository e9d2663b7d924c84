"""The conformance kit of watchdogs: silent within the limit, clear beyond it, and never a hand on the payload."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pilot_core.api.clock import SystemClock
from pilot_core.api.executor import PayloadHandle
from pilot_core.api.watchdog import Violation, Watchdog, Watched
from pilot_core.testing.clock import FakeClock
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.canary import shows_secret
from pilot_core.testing.kits.finding import finding
from pilot_core.testing.kits.judging import Footprint, tree
from pilot_core.testing.kits.watched_payload import STARTED, WatchdogCase, WatchedPayload
from pilot_core.testing.kits.within import at_once, within

if TYPE_CHECKING:
    from pilot_core.api.provider import Context
    from pilot_core.testing.kits.subject import Subject

__all__ = ["WatchdogKit"]

Check = Callable[[Watched], "Violation | None"]

QUICK = 2.0
"""Real seconds for twenty checks."""
CODES = range(1000, 2000)
"""PanDA's pilot error codes (`pilot/common/errorcodes.py`, Pilot 3.11.5.1)."""


class WatchdogKit(Kit):
    """What a watchdog has to do.

    Override `plugin` and `case`; the case brings a payload within the limit and beyond it::

        class StdoutCase(WatchdogCase):
            settings = {"limit_kb": 10}

            def within(self, watched):
                (watched.job_dir / "payload.stdout").write_bytes(b"x" * 9_000)
                return watched

            def beyond(self, watched):
                (watched.job_dir / "payload.stdout").write_bytes(b"x" * 11_000)
                return watched

        class TestStdout(WatchdogKit):
            @pytest.fixture
            def plugin(self):
                return "watchdog.stdout"

            @pytest.fixture
            def case(self):
                return StdoutCase()
    """

    kind = "watchdog"

    # -- fixtures ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def case(self) -> WatchdogCase:
        """The two sides of the limit; override it."""
        what = "return a WatchdogCase (pilot_core.testing.WatchdogCase) of your own"
        return cast("WatchdogCase", self.missing("case", what))

    @pytest.fixture
    def settings(self, case: WatchdogCase) -> Mapping[str, Any]:
        """The plugin's settings: those of the case."""
        return case.settings

    @pytest.fixture
    def clock(self) -> SystemClock:
        """A clock that shows a time which has nothing to do with the payload's."""
        return cast("SystemClock", FakeClock(monotonic=10.0))

    @pytest.fixture
    def dog(self, subject: Subject, settings: Mapping[str, Any], context: Context) -> Watchdog:
        """The watchdog under test."""
        return cast("Watchdog", self.made(subject.providers["pilot_watchdogs"], settings, context))

    @pytest.fixture
    def payload(self, tmp_path: Path, case: WatchdogCase) -> Iterator[WatchedPayload]:
        """A payload that runs."""
        payload = WatchedPayload(tmp_path, case.program)
        yield payload
        payload.close()

    @pytest.fixture
    def other(self, tmp_path: Path, case: WatchdogCase) -> Iterator[WatchedPayload]:
        """The payload of another job, which runs beside the first."""
        payload = WatchedPayload(tmp_path, case.program, number=2)
        yield payload
        payload.close()

    @pytest.fixture
    def check(self, dog: Watchdog) -> Check:
        """Check once."""
        return lambda watched: self.checked(dog, watched)

    # -- the limit -----------------------------------------------------------------------------------------------

    def test_its_interval_is_a_time(self, dog: Watchdog) -> None:
        """The interval is a number of seconds above 0, finite, and the same whenever it is asked for."""
        interval: Any = dog.interval
        number = isinstance(interval, int | float) and not isinstance(interval, bool)
        assert number, f"interval is {interval!r}, not a number of seconds"
        assert math.isfinite(interval), f"interval is {interval!r}: it would never be checked"
        assert interval > 0, f"interval is {interval!r}: it would be checked all the time"
        assert [dog.interval] * 3 == [interval] * 3, "the interval is another one each time"

    def test_within_the_limit_it_is_silent(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """Within the limit there is no violation, however often it looks."""
        watched = case.within(payload.watched)
        for _ in range(3):
            self.silent(check(watched), "within the limit")

    def test_beyond_the_limit_it_says_so(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """Beyond the limit there is a violation, which a pilot can report."""
        self.seen(case, check, payload)
        self.due(check(case.beyond(payload.watched)))

    def test_a_violation_tells_limit_and_value(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """Its message is one line with the limit and the value; its code is one of PanDA's pilot error codes."""
        self.seen(case, check, payload)
        found = self.due(check(case.beyond(payload.watched)))
        numbers = set(re.findall(r"\d+(?:[.,]\d+)?", found.message))
        assert len(numbers) >= 2, f"the message has to tell the limit and the value: {found.message!r}"

    def test_the_limit_itself_is_within(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """What is exactly at the limit has not passed it."""
        self.seen(case, check, payload)
        watched = case.at_limit(payload.watched)
        if watched is None:
            self.does_not_apply("the case cannot be brought exactly to the limit (WatchdogCase.at_limit)")
        self.silent(check(watched), "exactly at the limit")

    def test_a_violation_stays_one(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """Asked again with nothing changed, it finds the same: not only the first time, not only from the second."""
        self.seen(case, check, payload)
        watched = case.beyond(payload.watched)
        found = [self.due(check(watched)) for _ in range(4)]
        assert len({each.error_code for each in found}) == 1, f"the code is another one each time: {found}"

    def test_within_again_is_within(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """A payload that comes back within the limit is within it."""
        if not case.at_first_sight:
            self.does_not_apply("what this watchdog finds depends on what it saw before")
        self.due(check(case.beyond(payload.watched)))
        self.silent(check(case.within(payload.watched)), "within the limit again")
        self.due(check(case.beyond(payload.watched)))

    def test_a_new_instance_sees_the_same(
        self,
        case: WatchdogCase,
        subject: Subject,
        settings: Mapping[str, Any],
        context: Context,
        payload: WatchedPayload,
    ) -> None:
        """A pilot that takes over after another's end sees at its first look that the limit is passed."""
        if not case.at_first_sight:
            self.does_not_apply("this watchdog has to have seen the job before")
        watched = case.beyond(payload.watched)
        for _ in range(2):
            dog: Watchdog = self.made(subject.providers["pilot_watchdogs"], settings, context)
            self.due(self.checked(dog, watched))

    # -- time ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("started", [STARTED, -5e9, 5e9], ids=["usual", "long-ago", "to-come"])
    def test_time_is_that_of_the_payload(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload, started: float
    ) -> None:
        """The time is `watched.now`: neither the world's clock nor the pilot's own says how long the payload runs."""
        watched = replace(payload.watched, started=started, now=started + 60)
        self.silent(check(case.within(watched)), "within the limit, whatever a clock shows")
        self.due(check(case.beyond(watched)))

    def test_the_pilots_clock_is_not_the_payloads(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload, clock: FakeClock
    ) -> None:
        """A pilot's clock that runs on by a year changes nothing of what is shown."""
        self.silent(check(case.within(payload.watched)), "within the limit")
        clock.advance(3e7)
        self.silent(check(case.within(payload.watched)), "within the limit, shown again a year later")

    # -- several jobs --------------------------------------------------------------------------------------------

    def test_jobs_are_kept_apart(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload, other: WatchedPayload
    ) -> None:
        """Of two jobs, watched in turn by one instance, each is judged by itself."""
        for good, bad in ((payload, other), (other, payload)) if case.at_first_sight else ((payload, other),):
            self.seen(case, check, bad)
            within_limit = case.within(good.watched)
            self.silent(check(within_limit), "a job within the limit")
            beyond_limit = case.beyond(bad.watched)
            for _ in range(2):
                self.due(check(beyond_limit))
                self.silent(check(within_limit), "a job within the limit, beside one that is beyond it,")

    def test_a_later_job_begins_anew(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload, other: WatchedPayload
    ) -> None:
        """A job that begins when another has passed the limit is within it: what is remembered is that job's own."""
        self.seen(case, check, payload)
        bad = case.beyond(payload.watched)
        later = replace(other.watched, started=bad.now - 60, now=bad.now)
        self.silent(check(case.within(later)), "a job that began later, and is within the limit,")
        self.due(check(bad))

    def test_many_may_check_at_once(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload, other: WatchedPayload
    ) -> None:
        """Threads that check two jobs at the same time find for each what is true of it."""
        self.seen(case, check, other)
        good = case.within(payload.watched)
        self.silent(check(good), "a job within the limit")
        bad = case.beyond(other.watched)
        answers = at_once([lambda each=each: check(each) for each in (good, bad) * 6], "check")  # type: ignore[misc]
        for answer in answers[::2]:
            self.silent(answer, "a job within the limit, with other threads checking,")
        for answer in answers[1::2]:
            self.due(answer)

    # -- a payload that is gone, or means ill --------------------------------------------------------------------

    def test_a_payload_that_has_ended_is_no_error(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload
    ) -> None:
        """A check that comes after the payload's end raises nothing, and finds no violation within the limit."""
        watched = case.within(payload.watched)
        payload.end()
        self.silent(check(watched), "a payload that has ended within the limit")

    def test_a_directory_that_is_gone_is_no_error(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload
    ) -> None:
        """A job directory, or one below it, that is gone or is a file, raises nothing and passes no limit."""
        watched = case.within(payload.watched)
        payload.end()
        for what, job_dir in {
            "a job directory that is not there": watched.job_dir / "gone",
            "a job directory that is a file": watched.job_dir / "input.dat",
            "a job directory whose name is too long": watched.job_dir / ("x" * 300),
        }.items():
            self.silent(check(replace(watched, job_dir=job_dir)), what)

    def test_a_handle_that_says_nothing_is_no_error(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload
    ) -> None:
        """A handle of another executor, or of a process that never was, raises nothing."""
        watched = case.within(payload.watched)
        data = {**payload.handle.data, "pid": 2**22 + 1, "control_dir": str(payload.job_dir / "nothing")}
        for handle in (
            PayloadHandle(executor="kit", version=1, data={}),
            PayloadHandle(executor="process", version=99, data={"pid": "no number"}),
            PayloadHandle(executor="process", version=1, data=data),
        ):
            self.silent(check(replace(watched, handle=handle)), "within the limit, with a handle that leads nowhere,")

    def test_processes_elsewhere_are_no_error(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """A payload whose processes run on another machine, or have ended, raises nothing and passes no limit."""
        watched = case.within(payload.watched)
        for process in (None, (os.getpid(), 1), (2**22 + 1, 1)):
            self.silent(check(replace(watched, process=process)), "within the limit, with no process to be seen,")

    def test_a_hostile_directory_is_no_trap(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """Pipes, loops of links, links out of the directory and odd names neither stop it nor count."""
        traps = payload.job_dir / "traps"
        traps.mkdir()
        os.mkfifo(traps / "pipe")
        (traps / "loop").symlink_to(".")
        (traps / "self").symlink_to("self")
        (traps / "dangling").symlink_to("nothing/here")
        (traps / "outside").symlink_to("/")
        (traps / "endless").symlink_to("/dev/zero")
        with open(os.path.join(os.fsencode(traps), b"odd\xff\n\x1b[31m"), "wb") as stream:  # noqa: PTH118, PTH123
            stream.write(b"x")
        locked = traps / "locked"
        locked.mkdir(mode=0o000)
        try:
            self.silent(check(case.within(payload.watched)), "within the limit, in a directory full of traps,")
            self.due(check(case.beyond(payload.watched)))
        finally:
            locked.chmod(0o700)

    def test_files_that_became_pipes_are_no_trap(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload
    ) -> None:
        """A file of the payload that becomes a pipe, or a directory, between two checks raises nothing."""
        watched = case.within(payload.watched)
        payload.end()
        self.silent(check(watched), "within the limit")
        for path in [path for path in payload.job_dir.rglob("*") if path.is_file()]:
            path.unlink()
            os.mkfifo(path)
        self.silent(check(watched), "a job whose files became pipes")
        for path in [path for path in payload.job_dir.rglob("*") if path.is_fifo()]:
            path.unlink()
            path.mkdir()
        self.silent(check(watched), "a job whose files became directories")

    # -- what it must not do -------------------------------------------------------------------------------------

    def test_it_only_looks(self, case: WatchdogCase, check: Check, payload: WatchedPayload, context: Context) -> None:
        """It changes no file and leaves the payload running, beyond the limit too: ending it is the pilot's."""
        self.seen(case, check, payload)
        for bring in (case.within, case.beyond):
            watched = bring(payload.watched)
            before = tree(payload.job_dir), tree(payload.control_dir), tree(context.work_dir)
            check(watched)
            after = tree(payload.job_dir), tree(payload.control_dir), tree(context.work_dir)
            for was, now in zip(before, after, strict=True):
                changed = sorted({Path(name).name for name, _ in was.items() ^ now.items()})
                assert not changed, f"a check changes files: {', '.join(changed)}"
            assert payload.lives, "a check ended or stopped the payload, which is the pilot's business"

    def test_it_is_quick_and_leaves_nothing_behind(
        self, case: WatchdogCase, check: Check, payload: WatchedPayload
    ) -> None:
        """Twenty checks take less than two seconds and leave no descriptors, threads or processes."""
        for number in range(200):
            (payload.job_dir / f"d{number % 10}").mkdir(exist_ok=True)
            (payload.job_dir / f"d{number % 10}" / f"f{number}").touch()
        watched = case.within(payload.watched)
        check(watched)
        footprint, real = Footprint.now(), SystemClock()
        started = real.monotonic()
        for _ in range(20):
            check(watched)
        took = real.monotonic() - started
        assert took < QUICK, f"twenty checks took {took:.1f} s: a check must not wait"
        footprint.check("checking", slack=1)

    # -- helpers -------------------------------------------------------------------------------------------------

    @staticmethod
    def checked(dog: Watchdog, watched: Watched) -> Violation | None:
        """Check once; fail the test if that raises anything."""
        try:
            # each look is of its own moment: what a moment measured is not measured again
            found = within(lambda: dog.check(replace(watched)), "check")
        except Exception as error:  # noqa: BLE001  (that is the finding)
            raise finding(f"check raised {type(error).__name__}: {error}; it must raise nothing", error) from None
        assert found is None or isinstance(found, Violation), f"check returned {found!r}, not a Violation or None"
        return found

    @staticmethod
    def silent(found: Violation | None, when: str) -> None:
        """See that there is no violation."""
        assert found is None, f"{when}: a violation is told where there is none: {found}"

    @staticmethod
    def due(found: Violation | None) -> Violation:
        """See that there is a violation, and that a pilot can report it."""
        assert found is not None, "beyond the limit: no violation is told"
        code: object = found.error_code
        assert isinstance(code, int), f"error_code {code!r} is no number"
        assert code in CODES, f"error_code {code!r} is none of PanDA's pilot error codes (1000 to 1999)"
        message: object = found.message
        assert isinstance(message, str), f"message {message!r} is no text"
        assert message.strip(), "the message is empty"
        assert message.isprintable(), f"the message is not one line of printable text: {message!r}"
        assert len(message) <= 500, f"the message has {len(message)} characters, of which PanDA keeps 500"
        assert not shows_secret(message), "the message shows a secret of the job"
        return found

    def seen(self, case: WatchdogCase, check: Check, payload: WatchedPayload) -> None:
        """Let a watchdog that needs that see the job within the limit first."""
        if not case.at_first_sight:
            self.silent(check(case.within(payload.watched)), "within the limit")
