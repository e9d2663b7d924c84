"""Payloads, servers and users that turn what a pilot stands on upside down."""

from __future__ import annotations

import signal
from dataclasses import replace


def test_a_link_in_the_place_of_the_payloads_directory_is_not_followed(site, tmp_path):
    """Neither an output nor the log may come from where it leads."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("o.out", "private.txt"):
        (elsewhere / name).write_text("canary")
    job = site.script(f'mv "$PWD" "$PWD.gone"; ln -s {elsewhere} "$PWD"', outputs=["o.out"])
    assert site.run().code == 0
    found = site.job(job)
    assert found.status == "failed"
    assert "put a link in the place of its directory" in found.fields["pilot_error_diag"]
    assert list(site.storage.iterdir()) == []
    assert sorted(path.name for path in elsewhere.iterdir()) == ["o.out", "private.txt"]


def test_a_payload_that_removes_its_records_is_told_as_such(site):
    job = site.script('rm -rf "$(dirname "$PWD")"')
    assert site.run().code == 0
    found = site.job(job)
    assert found.status == "failed"
    assert "the payload removed that directory" in found.fields["pilot_error_diag"]


def test_a_pilot_whose_work_directory_goes_away_takes_no_more_jobs(site):
    gate = site.gate()
    jobs = [site.script(gate.script), site.submit()]
    pilot = site.start("--jobs", 0)
    gate.wait()
    site.work.rename(site.folder / "moved")
    gate.open()
    ended = pilot.wait()
    assert ended.code == 2
    assert ended.last.startswith(f"pilot-core: work directory {site.work} does not exist")
    assert site.job(jobs[1]).status == "activated"


def test_a_pilot_that_cannot_report_takes_no_more_jobs(site):
    """Its server gives such a user jobs, but takes no updates of him: he would use up all that he ever submitted."""
    certificate = site.server.user_certificate
    site.pilot |= {"cert": certificate.cert_file, "key": certificate.key_file, "label": "user"}
    jobs = [site.submit(label="user", user="user") for _ in range(3)]
    ended = site.run("--jobs", 0, leaves=["spool"])
    assert ended.code == 4
    assert [site.job(job).status for job in jobs[1:]] == ["activated", "activated"]
    assert [path.name for path in (site.work / "spool").iterdir()] == [f"{jobs[0]}-1.json"]


def test_the_end_of_a_terminal_is_the_end_of_its_jobs(site):
    gate = site.gate()
    job = site.script(gate.script)
    pilot = site.start()
    gate.wait()
    pilot.signal(signal.SIGHUP)
    assert pilot.wait().code == 128 + signal.SIGHUP
    site.check_clean()
    assert site.job(job).status == "failed"
    assert "SIGHUP" in site.job(job).fields["pilot_error_diag"]


def test_under_nohup_the_end_of_a_terminal_is_none_of_a_pilots(site):
    gate = site.gate()
    job = site.script(gate.script)
    pilot = site.start(prefix=["nohup"])
    gate.wait()
    pilot.signal(signal.SIGHUP)
    gate.open()
    assert pilot.wait().code == 0
    site.check_clean()
    assert site.job(job).status == "finished"


def test_a_supervisor_that_was_stopped_still_ends_its_payload(site):
    gate = site.gate()
    job = site.script(f"kill -STOP $PPID; {gate.script}")
    pilot = site.start()
    gate.wait()
    pilot.signal(signal.SIGTERM)
    assert pilot.wait().code == 128 + signal.SIGTERM
    site.check_clean()
    assert site.job(job).status == "failed"


def test_a_secret_among_the_arguments_stays_out_of_what_the_pilot_writes(site):
    canary = "canary-of-the-user"
    job = site.script(f": {canary}", spec=lambda spec: spec_with(spec, secrets={"A": canary}))
    ended = site.run("--log-level", "debug")
    assert site.job(job).status == "finished"
    log = site.log_of(job)
    assert b"payload-starting" in log["journal.jsonl"]
    assert not [name for name, content in log.items() if canary.encode() in content]
    assert canary not in ended.text


def spec_with(spec, **extra):
    return replace(spec, extra=extra)
