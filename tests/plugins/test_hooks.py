"""Shaping and event hooks as the core calls them."""

from __future__ import annotations

import logging

import pytest

from pilot_core.api.events import Diagnosis, FinishedPayload, JobState, Outcome, PayloadCommand, TaskInfo
from pilot_core.api.executor import PayloadResult
from pilot_core.api.job import Job
from pilot_core.api.queue import Queue
from pilot_core.errors import Cancelled, PilotErrorCode, PluginError
from pilot_core.plugins import Hooks

JOB = Job(id=7)
QUEUE = Queue(name="HERE")
COMMAND = PayloadCommand(argv=("true",), environment={"A": "1"})


@pytest.fixture
def hooks(shelf):
    """Make hooks of extensions, given as name -> code; loaded in the order given."""

    def make(**codes):
        for name, code in codes.items():
            shelf.add(f"pilot-{name}", f"extension.{name}", f"from pilot_core import *\n{code}", version="2.5")
        registry = shelf.registry()
        records = {record.name: record for record in registry.extensions()}
        for name in codes:
            registry.load(records[name])
        return Hooks(registry)

    return make


@pytest.fixture
def payload(tmp_path):
    return FinishedPayload(
        job=JOB,
        queue=QUEUE,
        job_dir=tmp_path,
        result=PayloadResult(exit_code=1, signal=None, started=0, ended=1),
        stdout=tmp_path / "out",
        stderr=tmp_path / "err",
    )


def shaping(hooks, payload, hook):
    """Call one shaping hook with something sensible."""
    return {
        "pilot_prepare_environment": lambda: hooks.prepare_environment(JOB, QUEUE, {"A": "1"}),
        "pilot_wrap_command": lambda: hooks.wrap_command(JOB, QUEUE, COMMAND),
        "pilot_diagnose_failure": lambda: hooks.diagnose_failure(payload),
        "pilot_collect_metadata": lambda: hooks.collect_metadata(payload),
    }[hook]()


def test_without_plugins_everything_stays_as_it_is(hooks, payload):
    none = hooks()
    assert none.prepare_environment(JOB, QUEUE, {"A": "1"}) == {"A": "1"}
    assert none.wrap_command(JOB, QUEUE, COMMAND) == COMMAND
    assert none.diagnose_failure(payload) is None
    assert none.collect_metadata(payload) == {}
    none.heartbeat(None, None)


ADD = """
@hookimpl
def pilot_prepare_environment(environment):
    return {{**environment, "SEEN": environment.get("SEEN", "") + {!r}}}
"""


def test_shaping_goes_by_the_plugins_names_and_each_sees_what_the_last_one_made(hooks):
    nothing = "@hookimpl\ndef pilot_prepare_environment(job, queue):\n    assert (job.id, queue.name) == (7, 'HERE')"
    made = hooks(c=ADD.format("c"), a=ADD.format("a"), b=nothing)
    assert made.prepare_environment(JOB, QUEUE, {"A": "1"}) == {"A": "1", "SEEN": "ac"}


def test_commands_are_wrapped_one_round_the_other(hooks):
    code = "from dataclasses import replace\n@hookimpl\ndef pilot_wrap_command(command):\n"
    code += "    return replace(command, argv=({!r}, *command.argv))"
    made = hooks(b=code.format("nice"), a=code.format("time"))
    assert made.wrap_command(JOB, QUEUE, COMMAND) == PayloadCommand(
        argv=("nice", "time", "true"), environment={"A": "1"}
    )


def test_the_first_diagnosis_is_believed_and_the_rest_not_asked(hooks, payload):
    code = "@hookimpl\ndef pilot_diagnose_failure(payload):\n    return {}"
    made = hooks(a=code.format("None"), b=code.format("Diagnosis(error_code=1223, message='b')"), c=code.format("1/0"))
    assert made.diagnose_failure(payload) == Diagnosis(error_code=1223, message="b")


def test_metadata_is_merged_and_later_plugins_win(hooks, payload):
    code = "@hookimpl\ndef pilot_collect_metadata(payload):\n    return {}"
    made = hooks(a=code.format("{'x': 1, 'y': [1]}"), b=code.format("None"), c=code.format("{'x': 2}"))
    assert made.collect_metadata(payload) == {"x": 2, "y": [1]}


