"""Pilots that are killed, and the next one in the same work directory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from e2e_processes import wait_for_process
from pilot_devserver.store import SqliteStore

from pilot_core import PilotErrorCode, SystemClock

OUTPUT = b"of the payload\n"


def killed_at(site, where, *options):
    """Run a pilot that is killed at a point of its journal."""
    pilot = site.start(*options, command=("-m", "pilot_core.testing.pilot", "--kill-at", where, "run"))
    ended = pilot.wait()
    print(ended.text)
    assert ended.code == -signal.SIGKILL, ended.text
    return ended


@pytest.fixture
def job(site):
    """A job with an input and an output, whose runs are counted outside of the work directory."""
    (site.storage / "in.dat").write_bytes(OUTPUT)
    text = f"echo run >> {site.folder}/runs; cat in.dat > x.out; echo said"
    return site.script(text, inputs=["in.dat"], outputs=["x.out"])


def lives(pid):
    return Path(f"/proc/{pid}").exists()


def runs(site):
    file = site.folder / "runs"
    return file.read_text().count("run") if file.exists() else 0


def check_whole(site, job):
    """See that one payload ran, one report came, and everything is where it belongs."""
    assert runs(site) == 1
    found = site.job(job)
    assert found.status == "finished"
    assert [status for _, status in found.history].count("finished") == 1
    assert (site.storage / "x.out").read_bytes() == OUTPUT
    files = site.log_of(job)
    assert files["payload.stdout"] == b"said\n"
    return files


POINTS = [
    "acquired",
    "state-stage-in",
    "state-start",
    "payload-starting",
    "payload-started",
    "state-running",
    "payload-ended",
    "state-stage-out",
    "stored",
    "state-report",
    "report-ready",
    "report-acknowledged",
    "state-done",
    "closed",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_pilots_job_is_brought_to_its_end_by_the_next(site, job, point):
    killed_at(site, f"{point}:after")
    ended = site.run()
    assert ended.code == 0
    check_whole(site, job)


def command(site, *words, code=0):
    """Run another command of `pilot-core` on the site's work directory; returns what it printed."""
    made = subprocess.run(
        [sys.executable, "-m", "pilot_core", *map(str, words)],
        env=site.environment,
        cwd=site.folder / "cwd",
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == code, made.stderr
    assert "Traceback" not in made.stderr
    return made.stdout


def test_a_payload_that_runs_is_waited_for_by_the_next_pilot(site):
    gate = site.gate()
    job = site.script(f"echo run >> {site.folder}/runs; {gate.script}; echo x > x.out; exit 0", outputs=["x.out"])
    first = site.start()
    pid = gate.wait()
    site.until(lambda: site.job(job).status == "running")
    first.kill()
    second = site.start("--jobs", 1)
    second.until_says("is waited for")
    assert lives(pid)
    gate.open()
    assert second.wait().code == 0
    site.check_clean()
    assert runs(site) == 1
    assert site.job(job).status == "finished"
    log = site.log_of(job)["pilot.log"].decode()
    assert log.count(f"job {job} taken: ") == 1, log
    assert log.count(f"job {job} of a pilot before this one is taken over in the state running: ") == 1, log


def test_how_a_payload_ended_while_there_was_no_pilot_is_told(site):
    gate = site.gate()
    job = site.script(f"{gate.script}; exit 7")
    first = site.start()
    pid = gate.wait()
    site.until(lambda: site.job(job).status == "running")
    first.kill()
    gate.open()
    with suppress(ProcessLookupError):
        wait_for_process(pid)
    assert site.run().code == 0
    found = site.job(job)
    assert found.fields["trans_exit_code"] == "7"
    assert found.reported_state == "failed"


def test_the_updates_of_the_next_pilot_have_the_names_of_the_first(site):
    """A changed batch id that is no number is a database error to the real server."""
    job = site.script("true")
    site.pilot |= {"batch_id": "first.batch", "node": "first.node"}
    killed_at(site, "payload-ended:after")
    site.pilot |= {"batch_id": "second.batch", "node": "second.node"}
    assert site.run().code == 0
    found = site.job(job)
    assert found.status == "finished"
    assert found.fields["node"] == "first.node"
    assert found.fields["batch_id"] == "first.batch"


def test_two_pilots_share_a_work_directory(site):
    """The one that lives keeps its job, however many begin beside it."""
    gate = site.gate()
    job = site.script(f"echo run >> {site.folder}/runs; {gate.script}")
    first = site.start()
    gate.wait()
    assert site.start("--jobs", 1).wait().code == 0
    gate.open()
    assert first.wait().code == 0
    site.check_clean()
    assert runs(site) == 1
    assert site.job(job).status == "finished"


SECRETS = {"TOKEN": "canary-of-the-user"}


def test_a_job_that_needs_secrets_is_given_up_before_its_payload_is_started(site):
    job = site.script("true", spec=lambda spec: replace(spec, extra={**spec.extra, "secrets": SECRETS}))
    killed_at(site, "state-start:after")
    for path in site.work.glob("pilot.sqlite*"):
        assert b"canary-of-the-user" not in path.read_bytes()
    assert site.run().code == 0
    found = site.job(job)
    assert found.reported_state == "failed"
    assert "nobody has the user's secrets any more" in found.fields["pilot_error_diag"]


def test_a_report_of_the_spool_is_delivered_by_the_next_pilot(own_site, own_server):
    site, gate = own_site, own_site.gate()
    job = site.script(gate.script)
    pilot = site.start("--report-budget", 1)
    gate.wait()
    own_server.kill()
    gate.open()
    assert pilot.wait().code == 4
    site.check_clean(["spool"])
    listed = json.loads(command(site, "jobs", "--work-dir", site.work, "--json"))
    assert [each["state"] for each in listed["jobs"]] == ["finished, report waits"]
    own_server.start()
    ended = site.run()
    assert ended.code == 0
    assert ended.says("was delivered from the spool")
    assert site.job(job).status == "finished"


def test_flush_delivers_what_waits_and_takes_no_job(own_site, own_server):
    site, gate = own_site, own_site.gate()
    job = site.script(gate.script)
    pilot = site.start("--report-budget", 1)
    gate.wait()
    own_server.kill()
    gate.open()
    assert pilot.wait().code == 4
    assert "0 delivered, 1 left" in command(
        site, "flush", "--config", site.write_config(), "--report-budget", 1, code=4
    )
    own_server.start()
    other = site.submit()
    assert command(site, "flush", "--config", site.write_config()) == "1 delivered, 0 left\n"
    site.check_clean()
    assert [site.job(each).status for each in (job, other)] == ["finished", "activated"]
    assert command(site, "flush", "--config", site.write_config()) == "0 delivered, 0 left\n"


def test_flush_delivers_the_report_of_a_pilot_that_was_killed(site, job):
    killed_at(site, "report-ready:after")
    assert command(site, "flush", "--config", site.write_config()) == "1 delivered, 0 left\n"
    site.check_clean()
    check_whole(site, job)


def test_a_kept_report_of_an_older_pilot_is_delivered(site):
    """Without a journal there is only its file."""
    job = site.script("true")
    killed_at(site, "report-ready:after")
    command(site, "flush", "--config", site.write_config(), "--server", "https://127.0.0.1:9", "--report-budget", 1)
    ended = site.run()
    assert ended.code == 0
    assert site.job(job).status == "finished"


def test_a_job_that_is_sent_again_is_not_run_again(site):
    gate = site.gate()
    job = site.script(f"echo run >> {site.folder}/runs; {gate.script}")
    first = site.start("--jobs", 1)
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    duplicate = site.server.fault("duplicate-dispatch", job=job, queue=site.queue)
    second = site.start("--jobs", 1).wait()
    assert duplicate.fired == 1
    assert second.code == 4
    assert second.says("was sent again, and is not run again")
    gate.open()
    assert first.wait().code == 0
    site.check_clean()
    assert runs(site) == 1
    assert site.job(job).status == "finished"


def test_the_story_of_a_job_is_told(site, job):
    killed_at(site, "payload-started:after")
    assert site.run().code == 0
    text = command(site, "report", job, "--work-dir", site.work)
    for words in (
        f"job {job}, attempt",
        ": finished",
        "taken over from pilot process",
        "x.out is stored",
        "write x.out",
        "read in.dat",
    ):
        assert words in text
    story = json.loads(command(site, "report", job, "--work-dir", site.work, "--json"))
    assert story["state"] == "finished"
    assert [span["name"] for span in story["spans"] if span["lane"] == "phase"][:2] == ["stage-in", "start"]
    page = site.folder / "page.html"
    assert command(site, "report", job, "--work-dir", site.work, "--html", page) == ""
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert "<svg" in html
    assert "<script" not in html
    assert "http://" not in html
    assert "finished" in command(site, "jobs", "--work-dir", site.work)


def test_the_cause_of_a_failure_is_told_with_who_should_act(site):
    job = site.script("exit 3")
    assert site.run().code == 0
    text = command(site, "report", job, "--work-dir", site.work)
    assert "cause     payload: the payload exited with 3" in text
    assert "to act: the job's user" in text


def test_a_lost_answer_leaves_one_job_in_sent_and_a_line_in_the_journal(site):
    """The protocol has no key to ask for it again; the server's own watcher fails it after 30 minutes."""
    job = site.submit()
    site.server.fault("reset-after", endpoint="acquire_jobs", queue=site.queue)
    ended = site.run()
    assert ended.code == 4
    assert ended.says("may have been given to this pilot all the same")
    assert [each.status for each in site.jobs()] == ["sent"]
    assert site.job(job).status == "sent"
    listed = json.loads(command(site, "jobs", "--work-dir", site.work, "--json"))
    assert [(each["queue"], each["lost"]) for each in listed["asks"]] == [(site.queue, True)]
    assert "a job may have been given" in command(site, "jobs", "--work-dir", site.work)


def test_a_pilot_that_dies_as_it_asks_leaves_a_line_in_the_journal(site):
    site.submit()
    killed_at(site, "acquired:before")
    assert [each.status for each in site.jobs()] == ["sent"]
    assert "the pilot died before there was an answer" in command(site, "jobs", "--work-dir", site.work)


def test_a_damaged_journal_is_set_aside(site, job):
    (site.work / "pilot.sqlite").write_bytes(b"this is no database, whatever its name says\n" * 100)
    ended = site.run(leaves=["pilot.sqlite.aside-1"])
    assert ended.code == 0
    assert ended.says("WARNING", "set aside as pilot.sqlite.aside-1")
    check_whole(site, job)


def test_there_is_no_journal_to_tell_of(tmp_path, site):
    assert not command(site, "jobs", "--work-dir", site.folder, code=2)
    assert not command(site, "report", "1", "--work-dir", site.folder, code=2)


def no_storage(site):
    """Take the storage of outputs away; returns what brings it back."""
    site.settings["storages"]["OUT"] = {"url": f"file://{site.folder}/away"}
    site.settings["storages"]["LOGS"] = {"url": f"file://{site.storage}"}
    site.settings["write"], site.settings["log"] = ["OUT"], ["LOGS"]

    def elsewhere(spec):
        files = (replace(file, endpoint="OUT" if file.kind == "output" else "LOGS") for file in spec.files)
        return replace(spec, files=tuple(files))

    return elsewhere


@pytest.mark.parametrize("how", ["run", "flush"])
def test_outputs_that_no_storage_takes_are_kept_and_stored_later(site, how):
    elsewhere = no_storage(site)
    job = site.script(f"echo run >> {site.folder}/runs; echo x > x.out", outputs=["x.out"], spec=elsewhere)
    ended = site.start("--keep-outputs-hours", 1).wait()
    assert ended.code == 4
    assert ended.says("its outputs are kept in")
    assert site.job(job).status == "running"
    assert "outputs wait" in command(site, "jobs", "--work-dir", site.work)
    (site.folder / "away").mkdir()
    if how == "run":
        assert site.run().code == 0
    else:
        assert command(site, "flush", "--config", site.write_config()) == "1 delivered, 0 left\n"
        site.check_clean()
    assert runs(site) == 1
    assert site.job(job).status == "finished"
    assert (site.folder / "away/x.out").read_text() == "x\n"


def test_outputs_are_not_kept_for_longer_than_wanted(site):
    elsewhere = no_storage(site)
    job = site.script("echo x > x.out", outputs=["x.out"], spec=elsewhere)
    assert site.start("--keep-outputs-hours", 1).wait().code == 4
    assert site.start("--keep-outputs-hours", 1).wait().code == 4
    assert site.job(job).status == "running"
    later = ("-m", "pilot_core.testing.pilot", "--wall-step", "3700", "run", "--keep-outputs-hours", "1")
    assert site.run(command=later).code == 0
    found = site.job(job)
    assert found.reported_state == "failed"
    assert "stage-out" in found.fields["pilot_error_diag"]


def test_the_job_of_a_lost_answer_is_failed_by_the_servers_watcher(own_site, own_server):
    site = own_site
    job = site.submit()
    killed_at(site, "acquired:before")
    assert site.job(job).status == "sent"
    for minutes, found in ((29, []), (31, [job])):
        store = SqliteStore(own_server.state.database, clock=SystemClock(wall_step=minutes * 60.0), adder_delay=0.0)
        assert store.watch() == found
        store.close()
    assert site.job(job).status == "failed"


def test_a_job_outlives_any_number_of_pilots(site, job):
    for where in ("state-stage-in:after", "taken-over:after", "payload-started:effect", "taken-over:effect"):
        killed_at(site, where)
    killed_at(site, "stored:before")
    killed_at(site, "stored:after:2")
    killed_at(site, "report-ready:effect")
    assert site.run().code == 0
    check_whole(site, job)


@pytest.mark.parametrize("point", ["commanded", "called-off", "payload-ending"])
def test_a_job_that_the_server_wants_killed_ends_by_the_next_pilot_too(site, point):
    gate = site.gate()
    site.settings["heartbeat_seconds"] = 0.2
    job = site.script(gate.script)
    site.server.fault("tobekilled", job=job, state="running", after=1)
    killed_at(site, f"{point}:after")
    pid = gate.wait()
    if point == "commanded":  # which the server says again
        site.server.fault("tobekilled", job=job, state="running")
    assert site.run().code == 0
    assert not lives(pid)
    found = site.job(job)
    assert found.reported_state == "failed"
    assert found.fields["pilot_error_code"] == PilotErrorCode.PANDAKILL


@pytest.mark.parametrize("moment", ["before", "after", "effect"])
def test_outputs_that_were_being_removed_are_removed(site, job, moment):
    site.settings["storages"]["NONE"] = {"url": f"file://{site.folder}/none"}

    def log_nowhere(spec):
        files = (replace(file, endpoint="NONE" if file.kind == "log" else site.rse) for file in spec.files)
        return replace(spec, files=tuple(files))

    site.settings["log"] = ["NONE"]
    site.server.store.kill(job)
    job = site.script(f"echo run >> {site.folder}/runs; echo x > x.out", outputs=["x.out"], spec=log_nowhere)
    killed_at(site, f"withdrawing:{moment}")
    assert site.run().code == 0
    assert runs(site) == 1
    assert site.job(job).reported_state == "failed"
    assert not (site.storage / "x.out").exists()


def test_a_report_that_was_being_kept_is_not_lost(own_site, own_server):
    site, gate = own_site, own_site.gate()
    job = site.script(gate.script)
    pilot = site.start(
        *("--report-budget", 1), command=("-m", "pilot_core.testing.pilot", "--kill-at", "spooled:before", "run")
    )
    gate.wait()
    own_server.kill()
    gate.open()
    assert pilot.wait().code == -signal.SIGKILL
    own_server.start()
    assert site.run().code == 0
    assert site.job(job).status == "finished"


def test_an_archive_that_was_half_made_is_made_anew(site):
    def zipped(spec):
        return replace(spec, parameters=f"{spec.parameters} <ZIP_MAP>all.zip:a.root</ZIP_MAP>")

    job = site.script("printf one > a.root", outputs=["a.root", "all.zip"], spec=zipped)
    killed_at(site, "archive:after")
    (folder,) = site.work.glob("job-*")
    (folder / "payload/all.zip").write_bytes(b"PK half of it")
    assert site.run().code == 0
    assert site.job(job).status == "finished"
    with zipfile.ZipFile(site.storage / "all.zip") as archive:
        assert archive.read("a.root") == b"one"
