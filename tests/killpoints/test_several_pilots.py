"""Several pilots in one work directory, of which some are killed, and a server that sends a job twice."""

from __future__ import annotations

import signal

import pytest

KILLED = ("acquired:after", "payload-starting:effect", "payload-started:after", "stored:after", "report-ready:after")
"""Where pilots are killed one after the other, each with a job of its own."""


def start_killed(site, where):
    """Start a pilot that is killed there, in the job that it takes or in one that it takes over."""
    return site.start("--jobs", 1, command=("-m", "pilot_core.testing.pilot", "--kill-at", where, "run"))


def wait_killed(pilot):
    ended = pilot.wait()
    assert ended.code == -signal.SIGKILL, ended.text


def submit(site, name):
    return site.script(f"echo {name} >> {site.folder}/runs; echo {name} > {name}.out", outputs=[f"{name}.out"])


def runs(site):
    file = site.folder / "runs"
    return sorted(file.read_text().split()) if file.exists() else []


def check(site, jobs):
    """See that each job was run once and reported once, with its own output."""
    assert runs(site) == sorted(jobs)
    for name, job in jobs.items():
        found = site.job(job)
        assert [status for _, status in found.history if status in {"finished", "failed"}] == ["finished"], name
        assert (site.storage / f"{name}.out").read_text() == f"{name}\n"
        assert "pilot.log" in site.log_of(job)
    site.check_clean()


def test_jobs_that_several_pilots_left_are_each_gone_on_with_by_one_of_several(site):
    """All begin at once, also those that are killed: what one has taken over no other one touches."""
    jobs = {name: submit(site, name) for name in (f"job{number}" for number in range(len(KILLED)))}
    killed = [start_killed(site, where) for where in KILLED]
    for pilot in killed:
        wait_killed(pilot)
    later = [site.start("--jobs", 0) for _ in range(4)]
    texts = []
    for pilot in later:
        ended = pilot.wait()
        print(ended.text)
        texts.append(ended.text)
        assert ended.code == 0
    check(site, jobs)
    for job in jobs.values():
        assert sum(f"job {job} of a pilot before this one is taken over" in text for text in texts) <= 1


@pytest.mark.parametrize("where", ["acquired:after", "payload-started:after", "stored:after", "report-ready:after"])
def test_a_dead_pilots_job_that_is_sent_to_a_living_one_is_run_once(site, where):
    """The living one refuses what this node has had; the next pilot to begin brings it to its end."""
    gate = site.gate()
    other = site.script(
        f"{gate.script}; echo other >> {site.folder}/runs; echo other > other.out", outputs=["other.out"]
    )
    living = site.start("--jobs", 2)
    gate.wait()
    jobs = {"other": other, "one": submit(site, "one")}
    wait_killed(start_killed(site, where))
    assert site.job(jobs["one"]).status in {"sent", "starting", "running"}
    duplicate = site.server.fault("duplicate-dispatch", job=jobs["one"], queue=site.queue)
    gate.open()
    ended = living.wait()
    print(ended.text)
    assert duplicate.fired == 1
    assert ended.says(f"job {jobs['one']} was sent again, and is not run again")
    assert ended.code == 4
    recovered = site.start("--jobs", 1).wait()
    print(recovered.text)
    assert recovered.code == 0
    check(site, jobs)


def test_a_job_that_is_sent_to_a_second_pilot_while_the_first_one_has_it_is_left_to_the_first(site):
    gate = site.gate()
    job = site.script(f"echo one >> {site.folder}/runs; {gate.script}; echo one > one.out", outputs=["one.out"])
    first = site.start("--jobs", 1)
    gate.wait()
    site.until(lambda: site.job(job).status == "running")
    site.server.fault("duplicate-dispatch", job=job, queue=site.queue)
    second = site.start("--jobs", 1).wait()
    assert second.code == 4
    assert second.says("was sent again, and is not run again")
    gate.open()
    assert first.wait().code == 0
    check(site, {"one": job})