@pytest.mark.parametrize(
    ("hook", "answer", "what"),
    [
        ("pilot_prepare_environment", "['A']", "it returned a list, not a mapping of texts"),
        ("pilot_prepare_environment", "{'A': 1}", "the value of A must be a text without NUL, not a int"),
        ("pilot_prepare_environment", "{'A': 'x\\0'}", "the value of A must be a text without NUL"),
        ("pilot_prepare_environment", "{'A=B': 'x'}", "'A=B' cannot be the name of an environment variable"),
        ("pilot_prepare_environment", "{'': 'x'}", "'' cannot be the name of an environment variable"),
        ("pilot_prepare_environment", "{3: 'x'}", "3 cannot be the name of an environment variable"),
        ("pilot_wrap_command", "('true',)", "it returned a tuple, not a PayloadCommand"),
        ("pilot_wrap_command", "PayloadCommand(argv=(), environment={})", "argv must be a tuple of one or more texts"),
        ("pilot_wrap_command", "PayloadCommand(argv=['x'], environment={})", "argv must be a tuple of one or more"),
        ("pilot_wrap_command", "PayloadCommand(argv=('x\\0',), environment={})", "argv must be a tuple of one or more"),
        ("pilot_wrap_command", "PayloadCommand(argv=('x',), environment=3)", "it returned a int, not a mapping of"),
        ("pilot_diagnose_failure", "'bad'", "it returned a str, not a Diagnosis"),
        ("pilot_diagnose_failure", "Diagnosis(error_code='x', message='m')", "a Diagnosis has a whole number as error"),
        ("pilot_collect_metadata", "[1]", "it returned a list, not a mapping with texts as keys"),
        ("pilot_collect_metadata", "{1: 2}", "it returned a dict, not a mapping with texts as keys"),
        (
            "pilot_collect_metadata",
            "{'x': object()}",
            "what it returned is not JSON: Object of type object is not JSON",
        ),
        ("pilot_collect_metadata", "{'x': float('nan')}", "what it returned is not JSON: "),
    ],
)
def test_an_answer_of_the_wrong_type_is_the_plugins_error(hooks, payload, hook, answer, what):
    made = hooks(a=f"@hookimpl\ndef {hook}():\n    return {answer}")
    with pytest.raises(PluginError) as caught:
        shaping(made, payload, hook)
    assert str(caught.value).startswith(f"plugin extension.a (pilot-a 2.5) failed in {hook}: {what}")


HOOKS = ["pilot_prepare_environment", "pilot_wrap_command", "pilot_diagnose_failure", "pilot_collect_metadata"]


@pytest.mark.parametrize("hook", HOOKS)
def test_an_exception_in_shaping_names_plugin_and_version(hooks, payload, hook):
    made = hooks(a=f"@hookimpl\ndef {hook}():\n    raise ValueError('two\\nlines')")
    with pytest.raises(PluginError) as caught:
        shaping(made, payload, hook)
    assert str(caught.value) == f"plugin extension.a (pilot-a 2.5) failed in {hook}: ValueError: two lines"
    assert caught.value.error_code == PilotErrorCode.INTERNALPILOTPROBLEM


def test_an_experiment_may_fail_a_job_with_its_own_error_code(hooks):
    code = "raise JobDescriptionError('no such release', error_code=PilotErrorCode.SETUPFAILURE)"
    made = hooks(a=f"@hookimpl\ndef pilot_wrap_command():\n    {code}")
    with pytest.raises(PluginError, match="JobDescriptionError: no such release") as caught:
        made.wrap_command(JOB, QUEUE, COMMAND)
    assert caught.value.error_code == PilotErrorCode.SETUPFAILURE


def test_a_shaping_plugin_that_ends_the_process_does_not(hooks):
    made = hooks(a="@hookimpl\ndef pilot_wrap_command():\n    raise SystemExit(0)")
    with pytest.raises(PluginError, match="SystemExit: 0"):
        made.wrap_command(JOB, QUEUE, COMMAND)


