"""Jobs as real PanDA servers dispatched them, run by `pilot-core run-job` without any server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_processes import environment

COMMAND = (sys.executable, "-m", "pilot_core", "run-job")


@pytest.fixture
def recorded(checkout):
    """Find what a server answered in a recorded exchange."""

    def find(plugin, file, exchange):
        path = checkout.root / "plugins" / plugin / "tests" / "recordings" / file
        entries = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return next(entry["response"] for entry in entries if entry["id"] == exchange)

    return find


@pytest.fixture
def run_job(tmp_path):
    """Run a job's description; returns the process that ended."""

    def run(text, *options):
        (tmp_path / "job.json").write_text(text)
        words = [*COMMAND, "job.json", *map(str, options)]
        return subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)

    return run


def test_a_job_of_rest_v1_runs_from_the_servers_whole_answer(recorded, run_job, tmp_path):
    text = recorded("communicator-panda", "exchanges-v1.jsonl", "api1-042")
    assert "out.00086.txt,log.00086.tgz" in text
    # /bin/echo of the recording writes no file, so the job fails at its output as it would on the grid
    done = run_job(text, "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert (found["job_id"], found["state"], found["output"]["stdout"]) == (86, "failed", "hello world\n")
    assert [error["code"] for error in found["errors"]] == [1165]
    assert [file["lfn"] for file in found["files"]] == ["log.00086.tgz"]
    assert (tmp_path / "run-job-output" / "log.00086.tgz").stat().st_size == found["files"][0]["size"]


@pytest.mark.parametrize("options", [(), ("--communicator", "panda-legacy")])
def test_a_dictionary_alone_runs_and_its_files_are_moved(recorded, run_job, tmp_path, options):
    answer = json.loads(recorded("communicator-panda-legacy", "exchanges-legacy.jsonl", "legacy-029"))
    answer |= {"transformation": "/bin/cp", "jobPars": "in.dat o.00104.txt", "inFiles": "in.dat", "scopeIn": "lab"}
    answer |= {"GUID": "NULL", "fsize": "3", "checksum": "NULL", "realDatasetsIn": "lab:in/", "prodDBlocks": "lab:in/"}
    answer |= {"ddmEndPointIn": "LAB_DATADISK", "dispatchDblock": "NULL", "dispatchDBlockToken": "NULL"}
    answer |= {"prodDBlockToken": "NULL"}
    (tmp_path / "in.dat").write_bytes(b"abc")
    done = run_job(json.dumps(answer), "--json", *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run-job-output" / "o.00104.txt").read_bytes() == b"abc"
    found = json.loads(done.stdout)
    assert [file["lfn"] for file in found["files"]] == ["o.00104.txt", "log.00104.tgz"]
    assert found["report"]["attempt"] == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"coreCount": "many"}, "job.json: job 104: coreCount: 'many' is not an integer"),
        ({"PandaID": None}, "job.json: PandaID: is missing, and without it no job can be run"),
        ({"transformation": ""}, "job.json: job 104: transformation: the job names no program to run"),
    ],
)
def test_a_dictionary_that_makes_no_sense_is_wrong_input(recorded, run_job, tmp_path, change, told):
    answer = json.loads(recorded("communicator-panda-legacy", "exchanges-legacy.jsonl", "legacy-029"))
    done = run_job(json.dumps({**answer, **change}))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"pilot-core: {told}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


def test_an_answer_with_several_jobs_is_told(recorded, run_job):
    done = run_job(recorded("communicator-panda", "exchanges-v1.jsonl", "api1-078"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pilot-core: job.json: has 4 jobs; one was expected, so keep one of them only\n"


def test_the_queues_of_a_site_serve_a_job_out_of_a_file(site):
    """With the site's configuration, storages and executor are those of its pilots; its server hears nothing."""
    (site.storage / "in.dat").write_bytes(b"123")
    file = site.folder / "job.toml"
    file.write_text(
        'transformation = "cp"\nparameters = "in.dat out.dat"\ninputs = ["in.dat"]\noutputs = ["out.dat"]\n'
    )
    pilot = site.start("--json", str(file), command=("-m", "pilot_core", "run-job"))
    ended = pilot.wait()
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["report"]["queue"] == site.queue
    assert Path(site.storage / "out.dat").read_bytes() == b"123"
    assert site.jobs() == []
    site.check_clean()


JOB = """
transformation = "sort"
parameters = "-o sorted.txt words.txt"
inputs = ["words.txt"]
outputs = ["sorted.txt"]
"""


def test_a_payload_is_debugged_as_documented(shell, tmp_path):
    """The README's lines in their order, with the directory that the third one prints."""
    (tmp_path / "words.txt").write_text("pear\napple\n")
    (tmp_path / "job.toml").write_text(JOB)
    assert "would run" in shell("pilot-core run-job job.toml --explain")
    assert "job 1: finished" in shell("pilot-core run-job job.toml")
    assert (tmp_path / "run-job-output" / "sorted.txt").read_text() == "apple\npear\n"
    told = shell("pilot-core run-job job.toml --only stage-in --keep")
    folder = Path(told.splitlines()[-1].removeprefix("job directory: "))
    (tmp_path / "job.toml").write_text(JOB.replace('"-o', '"-r -o'))
    for _ in range(2):
        assert "job 1: finished" in shell(f"pilot-core run-job job.toml --from payload --in {folder.name}")
    assert (tmp_path / "run-job-output" / "sorted.txt").read_text() == "pear\napple\n"


def test_a_job_of_a_server_is_run_as_documented(shell, recorded, tmp_path):
    (tmp_path / "job.json").write_text(recorded("communicator-panda", "exchanges-v1.jsonl", "api1-042"))
    assert "job 86: would run" in shell("pilot-core run-job job.json --explain")
    assert "finished (stage-in, payload only)" in shell("pilot-core run-job job.json --only stage-in,payload")
