"""Signals of a batch system: the payload ends, its log comes out, the server hears why, the exit code tells."""

from __future__ import annotations

import json
import signal
import socket

import pytest

from pilot_core import PilotErrorCode as Code
from pilot_core.reporting import FinalReport


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, Code.SIGTERM),
        (signal.SIGINT, Code.SIGINT),
        (signal.SIGQUIT, Code.SIGQUIT),
        (signal.SIGUSR1, Code.SIGUSR1),
        (signal.SIGXCPU, Code.SIGXCPU),
    ],
)
def test_a_signal_ends_the_payload_and_is_reported_with_the_log(site, number, code):
    gate = site.gate()
    job = site.script(f"trap 'echo told to end; exit 5' TERM; {gate.script}", outputs=["never.out"])
    next_job = site.submit()
    pilot = site.start("--jobs", 0)
    gate.wait()
    pilot.signal(number)
    ended = pilot.wait()
    site.check_clean()
    assert ended.code == 128 + number
    found = site.job(job)
    assert found.status == "failed"
    assert found.fields["pilot_error_code"] == code
    assert number.name in found.fields["pilot_error_diag"]
    assert found.fields["trans_exit_code"] == "5"
    assert site.log_of(job)["payload.stdout"] == b"told to end\n"
    assert site.job(next_job).status == "activated", "another job was taken"


def test_a_payload_that_will_not_end_is_killed_after_the_grace(site):
    gate = site.gate()
    site.settings["kill_grace_seconds"] = 0.2
    job = site.script(f"trap 'echo no' TERM; {gate.script}; while :; do read line < {gate.opened}; done")
    pilot = site.start()
    gate.wait()
    pilot.signal(signal.SIGTERM)
    assert pilot.wait().code == 143
    site.check_clean()
    found = site.job(job)
    assert found.fields["pilot_error_code"] == Code.SIGTERM
    assert found.fields["trans_exit_code"] == "137"
    assert b"no" in site.log_of(job)["payload.stdout"]


def test_a_signal_ends_the_wait_for_input(site, slow_storage):
    gate = slow_storage(site)
    job = site.submit(inputs=["in.dat"])
    pilot = site.start()
    gate.wait()
    pilot.signal(signal.SIGTERM)
    assert pilot.wait().code == 143
    site.check_clean()
    found = site.job(job)
    assert found.status == "failed"
    assert found.fields["pilot_error_code"] == Code.SIGTERM
    assert "trans_exit_code" not in found.fields
    assert "payload.stdout" not in site.log_of(job)


def test_a_signal_while_the_server_is_asked_for_jobs(site):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        site.pilot["server"] = f"https://127.0.0.1:{held.getsockname()[1]}"
        pilot = site.start("--set", "communicator.panda.retry_pause=1000")
        pilot.until_says("attempt 1")
        pilot.signal(signal.SIGTERM)
        ended = pilot.wait()
    site.check_clean()
    assert ended.code == 143
    assert "SIGTERM" in ended.last


@pytest.mark.parametrize("when", ["while the payload runs", "while the report is tried"])
def test_a_pilot_that_was_told_to_end_does_not_try_for_long_to_report(own_site, own_server, when):
    site, gate = own_site, own_site.gate()
    site.script(gate.script)
    pilot = site.start("--last-budget", 0.5, "--set", "communicator.panda.retry_pause_limit=0.1")
    gate.wait()
    own_server.kill()
    if when == "while the report is tried":
        gate.open()
        pilot.until_says("update_job", "(finished)", "attempt 1", "budget 1800 s left")
    pilot.signal(signal.SIGTERM)
    ended = pilot.wait()
    site.check_clean(["spool"])
    assert ended.code == 4
    assert len(list((site.work / "spool").iterdir())) == 1


def test_a_second_signal_ends_the_wait_for_a_dead_server(own_site, own_server):
    site, gate = own_site, own_site.gate()
    job = site.script(gate.script)
    pilot = site.start("--set", "communicator.panda.retry_pause=1000")
    gate.wait()
    own_server.kill()
    pilot.signal(signal.SIGTERM)
    pilot.until_says("update_job", "(failed)", "attempt 1")
    pilot.signal(signal.SIGTERM)
    ended = pilot.wait()
    site.check_clean(["spool"])
    assert ended.code == 4
    (kept,) = (site.work / "spool").iterdir()
    report = FinalReport.from_json(json.loads(kept.read_text()))
    assert report.update.job_id == job
    assert report.update.pilot_error_code == Code.SIGTERM
    assert str(kept) in "\n".join(ended.of_level("ERROR"))


def test_a_second_signal_does_not_wait_for_a_server_that_says_nothing(own_site, own_server):
    site, gate = own_site, own_site.gate()
    site.script(gate.script)
    pilot = site.start()
    gate.wait()
    own_server.process.send_signal(signal.SIGSTOP)
    pilot.signal(signal.SIGTERM)
    pilot.until_says("ERROR", "failed", "SIGTERM")
    pilot.signal(signal.SIGINT)
    ended = pilot.wait()
    site.check_clean(["spool"])
    assert ended.code == 4
    (kept,) = (site.work / "spool").iterdir()
    assert FinalReport.from_json(json.loads(kept.read_text())).update.pilot_error_code == Code.SIGTERM
