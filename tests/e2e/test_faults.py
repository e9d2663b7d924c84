"""Pilots that meet faults: of their server, done by the development server, and of their storages, by `fault://`."""

from __future__ import annotations

import json
import os
import signal
import zlib

import pytest
from e2e_site import a_site, file_url
from pilot_devserver.devserver import DevServer

from pilot_core import PilotErrorCode as Code


@pytest.fixture
def alone(tmp_path):
    """A queue of a server that no other test uses, whose connections may be spoilt."""
    (tmp_path / "site").mkdir()
    with DevServer(tmp_path / "state", adder_delay=0.0) as server, a_site(server, tmp_path / "site") as made:
        yield made


def fault(site, name, **when):
    """Do a fault to this queue's pilots only: other tests use the same server."""
    return site.server.fault(name, queue=site.queue, **when)


def phases(site, job):
    return [status for _, status in site.job(job).history]


# -- lost and spoilt answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reset-before", "reset-after", "truncate", "garbage", "html", "database-down"])
def test_a_final_report_is_sent_until_it_is_acknowledged(site, name):
    job = site.script("echo x > x.out", outputs=["x.out"])
    struck = fault(site, name, endpoint="update_job", state="finished", count=2)
    ended = site.run()
    assert ended.code == 0
    assert struck.fired == 2
    assert phases(site, job).count("finished") == 1
    assert site.job(job).status == "finished"


def test_a_lost_answer_about_jobs_costs_one_job_and_no_second_one_is_taken(site):
    jobs = [site.submit() for _ in range(2)]
    struck = fault(site, "reset-after", endpoint="acquire_jobs")
    ended = site.run("--jobs", 0)
    assert ended.code == 4
    assert ended.says("may have been given to this pilot all the same")
    assert struck.fired == 1
    assert [site.job(job).status for job in jobs] == ["sent", "activated"]
    site.run("--jobs", 0)
    assert [site.job(job).status for job in jobs] == ["sent", "finished"]


def test_a_pilot_comes_back_when_the_server_said(site):
    job = site.submit()
    fault(site, "retry-after", endpoint="acquire_jobs", status=429, seconds=1)
    fault(site, "retry-after", endpoint="acquire_jobs", seconds=1, form="date")
    ended = site.run()
    assert ended.code == 0
    assert ended.says("HTTP 429", "next in 1.0 s")
    assert ended.says("HTTP 503")
    assert site.job(job).status == "finished"


def test_a_server_that_hangs_is_asked_again(site):
    job = site.submit()
    site.tables["communicator.panda"] = {"timeout": 0.3}
    struck = fault(site, "hang", endpoint="update_job", state="finished")
    assert site.run().code == 0
    assert struck.fired == 1
    assert site.job(job).status == "finished"


def test_a_server_that_restarts_gets_the_report(alone):
    job = alone.submit()
    struck = alone.server.fault("down", endpoint="update_job", state="finished", seconds=0.5)
    ended = alone.run()
    assert ended.code == 0
    assert ended.says("WARNING", "update_job")
    assert struck.fired == 1
    assert alone.job(job).status == "finished"


def test_a_job_gets_over_a_certificate_that_was_bad_for_a_while(alone):
    gate = alone.gate()
    job = alone.script(gate.script)
    struck = alone.server.fault("certificate", endpoint="update_job", state="running", kind="expired")
    pilot = alone.start()
    gate.wait()
    struck.until_fired()
    gate.open()
    pilot.until_says("certificate")
    struck.remove()
    assert pilot.wait().code == 0
    alone.check_clean()
    assert alone.job(job).status == "finished"


# -- tokens and commands ---------------------------------------------------------------------------------------------


def use_token(site):
    """Have the pilot use a token of its own; returns the file, which a test may write again."""
    file = site.folder / "token"
    renew(site, file, 86400)
    site.pilot |= {"cert": None, "token_file": file, "token_origin": "wlcg.production"}
    return file


def renew(site, file, seconds):
    new = file.with_name("new-token")
    new.write_text(site.server.token(seconds=seconds))
    os.chmod(new, 0o600)
    new.rename(file)


def test_a_token_that_expires_in_mid_job_is_renewed_and_the_job_is_reported(site):
    file, gate = use_token(site), site.gate()
    job = site.script(gate.script)
    struck = fault(site, "expired-token", endpoint="update_job", state="running")
    pilot = site.start()
    gate.wait()
    struck.until_fired()
    renew(site, file, 7200)
    gate.open()
    ended = pilot.wait()
    site.check_clean()
    assert ended.code == 0
    assert site.job(job).status == "finished"


def test_the_report_of_a_job_whose_token_stays_expired_is_kept(site):
    use_token(site)
    site.pilot["report_budget"] = 1
    job = site.script("true")
    fault(site, "expired-token", endpoint="update_job", state="finished", count=0)
    ended = site.run(leaves=["spool"])
    assert ended.code == 4
    assert ended.says("Signature has expired")
    assert site.job(job).status == "running"


def test_tobekilled_with_the_second_heartbeat_ends_the_payload(site):
    gate = site.gate()
    site.settings["heartbeat_seconds"] = 0.2
    job = site.script(f"echo here; {gate.script}")
    struck = fault(site, "tobekilled", job=job, state="running", after=1)
    pilot = site.start()
    gate.wait()
    ended = pilot.wait()
    site.check_clean()
    assert ended.code == 0
    assert struck.fired == 1
    found = site.job(job)
    assert found.reported_state == "failed"
    assert found.fields["pilot_error_code"] == Code.PANDAKILL
    assert len(found.heartbeats) >= 2


