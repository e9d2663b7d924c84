"""`pilot-core run-job`: one job out of a file, with real files and processes, and no server."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tarfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import BadInput, CancelToken, Deadline, JobRequest, JobUpdate, SystemClock
from pilot_core.offline import OfflineCommunicator
from pilot_core.phases import Phase, phases_from, phases_named

PATIENCE = 30.0
SORT = """
transformation = "sort"
parameters = "-o sorted.txt words.txt"
inputs = ["words.txt"]
outputs = ["sorted.txt"]
log = "job.log.tgz"
"""
COMMAND = (sys.executable, "-m", "pilot_core", "run-job")


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


class Bench:
    """A directory in which jobs of files are run."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "API_TOKEN": "hidden-by-its-name",
            "LEFT_BEHIND": "1",
        }
        self.processes = []

    def write(self, name, text):
        (self.folder / name).write_text(text)
        return name

    def script(self, text, more=""):
        return self.write("job.toml", f'transformation = "/bin/sh"\nparameters = """-c \'{text}\'"""\n{more}')

    def run(self, *words):
        done = subprocess.run(
            [*COMMAND, *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def refused(self, *words, code=2):
        """Run a command that is refused in one line; returns the line."""
        before = self.tree()
        done = self.run(*words)
        assert (done.code, done.out) == (code, ""), done
        assert done.err.startswith("pilot-core: ")
        assert done.err.count("\n") == 1
        assert self.tree() == before
        return done.err

    def start(self, *words):
        process = subprocess.Popen(
            [*COMMAND, *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def start_until_runs(self, *words):
        """Start a job and wait until its payload runs, and the journal has where."""
        process = self.start(*words)
        assert any("the payload runs: " in line for line in process.stderr)
        return process

    def fifo(self, name):
        os.mkfifo(self.folder / name)
        return self.folder / name

    def tree(self):
        return sorted((str(path.relative_to(self.folder)), path.lstat().st_mtime_ns) for path in self.folder.rglob("*"))

    def jobs(self):
        return sorted(self.folder.glob("job-*-*"))

    def plant(self, entry_point, code):
        """Install a plugin; returns the option by which it is found."""
        folder = self.folder / "plugins"
        module = entry_point.replace(".", "_").replace("-", "_")
        info = folder / f"{module}-1.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: pilot-{module.replace('_', '-')}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[pilot_core.plugins.v1]\n{entry_point} = {module}\n")
        return ("--set", f"plugins.paths={folder}")

    def close(self):
        for process in self.processes:
            process.kill()
            process.communicate()
        # payloads outlive a pilot that was killed
        for record in self.folder.glob("job-*-*/control/started.json"):
            with suppress(OSError):
                pid = json.loads(record.read_text())["payload"][0]
                if Path(os.readlink(f"/proc/{pid}/cwd")).is_relative_to(self.folder):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.write("words.txt", "pear\napple\n")
    made.write("job.toml", SORT)
    yield made
    made.close()


# -- whole jobs --------------------------------------------------------------------------------------------------------


def test_a_program_and_its_parameters_are_enough(bench):
    bench.write("job.toml", 'transformation = "echo"\nparameters = "hello world"\n')
    done = bench.run("job.toml")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "job 1: finished"
    assert "  hello world" in done.out.splitlines()
    assert not bench.jobs()
    assert sorted(path.name for path in bench.folder.iterdir()) == ["job.toml", "words.txt"]


def test_the_result_tells_what_the_server_would_be_told(bench):
    done = bench.run("job.toml", "--json")
    assert done.code == 0, done.err
    stored = bench.folder / "run-job-output" / "sorted.txt"
    assert stored.read_text() == "apple\npear\n"
    found = done.json
    assert (found["state"], found["errors"], found["job_dir"]) == ("finished", [], None)
    assert found["payload"]["exit_code"] == 0
    assert set(found["seconds"]) == {"get-job", "stage-in", "payload", "stage-out", "log"}
    assert [attempt["lfn"] for attempt in found["attempts"]] == ["words.txt", "sorted.txt", "job.log.tgz"]
    (file, log) = found["files"]
    assert (file["lfn"], file["size"], file["surl"]) == ("sorted.txt", 11, stored.as_uri())
    assert file["checksum"] == f"adler32:{zlib.adler32(stored.read_bytes()):08x}"
    assert log["lfn"] == "job.log.tgz"
    report = found["report"]
    assert (report["state"], report["payload_exit_code"], report["pilot_error_code"]) == ("finished", 0, 0)
    with tarfile.open(bench.folder / "run-job-output" / "job.log.tgz") as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"pilot.log", "journal.jsonl", "payload.stdout", "payload.stderr"} <= names
    assert "words.txt" not in names


def test_storage_and_output_are_where_the_options_say(bench):
    (bench.folder / "in").mkdir()
    (bench.folder / "words.txt").rename(bench.folder / "in" / "words.txt")
    assert bench.run("job.toml", "--storage", "in", "--output", "new/out").code == 0
    assert (bench.folder / "new" / "out" / "sorted.txt").exists()


def test_a_payload_that_fails_is_a_job_that_failed(bench):
    done = bench.run(bench.script("echo why >&2; touch out.txt; exit 3", 'outputs = ["out.txt"]'))
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[0] == "job 1: failed"
    assert lines[1] == "error       payload: the payload exited with 3; its log has payload.stderr (code 1305)"
    assert "  why" in lines
    assert lines[-1] == "the job's directory was removed; --keep keeps it"
    assert not (bench.folder / "run-job-output").exists()
    assert not bench.jobs()


def test_an_input_that_is_missing_is_an_error_of_stage_in(bench):
    (bench.folder / "words.txt").unlink()
    done = bench.run("job.toml", "--json")
    assert done.code == 1
    ((error,), (attempt, _)) = done.json["errors"], done.json["attempts"]
    assert (error["task"], error["code"]) == ("stage-in", 1331)
    assert attempt["outcome"] in {"ok", "SourceNotFound"}
    assert done.json["payload"] is None
    assert "payload" not in done.json["seconds"]


def test_the_payloads_secrets_are_there_while_it_runs_and_are_not_shown(bench):
    job = bench.script("cat panda_secrets.json", 'secrets = {key = "canary-12345"}\nlog = "log.tgz"')
    done = bench.run(job, "--keep", "--json")
    assert done.code == 0
    assert done.json["output"]["stdout"] == '{"key": "<hidden>"}'
    assert "canary" not in done.out + done.err
    assert not (Path(done.json["job_dir"]) / "payload" / "panda_secrets.json").exists()
    for words in (("--only", "stage-in", "--keep"), ("--explain",)):
        shown = bench.run(job, *words)
        assert shown.code == 0
        assert "canary" not in shown.out + shown.err
    assert not list(bench.folder.glob("job-*-*/payload/panda_secrets.json"))


def test_only_the_end_of_much_output_is_shown(bench):
    done = bench.run(bench.script("yes | head -c 100000; echo; echo last"), "--json")
    assert done.code == 0
    assert done.json["output"]["stdout"].endswith("\nlast\n")
    assert len(done.json["output"]["stdout"]) == 4096


def test_output_cannot_move_the_terminals_cursor(bench):
    done = bench.run(bench.script(r'printf "a\\033[2Jb"'))
    assert done.code == 0
    assert "\033" not in done.out
    assert r"  a\x1b[2Jb" in done.out


# -- phases ------------------------------------------------------------------------------------------------------------


def test_a_kept_directory_is_printed(bench):
    done = bench.run("job.toml", "--keep")
    (kept,) = bench.jobs()
    assert done.out.splitlines()[-1] == f"job directory: {kept}"
    assert (kept / "payload" / "sorted.txt").read_text() == "apple\npear\n"


def test_stage_in_alone_brings_the_inputs_and_runs_nothing(bench):
    done = bench.run("job.toml", "--only", "stage-in", "--keep", "--json")
    assert done.code == 0
    kept = Path(done.json["job_dir"])
    assert [path.name for path in (kept / "payload").iterdir()] == ["words.txt"]
    assert set(done.json["seconds"]) == {"get-job", "stage-in"}
    assert done.json["phases"] == ["stage-in"]
    assert not (bench.folder / "run-job-output").exists()


def test_the_payload_is_debugged_in_a_kept_directory_again_and_again(bench):
    kept = Path(bench.run("job.toml", "--only", "stage-in", "--keep", "--json").json["job_dir"])
    (kept / "payload" / "words.txt").write_text("edited\n")
    first = bench.run("job.toml", "--from", "payload", "--in", kept, "--json")
    assert (first.code, first.json["job_dir"]) == (0, str(kept))
    assert set(first.json["seconds"]) == {"get-job", "payload", "stage-out", "log"}
    assert (bench.folder / "run-job-output" / "sorted.txt").read_text() == "edited\n"
    failing = bench.script("echo again; exit 4")
    second = bench.run(failing, "--only", "payload", "--in", kept, "--json")
    assert (second.code, second.json["payload"]["exit_code"]) == (1, 4)
    assert second.json["output"]["stdout"] == "again\n"
    assert kept.is_dir()
    # nothing of the first run's output is lost, and log and journal go on
    assert (kept / "earlier" / "1" / "payload.stdout").read_text() == ""
    assert (kept / "pilot.log").read_text().count("job 1 taken") == 3
    steps = [json.loads(line)["step"] for line in (kept / "journal.jsonl").read_text().splitlines()]
    assert steps.count("payload-ended") == 2
    assert steps.count("report-acknowledged") == 3


def test_stage_out_alone_stores_what_lies_there(bench):
    kept = Path(bench.run("job.toml", "--only", "stage-in,payload", "--keep", "--json").json["job_dir"])
    assert not (bench.folder / "run-job-output").exists()
    (kept / "payload" / "sorted.txt").write_text("by hand\n")
    done = bench.run("job.toml", "--only", "stage-out", "--in", kept, "--json")
    assert (done.code, done.json["payload"], done.json["output"]) == (0, None, {})
    assert (bench.folder / "run-job-output" / "sorted.txt").read_text() == "by hand\n"
    with tarfile.open(bench.folder / "run-job-output" / "job.log.tgz") as tar:
        assert any(name.endswith("/payload.stdout") for name in tar.getnames())


def test_a_payload_without_inputs_can_be_run_alone(bench):
    done = bench.run(bench.script("echo alone"), "--only", "payload")
    assert done.code == 0
    assert done.out.splitlines()[0] == "job 1: finished (payload only)"


def test_a_directory_that_another_process_uses_is_refused(bench):
    first = bench.start_until_runs(bench.script("exec sleep 1000"), "--keep")
    (kept,) = bench.jobs()
    assert "the payload of an earlier run still runs there" in bench.run("job.toml", "--in", kept).err
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE) == 143
    second = bench.start_until_runs(bench.script("exec sleep 1000"), "--in", kept)
    done = bench.run("job.toml", "--only", "payload", "--in", kept)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(f"{kept}: another pilot-core works in it; wait for its end\n")
    second.send_signal(signal.SIGTERM)
    assert second.wait(PATIENCE) == 143


def test_a_payload_that_outlived_its_pilot_is_not_run_a_second_time(bench):
    go_on = bench.fifo("go-on")
    job = bench.script(f"read line < {go_on}")
    first = bench.start_until_runs(job, "--keep")
    first.kill()
    first.wait()
    (kept,) = bench.jobs()
    line = bench.run(job, "--only", "payload", "--in", kept)
    assert line.code == 2
    assert line.err.endswith(f"{kept}: the payload of an earlier run still runs there; end it, or wait for it\n")
    descriptor = os.pidfd_open(json.loads((kept / "control" / "started.json").read_text())["supervisor"][0])
    go_on.write_text("go\n")
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(PATIENCE * 1000)
    os.close(descriptor)
    assert bench.run(bench.script("true"), "--only", "payload", "--in", kept).code == 0


def test_a_payload_that_cannot_be_found_is_not_run_a_second_time(bench):
    """Its pilot died after it had begun to start the payload, and before it knew where that is."""
    kept = Path(bench.run("job.toml", "--keep", "--json").json["job_dir"])
    journal = kept / "journal.jsonl"
    whole = journal.read_text()
    assert bench.run("job.toml", "--in", kept).code == 0
    for last in ("payload-starting", "payload-started"):
        lines = whole.splitlines(keepends=True)
        while json.loads(lines[-1])["step"] != last:
            lines.pop()
        if last == "payload-started":
            lines[-1] = '{"step": "payload-started"}\n'
        journal.write_text("".join(lines))
        assert "the pilot died as it started the payload" in bench.refused("job.toml", "--in", kept)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_payload_and_says_so(bench, number, code):
    reached = bench.fifo("reached")
    process = bench.start(bench.script(f"echo $$ > {reached}; exec sleep 1000"))
    with reached.open() as told:
        pid = int(told.readline())
    descriptor = os.pidfd_open(pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(0), "the payload lives"
    os.close(descriptor)
    assert process.returncode == code
    assert f"ending the payload: the pilot got {signal.Signals(number).name}" in err
    assert out.splitlines()[0] == "job 1: failed"
    assert f"payload: the pilot got {signal.Signals(number).name}" in out
    assert not bench.jobs()


# -- what would be run -------------------------------------------------------------------------------------------------


def test_an_explanation_runs_and_makes_nothing(bench):
    before = bench.tree()
    done = bench.run("job.toml", "--explain")
    assert (done.code, done.err) == (0, "")
    assert bench.tree() == before
    lines = done.out.splitlines()
    assert lines[0] == "job 1: would run; nothing was run or made, and no storage was asked"
    assert f"  1.  file  file://{bench.folder}/words.txt  (only: the only candidate)" in lines
    assert "payload     sort -o sorted.txt words.txt" in lines
    assert f"    ~ HOME={bench.folder}/job-1-XXXXXXXX/payload (was {bench.folder})" in lines
    assert "    + PandaID=1" in lines
    assert "    - API_TOKEN LEFT_BEHIND" in lines
    assert "  kill grace: 10 s (by the queue)" in lines
    assert any(line.startswith("  executor.process (pilot-core ") for line in lines)


QUEUE = """
[queues.SITE]
read = ["FAR", "NEAR"]
write = ["NEAR"]
shell = true
kill_grace_seconds = 3
max_memory_mb = 4000
environment = {DB_PASSWORD = "canary-1", PROXY = "http://me:canary-2@host", PLAIN = "shown"}
pass_environment = ["LEFT_*", "API_*"]
stagers = {read = ["file"]}

[queues.SITE.storages.NEAR]
url = "file:///near"

[queues.SITE.storages.FAR]
url = "far://me:canary-3@host/path"

[queues.SITE.storages.BOUND]
url = "file:///bound"
stagers = ["tape"]
"""


def test_an_explanation_tells_candidates_and_rules_of_a_queue(bench):
    bench.write("pilot.toml", QUEUE)
    options = bench.plant("stager.far", STAGER)
    job = bench.write(
        "job.toml",
        'transformation = "x"\nmemory_mb = 2000\n'
        'inputs = ["a", {lfn = "b", rse = "BOUND", size = 262144}]\noutputs = ["c"]',
    )
    done = bench.run(job, "--explain", "--json", "--config", "pilot.toml", "--queue", "SITE", *options)
    assert done.code == 1, done.err
    found = done.json
    first, second, third = found["files"]
    assert [(choice["place"], choice["stager"], choice["url"]) for choice in first["choices"]] == [
        (1, "file", "file:///near/a"),
        (2, "far", "far://host/path/a"),
        (None, "far", "file:///near/a"),
        (None, "file", "far://host/path/a"),
    ]
    assert [choice["rule"] for choice in first["choices"]] == ["site", "site", "scheme", "scheme"]
    assert [(choice["place"], choice["rule"]) for choice in second["choices"]] == [(None, "storage")]
    assert second["seconds_allowed"] == 601
    assert [(choice["place"], choice["url"]) for choice in third["choices"]] == [(1, "file:///near/c")]
    assert found["problems"] == [
        "b: no stager here serves file; 'pilot-core list-plugins --why file:///bound/b' shows what there is"
    ]
    assert found["payload"]["argv"] == ["/bin/sh", "-c", "x"]
    assert found["payload"]["shell"] is True
    added = found["payload"]["environment"]["added"]
    assert (added["DB_PASSWORD"], added["PROXY"], added["PLAIN"]) == ("<hidden>", "<hidden>", "shown")
    assert "canary" not in done.out + done.err
    assert "LEFT_BEHIND" in found["payload"]["environment"]["same"]
    assert {(limit["name"], limit["value"], limit["source"]) for limit in found["limits"]} >= {
        ("kill grace", 3.0, "queue"),
        ("memory", 2000, "job"),
        ("memory", 4000, "queue"),
    }
    assert {"stager.far", "stager.file", "executor.process"} <= {plugin["name"] for plugin in found["plugins"]}


STAGER = """
from pilot_core import Provider, hookimpl


@hookimpl
def pilot_stagein():
    yield Provider(name="far", factory=lambda settings, context: 1 / 0, schemes=frozenset({"far"}))
"""

EXTENSION = """
from dataclasses import replace
from pilot_core import hookimpl


@hookimpl
def pilot_prepare_environment(job, queue, environment):
    return {**environment, "EXPERIMENT": "x"}


@hookimpl
def pilot_wrap_command(job, queue, command):
    return replace(command, argv=("nice", *command.argv))
"""


def test_an_explanation_has_what_extensions_make_of_the_command(bench):
    options = bench.plant("extension.experiment", EXTENSION)
    found = bench.run("job.toml", "--explain", "--json", *options).json
    assert found["payload"]["argv"][:2] == ["nice", "sort"]
    assert found["payload"]["environment"]["added"]["EXPERIMENT"] == "x"
    assert "extension.experiment" in {plugin["name"] for plugin in found["plugins"]}
    assert bench.run("job.toml", "--json", *options).json["state"] == "finished"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('transformation = "x"\nparameters = "\'"', "jobPars: no closing quotation"),
        ('transformation = "https://host/trf"', "not below a base URL that queue local allows (nothing)"),
        ('transformation = "x"\ncontainer_image = "i"', "the job needs a container image"),
    ],
)
def test_an_explanation_tells_why_a_job_would_fail(bench, text, problem):
    done = bench.run(bench.write("job.toml", text), "--explain")
    assert done.code == 1
    assert done.out.splitlines()[0] == "job 1: would fail; nothing was run or made, and no storage was asked"
    assert problem in done.out.splitlines()[1]


