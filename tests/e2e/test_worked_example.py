"""The worked example, a protocol that is not PanDA's: the demo's jobs, faults, recordings, all over JSON-RPC."""

from __future__ import annotations

import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
import urllib.request

import pytest
from e2e_processes import environment
from pilot_devserver.devserver import DevServer

from pilot_core.testing.recordings import assert_replays

JOBS = ("dimuon-mass", "pdg-summary", "event-archive", "event-summary", "meant-to-fail")


@pytest.fixture
def rpc(site):
    """A site whose pilots speak JSON-RPC, and are quick to try again."""
    site.pilot["communicator"] = "jsonrpc"
    site.tables["communicator.jsonrpc"] = {"first_pause": 0.05}
    return site


def fault(site, name, **when):
    """Do a fault to this queue's pilots only: other tests use the same server."""
    return site.server.fault(name, queue=site.queue, **when)


def once(site, folder):
    """Return a script's words that leave a line a run, and the file with these lines."""
    ran = folder / "ran"
    return f"echo ran >> {shlex.quote(str(ran))}; echo x > x.out", ran


def phases(site, job):
    return [status for _, status in site.job(job).history]


def run_demo(folder, *options):
    """Run the demo, as its own process."""
    return subprocess.run(
        [sys.executable, "-m", "pilot_core", "demo", *options],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_demo_runs_its_jobs_over_json_rpc(tmp_path):
    done = run_demo(tmp_path, "--communicator", "jsonrpc")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--communicator jsonrpc" in done.stdout
    rows = {line.split()[1]: line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()}
    assert all(rows[name][-1] == "yes" for name in JOBS), done.stdout
    assert "5 of 5 jobs as they should be, 11 of 11 files verified" in done.stdout
    result = json.loads((tmp_path / "demo-output/demo.json").read_text())
    assert result["ok"]
    assert [job["name"] for job in result["jobs"]] == list(JOBS)
    # nothing but this protocol was there to speak
    log = (tmp_path / "demo-output/server.log").read_text()
    assert "protocol jsonrpc" in log
    assert "protocol panda" not in log


def test_a_demo_over_a_protocol_that_is_not_installed_says_so_in_one_line(tmp_path):
    done = run_demo(tmp_path, "--communicator", "jsonrcp")
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert "did you mean 'jsonrpc'?" in line


@pytest.mark.parametrize("name", ["reset-before", "reset-after", "truncate", "garbage", "html", "database-down"])
def test_each_job_is_run_once_and_reported_once_whatever_becomes_of_the_answers(rpc, name):
    words, ran = once(rpc, rpc.folder)
    jobs = [rpc.script(words, outputs=["x.out"]) for _ in range(2)]
    struck = fault(rpc, name, endpoint="job.update", state="finished", count=2)
    ended = rpc.run("--jobs", 0)
    assert ended.code == 0, ended.text
    assert struck.fired == 2
    assert ran.read_text() == "ran\n" * 2
    assert [phases(rpc, job).count("finished") for job in jobs] == [1, 1]


def test_a_lost_answer_about_jobs_costs_one_job_and_no_second_one_is_taken(rpc):
    jobs = [rpc.submit() for _ in range(2)]
    struck = fault(rpc, "reset-after", endpoint="job.acquire")
    ended = rpc.run("--jobs", 0)
    assert ended.code == 4
    assert ended.says("job.acquire", "it is not repeated, for it may be done")
    assert struck.fired == 1
    assert [rpc.job(job).status for job in jobs] == ["sent", "activated"]


def test_a_command_at_a_chosen_moment_ends_the_payload(rpc):
    gate = rpc.gate()
    job = rpc.script(gate.script)
    struck = fault(rpc, "tobekilled", endpoint="job.*", state="running")
    ended = rpc.run()
    assert struck.fired == 1
    assert ended.says("tobekilled")
    assert rpc.job(job).status in {"failed", "cancelled"}


def test_a_fault_that_is_meant_for_updates_strikes_no_other_call(rpc):
    job = rpc.submit()
    struck = fault(rpc, "tobekilled", endpoint="worker.*", count=0)
    assert rpc.run().code == 0
    assert struck.fired == 0
    assert rpc.job(job).status == "finished"


@pytest.mark.parametrize("name", [None, "reset-after"])
def test_what_was_recorded_replays(rpc, tmp_path, name):
    job = rpc.script("echo x > x.out", outputs=["x.out"])
    if name:
        fault(rpc, name, endpoint="job.update", state="finished")
    recording = tmp_path / "recording"
    assert rpc.run("--record", recording).code == 0
    assert rpc.job(job).status == "finished"
    entries = json.loads((recording / "traffic.har").read_text())["log"]["entries"]
    methods = [json.loads(entry["request"]["postData"]["text"])["method"] for entry in entries]
    assert methods == ["job.acquire", *["job.update"] * (3 if name else 2)]
    result = assert_replays(recording)
    assert result.exchanges == result.of == len(entries)
    assert_replays(recording, strict=False)


def test_the_page_shows_calls_by_name_and_points_at_the_wrong_field(tmp_path):
    with DevServer(tmp_path / "state", queues=("Q",), web_port=0) as server:
        tls = ssl.create_default_context(cafile=server.ca_file)
        tls.load_cert_chain(server.pilot_proxy.cert_file)
        params = {"job_id": 7, "attempt": 1, "state": "resting"}
        call = {"jsonrpc": "2.0", "method": "job.update", "params": params, "id": 1}
        asked = urllib.request.Request(
            f"{server.url}/jsonrpc", data=json.dumps(call).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, context=tls) as response:
            assert json.load(response)["error"]["code"] == -32602
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        browser.open(server.web_url).close()
        pages = server.web_url.partition("?")[0]
        with browser.open(f"{pages}exchanges") as response:
            listed = response.read().decode()
        assert "job.update" in listed
        assert "resting" in listed
        assert "error -32602 Invalid params" in listed
        with browser.open(f"{pages}exchanges/1") as response:
            shown = response.read().decode()
        assert "params.state" in shown
        assert "has to be one of starting, running" in shown


README = "plugins/communicator-jsonrpc/README.md"


@pytest.fixture
def look(checkout, tmp_path):
    """Start the README's server, and return what types its further commands."""
    commands = [
        text
        for fence in checkout.fences()
        if (fence.document, fence.language) == (README, "console")
        for _, text in fence.commands
    ]
    first = next(place for place, text in enumerate(commands) if text.startswith("pilot-core serve"))
    read, write = os.pipe()
    line = [*shlex.split(commands[first]), "--ready-fd", str(write), "--adder-delay", "0"]
    process = subprocess.Popen(line, cwd=tmp_path, env=environment(), pass_fds=[write])
    os.close(write)
    with os.fdopen(read) as stream:
        assert json.loads(stream.readline())["web"]

    def type_next():
        for command in commands[first + 1 :]:
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            yield command.split()[1], done

    yield type_next
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0


def test_the_readmes_commands_work_one_after_the_other(look):
    told = list(look())
    assert [word for word, _ in told] == ["submit", "server", "run", "server", "replay"]
    done = [each for _, each in told]
    assert "job.update: RemoteDisconnected" in done[2].stderr
    assert "job 1 is done: finished" in done[2].stderr
    assert done[3].stdout.split()[-7:-2] == ["1", "1", "1", "2", "reset-after"]
    assert done[4].stdout == "as recorded: 4 of 4 exchanges, 1 job, exit code 0\n"
