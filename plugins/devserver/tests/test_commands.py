"""`serve`, `submit` and `server` as processes of their own."""

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


def run(tmp_path, *arguments, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PILOT_CORE_")}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )


class Served:
    """`pilot-core serve`, ready."""

    def __init__(self, tmp_path, state_dir, *arguments):
        ready, ready_end = os.pipe()
        lifeline, self.lifeline = os.pipe()
        descriptors = ["--ready-fd", str(ready_end), "--lifeline-fd", str(lifeline)]
        self.process = subprocess.Popen(
            [*COMMAND, "serve", "--state-dir", state_dir, *descriptors, *arguments],
            cwd=tmp_path,
            pass_fds=(ready_end, lifeline),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(ready_end)
        os.close(lifeline)
        with os.fdopen(ready) as stream:
            line = stream.read()
        assert line, self.process.communicate()
        self.facts = json.loads(line)

    def end(self, how):
        if how == "lifeline":
            os.close(self.lifeline)
            self.lifeline = -1
        else:
            self.process.send_signal(how)
        return (*self.process.communicate(), self.process.returncode)

    def close(self):
        self.process.kill()
        self.process.communicate()
        if self.lifeline >= 0:
            os.close(self.lifeline)


@pytest.fixture
def serve(tmp_path, state_dir):
    started = []

    def make(*arguments):
        started.append(Served(tmp_path, state_dir, *arguments))
        return started[-1]

    yield make
    for served in started:
        served.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "lifeline"])
def test_serve_says_when_it_is_ready_and_ends_cleanly(serve, state_dir, how):
    served = serve("--queue", "Q1", "--queue", "Q2")
    assert (state_dir / "server.json").exists()
    out, err, code = served.end(how)
    assert code == 0
    assert f"url:          {served.facts['url']}" in out
    assert "queue:        Q1, Q2" in out
    assert "Traceback" not in err
    assert not (state_dir / "server.json").exists()


def test_serve_prints_json_or_an_environment(serve, state_dir, tmp_path):
    served = serve("--json", "--ready-file", str(tmp_path / "ready"), "--plain-port", "0")
    out, _, _ = served.end(signal.SIGTERM)
    assert json.loads(out) == served.facts == json.loads((tmp_path / "ready").read_text())
    assert served.facts["plain_url"].startswith("http://127.0.0.1:")
    served = serve("--print-env")
    out, _, _ = served.end(signal.SIGTERM)
    assert f"export PILOT_CORE_SERVER={served.facts['url']}\n" in out
    assert f"export PILOT_CORE_CERT={state_dir}/pilot-proxy.pem" in out


def test_serve_tells_where_its_pages_are_and_only_its_owner_reads_the_key(serve, tmp_path):
    served = serve("--ready-file", str(tmp_path / "ready"))
    assert served.facts["web"].startswith("http://127.0.0.1:")
    assert "/?key=" in served.facts["web"]
    assert (tmp_path / "ready").stat().st_mode & 0o777 == 0o600
    out, err, _ = served.end(signal.SIGTERM)
    assert f"web:          {served.facts['web']}\n" in out
    assert served.facts["web"].rpartition("=")[2] not in err
    served = serve("--no-web")
    assert served.facts["web"] == ""
    assert "web:" not in served.end(signal.SIGTERM)[0]


def test_two_servers_in_one_directory_one_after_the_other_share_jobs_and_keys(serve, tmp_path, state_dir):
    first = serve()
    assert run(tmp_path, "submit", "--state-dir", state_dir, "--transformation", "true").stdout == "1\n"
    ca = (state_dir / "ca.pem").read_bytes()
    first.end(signal.SIGTERM)
    serve()
    assert json.loads(run(tmp_path, "server", "jobs", "--state-dir", state_dir, "--json").stdout)["jobs"][0]["id"] == 1
    assert (state_dir / "ca.pem").read_bytes() == ca


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "99999"], "cannot listen on 127.0.0.1 port 99999"),
        (["--web-port", "99999"], "cannot listen on 127.0.0.1 port 99999"),
        (["--web-port", "1", "--no-web"], "argument --no-web: not allowed with argument --web-port"),
        (["--ready-fd", "77"], "--ready-fd 77: not an open pipe or socket"),
        (["--lifeline-fd", "0"], "--lifeline-fd 0: not an open pipe or socket"),
        (["--database", "/dev/null/x"], "database /dev/null/x: unable to open database file"),
        (["--state-dir", "/dev/null/x"], "state directory /dev/null/x: Not a directory; name another by --state-dir"),
        (["--ready-file", "/dev/null/x"], "--ready-file /dev/null/x: Not a directory"),
        (["--queue", "a/b"], "queue 'a/b': "),
        (["--protocol", "pandda"], "no server-protocol 'pandda' is installed; did you mean 'panda'?"),
        (["--queu", "x"], "unrecognized arguments: --queu"),
    ],
)
def test_what_serve_cannot_do_is_one_line(tmp_path, state_dir, arguments, message):
    done = run(tmp_path, "serve", "--state-dir", state_dir, *arguments)
    assert done.returncode in {1, 2, 3}
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"pilot-core: {message}")
    assert "Traceback" not in done.stderr


