"""`serve --scenario` and `server fault` as processes of their own."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "pilot_core"]
README = Path(__file__).parents[2] / "README.md"


def run(tmp_path, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PILOT_CORE_")}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


class Served:
    """`pilot-core serve`, ready; its log goes to a file."""

    def __init__(self, tmp_path, *arguments):
        ready, ready_end = os.pipe()
        self.log = tmp_path / "serve.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *map(str, arguments), "--ready-fd", str(ready_end), "--adder-delay", "0"],
                cwd=tmp_path,
                pass_fds=(ready_end,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        os.close(ready_end)
        with os.fdopen(ready) as stream:
            line = stream.read()
        assert line, self.log.read_text()
        self.facts = json.loads(line)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait() == 0
        return self.log.read_text()


@pytest.fixture
def serve(tmp_path):
    started = []

    def make(*arguments):
        started.append(Served(tmp_path, "serve", *arguments))
        return started[-1]

    yield make
    for served in started:
        served.process.kill()
        served.process.wait()


def test_the_readmes_commands_of_faults_work_one_after_the_other(serve, tmp_path):
    fences = re.findall(r"^```(console|toml)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    [scenario] = [text for language, text in fences if language == "toml" and "[[faults]]" in text]
    lines = [line for language, text in fences if language == "console" for line in text.splitlines()]
    start, add, listing, clear, kinds = [
        shlex.split(line)[1:] for line in lines if "--scenario" in line or line.startswith("pilot-core server fault")
    ]
    (tmp_path / "scenario.toml").write_text(scenario)
    served = serve(*start[1:])
    run(tmp_path, "submit", "--state-dir", "faulty", "--transformation", "/bin/true")
    pilot = run(tmp_path, "run", "--config", served.facts["config"], "--jobs", "0")
    assert pilot.returncode == 0, pilot.stderr
    added = run(tmp_path, *add)
    assert (added.stdout, added.stderr) == ("4\n", "fault 4: tobekilled state=running after=1\n")
    rows = [line.split() for line in run(tmp_path, *listing).stdout.splitlines()]
    assert rows[0] == ["number", "struck", "of", "seen", "fault"]
    assert rows[1][:5] == ["1", "2", "2", rows[1][3], "reset-after"]
    assert rows[2][:5] == ["2", "1", "1", rows[2][3], "retry-after"]
    assert rows[3][:3] == ["3", rows[3][1], "ever"]
    assert rows[4][:5] == ["4", "0", "1", "0", "tobekilled"]
    assert run(tmp_path, *clear).stderr == "4 faults removed\n"
    assert len(run(tmp_path, *listing).stdout.splitlines()) == 1
    shown = run(tmp_path, *kinds)
    assert shown.returncode == 0
    assert "reset-after" in shown.stdout
    assert "finished" in run(tmp_path, "server", "jobs", "--state-dir", "faulty").stdout
    log = served.end()
    struck = [line for line in log.splitlines() if "fault 1 strikes" in line]
    assert len(struck) == 2
    assert struck[0].endswith(
        "/api/v1/pilot/update_job: reset-after endpoint=update_job state=running count=2 (1 of 2)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[faults]]\nfault = "hangs"\n', "faults[0]: unknown fault 'hangs'; did you mean 'hang'?"),
        ('[[faults]]\nfault = "hang"\nprobability = 2\n', "faults[0].probability: 2.0 is out of range; 0 to 1"),
        ("[[faults]\n", "not TOML: "),
        (None, "cannot read the scenario: No such file or directory"),
    ],
)
def test_a_scenario_that_makes_no_sense_starts_nothing(tmp_path, text, message):
    if text is not None:
        (tmp_path / "s.toml").write_text(text)
    done = run(tmp_path, "serve", "--state-dir", "state", "--scenario", "s.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pilot-core: s.toml: {message}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "hangs"], "fault: unknown fault 'hangs'; did you mean 'hang'?"),
        (["add", "hang", "cuont=2"], "fault.cuont: unknown key of the fault hang; did you mean 'count'?"),
        (["add", "hang", "count=two"], "fault.count: must be a whole number, not 'two'"),
        (["add", "hang", "count"], "'count': write key=value, for example count=2"),
        (["add", "hang"], "no server runs with the state directory"),
        (["clear", "0"], "no server runs with the state directory"),
        (["lst"], "argument ACTION: invalid choice: 'lst'"),
        ([], "the following arguments are required: ACTION"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, arguments, message):
    done = run(tmp_path, "server", "fault", *arguments)
    assert done.returncode in {2, 4}
    assert f": {message}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_never_struck_is_told_in_the_end(serve, tmp_path):
    (tmp_path / "s.toml").write_text('[[faults]]\nfault = "hang"\nendpoint = "update_jbo"\n')
    log = serve("--state-dir", tmp_path / "state", "--scenario", tmp_path / "s.toml").end()
    assert "fault 1 never struck, 0 requests were of its kind: hang endpoint=update_jbo" in log.splitlines()[-1]


def test_faults_are_removed_one_by_one(serve, tmp_path):
    state = tmp_path / "state"
    serve("--state-dir", state)
    fault = ["server", "fault"]
    for kind in ("refuse", "certificate"):
        assert run(tmp_path, *fault, "add", kind, "count=0", "--state-dir", state).returncode == 0
    assert run(tmp_path, *fault, "clear", "1", "--state-dir", state).stderr == "1 fault removed\n"
    again = run(tmp_path, *fault, "clear", "1", "--state-dir", state)
    assert again.returncode == 2
    assert again.stderr == "pilot-core: there is no fault 1; 'pilot-core server fault list' shows them\n"
    assert run(tmp_path, *fault, "clear", "-1", "--state-dir", state).returncode == 2
    listed = json.loads(run(tmp_path, *fault, "list", "--json", "--state-dir", state).stdout)["faults"]
    assert [(item["number"], item["rule"]) for item in listed] == [
        (2, {"fault": "certificate", "count": 0, "kind": "expired"})
    ]
