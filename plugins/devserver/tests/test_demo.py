"""The demo as a user runs it, and its checks against outputs that are wrong."""

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest
from pilot_devserver.demo.contents import WrongContent
from pilot_devserver.demo.jobs import DATA, SCRIPTS, demo_jobs
from pilot_devserver.demo.verify import verify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the pilot needs Linux")

COMMAND = [sys.executable, "-m", "pilot_core", "demo", "--output-dir", "out"]


def demo(tmp_path, *arguments, **environment):
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def processes_of(folder):
    """Return the command lines of processes that have something to do with a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    # settings for some other pilot are none of the demo's business
    done = demo(folder, PILOT_CORE_TOKEN_FILE="/nowhere", PILOT_CORE_SERVER="https://127.0.0.1:1")
    return done, folder / "out"


def test_every_job_ends_as_it_should_and_every_output_is_verified(finished):
    done, out = finished
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((out / "demo.json").read_text())
    assert result["ok"]
    assert [job["status"] for job in result["jobs"]] == ["finished"] * 4 + ["failed"]
    assert all(job["ok"] for job in result["jobs"])
    files = [file for job in result["jobs"] for file in job["files"]]
    assert len(files) == 11
    for file in files:
        assert Path(file["path"]).stat().st_size == file["size"]
        assert Path(file["path"]).is_relative_to(out / "storage")


def test_progress_and_tables_are_plain_lines_where_there_is_no_terminal(finished):
    done, out = finished
    assert "\x1b" not in done.stdout
    assert "job 1 dimuon-mass: running" in done.stdout
    assert "failed (expected)" in done.stdout
    assert f"outputs: {out}/storage" in done.stdout
    assert "5 of 5 jobs as they should be, 11 of 11 files verified" in done.stdout
    assert done.stderr == ""


def test_only_outputs_and_logs_are_left(finished):
    _, out = finished
    assert {path.name for path in out.iterdir()} == {"demo.json", "pilot.log", "server.log", "storage"}
    assert processes_of(out) == []


def test_a_second_demo_takes_the_place_of_the_first_and_prints_json(finished):
    _, out = finished
    done = demo(out.parent, "--json", "--keep")
    assert json.loads(done.stdout)["ok"]
    assert (out / "server/ca.pem").exists()


def test_other_peoples_directories_are_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("")
    done = demo(tmp_path)
    assert done.returncode == 2
    assert "is not empty and not from an earlier demo" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_payload_that_does_not_work_is_told_with_the_end_of_the_pilots_log(tmp_path):
    # no python3, sh or tar on this PATH
    done = demo(tmp_path, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "dimuon-mass: is failed on the server and should be finished" in done.stderr
    assert "the end of the pilot's log:" in done.stderr
    assert "0 of 5 jobs as they should be" in done.stdout
    assert (tmp_path / "out/work").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path, number):
    # a shell starts what it runs in the background with SIGINT ignored, and the tests may be that
    command = ["/usr/bin/env", "--default-signal=INT", *COMMAND]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while "pilot-core run" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, "pilot-core: interrupted\n")
    assert processes_of(tmp_path) == []


def test_the_server_does_not_outlive_a_demo_that_is_killed(tmp_path):
    process = subprocess.Popen(
        COMMAND, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    while "server: " not in process.stdout.readline():
        assert process.poll() is None
    [server] = [path for path in Path("/proc").glob("[0-9]*") if is_server(path, tmp_path)]
    descriptor = os.pidfd_open(int(server.name))
    process.kill()
    process.communicate()
    # readable at the server's end
    select.select([descriptor], [], [])
    os.close(descriptor)


def is_server(path, folder):
    try:
        line = (path / "cmdline").read_bytes()
    except OSError:
        return False
    return b"\0serve\0" in line and str(folder).encode() in line


# -- the checks ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the demo's payloads write, run without pilot and server: job name -> outputs by LFN."""
    made = {}
    for job in demo_jobs():
        if job.check is None:
            continue
        folder = tmp_path_factory.mktemp(job.name)
        for item in job.template.inputs:
            (folder / item.path.name).write_bytes(item.path.read_bytes())
        program = [sys.executable, job.template.script] if job.template.script else [job.template.transformation]
        subprocess.run([*program, *shlex.split(job.template.parameters)], cwd=folder, check=True, capture_output=True)
        made[job.name] = {lfn: folder / lfn for lfn in job.template.outputs}
    return made