def test_cancellation_is_nobodys_fault(hooks):
    made = hooks(a="@hookimpl\ndef pilot_wrap_command():\n    raise Cancelled('enough')")
    with pytest.raises(Cancelled, match="enough"):
        made.wrap_command(JOB, QUEUE, COMMAND)


def test_a_plugin_cannot_change_by_accident_what_it_is_shown(hooks):
    environment = {"A": "1"}
    made = hooks(a="@hookimpl\ndef pilot_prepare_environment(environment):\n    environment['A'] = '2'")
    with pytest.raises(PluginError, match="TypeError"):
        made.prepare_environment(JOB, QUEUE, environment)
    made = hooks(b="@hookimpl\ndef pilot_wrap_command(command):\n    command.environment['A'] = '2'")
    with pytest.raises(PluginError, match="TypeError"):
        made.wrap_command(JOB, QUEUE, COMMAND)
    assert environment == COMMAND.environment == {"A": "1"}


def tell_all(hooks, tmp_path):
    """Call every event hook."""
    task = TaskInfo(name="payload", job=JOB, queue=QUEUE, job_dir=tmp_path)
    hooks.job_state_changed(JOB, JobState.START, JobState.RUNNING)
    hooks.task_started(task)
    hooks.task_finished(task, Outcome(ok=True, seconds=1.5))
    hooks.transfer_attempted("attempt")
    hooks.transfer_progress("progress")
    hooks.heartbeat("update", None)


LISTEN = """
heard = []

@hookimpl
def pilot_job_state_changed(job, old, new):
    heard.append((job.id, str(old), str(new)))

@hookimpl
def pilot_task_started(task):
    heard.append(task.name)

@hookimpl
def pilot_task_finished(outcome):
    heard.append(outcome.seconds)

@hookimpl
def pilot_transfer_attempted(attempt):
    heard.append(attempt)

@hookimpl
def pilot_transfer_progress(progress):
    heard.append(progress)

@hookimpl
def pilot_heartbeat(update, answer):
    heard.append((update, answer))
"""


def test_every_listener_hears_every_event_with_the_arguments_that_it_wants(hooks, tmp_path):
    import sys

    tell_all(hooks(a=LISTEN, b=LISTEN), tmp_path)
    expected = [(7, "start", "running"), "payload", 1.5, "attempt", "progress", ("update", None)]
    assert sys.modules["pilot_a"].heard == sys.modules["pilot_b"].heard == expected


def test_listeners_are_called_in_the_order_of_the_plugins_names(hooks):
    import sys

    code = "import sys\n@hookimpl\ndef pilot_heartbeat():\n    "
    code += "vars(sys.modules['pilot_a']).setdefault('order', []).append({!r})"
    hooks(c=code.format("c"), a=code.format("a"), b=code.format("b")).heartbeat(None, None)
    assert sys.modules["pilot_a"].order == ["a", "b", "c"]


@pytest.mark.parametrize("error", ["ValueError('oh')", "SystemExit(1)", "GeneratorExit()"])
def test_a_failing_listener_is_logged_and_the_others_still_hear(hooks, tmp_path, caplog, error):
    import sys

    bad = "\n".join(
        f"@hookimpl\ndef {hook}():\n    raise {error}"
        for hook in ("pilot_job_state_changed", "pilot_task_started", "pilot_task_finished", "pilot_heartbeat")
    )
    with caplog.at_level(logging.ERROR):
        tell_all(hooks(a=bad, b=LISTEN), tmp_path)
    assert len(sys.modules["pilot_b"].heard) == 6
    first = caplog.records[0]
    assert first.getMessage().startswith("plugin extension.a (pilot-a 2.5) failed in pilot_job_state_changed: ")
    assert first.exc_info
    assert len(caplog.records) == 4


def test_whether_somebody_listens_to_progress_is_known_before_it_is_told(hooks):
    assert not hooks(a="@hookimpl\ndef pilot_heartbeat():\n    pass").hears_progress()
    assert hooks(b="@hookimpl\ndef pilot_transfer_progress():\n    pass").hears_progress()


def test_an_interruption_by_the_user_passes_a_listener(hooks):
    made = hooks(a="@hookimpl\ndef pilot_heartbeat():\n    raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        made.heartbeat(None, None)
