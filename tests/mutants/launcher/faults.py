"""Faults of launchers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from harness import Mutant
from launcher.reference import KEEPER, LocalLauncher, Plugin

from pilot_core import BadInput, LaunchedPilot


def asking(change):
    """Return a launcher that starts something else than what was asked for."""

    class Asking(LocalLauncher):
        def start(self, request):
            return super().start(change(request))

    return Asking


def argv(change):
    """Return a launcher that changes the arguments."""
    return asking(lambda request: replace(request, argv=tuple(change(list(request.argv)))))


def variables(change):
    """Return a launcher that changes the variables."""
    return asking(lambda request: replace(request, environment=change(dict(request.environment))))


def counting(change):
    """Return a launcher that starts another number of pilots, and does not say so."""

    class Counting(LocalLauncher):
        def launch(self, request, **limits):
            found = super().launch(replace(request, count=change(request.count)), **limits)
            return (found * 10)[: request.count]

    return Counting


def states(change):
    """Return a launcher that tells other states."""

    class Telling(LocalLauncher):
        def state(self, name):
            return change(super().state(name))

    return Telling


def codes(change):
    """Return a launcher that takes exit codes for something else."""

    class Judging(LocalLauncher):
        def state_of(self, code):
            return change(code)

    return Judging


def answers(change):
    """Return a launcher whose answers about states are changed."""

    class Answering(LocalLauncher):
        def status(self, ids, **limits):
            return change(super().status(ids, **limits))

    return Answering


def ending(change):
    """Return a launcher that ends pilots in another way."""

    class Ending(LocalLauncher):
        def end(self, keeper):
            change(keeper)

    return Ending


def keeping(change):
    """Return a launcher whose keepers are another program."""

    class Keeping(LocalLauncher):
        def run_keeper(self, folder):
            keeper = [sys.executable, "-I", "-S", "-c", change(KEEPER), str(folder)]
            with subprocess.Popen(keeper, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
                process.stdout.read()

    return Keeping


class OwnEnvironment(LocalLauncher):
    def environment(self, request):
        return {**os.environ, **request.environment}


class SomeOfOwn(LocalLauncher):
    def environment(self, request):
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PATH", "HOME", "PILOT", "X509"))}
        return {**kept, **request.environment}


class Numbers(LocalLauncher):
    number = 0

    def launch(self, request, **limits):
        return [replace(each, id=number) for number, each in enumerate(super().launch(request, **limits))]


class OneId(LocalLauncher):
    def launch(self, request, **limits):
        found = super().launch(request, **limits)
        return [replace(each, id=found[0].id) for each in found]


class Remembering(LocalLauncher):
    def launch(self, request, **limits):
        found = super().launch(request, **limits)
        self.__dict__.setdefault("mine", set()).update(each.id for each in found)
        return found

    def known(self, name):
        return name in self.__dict__.get("mine", ()) and super().known(name)


class Pids(LocalLauncher):
    def state(self, name):
        if name.isdecimal() and Path(f"/proc/{name}").exists():
            return "running"
        return super().state(name)

    def stop(self, ids, **limits):
        for name in ids:
            if name.isdecimal() and int(name) > 1:
                os.kill(int(name), signal.SIGTERM)
        super().stop(ids, **limits)


class Joined(LocalLauncher):
    def known(self, name):
        return "\0" not in name and (self.folder / name).is_dir()


class UnknownIsError(LocalLauncher):
    def state(self, name):
        found = super().state(name)
        if found == "unknown":
            raise BadInput(f"no pilot {name[:50]!r}")
        return found


class StopUnknownIsError(LocalLauncher):
    def stop(self, ids, **limits):
        for name in ids:
            if not self.known(name):
                raise BadInput(f"no pilot {name[:50]!r}")
        super().stop(ids, **limits)


class StopsAtEnded(LocalLauncher):
    def stop(self, ids, **limits):
        for name in ids:
            if self.state(name) != "running":
                return
            super().stop([name], **limits)


class StopsAll(LocalLauncher):
    def stop(self, ids, **limits):
        super().stop([each.name for each in self.folder.iterdir()] if self.folder.exists() else [], **limits)


class StopsAllOfNone(LocalLauncher):
    def stop(self, ids, **limits):
        everything = [each.name for each in self.folder.iterdir()] if self.folder.exists() else []
        super().stop(ids or everything, **limits)


class StopsLaunch(LocalLauncher):
    def launch(self, request, **limits):
        found = super().launch(request, **limits)
        together = [each.id for each in found]
        self.__dict__.setdefault("groups", {}).update(dict.fromkeys(together, together))
        return found

    def stop(self, ids, **limits):
        groups = self.__dict__.get("groups", {})
        super().stop([other for name in ids for other in groups.get(name, [name])], **limits)


class StopsNothing(LocalLauncher):
    def end(self, keeper):
        pass


class Forgets(LocalLauncher):
    def state(self, name):
        found = super().state(name)
        if found in {"done", "failed"}:
            for path in (self.folder / name).iterdir():
                path.unlink()
            (self.folder / name).rmdir()
        return found


class StoppedIsDone(LocalLauncher):
    def stop(self, ids, **limits):
        self.__dict__.setdefault("stopped", set()).update(ids)
        super().stop(ids, **limits)

    def state_of(self, code):
        return "done" if code in {0, 90} else "failed"


class Zombies(LocalLauncher):
    def run_keeper(self, folder):
        keeper = [sys.executable, "-I", "-S", "-c", KEEPER, str(folder)]
        reading, writing = os.pipe()
        process = subprocess.Popen(keeper, env={}, stdin=subprocess.DEVNULL, stdout=writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            stream.read()
        self.__dict__.setdefault("kept", []).append(process)


class Uncancelled(LocalLauncher):
    def launch(self, request, *, cancel, deadline):
        from pilot_core import CancelToken

        return super().launch(request, cancel=CancelToken(), deadline=deadline)


class CancelledAfter(LocalLauncher):
    def launch(self, request, *, cancel, deadline):
        from pilot_core import CancelToken

        found = super().launch(request, cancel=CancelToken(), deadline=deadline)
        cancel.raise_if_cancelled()
        return found


class Endless(LocalLauncher):
    def launch(self, request, *, cancel, deadline):
        cancel.raise_if_cancelled()
        return [LaunchedPilot(id=self.start(request), state="running") for _ in range(request.count)]


class Inherits(LocalLauncher):
    def run_keeper(self, folder):
        keeper = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            KEEPER.replace(".Popen(", ".Popen(close_fds=False, args="),
            str(folder),
        ]
        with subprocess.Popen(
            keeper, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, close_fds=False
        ) as process:
            process.stdout.read()


class InheritsInput(LocalLauncher):
    def run_keeper(self, folder):
        program = KEEPER.replace("for descriptor in (0, 1, 2)", "for descriptor in (1, 2)")
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program, str(folder)], env={}, stdout=subprocess.PIPE
        ) as process:
            process.stdout.read()


class InheritsOutput(LocalLauncher):
    def run_keeper(self, folder):
        program = KEEPER.replace("for descriptor in (0, 1, 2)", "for descriptor in (0, 1)")
        keeper = [sys.executable, "-I", "-S", "-c", program, str(folder)]
        with subprocess.Popen(keeper, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            process.stdout.read()


class UnknownAtFirst(LocalLauncher):
    def launch(self, request, **limits):
        return [replace(each, state="unknown") for each in super().launch(request, **limits)]


class SameSession(LocalLauncher):
    def run_keeper(self, folder):
        program = KEEPER.replace("os.setsid()", "os.setpgid(0, 0)")
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program, str(folder)],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as process:
            process.stdout.read()


class Talking(LocalLauncher):
    def start(self, request):
        self.log.debug("%s", request)
        return super().start(request)


class OnTheCommandLine(LocalLauncher):
    def start(self, request):
        words = [f"{name}={value}" for name, value in request.environment.items()]
        return super().start(
            replace(request, argv=("/bin/sh", "-c", '"$@"; exit $?', "sh", "/usr/bin/env", *words, *request.argv))
        )


class Readable(LocalLauncher):
    def start(self, request):
        name = super().start(request)
        (self.folder / name / "environment").write_text(repr(dict(request.environment)))
        return name


class Waits(LocalLauncher):
    def launch(self, request, **limits):
        found = super().launch(request, **limits)
        while any(self.state(each.id) == "running" for each in found):
            threading.Event().wait(0.05)
        return found


class RawError(LocalLauncher):
    def launch(self, request, **limits):
        if request.count and not Path(request.argv[0]).exists():
            raise FileNotFoundError(request.argv[0])
        return super().launch(request, **limits)


class OneFolder(LocalLauncher):
    def start(self, request):
        count = len(list(self.folder.iterdir())) if self.folder.exists() else 0
        threading.Event().wait(0.02)
        name = super().start(request)
        self.__dict__.setdefault("names", {})[f"{count:032x}"] = name
        return f"{count:032x}"

    def state(self, name):
        return super().state(self.__dict__.get("names", {}).get(name, name))

    def stop(self, ids, **limits):
        super().stop([self.__dict__.get("names", {}).get(name, name) for name in ids], **limits)


class Leaking(LocalLauncher):
    def start(self, request):
        name = super().start(request)
        self.__dict__.setdefault("open", []).append(os.open(self.folder / name, os.O_RDONLY))
        return name


class Watching(LocalLauncher):
    def start(self, request):
        bell = self.__dict__.setdefault("bell", threading.Event())
        threading.Thread(target=bell.wait, daemon=True).start()
        return super().start(request)


def only_pilot(keeper):
    """Ask the pilot itself only, not what it started."""
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdecimal()
                and int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1]) == keeper[0]
            ):
                os.kill(int(entry.name), signal.SIGTERM)
        except OSError:
            continue


COUNT = ("test_as_many_pilots_as_asked_for_are_launched",)
NONE = ("test_no_pilots_are_none",)
WORDS = ("test_arguments_arrive_as_they_are",)
LINES = ("test_a_newline_in_an_argument_arrives",)
VARIABLES = ("test_the_environment_arrives",)
OWN = ("test_its_own_environment_is_not_passed_on",)
ALONE = ("test_pilots_live_on_their_own",)
SECRET = ("test_values_of_the_environment_are_told_nobody",)
THERE = ("test_a_program_that_is_not_there_has_failed",)
DONE = ("test_a_pilot_that_ended_well_is_done",)
FAILED = ("test_a_pilot_that_ended_badly_has_failed",)
KILLED = ("test_a_pilot_that_was_killed_has_failed",)
EACH = ("test_states_are_told_pilot_by_pilot",)
UNKNOWN = ("test_an_id_that_means_nothing_is_unknown",)
STOPPED = ("test_stopped_pilots_end_with_all_they_started",)
ONLY = ("test_only_those_are_stopped",)
ASKED = ("test_a_pilot_is_asked_to_end",)
LATER = ("test_another_instance_knows_the_pilots",)
ENDED = ("test_stopping_what_has_ended_is_harmless",)
CLEAN = ("test_it_leaves_nothing_behind",)

LAUNCHERS = {
    "one-only": ("it launches one, whatever the number", counting(lambda n: min(n, 1)), COUNT),
    "one-more": ("it launches one too many", counting(lambda n: n + 1 if n > 1 else n), COUNT),
    "none-is-one": ("it launches one where none is asked for", counting(lambda n: max(n, 1)), NONE),
    "ids-are-numbers": ("ids are numbers", Numbers, COUNT),
    "one-id": ("pilots of one launch have one id", OneId, COUNT),
    "through-a-shell": ("a shell reads the arguments", argv(lambda words: ["/bin/sh", "-c", " ".join(words)]), WORDS),
    "split-again": ("arguments are split at blanks", argv(lambda words: " ".join(words).split()), WORDS),
    "empty-dropped": ("empty arguments are dropped", argv(lambda words: list(filter(None, words))), WORDS),
    "stripped": ("blanks around arguments are dropped", argv(lambda words: [w.strip(" ") for w in words]), WORDS),
    "percent-doubled": (
        "%% becomes %",
        argv(lambda words: [w.replace("%%", "%") for w in words]),
        WORDS,
    ),
    "newline-is-blank": ("a newline becomes a blank", argv(lambda words: [w.replace("\n", " ") for w in words]), LINES),
    "variables-dropped": ("variables are not handed on", variables(lambda _: {}), VARIABLES),
    "empty-variables-dropped": (
        "variables with an empty value are dropped",
        variables(lambda found: {name: value for name, value in found.items() if value}),
        VARIABLES,
    ),
    "commas": (
        "a variable ends at a comma",
        variables(lambda found: {name: value.partition(",")[0] for name, value in found.items()}),
        VARIABLES,
    ),
    "own-environment": ("its own environment is handed on", OwnEnvironment, OWN),
    "some-of-its-own": ("some of its own variables are handed on", SomeOfOwn, OWN),
    "request-logged": ("the values of variables are logged", Talking, SECRET),
    "on-the-command-line": ("the values of variables are in a command line", OnTheCommandLine, SECRET),
    "readable-file": ("the values of variables are in a readable file", Readable, SECRET),
    "descriptors-inherited": ("its descriptors are inherited", Inherits, ALONE),
    "input-inherited": ("its input is inherited", InheritsInput, ALONE),
    "output-inherited": ("its output is inherited", InheritsOutput, ALONE),
    "unknown-at-first": ("a pilot just launched is unknown", UnknownAtFirst, COUNT),
    "same-session": ("pilots are in its session", SameSession, ALONE),
    "waits": ("it waits for the pilots' end", Waits, ("test_launching_does_not_wait_for_the_pilots",)),
    "missing-is-done": (
        "a missing program is done",
        codes(lambda c: "done" if c in {0, 127} else "failed"),
        THERE,
    ),
    "missing-is-raw": ("a program that is not there is a FileNotFoundError", RawError, THERE),
    "all-done": ("whatever ended is done", codes(lambda _: "done"), FAILED),
    "none-done": ("whatever ended has failed", codes(lambda _: "failed"), DONE),
    "only-one-is-bad": ("exit codes above 1 are done", codes(lambda c: "failed" if c == 1 else "done"), FAILED),
    "minus-one-is-done": ("exit code 255 is done", codes(lambda c: "done" if c in {0, 255} else "failed"), FAILED),
    "killed-is-done": ("what a signal ended is done", codes(lambda c: "done" if c <= 0 else "failed"), KILLED),
    "ended-is-running": ("what ended is told as running", codes(lambda _: "running"), DONE),
    "always-queued": ("what runs is told as queued", states(lambda s: "queued" if s == "running" else s), COUNT),
    "other-words": ("states are in capitals", states(str.upper), COUNT),
    "unknown-left-out": (
        "unknown ids are left out",
        answers(lambda f: [e for e in f if e.state != "unknown"]),
        UNKNOWN,
    ),
    "told-once": ("asked about one pilot twice, it tells once", answers(lambda f: list(dict.fromkeys(f))), EACH),
    "sorted": ("states are sorted by id", answers(lambda f: sorted(f, key=lambda each: each.id)), EACH),
    "unknown-is-failed": ("an unknown id has failed", states(lambda s: "failed" if s == "unknown" else s), UNKNOWN),
    "unknown-is-an-error": ("an unknown id is an error", UnknownIsError, UNKNOWN),
    "path-joined": ("an id leads out of the folder", Joined, UNKNOWN),
    "any-process": ("any process is a pilot", Pids, ("test_other_processes_are_no_pilots",)),
    "forgets": ("told once, the end of a pilot is forgotten", Forgets, DONE),
    "in-memory": (
        "another instance does not know the pilots",
        Remembering,
        ("test_another_instance_knows_the_pilots",),
    ),
    "stops-nothing": ("stopping does nothing", StopsNothing, STOPPED),
    "stops-pilot-only": ("what a pilot started goes on", ending(only_pilot), STOPPED),
    "stops-at-once": (
        "a pilot is ended without warning",
        ending(lambda k: os.killpg(k[0], signal.SIGKILL)),
        ASKED,
    ),
    "interrupts": (
        "a pilot gets another signal",
        ending(lambda k: os.killpg(k[0], signal.SIGUSR1)),
        ASKED,
    ),
    "stopped-is-done": ("what was stopped is done", StoppedIsDone, STOPPED),
    "stops-all": ("all pilots are stopped", StopsAll, ONLY),
    "stops-launch": ("those of the same launch are stopped", StopsLaunch, ONLY),
    "none-is-all": ("asked to stop none, it stops all", StopsAllOfNone, NONE),
    "stop-of-unknown-is-an-error": ("stopping an unknown id is an error", StopUnknownIsError, UNKNOWN),
    "stops-until-ended": ("one that has ended hides the others", StopsAtEnded, ENDED),
    "cancel-ignored": ("cancellation is not heeded", Uncancelled, ("test_cancellation_is_heeded",)),
    "cancelled-after": ("cancellation is heeded after the launch", CancelledAfter, ("test_cancellation_is_heeded",)),
    "deadline-ignored": ("the deadline is not heeded", Endless, ("test_a_deadline_is_heeded",)),
    "ids-race": ("threads get one id", OneFolder, ("test_many_may_launch_at_once",)),
    "zombies": ("zombies are left", Zombies, CLEAN),
    "descriptor-kept": ("a descriptor stays open for each pilot", Leaking, CLEAN),
    "thread-kept": ("a thread stays for each pilot", Watching, CLEAN),
}

MUTANTS = [
    Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda launcher=launcher: Plugin(launcher))
    for name, (fault, launcher, caught_by) in LAUNCHERS.items()
]
