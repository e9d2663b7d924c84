"""The final report: sent until it is acknowledged, within a budget that can be seen and set; else kept."""

from __future__ import annotations

import json
import signal

import pytest

from pilot_core.reporting import FinalReport


def kept_report(site, job, ended):
    """Return the one report in the spool, which the log has to name."""
    (file,) = (site.work / "spool").iterdir()
    assert any(str(file) in line for line in ended.of_level("ERROR"))
    assert file.stat().st_mode & 0o077 == 0
    report = FinalReport.from_json(json.loads(file.read_text()))
    assert report.update.job_id == job
    return report


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_report_that_cannot_be_delivered_is_kept(own_site, own_server, how):
    """The server is gone, or there and silent."""
    site, gate = own_site, own_site.gate()
    job, next_job = site.script(f"{gate.script}; echo x > a.out", outputs=["a.out"]), site.submit()
    pilot = site.start("--jobs", 0, "--set", "pilot.report_budget=1")
    gate.wait()
    own_server.process.send_signal(how)
    gate.open()
    ended = pilot.wait()
    site.check_clean(["spool"])
    assert ended.code == 4
    report = kept_report(site, job, ended)
    assert report.update.state == "finished"
    assert {file.lfn for file in report.update.files} == {"a.out", site.job(job).description["logFile"]}
    assert (site.storage / "a.out").read_text() == "x\n"
    assert site.job(next_job).status == "activated", "a job was taken whose report might be lost too"


def test_the_budget_that_is_left_is_told(own_site, own_server):
    site, gate = own_site, own_site.gate()
    site.script(gate.script)
    pilot = site.start("--set", "pilot.report_budget=1000", "--set", "communicator.panda.retry_pause=1000")
    gate.wait()
    own_server.kill()
    gate.open()
    line = pilot.until_says("WARNING", "update_job", "(finished)", "attempt 1")
    assert "budget 1000 s left" in line or "budget 999 s left" in line
    # two of one kind could be one
    pilot.signal(signal.SIGTERM)
    pilot.signal(signal.SIGINT)
    assert pilot.wait().code == 4
    site.check_clean(["spool"])


def test_a_server_that_comes_back_within_the_budget_gets_the_report_once(own_site, own_server):
    site, gate = own_site, own_site.gate()
    job = site.script(gate.script)
    pilot = site.start("--set", "communicator.panda.retry_pause_limit=0.2")
    gate.wait()
    own_server.kill()
    gate.open()
    pilot.until_says("WARNING", "update_job", "(finished)", "attempt 1")
    own_server.start()
    assert pilot.wait().code == 0
    site.check_clean()
    found = site.job(job)
    assert found.status == "finished"
    assert [status for _, status in found.history].count("finished") == 1


def test_a_job_that_was_killed_at_its_end_is_still_reported(site):
    """The server's answer to the final report is then `tobekilled`, which is an acknowledgement."""
    gate = site.gate()
    job = site.script(gate.script)
    pilot = site.start()
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    assert site.server.store.kill(job)
    gate.open()
    assert pilot.wait().code == 0
    site.check_clean()
    assert site.job(job).reported_state


def use_token(site):
    token = site.folder / "token"
    token.touch(mode=0o600)
    token.write_text(site.server.token())
    site.pilot |= {"cert": None, "token_file": token, "token_origin": "wlcg.production"}
    return token


def test_a_report_for_which_the_credential_has_gone_is_kept(site):
    gate, token = site.gate(), use_token(site)
    job = site.script(gate.script)
    pilot = site.start("--report-budget", 1)
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    token.write_text("")
    gate.open()
    ended = pilot.wait()
    site.check_clean(["spool"])
    assert ended.code == 4
    assert kept_report(site, job, ended).update.state == "finished"
    assert any("is empty: write the token into it" in line for line in ended.of_level("ERROR"))


def test_a_report_waits_for_the_credential_to_be_renewed(site):
    gate, token = site.gate(), use_token(site)
    job = site.script(gate.script)
    pilot = site.start("--set", "communicator.panda.retry_pause_limit=0.2")
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    token.write_text("")
    gate.open()
    pilot.until_says("update_job", "(finished)", "is empty", "attempt 1")
    token.write_text(site.server.token())
    assert pilot.wait().code == 0
    site.check_clean()
    assert site.job(job).status == "finished"