CHANGES = {
    "dimuon-pairs.csv": rb"(\d)",
    "dimuon-histogram.csv": rb"(\d)(?=\r)",
    "pdg-summary.json": rb'": (\d)',
    "events.tar": rb"315267,20(5)",
    "events.sha256": rb"(\d)",
    "events.json": rb"(\d)",
}
"""The digits that carry something: not those of tar's headers, nor the last ones of lifetimes."""


def jobs_with_outputs():
    return [
        pytest.param(job, lfn, id=lfn) for job in demo_jobs() if job.check is not None for lfn in job.template.outputs
    ]


@pytest.mark.parametrize("job", [job for job in demo_jobs() if job.check], ids=lambda job: job.name)
def test_what_the_payloads_write_is_right(written, job):
    assert job.check(written[job.name], DATA)


@pytest.mark.parametrize(("job", "lfn"), jobs_with_outputs())
def test_one_changed_digit_in_an_output_is_found(written, tmp_path, job, lfn):
    content = written[job.name][lfn].read_bytes()
    changed = tmp_path / lfn
    for match in list(re.finditer(CHANGES[lfn], content))[::7]:
        place = match.start(1)
        changed.write_bytes(content[:place] + b"%d" % ((int(match[1]) + 5) % 10) + content[place + 1 :])
        with pytest.raises((WrongContent, ValueError, KeyError)):
            job.check({**written[job.name], lfn: changed}, DATA)


@pytest.fixture(scope="module")
def record(written, tmp_path_factory):
    """A server's record of a job that went well."""
    job = demo_jobs()[1]
    folder = tmp_path_factory.mktemp("record")
    with tarfile.open(folder / "log.tgz", "w:gz") as archive:
        archive.add(DATA / "DATA.md", "folder/pilot.log")
    files = {**written[job.name], "log.tgz": folder / "log.tgz"}
    report = {
        lfn: {
            "guid": "g",
            "fsize": path.stat().st_size,
            "adler32": f"{zlib.adler32(path.read_bytes()):08x}",
            "surl": path.as_uri(),
        }
        for lfn, path in files.items()
    }
    return {
        "id": 1,
        "status": "finished",
        "description": {"outFiles": ",".join(files), "logFile": "log.tgz"},
        "report": json.dumps(report),
        "metadata": json.dumps({"pilot": {"phases": {"payload": 0.5}}}),
        "fields": {"trans_exit_code": "0"},
        "errors": {},
    }


def test_a_job_that_went_well_is_verified(record):
    result = verify(demo_jobs()[1], record)
    assert (result.ok, result.problems, result.phases) == (True, [], {"payload": 0.5})
    assert result.found.startswith("669 particles")


def changed_report(record, **changes):
    report = json.loads(record["report"])
    report["pdg-summary.json"].update(changes)
    return {**record, "report": json.dumps(report)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda r: {**r, "status": "failed", "errors": {"ddmErrorDiag": "why"}}, "is failed on the server .*: why"),
        (lambda r: {**r, "fields": {"trans_exit_code": "1"}}, "exit code is 1 on the server and should be 0"),
        (lambda r: {**r, "fields": {}}, "exit code is none"),
        (lambda r: {**r, "report": ""}, "not reported"),
        (lambda r: changed_report(r, fsize=1), "has 549 bytes, 1 were reported"),
        (lambda r: changed_report(r, adler32="00000000"), "has checksum [0-9a-f]{8}, 00000000 was reported"),
        (lambda r: changed_report(r, surl="file:///nowhere"), "not there: No such file"),
    ],
)
def test_what_the_server_says_is_compared_with_what_is_there(record, change, problem):
    result = verify(demo_jobs()[1], change(record))
    assert not result.ok
    assert any(re.search(problem, text) for text in [*result.problems, *(file.problem for file in result.files)])


def test_the_data_is_what_its_description_says():
    text = (DATA / "DATA.md").read_text()
    rows = {path.name: path.read_text().splitlines() for path in DATA.glob("*.csv")}
    assert set(rows) == {name for name in rows if name in text}
    counts = [len(rows[f"cms-run315267-{what}.csv"]) - 1 for what in ("muons", "jets")]
    assert counts == [84, 264]
    assert len(rows["pdg-particles-2026.csv"]) - 2 == 669
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 300_000
    assert all(path.read_text().startswith("#!/usr/bin/env python3\n") for path in SCRIPTS.glob("*.py"))
