"""The conformance kit of extensions: they shape and hear of jobs of every sort, and leave alone what is not theirs."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pilot_core.api.clock import SystemClock
from pilot_core.api.events import Diagnosis, PayloadCommand
from pilot_core.hookspecs import EVENT_HOOKS, REGISTRATION_HOOKS, SHAPING_HOOKS
from pilot_core.plugins.check import HOOK_ARGUMENTS
from pilot_core.plugins.hooks import Hooks
from pilot_core.plugins.host import Listener
from pilot_core.testing.kits.base import Kit
from pilot_core.testing.kits.canary import CANARY, shows_secret
from pilot_core.testing.kits.finding import finding
from pilot_core.testing.kits.judging import Footprint, tree
from pilot_core.testing.kits.occasions import OWN_SECRET, Occasion, occasions, sample_job
from pilot_core.testing.kits.within import at_once, within

if TYPE_CHECKING:
    from pilot_core.api.job import Job
    from pilot_core.testing.kits.subject import Subject

__all__ = ["ExtensionKit"]

Hook = Callable[..., Any]

QUICK = 2.0
"""Real seconds for twenty calls of every hook: the job waits."""
CODES = range(1000, 2000)
"""PanDA's pilot error codes (`pilot/common/errorcodes.py`, Pilot 3.11.5.1)."""


class _One:
    """A registry with one plugin."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def listeners(self, hook: str) -> list[Listener]:
        """Return the plugin's implementation of a hook."""
        found = [each for each in self._subject.implementations if each.hook == hook]
        return [Listener("under test", each.function, _arguments(each.function)) for each in found]


