"""`pilot-core check`, as a process: verdicts, exit codes, and what cannot be checked."""

import base64
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from importlib.metadata import distribution

import pytest

from pilot_core.checking.isolated import pips_reason, repacked

CLAUSE = re.compile(r"^  (kept|FAILED|ERROR|opted out|does not apply|left out) +\d+\.\d\d s  (.+)$", re.MULTILINE)


def test_an_installed_plugin_that_keeps_its_kit_is_told_clause_by_clause(site):
    site.add("pilot-extension-quiet")
    done = site.check("pilot-extension-quiet")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = CLAUSE.findall(done.stdout)
    assert ("kept", "it is taken by the pilot") in rows
    assert {outcome for outcome, _ in rows} <= {"kept", "does not apply"}
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(rf"pilot-extension-quiet 1.0: {len(rows)} clauses in \d+\.\d s: .*\d+ kept", last), last
    assert done.stderr == ""


def test_a_broken_clause_has_its_reason_and_exit_code_3(site):
    site.add("pilot-extension-quiet", good=False)
    done = site.check("pilot-extension-quiet", "--failed")
    assert done.returncode == 3
    rows = CLAUSE.findall(done.stdout)
    assert rows
    assert {outcome for outcome, _ in rows} == {"FAILED"}
    assert "asked for: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_json_form_has_every_verdict(site):
    site.add(
        "pilot-extension-quiet", opt_outs='KIT_OPT_OUTS = {"test_its_import_is_quick_and_does_nothing": "slow disk"}'
    )
    done = site.check("pilot-extension-quiet", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["schema"], document["ok"]) == (0, 1, True)
    assert (document["distribution"], document["version"], document["project"]) == (
        "pilot-extension-quiet",
        "1.0",
        None,
    )
    clauses = {clause["clause"]: clause for clause in document["clauses"]}
    assert sum(document["counts"].values()) == len(document["clauses"])
    opted_out = clauses["test_its_import_is_quick_and_does_nothing"]
    assert (opted_out["outcome"], opted_out["reason"]) == ("opted out", "slow disk")
    assert all(clause["text"] and clause["kit"] == "extension" for clause in document["clauses"])