def test_an_explanation_of_one_phase_has_that_phase_only(bench):
    assert bench.run("job.toml", "--explain", "--json", "--only", "stage-in").json["payload"] is None
    kept = Path(bench.run("job.toml", "--keep", "--json").json["job_dir"])
    found = bench.run("job.toml", "--explain", "--json", "--only", "stage-out", "--in", kept).json
    assert [file["activity"] for file in found["files"]] == ["write", "log"]
    assert found["job_dir"] == str(kept)


# -- queues ------------------------------------------------------------------------------------------------------------


def test_a_configured_queue_is_used_as_a_pilot_would(bench):
    bench.write(
        "pilot.toml",
        f'[pilot]\nqueue = "SITE"\n[queues.SITE]\nread = ["D"]\nwrite = ["D"]\n'
        f'[queues.SITE.storages.D]\nurl = "file://{bench.folder}"\n',
    )
    done = bench.run("job.toml", "--config", "pilot.toml", "--json")
    assert done.code == 0, done.err
    assert (bench.folder / "sorted.txt").exists()
    assert done.json["report"]["queue"] == "SITE"
    assert [file["rse"] for file in done.json["files"]] == ["D", "D"]


# -- what is refused, in one line --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.toml"], "none.toml: there is no such file"),
        (["job.toml", "--only", "stagein"], "no such phase 'stagein'; did you mean 'stage-in'?"),
        (["job.toml", "--only", ","], "no phase is named; known: stage-in, payload, stage-out"),
        (["job.toml", "--from", "end"], "no such phase 'end'; known: payload, stage-in, stage-out"),
        (["job.toml", "--from", "payload", "--only", "payload"], "not allowed with argument"),
        (["job.toml", "--from", "payload"], "the payload needs the job's inputs, and stage-in is left out"),
        (["job.toml", "--only", "stage-out"], "stage-out needs what the payload wrote"),
        (["job.toml", "--in", "."], "is not the directory of a job that was kept"),
        (["job.toml", "--in", "nowhere"], "nowhere: does not exist"),
        (["job.toml", "--storage", "nowhere"], "nowhere: is not a directory; name the one that has the job's inputs"),
        (["job.toml", "--output", "words.txt"], "words.txt: is not a directory; name one for the job's outputs"),
        (["job.toml", "--queue", "Q"], "unknown queue 'Q'"),
        (["job.toml", "--queue", "Q", "--storage", "."], "--storage is for the built-in queue"),
        (["job.toml", "--work-dir", "nowhere"], "does not exist; create it"),
        (["job.toml", "--work-dir", "x" * 300], "does not exist; create it"),
        (["job.toml", "--in", "x" * 300], "does not exist; run the first phases with --keep"),
        (["job.toml", "--storage", "x" * 300], "is not a directory; name the one that has the job's inputs"),
        (["/dev/zero"], "/dev/zero: is longer than"),
        (["job.toml", "--explain", "--keep"], "--explain makes nothing"),
        (["job.toml", "--token-file", "t"], "--token-file needs --token-origin"),
        (["job.toml", "--onyl", "payload"], "did you mean '--only'?"),
        ([], "the following arguments are required: FILE"),
    ],
)
def test_wrong_input_is_told_in_one_line(bench, words, told):
    assert told in bench.refused(*words)


