"""Plugins in a real run: an extension's hooks are called, and what is wrong with one is told with its name."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pilot_core import PilotErrorCode as Code
from pilot_core.hookspecs import EVENT_HOOKS, SHAPING_HOOKS

RECORDING = """
import json
from dataclasses import replace
from pathlib import Path

from pilot_core import Diagnosis, hookimpl

CALLS = Path(__file__).with_name("calls.jsonl")


def note(hook, **details):
    with CALLS.open("a") as file:
        file.write(json.dumps({"hook": hook, **details}) + "\\n")


@hookimpl
def pilot_prepare_environment(job, queue, environment):
    note("pilot_prepare_environment", queue=queue.name)
    return {**environment, "FROM_PLUGIN": f"job {job.id}"}


@hookimpl
def pilot_wrap_command(job, queue, command):
    note("pilot_wrap_command", argv=command.argv)
    return replace(command, argv=("/usr/bin/env", "WRAPPED=yes", *command.argv))


@hookimpl
def pilot_diagnose_failure(payload):
    note("pilot_diagnose_failure", exit=payload.result.exit_code)
    return Diagnosis(error_code=1234, message="told by the plugin", payload_error_code=77, payload_error="bad magnet")


@hookimpl
def pilot_collect_metadata(payload):
    note("pilot_collect_metadata", stdout=payload.stdout.read_text())
    return {"experiment": {"events": 42}}


@hookimpl
def pilot_job_state_changed(job, old, new):
    note("pilot_job_state_changed", job=job.id, change=f"{old} {new}")


@hookimpl
def pilot_task_started(task):
    note("pilot_task_started", task=task.name)


@hookimpl
def pilot_task_finished(task, outcome):
    note("pilot_task_finished", task=task.name, ok=outcome.ok)


@hookimpl
def pilot_transfer_attempted(attempt):
    note("pilot_transfer_attempted", lfn=attempt.lfn, outcome=attempt.outcome)


@hookimpl
def pilot_transfer_progress(progress):
    note("pilot_transfer_progress", activity=progress.activity, done=progress.files_done, ended=progress.ended)


@hookimpl
def pilot_heartbeat(update, answer):
    note("pilot_heartbeat", state=update.state, answered=answer is not None)
"""


def install(folder, module, code):
    """Put a plugin's module and its distribution's metadata into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.5.dist-info"
    info.mkdir()
    name = module.replace("_", "-")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pilot-{name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[pilot_core.plugins.v1]\nextension.{name} = {module}\n")
    return folder


def use(site, code):
    folder = install(site.folder / "plugins", "e2e_plugin", code)
    site.tables["plugins"] = {"paths": [str(folder)]}
    return folder


def test_every_hook_of_an_extension_is_called_and_shapes_the_jobs(site):
    folder = use(site, RECORDING)
    (site.storage / "in.dat").write_bytes(b"x")
    good = site.script("echo $WRAPPED $FROM_PLUGIN; cp in.dat a.out", inputs=["in.dat"], outputs=["a.out"])
    bad = site.script("exit 9")
    assert site.run("--jobs", 0).code == 0
    calls = [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]
    assert {call["hook"] for call in calls} == EVENT_HOOKS | SHAPING_HOOKS

    def of(hook, **wanted):
        found = [call for call in calls if call["hook"] == hook]
        return [call for call in found if all(call[key] == value for key, value in wanted.items())]

    assert [call["change"] for call in of("pilot_job_state_changed", job=good)] == [
        "acquired stage-in",
        "stage-in start",
        "start running",
        "running stage-out",
        "stage-out report",
        "report done",
    ]
    assert [call["task"] for call in of("pilot_task_started")][:4] == ["stage-in", "payload", "stage-out", "log"]
    assert of("pilot_task_finished", task="payload", ok=False)
    assert of("pilot_transfer_attempted", lfn="in.dat", outcome="ok")
    assert of("pilot_transfer_attempted", lfn="a.out", outcome="ok")
    assert of("pilot_transfer_progress", activity="read", done=1, ended=True)
    assert of("pilot_heartbeat", state="finished", answered=True)
    assert of("pilot_heartbeat", state="failed", answered=True)
    assert of("pilot_wrap_command")[0]["argv"][0] == "/bin/sh"
    assert site.log_of(good)["payload.stdout"].decode() == f"yes job {good}\n"
    assert json.loads(site.job(good).metadata)["experiment"] == {"events": 42}
    fields = site.job(bad).fields
    assert fields["pilot_error_code"] == 1234
    assert "told by the plugin" in fields["pilot_error_diag"]
    assert fields["exe_error_code"] == 77
    assert fields["exe_error_diag"] == "bad magnet"
    assert fields["trans_exit_code"] == "9"


@pytest.mark.parametrize("error", ["RuntimeError('broken listener')", "SystemExit(3)"])
def test_event_hooks_that_fail_are_logged_and_break_no_job(site, error):
    code = "from pilot_core import hookimpl\n"
    use(site, code + "".join(f"\n\n@hookimpl\ndef {hook}():\n    raise {error}\n" for hook in sorted(EVENT_HOOKS)))
    job = site.script("echo x > a.out", outputs=["a.out"])
    ended = site.run(bug=True)
    assert ended.code == 0
    assert site.job(job).status == "finished"
    for hook in EVENT_HOOKS:
        assert ended.says("ERROR", "pilot-e2e-plugin 1.5", hook, error.partition("(")[0]), hook


@pytest.mark.parametrize("hook", sorted(SHAPING_HOOKS))
def test_a_shaping_hook_that_fails_fails_the_job_with_its_plugins_name(site, hook):
    use(site, f"from pilot_core import hookimpl\n\n\n@hookimpl\ndef {hook}():\n    raise KeyError('missing')\n")
    job, next_job = site.script("exit 1"), site.submit(label="user")
    ended = site.run()
    assert ended.code == 0
    found = site.job(job)
    assert found.status == "failed"
    assert "pilot-e2e-plugin 1.5" in found.fields["pilot_error_diag"]
    assert hook in found.fields["pilot_error_diag"]
    if hook != "pilot_diagnose_failure":
        assert found.fields["pilot_error_code"] in {Code.INTERNALPILOTPROBLEM, Code.PAYLOADEXECUTIONFAILURE}
    assert site.job(next_job).status == "activated"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise RuntimeError('broken module')\n", ("RuntimeError", "broken module")),
        ("import sys\nsys.exit(5)\n", ("sys.exit(5)",)),
        ("def x(:\n", ("SyntaxError",)),
        ("import a_module_that_is_not_there\n", ("a_module_that_is_not_there",)),
        (
            "from pilot_core import hookimpl\n\n\n@hookimpl\ndef pilot_task_startd(task):\n    pass\n",
            ("pilot_task_startd", "pilot_task_started"),
        ),
    ],
)
def test_an_extension_that_is_broken_ends_the_pilot_before_a_job_is_taken(site, code, words):
    use(site, code)
    job = site.submit()
    ended = site.run()
    assert ended.code == 3, ended.text
    assert ended.last.startswith("pilot-core: ")
    assert "pilot-e2e-plugin" in ended.last
    assert all(word in ended.last for word in words), ended.last
    assert site.job(job).status == "activated"