def test_submit_by_options_and_by_file_to_a_running_server(serve, tmp_path, state_dir):
    serve("--queue", "Q1", "--queue", "Q2")
    (tmp_path / "in.txt").write_text("hello")
    options = ["--state-dir", state_dir]
    job = ["--transformation", "cp", "--parameters", "in.txt out.{n}", "--input", "in.txt", "--output", "out.{n}"]
    done = run(tmp_path, "submit", *options, *job, "--count", "2", "--queue", "Q2", "--label", "user", "--name", "copy")
    assert (done.stdout, done.stderr, done.returncode) == ("1\n2\n", "", 0)
    (tmp_path / "jobs.toml").write_text('[[jobs]]\ntransformation = "true"\n[[jobs]]\ntransformation = "false"\n')
    done = run(tmp_path, "submit", *options, "jobs.toml", "--json")
    assert json.loads(done.stdout) == {"ids": [3, 4]}
    table = run(tmp_path, "server", "jobs", *options).stdout.splitlines()
    assert table[0].split() == ["PandaID", "state", "queue", "label", "name", "node"]
    assert table[2].split() == ["2", "activated", "Q2", "user", "copy.2"]
    described = json.loads(run(tmp_path, "server", "job", "2", *options).stdout)["description"]
    assert (described["inFiles"], described["jobPars"], described["fsize"]) == ("in.txt", "in.txt out.2", "5")
    assert (state_dir / "storage/Q2_DATADISK/in.txt").read_text() == "hello"


def test_submit_into_the_database_of_a_server_that_does_not_run(serve, tmp_path, state_dir):
    serve("--queue", "Q1").end(signal.SIGTERM)
    (tmp_path / "in.txt").write_text("hello")
    done = run(tmp_path, "submit", "--state-dir", state_dir, "--transformation", "cat", "--input", "in.txt")
    assert (done.stdout, done.stderr) == ("1\n", "")
    serve("--queue", "Q1")
    assert "activated" in run(tmp_path, "server", "jobs", "--state-dir", state_dir).stdout


def test_server_kills_and_commands(serve, tmp_path, state_dir):
    serve()
    options = ["--state-dir", state_dir]
    run(tmp_path, "submit", *options, "--transformation", "true")
    done = run(tmp_path, "server", "command", "1", "softkill", *options)
    assert (done.returncode, done.stderr) == (
        0,
        "job 1: done; a pilot that has the job hears of it with its next update\n",
    )
    assert run(tmp_path, "server", "debug", "1", *options).returncode == 0
    assert run(tmp_path, "server", "kill", "1", *options).returncode == 0
    again = run(tmp_path, "server", "kill", "1", *options)
    assert again.returncode == 2
    assert again.stderr == "pilot-core: job 1: the server did not accept that: it has ended already\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit"], "no job: name a file"),
        (["submit", "--transformation", "x"], "jobs.sqlite does not exist, and no server runs"),
        (["submit", "--transformation", "x", "--database", "none"], "none does not exist"),
        (["submit", "none.toml"], "none.toml: cannot read the jobs"),
        (["server", "jobs"], "no server runs with the state directory"),
        (["server"], "the following arguments are required: ACTION"),
    ],
)
def test_without_a_server_the_commands_say_so_in_one_line(tmp_path, arguments, message):
    done = run(tmp_path, *arguments)
    assert done.returncode in {2, 4}
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "submit", "server", "demo"])
def test_every_command_has_help(tmp_path, command):
    done = run(tmp_path, command, "--help")
    assert done.returncode == 0
    assert f"usage: pilot-core {command}" in done.stdout


def test_the_pilot_runs_what_was_submitted_with_the_configuration_that_serve_wrote(serve, tmp_path, state_dir):
    served = serve("--adder-delay", "0")
    (tmp_path / "in.txt").write_text("b\na\n")
    (tmp_path / "work").mkdir()
    options = ["--state-dir", state_dir]
    job = ["--transformation", "sort", "--parameters", "-o out.txt in.txt", "--input", "in.txt", "--output", "out.txt"]
    run(tmp_path, "submit", *options, *job)
    pilot = run(tmp_path, "run", "--config", served.facts["config"], "--jobs", "0", "--work-dir", "work")
    assert pilot.returncode == 0, pilot.stderr
    [shown] = json.loads(run(tmp_path, "server", "jobs", *options, "--json").stdout)["jobs"]
    assert shown["status"] == "finished", pilot.stderr
    assert (state_dir / "storage/DEV_QUEUE_DATADISK/out.txt").read_text() == "a\nb\n"


def test_the_readmes_commands_work_one_after_the_other(tmp_path):
    text = (Path(__file__).parent.parent / "README.md").read_text()
    fences = re.findall(r"^```(console|toml)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    [jobs] = [content for language, content in fences if language == "toml" and "[[jobs]]" in content]
    commands = [
        shlex.split(line) for language, content in fences if language == "console" for line in content.splitlines()
    ]
    commands = [command[1:] for command in commands if command[0] == "pilot-core" and command[1] != "demo"]
    # the others are tried in faults/test_fault_commands.py
    commands = [command for command in commands if command[:2] != ["server", "fault"] and "--scenario" not in command]
    (tmp_path / "jobs.toml").write_text(jobs)
    (tmp_path / "words.txt").write_text("to\nbe\n")
    assert commands[0][:3] == ["serve", "--state-dir", "state"]
    served = Served(tmp_path, "state", *commands[0][3:], "--adder-delay", "0")
    try:
        done = [run(tmp_path, *command) for command in commands[1:]]
    finally:
        served.close()
    assert [command.returncode for command in done] == [0] * 4, [command.stderr for command in done]
    assert [command.stdout for command in done[:2]] == ["1\n", "2\n3\n4\n"]
    assert done[3].stdout.count("finished") == 4, done[2].stderr
    assert (tmp_path / "state/storage/MY_QUEUE_DATADISK/sorted.txt").read_text() == "be\nto\n"
