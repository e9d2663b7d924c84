"""Disks that become full while a job runs: the work directory's, and the storage's."""

from __future__ import annotations

from dataclasses import replace

from pilot_core import PilotErrorCode as Code


def run_in_little_room(site, on_small_disk):
    """Run all jobs in a work directory of four MB, of which nothing is used in the end."""
    ended = site.run("--jobs", 0, "--min-free-mb", 1, prefix=on_small_disk(site.work, "4m"))
    assert on_small_disk.left() == []
    assert ended.code == 0
    return ended


def test_a_payload_that_fills_the_disk_is_told_as_such_and_its_log_comes_out(site, on_small_disk):
    job, next_job = site.script("cat /dev/zero > big"), site.submit()
    run_in_little_room(site, on_small_disk)
    found = site.job(job)
    assert found.status == "failed"
    assert found.fields["pilot_error_code"] == Code.NOLOCALSPACE
    assert "the work directory is full: make room" in found.fields["pilot_error_diag"]
    assert found.fields["trans_exit_code"] == "1"
    log = site.log_of(job)
    assert b"the payload runs: /bin/sh" in log["pilot.log"]
    assert "big" not in log
    assert site.job(next_job).status == "finished"


def test_an_input_that_does_not_fit(site, on_small_disk):
    (site.storage / "large.dat").write_bytes(b"x" * 8_000_000)
    job, next_job = site.submit(inputs=["large.dat"]), site.submit()
    run_in_little_room(site, on_small_disk)
    found = site.job(job)
    assert found.status == "failed"
    assert found.fields["pilot_error_code"] == Code.NOLOCALSPACE
    assert "large.dat" in found.fields["pilot_error_diag"]
    assert "make room there" in found.fields["pilot_error_diag"]
    assert site.job(next_job).status == "finished"


def test_a_storage_that_is_full_gets_all_outputs_or_none(site, on_small_disk):
    small = site.folder / "small"
    small.mkdir()
    site.settings["storages"]["SMALL"] = {"url": f"file://{small}"}

    def to_small(job):
        return replace(
            job,
            files=tuple(replace(file, endpoint="SMALL") if file.kind == "output" else file for file in job.files),
        )

    text = "head -c 1000 /dev/zero > small.out; head -c 5000000 /dev/zero > large.out"
    job = site.script(text, outputs=["small.out", "large.out"], spec=to_small)
    assert site.run(prefix=on_small_disk(small, "1m")).code == 0
    found = site.job(job)
    assert found.status == "failed"
    assert found.fields["pilot_error_code"] == Code.NOREMOTESPACE
    assert "large.out" in found.fields["pilot_error_diag"]
    assert "make room there" in found.fields["pilot_error_diag"]
    assert on_small_disk.left() == []
    assert found.description["logFile"] in found.report