def test_a_job_that_two_pilots_have_is_reported_by_the_first(site):
    """Updates with another batch id are a database error to the real server, until the job is done."""
    gate = site.gate()
    job = site.script(f"if mkdir {site.folder}/first; then {gate.script}; fi")
    first = site.start()
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    struck = fault(site, "duplicate-dispatch")
    # in a directory of its own: one that shares the first one's knows whose job it is
    (other := site.folder / "other").mkdir()
    second = site.start("--report-budget", 1, "--work-dir", other).wait()
    assert struck.fired == 1
    assert second.code == 4
    assert second.says("Database error")
    assert site.job(job).status == "running"
    gate.open()
    assert first.wait().code == 0
    site.check_clean()
    assert {"spool"} == {path.name for path in other.iterdir()} - {"pilot.sqlite"}
    assert phases(site, job) == ["activated", "sent", "running", "holding", "finished"]


# -- storages --------------------------------------------------------------------------------------------------------

CONTENT = b"of a storage that fails\n" * 100


def failing(site, faults):
    """Have the site's storage fail; the log goes to another one that does not."""
    site.settings["storages"] = {
        site.rse: {"url": f"fault://{faults}/{file_url(site.storage)}"},
        "LOGS": {"url": file_url(site.storage)},
    }
    site.settings["log"] = ["LOGS"]
    (site.storage / "in.dat").write_bytes(CONTENT)


def ledger(site, job, lfn):
    """Return the outcomes of the attempts at a file, as the job's report has them, in their order."""
    attempts = json.loads(site.job(job).metadata)["pilot"]["attempts"]
    found = sorted((attempt for attempt in attempts if attempt["lfn"] == lfn), key=lambda attempt: attempt["number"])
    assert {attempt["backend"] for attempt in found} == {"fault"}
    return [attempt["outcome"] for attempt in found]


def test_an_input_comes_with_the_third_attempt(site):
    failing(site, "transient;first=2;retry-after=0.01")
    job = site.submit("/bin/cat", "in.dat", inputs=["in.dat"])
    ended = site.run()
    assert ended.code == 0
    assert site.job(job).status == "finished"
    assert site.log_of(job)["payload.stdout"] == CONTENT
    assert ledger(site, job, "in.dat") == ["TransientError", "TransientError", "ok"]


def test_an_output_goes_out_with_the_second_attempt(site):
    failing(site, "transient;first=1;on=store;retry-after=0.01")
    job = site.script("cp in.dat x.out", inputs=["in.dat"], outputs=["x.out"])
    assert site.run().code == 0
    found = site.job(job)
    assert found.status == "finished"
    assert (site.storage / "x.out").read_bytes() == CONTENT
    assert json.loads(found.report)["x.out"]["adler32"] == f"{zlib.adler32(CONTENT):08x}"


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ("not-found", Code.MISSINGINPUTFILE),
        ("auth", Code.STAGEINAUTHENTICATIONFAILURE),
        ("no-space", Code.NOLOCALSPACE),
        ("checksum-mismatch", Code.GETADMISMATCH),
        ("transient;retry-after=0.01", Code.STAGEINFAILED),
        ("timeout", Code.STAGEINTIMEOUT),
    ],
)
def test_an_input_that_does_not_come_is_told_by_its_code(site, faults, code):
    failing(site, faults)
    job = site.submit("/bin/cat", "in.dat", inputs=["in.dat"])
    assert site.run().code == 0
    found = site.job(job)
    assert (found.reported_state, found.fields["pilot_error_code"]) == ("failed", code)


def test_a_stager_that_crashes_is_told_by_its_name_and_the_next_job_runs(site):
    failing(site, "crash")
    job = site.submit("/bin/cat", "in.dat", inputs=["in.dat"])
    other = site.submit()
    ended = site.run("--jobs", 0, bug=True)
    assert ended.code == 0
    assert ended.says("stager.fault", "broke: Bug")
    assert site.job(job).reported_state == "failed"
    assert site.job(other).status == "finished"


def test_a_stager_that_hangs_ends_with_a_signal(site):
    failing(site, "hang;on=fetch")
    job = site.submit("/bin/cat", "in.dat", inputs=["in.dat"])
    pilot = site.start()
    pilot.until_says("fetch", "attempt 1", "hang")
    pilot.signal(signal.SIGTERM)
    ended = pilot.wait()
    site.check_clean()
    assert ended.code == 128 + signal.SIGTERM
    assert site.job(job).reported_state == "failed"


def test_a_stager_that_hangs_with_the_log_ends_with_the_second_signal(site):
    failing(site, "hang;on=store")
    job = site.submit()
    pilot = site.start()
    pilot.until_says("store", "attempt 1", "hang")
    # two different ones: two of a kind may be heard as one
    pilot.signal(signal.SIGTERM)
    pilot.signal(signal.SIGINT)
    ended = pilot.wait()
    assert ended.code in {128 + signal.SIGTERM, 128 + signal.SIGINT, 4}
    # whether there was time for the report or not: it is not lost
    site.check_clean(["spool"] if site.job(job).status == "running" else [])


def test_a_url_that_makes_no_sense_fails_the_job_in_one_line(site):
    failing(site, "trnsient")
    job = site.submit("/bin/cat", "in.dat", inputs=["in.dat"])
    assert site.run().code == 0
    found = site.job(job)
    assert found.reported_state == "failed"
    assert "unknown fault 'trnsient'; did you mean 'transient'?" in found.fields["pilot_error_diag"]