def test_the_jobs_file_is_told_with_the_field(bench):
    bench.write("job.toml", 'transformation = "x"\ninputs = [{lfn = "a", siez = 3}]')
    assert "job.toml: inputs[0].siez: unknown key; did you mean 'size'?" in bench.refused("job.toml")
    assert "job.toml: inputs[0].siez: " in bench.refused("job.toml", "--explain")


def test_the_directory_of_another_job_is_refused(bench):
    kept = bench.run("job.toml", "--keep", "--json").json["job_dir"]
    bench.write("job.toml", f"id = 2\n{SORT}")
    assert "is the directory of job 1, not of job 2" in bench.refused("job.toml", "--in", kept)


def test_a_directory_in_which_the_payloads_was_replaced_by_a_link_is_refused(bench):
    kept = Path(bench.run("job.toml", "--keep", "--json").json["job_dir"])
    (kept / "payload").rename(kept / "elsewhere")
    (kept / "payload").symlink_to(kept / "elsewhere")
    assert "is not the directory of a job" in bench.refused("job.toml", "--in", kept)


def test_a_bad_credential_ends_with_5(bench):
    assert "none.pem" in bench.refused("job.toml", "--cert", "none.pem", code=5)


def test_a_plugin_that_is_missing_ends_with_3(bench):
    bench.write("pilot.toml", '[queues.Q]\nexecutor = "none"\n')
    words = ("job.toml", "--config", "pilot.toml", "--queue", "Q", "--explain", "--log-level", "error")
    assert "no executor 'none' is installed" in bench.refused(*words, code=3)