def test_an_extension_whose_import_does_not_end_ends_the_pilot(site):
    use(site, "import threading\n\nthreading.Event().wait()\n")
    site.tables["plugins"]["import_timeout"] = 0.3
    job = site.submit()
    ended = site.run()
    assert ended.code == 3
    assert "pilot-e2e-plugin" in ended.last
    assert "0.3 s" in ended.last
    assert site.job(job).status == "activated"


def test_an_extension_that_is_blocked_is_not_imported(site):
    folder = use(site, "raise RuntimeError('imported')\n")
    site.tables["plugins"] |= {"block": ["extension.e2e-plugin"], "paths": [str(folder)]}
    job = site.submit()
    assert site.run().code == 0
    assert site.job(job).status == "finished"


@pytest.mark.parametrize("program", ["pilot-core", "python -m pilot_core"])
def test_what_is_planted_where_the_pilot_works_is_not_loaded(site, program):
    """A payload could leave it there for the next pilot, which has credentials."""
    trap = "from pathlib import Path\n\nPath(__file__).with_name('imported').touch()\nraise RuntimeError('planted')\n"
    places = [site.work, site.folder / "cwd", site.folder / "on-path", site.folder / "home/user-site"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        install(place, "planted", trap)
        # modules that the pilot itself imports, some of them late
        for name in ("pluggy", "tomli", "pilot_communicator_panda", "queue", "tarfile", "uuid"):
            (place / f"{name}.py").write_text(trap)
    command = {
        "pilot-core": (Path(sys.executable).with_name("pilot-core"), "run"),
        "python -m pilot_core": (sys.executable, "-m", "pilot_core", "run"),
    }[program]
    job = site.submit()
    poison = {"PYTHONUSERBASE": str(site.folder / "home")}
    ended = site.start(command=command[1:], program=command[0], env=poison).wait()
    assert ended.code == 0, ended.text
    assert site.job(job).status == "finished"
    assert not [place for place in places if (place / "imported").exists()]


def test_metadata_on_pythonpath_is_not_taken_for_a_plugin(site):
    """Modules there are the doing of whoever starts the pilot; plugins are named in its configuration."""
    folder = install(site.folder / "on-path", "planted", "raise RuntimeError('imported')\n")
    job = site.submit()
    assert site.run(env={"PYTHONPATH": os.fspath(folder)}).code == 0
    assert site.job(job).status == "finished"


def test_a_directory_that_others_may_write_is_refused(site):
    folder = use(site, RECORDING)
    folder.chmod(0o777)
    job = site.submit()
    ended = site.run()
    assert ended.code == 3
    assert "everybody may write" in ended.last
    assert site.job(job).status == "activated"