class ExtensionKit(Kit):
    """What an extension has to do.

    Override `plugin`; and `job`, if the extension concerns itself with jobs of a certain sort only::

        class TestMine(ExtensionKit):
            @pytest.fixture
            def plugin(self):
                return "extension.mine"

            @pytest.fixture
            def job(self):
                return Job(id=1, release="Athena-24.0", container_image="alma9")
    """

    kind = "extension"

    # -- fixtures ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def job(self) -> Job:
        """The job of most clauses: one that says something in every field."""
        return sample_job()

    @pytest.fixture(autouse=True)
    def _own_temporary_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have temporary files made where the clauses see them."""
        folder = tmp_path / "temporary"
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))

    @pytest.fixture(autouse=True)
    def _nothing_tells_a_secret(self, _clause: None, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        """See after every clause that the job's secrets were not logged."""
        yield
        records = [*caplog.get_records("setup"), *caplog.get_records("call")]
        texts = [record.getMessage() + str(record.exc_text or "") for record in records]
        shown = any(shows_secret(text, OWN_SECRET) for text in texts)
        assert not shown, "the plugin logged a secret of the pilot's"

    @pytest.fixture
    def hooks(self, subject: Subject) -> dict[str, Hook]:
        """The hooks that the plugin implements, each to be called with all arguments that the hook has."""
        return {each.hook: _caller(each.function) for each in subject.implementations if each.hook in HOOK_ARGUMENTS}

    @pytest.fixture
    def jobs(self, tmp_path: Path, job: Job) -> list[Occasion]:
        """Jobs that went well and badly."""
        folder = tmp_path / "jobs"
        folder.mkdir()
        return occasions(folder, job)

    # -- what it is ----------------------------------------------------------------------------------------------

    def test_it_shapes_or_hears_of_jobs(self, subject: Subject) -> None:
        """It implements a shaping or an event hook, and no registration hook: that is another kind of plugin."""
        found = {each.hook for each in subject.implementations}
        assert found & (SHAPING_HOOKS | EVENT_HOOKS), "it implements no shaping and no event hook"
        assert not found & REGISTRATION_HOOKS, "an extension registers nothing; that is another kind of plugin"

    def test_jobs_of_every_sort_are_survived(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """Failed, killed and silent jobs, missing files and output that is no text: no hook raises anything."""
        for hook, occasion, given in _calls(hooks, jobs):
            self.called(hooks[hook], hook, occasion, given)

    def test_answers_are_what_the_pilot_takes(
        self, subject: Subject, hooks: dict[str, Hook], jobs: list[Occasion]
    ) -> None:
        """Every answer has the type that its hook asks for, so that the pilot does not refuse it."""
        taken: Any = Hooks(_One(subject))  # type: ignore[arg-type]
        for hook, _, given in _calls(hooks, jobs):
            if hook in SHAPING_HOOKS:
                call = lambda hook=hook, given=given: getattr(taken, hook.removeprefix("pilot_"))(**given)  # noqa: E731
                within(call, hook)

    def test_events_have_no_answer(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """An event hook returns nothing: whatever it returned would be lost."""
        for hook, occasion, given in _calls(hooks, jobs):
            if hook in EVENT_HOOKS:
                answer = self.called(hooks[hook], hook, occasion, given)
                assert answer is None, f"{hook} returned {answer!r}, which nobody looks at"

    def test_a_diagnosis_can_be_reported(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """A diagnosis has one of PanDA's pilot error codes and a message of one line."""
        for answer in self.answers(hooks, jobs, "pilot_diagnose_failure"):
            assert isinstance(answer, Diagnosis)
            assert answer.error_code in CODES, f"error_code {answer.error_code} is none of PanDA's (1000 to 1999)"
            for text in (answer.message, answer.payload_error):
                assert text.isprintable(), f"the diagnosis is not one line of printable text: {text[:200]!r}"
                assert len(text) <= 500, f"the diagnosis has {len(text)} characters, of which PanDA keeps 500"
            assert answer.message.strip(), "the diagnosis says nothing"

    def test_metadata_fits_into_an_update(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """Metadata is JSON of less than a megabyte: it goes to the server with the job's last update."""
        for answer in self.answers(hooks, jobs, "pilot_collect_metadata"):
            size = len(json.dumps(dict(answer), allow_nan=False))
            assert size < 1_000_000, f"the metadata has {size} bytes"

    # -- what it leaves alone ------------------------------------------------------------------------------------

    def test_it_changes_nothing_that_it_is_given(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """What a hook is given stays as it is, down to the tables inside: others are given the same."""
        for hook, occasion, given in _calls(hooks, jobs):
            before = _shape(given)
            self.called(hooks[hook], hook, occasion, given)
            assert _shape(given) == before, f"{hook} changed what it was given ({occasion.name})"

    def test_the_environment_keeps_the_rest(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """An environment that is returned is the whole one: PATH, HOME and what else does not concern it stay."""
        for occasion in jobs:
            for given in self.given(hooks, "pilot_prepare_environment", occasion):
                answer = self.called(hooks["pilot_prepare_environment"], "pilot_prepare_environment", occasion, given)
                if answer is None:
                    continue
                was = given["environment"]
                lost = sorted(set(was) - set(answer))
                advice = "return {**environment, ...}, the whole one"
                assert not {"PATH", "HOME"} & set(lost), f"the environment lost {', '.join(lost)}: {advice}"
                other = answer.get("PandaID") != was["PandaID"]
                assert not other, f"PandaID is {answer.get('PandaID')}, not {was['PandaID']}: another job's environment"
                changed = [name for name in was if name in answer and answer[name] != was[name]]
                many = len(lost) + len(changed) > len(was) // 2
                assert not many, f"of {len(was)} variables it lost {lost} and changed {changed}: {advice}"

    def test_a_wrapped_command_runs_the_same_program(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """The program that is wrapped gets its arguments as they were, and its exit code is the command's."""
        for occasion in jobs:
            command = self.wrapped(hooks, occasion)
            if command.argv == occasion.command.argv or not occasion.payload.job_dir.is_dir():
                continue
            if shutil.which(command.argv[0], path=command.environment.get("PATH")) is None:
                pytest.skip(f"the machine has no {command.argv[0]}")
            code = self.ran(command, occasion)
            assert occasion.report.exists(), f"the wrapped program did not run: {' '.join(command.argv[:4])} ..."
            words = occasion.told()["words"]
            assert words == list(occasion.command.argv[6:]), f"the program's arguments arrived as {words}"
            due = occasion.payload.result.exit_code or 0
            assert code == due, f"the program's exit code is {due}, that of the wrapped command {code}"

    def test_a_wrapped_command_keeps_its_environment(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """The variables of the command are still there when it is wrapped."""
        for occasion in jobs:
            environment = self.wrapped(hooks, occasion).environment
            lost = sorted(set(occasion.command.environment) - set(environment))
            assert not lost, f"the wrapped command lost the variables {', '.join(lost)}: use dataclasses.replace"

    def test_files_stay_as_they_are(self, hooks: dict[str, Hook], jobs: list[Occasion], tmp_path: Path) -> None:
        """Hooks write no file, neither in the job's directory nor elsewhere: they look and answer."""
        before = tree(tmp_path)
        for hook, occasion, given in _calls(hooks, jobs):
            self.called(hooks[hook], hook, occasion, given)
        changed = sorted({Path(name).name for name, _ in before.items() ^ tree(tmp_path).items()})
        assert not changed, f"it wrote or changed {', '.join(changed)}"

    # -- how it is called ----------------------------------------------------------------------------------------

    def test_the_same_call_has_the_same_answer(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """Called again, also after other jobs, it answers the same: a job that is resumed is the same job."""
        first = [_told(hook, self.called(hooks[hook], hook, job, given)) for hook, job, given in _calls(hooks, jobs)]
        again = [_told(hook, self.called(hooks[hook], hook, job, given)) for hook, job, given in _calls(hooks, jobs)]
        for (hook, occasion, _), was, now in zip(_calls(hooks, jobs), first, again, strict=True):
            assert was == now, f"{hook}, called again ({occasion.name}), answers {now!r}, not {was!r}"

    def test_what_it_returned_is_not_changed_later(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """An answer belongs to its job: the next job's call does not change it."""
        kept = [
            (hook, occasion, answer, _shape({"answer": answer}))
            for hook, occasion, given in _calls(hooks, jobs)
            if (answer := self.called(hooks[hook], hook, occasion, given)) is not None
        ]
        for hook, occasion, answer, was in kept:
            assert _shape({"answer": answer}) == was, f"{hook} changed later what it had returned ({occasion.name})"

    def test_jobs_may_run_side_by_side(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """Called by several jobs at the same time, it gives each the answer that it gives to it alone."""
        calls = list(_calls(hooks, jobs[:5]))
        alone = [_told(hook, self.called(hooks[hook], hook, job, given)) for hook, job, given in calls]
        for start in range(0, len(calls), 12):
            part = calls[start : start + 12]
            together = at_once(
                [lambda each=each: hooks[each[0]](**each[2]) for each in part for _ in range(2)],  # type: ignore[misc]
                "a hook",
            )
            for number, (hook, occasion, _) in enumerate(part):
                for answer in together[2 * number : 2 * number + 2]:
                    same = _told(hook, answer) == alone[start + number]
                    assert same, f"{hook}, called by several jobs at once, mixes them up ({occasion.name})"

    def test_it_is_quick_and_leaves_nothing_behind(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """Twenty calls of each hook take less than two seconds, and leave no descriptors, threads or processes."""
        real = SystemClock()
        for hook, function in hooks.items():
            given = next((each for occasion in jobs for each in occasion.arguments(hook)), None)
            if given is None:
                continue
            function(**given)
            footprint, started = Footprint.now(), real.monotonic()
            for _ in range(20):
                within(lambda function=function, given=given: function(**given), hook)  # type: ignore[misc]
            took = real.monotonic() - started
            assert took < QUICK, f"twenty calls of {hook} took {took:.1f} s: the job waits"
            footprint.check(hook, slack=1)

    # -- what is secret ------------------------------------------------------------------------------------------

    def test_secrets_go_nowhere(self, hooks: dict[str, Hook], jobs: list[Occasion]) -> None:
        """The pilot's secrets are in no answer; the user's are in nothing that is shown: arguments, texts, metadata."""
        for hook, occasion, given in _calls(hooks, jobs):
            answer = self.called(hooks[hook], hook, occasion, given)
            if answer is None:
                continue
            shown = repr(_told(hook, answer, whole=True))
            assert not shows_secret(shown, OWN_SECRET), f"{hook} gives the pilot's own secret away"
            if isinstance(answer, PayloadCommand):
                shown = repr(answer.argv)
            if hook != "pilot_prepare_environment":
                assert not shows_secret(shown, CANARY), f"{hook} shows the user's secret, which others then can read"

    # -- helpers -------------------------------------------------------------------------------------------------

    @staticmethod
    def called(function: Hook, hook: str, occasion: Occasion, given: dict[str, Any]) -> Any:
        """Return what a hook answers; fail the test if it raises anything."""
        try:
            return within(lambda: function(**given), hook)
        except Exception as error:  # noqa: BLE001  (that is the finding)
            told = f"{type(error).__name__}: {str(error)[:200]}"
            raise finding(f"{hook} raised {told}, for a job that {occasion.name}", error) from None

    def given(self, hooks: dict[str, Hook], hook: str, occasion: Occasion) -> list[dict[str, Any]]:
        """Return the arguments of a hook; leave the clause out if the plugin does not implement it."""
        if hook not in hooks:
            self.does_not_apply(f"it does not implement {hook}")
        return occasion.arguments(hook)

    def answers(self, hooks: dict[str, Hook], jobs: list[Occasion], hook: str) -> list[Any]:
        """Return all answers of a hook that are not None."""
        found = [
            self.called(hooks[hook], hook, occasion, given)
            for occasion in jobs
            for given in self.given(hooks, hook, occasion)
        ]
        return [answer for answer in found if answer is not None]

    def wrapped(self, hooks: dict[str, Hook], occasion: Occasion) -> PayloadCommand:
        """Return the command to execute."""
        hook = "pilot_wrap_command"
        (given,) = self.given(hooks, hook, occasion)
        answer = self.called(hooks[hook], hook, occasion, given)
        assert answer is None or isinstance(answer, PayloadCommand), f"{hook} returned {answer!r}, no PayloadCommand"
        return answer or occasion.command

    @staticmethod
    def ran(command: PayloadCommand, occasion: Occasion) -> int:
        """Run a command as the pilot would, and return its exit code."""
        with subprocess.Popen(
            command.argv,
            env=dict(command.environment),
            cwd=occasion.payload.job_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                return within(process.wait, "the wrapped command")
            finally:
                with suppress(ProcessLookupError):
                    process.kill()


def _arguments(function: Hook) -> tuple[str, ...]:
    """Return the names of a hook implementation's arguments."""
    import inspect  # noqa: PLC0415

    return tuple(inspect.signature(function).parameters)


def _caller(function: Hook) -> Hook:
    """Return a function that takes all of a hook's arguments and passes on those that are wanted."""
    return lambda **given: Listener("under test", function, _arguments(function)).call(given)


def _calls(hooks: dict[str, Hook], jobs: list[Occasion]) -> Iterator[tuple[str, Occasion, dict[str, Any]]]:
    """Return every call of every hook."""
    for hook in sorted(hooks):
        for occasion in jobs:
            for given in occasion.arguments(hook):
                yield hook, occasion, given


def _shape(value: Any) -> Any:
    """Return all of a value that can be compared, down to tables inside of dataclasses whose repr hides them."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _shape(getattr(value, name)) for name in value.__dataclass_fields__}
    if hasattr(value, "items"):
        return {str(key): _shape(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shape(each) for each in value]
    return repr(value)


def _told(hook: str, answer: Any, *, whole: bool = False) -> Any:
    """Return what of an answer has to be the same again: of metadata, which may tell times, the names."""
    if hook == "pilot_collect_metadata" and answer is not None and not whole:
        return sorted(map(str, answer))
    return _shape(answer)
