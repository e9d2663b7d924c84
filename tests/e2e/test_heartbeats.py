"""Heartbeats of real pilots, whose clocks run faster where hours are to pass."""

from __future__ import annotations

import pytest

from pilot_core import PilotErrorCode as Code


def start_fast(site, scale, *options):
    """Start a pilot whose clock runs faster; what it waits for in the network takes as long as ever."""
    site.pilot["acquire_budget"] = 60 * scale
    for name in ("connect_timeout", "timeout"):
        site.tables.setdefault("communicator.panda", {})[name] = 60.0 * scale
    command = ("-m", "pilot_core.testing.pilot", "--clock-scale", scale, "run")
    return site.start(*options, command=command)


def beats(site, job):
    return list(site.job(job).heartbeats)


def test_a_job_is_heard_of_every_thirty_minutes_by_itself(site):
    gate = site.gate()
    job = site.script(gate.script)
    pilot = start_fast(site, 1500)
    gate.wait()
    site.until(lambda: len(beats(site, job)) >= 3)
    gate.open()
    assert pilot.wait().code == 0
    site.check_clean()
    found = site.job(job)
    assert found.status == "finished"
    assert [status for _, status in found.history].count("running") == 1
    begun, first, second, *_ = found.heartbeats
    # none came early; what is late is the machine's business
    assert first - begun > 0.6, "far less than 30 minutes of the pilot's"
    assert second - first > 0.6


def test_the_queue_says_how_often(site):
    gate = site.gate()
    site.settings["heartbeat_seconds"] = 0.2
    job = site.script(gate.script)
    pilot = site.start()
    gate.wait()
    site.until(lambda: len(beats(site, job)) >= 4)
    gate.open()
    assert pilot.wait().code == 0
    site.check_clean()
    assert site.job(job).status == "finished"


def test_a_job_is_heard_of_while_its_input_comes(site, slow_storage):
    gate = slow_storage(site)
    site.settings["heartbeat_seconds"] = 0.2
    job = site.submit(inputs=["in.dat"])
    pilot = site.start()
    gate.wait()
    site.until(lambda: len(beats(site, job)) >= 3)
    assert site.job(job).status == "starting"
    assert site.job(job).fields["job_sub_status"] == "stage-in"
    gate.open()
    assert pilot.wait().code == 0
    site.check_clean()
    assert site.job(job).status == "finished", site.job(job).fields


def test_tobekilled_ends_the_payload_and_the_pilot_goes_on(site):
    gate = site.gate()
    site.settings["heartbeat_seconds"] = 0.2
    job = site.script(f"echo here; {gate.script}", priority=2000)
    next_job = site.submit()
    pilot = site.start("--jobs", 0)
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    assert site.server.store.kill(job)
    ended = pilot.wait()
    site.check_clean()
    assert ended.code == 0
    found = site.job(job)
    assert found.reported_state == "failed"
    assert found.fields["pilot_error_code"] == Code.PANDAKILL
    assert "tobekilled" in found.fields["pilot_error_diag"]
    assert site.log_of(job)["payload.stdout"] == b"here\n"
    assert site.job(next_job).status == "finished"


def test_tobekilled_ends_the_wait_for_input(site, slow_storage):
    gate = slow_storage(site)
    site.settings["heartbeat_seconds"] = 0.2
    job = site.submit(inputs=["in.dat"])
    pilot = site.start()
    gate.wait()
    site.until(lambda: site.job(job).status == "starting")
    assert site.server.store.kill(job)
    ended = pilot.wait()
    site.check_clean()
    assert ended.code == 0
    assert ended.says("ERROR", "stage-in", "tobekilled")
    assert site.job(job).status == "cancelled"


def test_a_command_that_this_pilot_does_not_know_is_told_once(site):
    gate = site.gate()
    site.settings["heartbeat_seconds"] = 0.2
    job = site.script(gate.script)
    pilot = site.start()
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    assert site.server.store.set_command(job, "dance; rm -rf /")[0]
    pilot.until_says("dance", "refused")
    known = len(beats(site, job))
    site.until(lambda: len(beats(site, job)) >= known + 2)
    gate.open()
    ended = pilot.wait()
    site.check_clean()
    assert len([line for line in ended.lines if "dance" in line]) == 1
    assert site.job(job).status == "finished"


@pytest.mark.parametrize("step", [-86400, 86400])
def test_a_wall_clock_that_is_wrong_changes_no_more_than_what_is_reported(site, step):
    job = site.submit()
    command = ("-m", "pilot_core.testing.pilot", "--wall-step", step, "run")
    state = site.server.state
    site.pilot |= {"cert": state.pilot_cert, "key": state.pilot_key}
    ended = site.run(command=command)
    if step < 0:
        # a certificate of today is not valid yet: that is said, and what to look at
        assert ended.code == 5
        assert "check the clock" in ended.last
    else:
        assert ended.code == 0
        assert site.job(job).status == "finished"