# -- servers' descriptions ---------------------------------------------------------------------------------------------

COMMUNICATOR = """
from pilot_core import BadJob, Job, JobDescriptionError, Provider, hookimpl


class Communicator:
    def __init__(self, settings, context):
        assert context.server_url == "", "no server is to be reached"

    def read_job(self, description):
        if "raise" in description:
            raise RuntimeError("a bug")
        if "none" in description:
            raise JobDescriptionError("has no job")
        if "bad" in description:
            return BadJob(id=7, reason="bad: is wrong", error_code=1302)
        return Job(id=description["number"], transformation="echo", parameters=description["text"])

    def close(self):
        pass


class Mute:
    def __init__(self, settings, context):
        pass

    def close(self):
        pass


@hookimpl
def pilot_communicators():
    yield Provider(name="NAME", factory=CLASS)
"""


def communicator(bench, name="spool", made="Communicator"):
    code = COMMUNICATOR.replace("NAME", name).replace("CLASS", made)
    return ("--communicator", name, *bench.plant(f"communicator.{name}", code))


def test_a_servers_description_is_translated_by_its_communicator(bench):
    job = bench.write("job.json", '{"number": 42, "text": "from elsewhere"}')
    done = bench.run(job, *communicator(bench))
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "job 42: finished"
    assert "  from elsewhere" in done.out


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ('{"bad": 1}', 2, "job.json: job 7: bad: is wrong"),
        ('{"none": 1}', 2, "job.json: has no job"),
        ('{"raise": 1}', 3, "job.json: the communicator spool broke: RuntimeError: a bug"),
    ],
)
def test_a_description_that_cannot_be_used_is_told_in_one_line(bench, text, code, told):
    job = bench.write("job.json", text)
    options = communicator(bench)
    bench.run(job, *options)  # the plugin's module is compiled
    assert told in bench.refused(job, *options, code=code)


