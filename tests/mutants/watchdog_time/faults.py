"""Faults of watchdogs: of one that remembers."""

from __future__ import annotations

import time

from harness import Mutant
from watchdog_time.reference import Plugin, SilenceWatchdog

from pilot_core import Violation


def changed(**members):
    """Return a watchdog with other members."""
    return type("Changed", (SilenceWatchdog,), members)


class Unreadable(SilenceWatchdog):
    def size(self, watched):
        return (watched.job_dir / "payload.stdout").stat().st_size


class Contents(SilenceWatchdog):
    def size(self, watched):
        try:
            return len((watched.job_dir / "payload.stdout").read_bytes())
        except OSError:
            return 0


class NoneYet(SilenceWatchdog):
    def check(self, watched):
        found = super().check(watched)
        checks = self.__dict__.setdefault("checks", {})
        checks[watched.job.id] = checks.get(watched.job.id, 0) + 1
        return found if checks[watched.job.id] > 2 else None


class Restarting(SilenceWatchdog):
    def check(self, watched):
        found = super().check(watched)
        if found is not None:
            del self.last[self.key(watched)]
        return found


class OnlyInterval(SilenceWatchdog):
    def check(self, watched):
        found = super().check(watched)
        if found is None:
            return None
        return Violation(error_code=1150, message="looping job: no output for too long")


APART = ("test_a_later_job_begins_anew",)
BEYOND = ("test_beyond_the_limit_it_says_so",)
PIPES = ("test_files_that_became_pipes_are_no_trap",)
GONE = ("test_a_directory_that_is_gone_is_no_error",)
STAYS = ("test_a_violation_stays_one",)
LIMIT = ("test_the_limit_itself_is_within",)
YEAR = ("test_the_pilots_clock_is_not_the_payloads",)

DOGS = {
    "own-clock": ("it goes by the pilot's clock", changed(now=lambda self, _: self.clock.monotonic()), BEYOND),
    "own-wall-clock": ("it goes by the pilot's wall clock", changed(now=lambda self, _: self.clock.wall()), BEYOND),
    "worlds-clock": ("it goes by the world's clock", changed(now=lambda *_: time.monotonic()), BEYOND),
    "both-clocks": (
        "the pilot's clock counts as well",
        changed(now=lambda self, watched: watched.now + self.clock.monotonic()),
        YEAR,
    ),
    "one-memory": ("all jobs are one", changed(key=lambda *_: 0), APART),
    "by-attempt": ("jobs of one attempt number are one", changed(key=lambda _, watched: watched.job.attempt), APART),
    "at-the-limit": ("it bites at the limit", changed(passed=lambda self, silent: silent >= self.limit), LIMIT),
    "since-start": (
        "the time since the payload's start counts",
        changed(passed=lambda self, silent: silent + 60 > self.limit),
        LIMIT,
    ),
    "never": ("it never bites", changed(passed=lambda *_: False), BEYOND),
    "third-time": ("it bites from the third look on", NoneYet, BEYOND),
    "starts-again": ("having bitten it forgets", Restarting, STAYS),
    "raw-missing": ("a file that is not there is an error", Unreadable, GONE),
    "reads-output": ("it reads the output, which may be a pipe", Contents, PIPES),
    "no-numbers": ("it tells neither limit nor value", OnlyInterval, ("test_a_violation_tells_limit_and_value",)),
}

MUTANTS = [
    Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda dog=dog: Plugin(dog))
    for name, (fault, dog, caught_by) in DOGS.items()
]
