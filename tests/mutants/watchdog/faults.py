"""Faults of watchdogs: of one that looks."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

from harness import Mutant
from watchdog.reference import Plugin, SizeWatchdog

from pilot_core import Violation


def interval(value):
    """Return a watchdog with another interval."""
    return type("Interval", (SizeWatchdog,), {"interval": value})


def violation(change):
    """Return a watchdog whose violations are changed."""

    class Changed(SizeWatchdog):
        def violation(self, watched, size):
            return change(super().violation(watched, size), watched)

    return Changed


class Restless(SizeWatchdog):
    @property
    def interval(self):
        return time.monotonic()


class Never(SizeWatchdog):
    def check(self, watched):
        return None


class AtLimit(SizeWatchdog):
    def check(self, watched):
        size = self.size(os.fsencode(watched.job_dir))
        return self.violation(watched, size) if size >= self.limit else None


class Once(SizeWatchdog):
    def check(self, watched):
        found = super().check(watched)
        if found is None or getattr(self, "told", False):
            return None
        self.told = True
        return found


class SecondTime(SizeWatchdog):
    def check(self, watched):
        found = super().check(watched)
        seen, self.seen = getattr(self, "seen", False), found is not None
        return found if seen else None


class ForEver(SizeWatchdog):
    found = None

    def check(self, watched):
        self.found = self.found or super().check(watched)
        return self.found


class Kept(SizeWatchdog):
    def check(self, watched):
        known = self.__dict__.setdefault("known", {})
        if watched.job.id not in known:
            known[watched.job.id] = super().check(watched)
        return known[watched.job.id]


class Shared(SizeWatchdog):
    sizes: dict = {}  # noqa: RUF012  (that is the fault)

    def size(self, folder):
        self.sizes[folder] = super().size(folder)
        return max(self.sizes.values())


class Racing(SizeWatchdog):
    def check(self, watched):
        self.folder = os.fsencode(watched.job_dir)
        threading.Event().wait(0.02)
        size = self.size(self.folder)
        return self.violation(watched, size) if size > self.limit else None


class TopOnly(SizeWatchdog):
    def size(self, folder):
        try:
            return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
        except OSError:
            return 0


class FollowsLinks(SizeWatchdog):
    def size(self, folder):
        total = 0
        for parent, _, names in os.walk(folder, followlinks=True):
            for name in names:
                try:
                    total += os.lstat(os.path.join(parent, name)).st_size
                except OSError:
                    continue
        return total


class CountsTargets(SizeWatchdog):
    def size(self, folder):
        total = 0
        for path in Path(os.fsdecode(folder)).rglob("*"):
            if path.is_file():
                total += path.stat().st_size
            elif path.is_dir() and path.is_symlink():
                total += 10**6
        return total


class Reads(SizeWatchdog):
    def size(self, folder):
        total = 0
        for parent, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(parent, name)
                if not os.path.islink(path):
                    with open(path, "rb") as stream:
                        total += len(stream.read())
        return total


class Listing(SizeWatchdog):
    def size(self, folder):
        os.listdir(folder)
        return super().size(folder)


class Strict(SizeWatchdog):
    def size(self, folder):
        total = 0
        for parent, _, names in os.walk(folder):
            for name in names:
                total += os.stat(os.path.join(parent, name)).st_size
        return total


class Decoding(SizeWatchdog):
    def size(self, folder):
        for _, _, names in os.walk(folder):
            for name in names:
                name.decode()
        return super().size(folder)


class Logging(SizeWatchdog):
    def check(self, watched):
        self.log.debug("%r", dict(watched.job.secrets))
        return super().check(watched)


class Handle(SizeWatchdog):
    def check(self, watched):
        Path(watched.handle.data["control_dir"]).iterdir()
        return super().check(watched)


class HandlePid(SizeWatchdog):
    def check(self, watched):
        os.kill(int(watched.handle.data["pid"]), 0)
        return super().check(watched)


class RootTrusted(SizeWatchdog):
    def check(self, watched):
        Path(f"/proc/{watched.process[0]}/stat").read_bytes()
        return super().check(watched)


class NobodyIsBeyond(SizeWatchdog):
    def check(self, watched):
        if not watched.processes.below and watched.job_dir.is_dir() and watched.process is not None:
            return Violation(error_code=1150, message="0 processes, limit 1")
        return super().check(watched)


class Living(SizeWatchdog):
    def check(self, watched):
        next(entry for entry in Path("/proc").iterdir() if self.in_job(entry, watched))
        return super().check(watched)

    def in_job(self, entry, watched):
        try:
            return entry.name.isdecimal() and (entry / "cwd").readlink() == watched.job_dir.resolve()
        except OSError:
            return False


class GoneIsBeyond(SizeWatchdog):
    def check(self, watched):
        if not watched.job_dir.is_dir():
            return Violation(error_code=1106, message="the job's directory, limit 1, is gone: 0")
        return super().check(watched)


class Killing(SizeWatchdog):
    def violation(self, watched, size):
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and (entry / "cwd").readlink() == watched.job_dir.resolve():
                    os.kill(int(entry.name), signal.SIGKILL)
            except OSError:
                continue
        return super().violation(watched, size)


class Stopping(SizeWatchdog):
    def check(self, watched):
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and (entry / "cwd").readlink() == watched.job_dir.resolve():
                    os.kill(int(entry.name), signal.SIGSTOP)
            except OSError:
                continue
        return super().check(watched)


class Writing(SizeWatchdog):
    def check(self, watched):
        (watched.job_dir / ".size").write_text("0")
        return super().check(watched)


class Removing(SizeWatchdog):
    def violation(self, watched, size):
        for path in watched.job_dir.rglob("output.dat"):
            path.unlink()
        return super().violation(watched, size)


class Noting(SizeWatchdog):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.note = context.work_dir / "sizes"

    def check(self, watched):
        self.note.write_text("x")
        return super().check(watched)


class Slow(SizeWatchdog):
    def check(self, watched):
        threading.Event().wait(0.15)
        return super().check(watched)


class Threads(SizeWatchdog):
    def check(self, watched):
        bell = self.__dict__.setdefault("bell", threading.Event())
        threading.Thread(target=bell.wait, daemon=True).start()
        return super().check(watched)


class Leaking(SizeWatchdog):
    def check(self, watched):
        if watched.job_dir.is_dir():
            self.__dict__.setdefault("open", []).append(os.open(watched.job_dir, os.O_RDONLY))
        return super().check(watched)


class Returning(SizeWatchdog):
    def violation(self, watched, size):
        return f"size {size}, limit {self.limit}"


class Printing(SizeWatchdog):
    def check(self, watched):
        os.environ["LAST_CHECKED"] = str(watched.job.id)
        return super().check(watched)


class RootLogger(SizeWatchdog):
    def check(self, watched):
        logging.getLogger().debug("job %r", watched.job.pilot_secrets)
        return super().check(watched)


WITHIN = ("test_within_the_limit_it_is_silent",)
BEYOND = ("test_beyond_the_limit_it_says_so",)
INTERVAL = ("test_its_interval_is_a_time",)
TELLS = ("test_a_violation_tells_limit_and_value",)
STAYS = ("test_a_violation_stays_one",)
APART = ("test_jobs_are_kept_apart",)
GONE = ("test_a_directory_that_is_gone_is_no_error",)
TRAPS = ("test_a_hostile_directory_is_no_trap",)
ENDED = ("test_a_payload_that_has_ended_is_no_error",)
HANDLE = ("test_a_handle_that_says_nothing_is_no_error",)
ELSEWHERE = ("test_processes_elsewhere_are_no_error",)
LOOKS = ("test_it_only_looks",)
CLEAN = ("test_it_is_quick_and_leaves_nothing_behind",)

DOGS = {
    "interval-zero": ("it would be asked all the time", interval(0.0), INTERVAL),
    "interval-negative": ("its interval is below 0", interval(-60), INTERVAL),
    "interval-endless": ("it would never be asked", interval(float("inf")), INTERVAL),
    "interval-nan": ("its interval is no number", interval(float("nan")), INTERVAL),
    "interval-text": ("its interval is a text", interval("60"), INTERVAL),
    "interval-none": ("it has no interval", interval(None), INTERVAL),
    "interval-changes": ("its interval changes", Restless, INTERVAL),
    "never": ("it never finds anything", Never, BEYOND),
    "at-the-limit": ("it bites at the limit", AtLimit, ("test_the_limit_itself_is_within",)),
    "once": ("it tells a violation only once", Once, STAYS),
    "second-time": ("it tells a violation from the second time on", SecondTime, BEYOND),
    "for-ever": ("what was beyond once stays so", ForEver, ("test_within_again_is_within", *APART)),
    "first-look-kept": ("it looks only once at each job", Kept, ("test_within_again_is_within",)),
    "sizes-shared": ("jobs are mixed up", Shared, APART),
    "threads-mixed": ("threads are mixed up", Racing, ("test_many_may_check_at_once",)),
    "top-only": ("it does not look into folders", TopOnly, BEYOND),
    "follows-links": ("it follows links out of the directory", FollowsLinks, TRAPS),
    "counts-targets": ("it counts what links lead to", CountsTargets, TRAPS),
    "reads-files": ("it opens pipes", Reads, TRAPS),
    "raw-listing": ("a directory that is gone is an error", Listing, GONE),
    "strict": ("a link that leads nowhere is an error", Strict, TRAPS),
    "decoding": ("a name that is no text is an error", Decoding, TRAPS),
    "secrets-logged": ("the job's secrets are logged", Logging, WITHIN),
    "pilot-secrets-logged": ("the pilot's secrets are logged", RootLogger, WITHIN),
    "handle-trusted": ("a handle without a directory is an error", Handle, HANDLE),
    "pid-trusted": ("a handle without a process is an error", HandlePid, HANDLE),
    "root-trusted": ("a payload without a process is an error", RootTrusted, ELSEWHERE),
    "nobody-is-beyond": ("a payload whose processes cannot be seen is beyond", NobodyIsBeyond, ELSEWHERE),
    "ended-is-an-error": ("a payload that has ended is an error", Living, ENDED),
    "gone-is-beyond": ("a directory that is gone is a violation", GoneIsBeyond, GONE),
    "killing": ("it ends the payload itself", Killing, LOOKS),
    "stopping": ("it stops the payload", Stopping, LOOKS),
    "writing": ("it writes into the job's directory", Writing, LOOKS),
    "removing": ("it removes what is too much", Removing, LOOKS),
    "noting": ("it writes into the work directory", Noting, LOOKS),
    "slow": ("it waits", Slow, CLEAN),
    "thread-kept": ("each check leaves a thread", Threads, CLEAN),
    "descriptor-kept": ("each check leaves a descriptor", Leaking, CLEAN),
    "text-returned": ("a violation is a text", Returning, BEYOND),
    "environment-written": ("the pilot's environment is changed", Printing, WITHIN),
    "code-zero": ("the code is 0", violation(lambda v, _: replace(v, error_code=0)), BEYOND),
    "code-signal": ("the code is an exit code", violation(lambda v, _: replace(v, error_code=137)), BEYOND),
    "code-text": ("the code is a text", violation(lambda v, _: replace(v, error_code="1106")), BEYOND),
    "message-empty": ("it says nothing", violation(lambda v, _: replace(v, message="")), BEYOND),
    "message-lines": ("it says it in two lines", violation(lambda v, _: replace(v, message=f"{v.message}\n")), BEYOND),
    "message-long": ("it says too much", violation(lambda v, _: replace(v, message=v.message * 20)), BEYOND),
    "no-value": ("it does not tell the value", violation(lambda v, _: replace(v, message="limit 20 passed")), TELLS),
    "message-secret": (
        "its message shows the job's secrets",
        violation(lambda v, w: replace(v, message=f"{v.message} {dict(w.job.secrets)}")),
        BEYOND,
    ),
}

MUTANTS = [
    Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda dog=dog: Plugin(dog))
    for name, (fault, dog, caught_by) in DOGS.items()
]