def test_an_opt_out_is_a_line_with_its_reason(site):
    site.add(
        "pilot-extension-quiet", opt_outs='KIT_OPT_OUTS = {"test_its_import_is_quick_and_does_nothing": "slow disk"}'
    )
    done = site.check("pilot-extension-quiet")
    assert re.search(r"opted out +0\.\d\d s  its import is quick and does nothing\n +slow disk\n", done.stdout)
    assert "1 opted out" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("pilot-extension-quite", 2, "did you mean 'pilot-extension-quiet'?"),
        ("no-such-thing", 2, "neither a directory nor an installed distribution"),
        ("./nowhere", 2, "nowhere is not there"),
        ("./" + "x" * 300, 2, "is not there"),
        ("x" * 300, 2, "neither a directory nor an installed distribution"),
        (".", 2, "has no pyproject.toml"),
        ("../empty", 2, "no project with a name can be read from it"),
        ("../bare", 3, "bare/tests has no conformance kit (test_kit.py); write one: 'pilot-core new KIND NAME'"),
        ("../strange", 3, "pilot-strange is not installed in this Python; install it (pip install -e "),
        ("pilot-extension-kitless", 3, "pilot-extension-kitless 1.0 has no conformance kit"),
    ],
)
def test_what_cannot_be_checked_is_one_line(site, tmp_path, target, code, said):
    site.add("pilot-extension-quiet")
    site.add("pilot-extension-kitless", kit="")
    for name, text in (
        ("empty", "[tool]\n"),
        ("bare", '[project]\nname = "b"\n'),
        ("strange", '[project]\nname = "pilot-strange"\n'),
    ):
        (tmp_path / name / "tests").mkdir(parents=True)
        (tmp_path / name / "pyproject.toml").write_text(text)
    (tmp_path / "strange/tests/test_kit.py").write_text("")
    done = site.check(target)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("kit", "said"),
    [
        ("import no_such_module_here", "No module named 'no_such_module_here'"),
        ("x = (", "SyntaxError"),
        ("pass", "deselected|no tests"),
    ],
)
def test_a_kit_that_cannot_run_is_one_line(site, kit, said):
    site.add("pilot-extension-quiet", kit=kit)
    done = site.check("pilot-extension-quiet")
    assert done.returncode == 3
    assert re.search(said, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_project_is_checked_with_its_own_kit_and_told_of_if_another_copy_is_installed(site, tmp_path):
    info = site.add("pilot-extension-quiet")
    project = tmp_path / "project"
    (project / "tests").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[project]\nname = "pilot-extension-quiet"\n')
    (project / "tests" / "test_kit.py").write_text(KIT_OF_PROJECT)
    done = site.check(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "note: the installed pilot-extension-quiet 1.0 is a copy, not " in done.stderr
    (info / "direct_url.json").write_text(json.dumps({"url": f"file://{project}", "dir_info": {"editable": True}}))
    done = site.check("pilot-extension-quiet", "--json")
    assert json.loads(done.stdout)["project"] == str(project)
    assert done.stderr == ""


KIT_OF_PROJECT = """
import pytest
from pilot_extension_quiet import Quiet
from pilot_core.testing import ExtensionKit

class TestQuiet(ExtensionKit):
    @pytest.fixture
    def plugin(self):
        return Quiet()

def test_that_is_no_clause():
    raise AssertionError
"""
HANGING = """
import os, pathlib, pytest, threading
from {module} import Quiet
from pilot_core.testing import ExtensionKit

class TestQuiet(ExtensionKit):
    @pytest.fixture
    def plugin(self):
        pathlib.Path(os.environ["REACHED"]).write_text(str(os.getpid()))
        threading.Event().wait()
"""


INTERRUPTIBLE = """
import signal, sys
from pilot_core.cli import main
# whatever they were inherited as (nohup, a shell's background)
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
sys.exit(main())
"""


def test_an_interrupt_ends_the_kit_too(site, tmp_path):
    site.add("pilot-extension-quiet", kit=HANGING)
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "check", "pilot-extension-quiet"],
        env={**site.environment(), "REACHED": str(reached)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    kit = int(reached.read_text())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, said) == (130, "pilot-core: interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(kit, 0)


def test_an_installed_distribution_can_be_made_a_wheel_again(tmp_path):
    found = distribution("pluggy")
    wheel = repacked(found, tmp_path)
    assert wheel.name == f"pluggy-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (record,) = [name for name in names if name.endswith("/RECORD")]
        rows = [line.split(",") for line in archive.read(record).decode().splitlines()]
        assert {row[0] for row in rows} == names
        assert "pluggy/__init__.py" in names
        for name, digest, size in rows:
            if name != record:
                data = archive.read(name)
                told = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, int(size)) == (f"sha256={told}", len(data))


WITH_CALL = """
import os, pytest, signal, sys
from {module} import Quiet
from pilot_core.testing import ExtensionKit

class TestQuiet(ExtensionKit):
    calls = []

    @pytest.fixture
    def plugin(self):
        self.calls.append(1)
        if len(self.calls) == 3:
            CALL
        return Quiet()
"""


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        ("os._exit(0)", 1, "broke off: it ended before everything was tried, as by os._exit(0)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 1, "broke off: its process was ended by SIGSEGV"),
        ("pytest.exit('enough', 0)", 1, "broke off: it ended before everything was tried"),
    ],
)
def test_a_run_that_did_not_come_to_its_end_is_no_good_one(site, call, code, said):
    site.add("pilot-extension-quiet", kit=WITH_CALL.replace("CALL", call))
    done = site.check("pilot-extension-quiet")
    assert done.returncode == code, done.stdout
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    document = json.loads(site.check("pilot-extension-quiet", "--json").stdout)
    assert document["ok"] is False