def test_a_communicator_that_reads_no_jobs_is_told(bench):
    job = bench.write("job.json", '{"PandaID": 1}')
    options = communicator(bench, "mute", "Mute")
    bench.run(job, *options)
    assert "the communicator mute reads no jobs from files" in bench.refused(job, *options, code=3)


def test_ours_as_json_needs_no_communicator(bench):
    job = bench.write("job.json", '{"transformation": "echo", "parameters": "ours", "id": 3}')
    done = bench.run(job)
    assert (done.code, done.out.splitlines()[0]) == (0, "job 3: finished")


# -- parts -------------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_keeps_what_it_is_told():
    server = OfflineCommunicator()
    limits = {"cancel": CancelToken(), "deadline": Deadline.after(SystemClock(), 1)}
    assert server.acquire(JobRequest(queue="Q"), **limits) == ()
    assert not server.is_alive(**limits)
    with pytest.raises(LookupError):
        _ = server.final
    last = JobUpdate(job_id=1, attempt=2, state="finished")
    limits["cancel"].cancel("too late")
    for update in (JobUpdate(job_id=1, attempt=2, state="running"), last):
        assert not server.update(update, **limits).kill
    assert server.final is last
    assert [(s.status, s.attempt) for s in server.job_status([1, 2], **limits)] == [
        ("finished", 2),
        ("not found", None),
    ]


@given(st.lists(st.sampled_from(list(Phase)), min_size=1), st.booleans())
def test_phases_are_run_in_their_order_however_they_are_named(wanted, joined):
    texts = [", ".join(map(str, wanted))] if joined else list(map(str, wanted))
    assert phases_named(texts) == tuple(phase for phase in Phase if phase in wanted)


@given(st.text())
def test_any_text_names_phases_or_is_told(text):
    for read in (lambda: phases_named([text]), lambda: phases_from(text)):
        try:
            found = read()
        except BadInput:
            continue
        assert set(found) <= set(Phase)