LEAVING = """
import os, pathlib, pytest, signal
from {module} import Quiet
from pilot_core.testing import ExtensionKit

class TestQuiet(ExtensionKit):
    @pytest.fixture
    def plugin(self):
        started = pathlib.Path(os.environ["STARTED"])
        if not started.exists() and not os.fork():
            os.GROUP
            started.write_text(str(os.getpid()))
            signal.pause()
        return Quiet()
"""


@pytest.mark.parametrize("group", ["getpgid(0)", "setsid()"])
def test_a_process_that_a_plugin_leaves_behind_holds_nothing_up(site, tmp_path, group):
    site.add("pilot-extension-quiet", kit=LEAVING.replace("GROUP", group))
    started = tmp_path / "started"
    done = subprocess.run(
        [sys.executable, "-m", "pilot_core", "check", "pilot-extension-quiet"],
        env={**site.environment(), "STARTED": str(started)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    left = int(started.read_text())
    assert b" clauses in " in done.stdout
    if group == "setsid()":
        os.kill(left, signal.SIGKILL)
    else:
        with suppress(ProcessLookupError):
            poller = select.poll()
            poller.register(os.pidfd_open(left), select.POLLIN)
            assert poller.poll()  # hangs while it lives


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_kit_too_and_leaves_nothing(site, tmp_path, number):
    site.add("pilot-extension-quiet", kit=HANGING)
    reached, scratch = tmp_path / "reached", tmp_path / "scratch"
    os.mkfifo(reached)
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "check", "pilot-extension-quiet"],
        env={**site.environment(), "REACHED": str(reached), "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    kit = int(reached.read_text())
    assert os.listdir(scratch)
    process.send_signal(number)
    _, said = process.communicate()
    assert (process.returncode, said) == (128 + number, "")
    assert not os.listdir(scratch)
    with pytest.raises(ProcessLookupError):
        os.kill(kit, 0)


def test_a_machine_without_a_place_for_temporary_files_is_one_line(site, tmp_path):
    code = (
        "import sys, tempfile\n"
        "def no(*_, **__): raise FileNotFoundError(2, 'No usable temporary directory found')\n"
        "tempfile.mkdtemp = no\n"
        "from pilot_core.cli import main\n"
        "sys.exit(main(['check', 'pilot-extension-quiet']))\n"
    )
    site.add("pilot-extension-quiet")
    done = subprocess.run(
        [sys.executable, "-c", code], env=site.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "no directory for temporary files can be made" in done.stderr
    assert done.stderr.count("\n") == 1


UNREACHABLE = """\
WARNING: Retrying (Retry(total=4)) after connection broken by nobody
  error: subprocess-exited-with-error
  \N{BOX DRAWINGS LIGHT ARC UP AND RIGHT}> [2 lines of output]
      ERROR: Could not find a version that satisfies the requirement hatchling
      ERROR: No matching distribution found for hatchling
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "exit code 7"),
        ("ERROR: one\nERROR: two\n", "one"),
        (
            UNREACHABLE,
            "Could not find a version that satisfies the requirement hatchling; pip's index is out of reach",
        ),
    ],
)
def test_pips_reason_is_what_it_could_not_find(text, reason):
    assert pips_reason(text, 7) == reason


def test_the_template_of_a_kit_is_none(site):
    info = site.add("pilot-extension-quiet")
    template = site.path / "pilot_extension_quiet" / "{{x}}" / "test_kit.py"
    template.parent.mkdir()
    template.write_text("class Test{{ x }}: pass")
    with (info / "RECORD").open("a") as record:
        record.write("pilot_extension_quiet/{{x}}/test_kit.py,,\n")
    assert site.check("pilot-extension-quiet", "--failed").returncode == 0
