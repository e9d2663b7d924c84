"""Jobs that cannot work, all taken by one pilot: each is reported with its own reason, and the pilot goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pilot_devserver.jobfile import InputTemplate

from pilot_core import PilotErrorCode as Code
from pilot_core.testing.scripted import Answer, ScriptedServer
from pilot_core.testing.tls import TestAuthority

CONTENT = b"some bytes\n"


def described(**values):
    """Change a job's description as it is handed out."""
    return {"spec": lambda job: replace(job, extra=values)}


def files(kind, **values):
    """Change the attributes of a job's files of a kind."""
    return {
        "spec": lambda job: replace(
            job, files=tuple(replace(file, **values) if file.kind == kind else file for file in job.files)
        )
    }


@dataclass
class Bad:
    """A job that fails."""

    code: int
    says: tuple[str, ...]
    """Words of the reason: what, and what to do."""
    submit: Callable[[Any], int]
    ran: bool = False
    """Whether its payload ran."""


JOBS = {
    "no transformation": Bad(
        Code.TRANSFORMNOTFOUND,
        ("names no program", "defined anew"),
        lambda site: site.submit(spec=lambda job: replace(job, transformation=None)),
    ),
    "quotes without end": Bad(
        Code.CONVERSIONFAILURE, ("jobPars", "quotes"), lambda site: site.submit("/bin/echo", "'x", inputs=["in.dat"])
    ),
    "a NUL in the parameters": Bad(
        Code.CONVERSIONFAILURE,
        ("jobPars", "NUL", "defined anew"),
        lambda site: site.submit(**described(jobPars="a\0b")),
    ),
    "lists of different lengths": Bad(
        Code.NOTSAMELENGTH,
        ("fsize", "3 entries", "1 file", "defined anew"),
        lambda site: site.submit(inputs=["in.dat"], **described(fsize="1,2,3")),
    ),
    "preprocess": Bad(
        Code.NOTIMPLEMENTED,
        ("preprocess", "another queue"),
        lambda site: site.submit(**described(preprocess={"command": "x", "args": ""})),
    ),
    "a container": Bad(
        Code.NOTIMPLEMENTED,
        ("container", "another queue"),
        lambda site: site.submit(**described(container_name="docker://alpine")),
    ),
    "an input that does not exist": Bad(
        Code.MISSINGINPUTFILE,
        ("absent.dat", "No such file", "bring it there"),
        lambda site: site.submit(inputs=[InputTemplate(lfn="absent.dat", size=3)]),
    ),
    "an input with another checksum": Bad(
        Code.GETADMISMATCH,
        ("in.dat", "00000001", "catalogue"),
        lambda site: site.submit(inputs=[InputTemplate(path=site.storage / "in.dat", checksum="ad:00000001")]),
    ),
    "an input of another size": Bad(
        Code.GETADMISMATCH,
        ("in.dat", "11 bytes", "says 3", "catalogue"),
        lambda site: site.submit(inputs=[InputTemplate(path=site.storage / "in.dat", size=3)]),
    ),
    "an input of nowhere": Bad(
        Code.NOSTORAGEPROTOCOL,
        ("in.dat", "no storage", "add [queues.", "NOWHERE"),
        lambda site: site.submit(inputs=["in.dat"], **files("input", endpoint="NOWHERE")),
    ),
    "an input name that leads out of the job's directory": Bad(
        Code.CONVERSIONFAILURE,
        ("../in.dat", "file name", "defined anew"),
        lambda site: site.submit(inputs=["in.dat"], **files("input", lfn="../in.dat")),
    ),
    "an output name that leads out of the job's directory": Bad(
        Code.BADOUTPUTFILENAME,
        ("../x.out", "file name", "defined anew"),
        lambda site: site.script("echo x > ../x.out", outputs=["x.out"], **files("output", lfn="../x.out")),
    ),
    "an output that was not written": Bad(
        Code.MISSINGOUTPUTFILE,
        ("a.out", "not written", "its log"),
        lambda site: site.submit(outputs=["a.out"]),
        ran=True,
    ),
    "an output that is a link": Bad(
        Code.MISSINGOUTPUTFILE,
        ("b.out", "link", "plain file"),
        lambda site: site.script("ln -s /etc/passwd b.out", outputs=["b.out"]),
        ran=True,
    ),
    "an output that is a pipe": Bad(
        Code.MISSINGOUTPUTFILE,
        ("c.out", "plain file"),
        lambda site: site.script("mkfifo c.out", outputs=["c.out"]),
        ran=True,
    ),
    "an output that is a directory": Bad(
        Code.MISSINGOUTPUTFILE,
        ("d.out", "plain file"),
        lambda site: site.script("mkdir d.out", outputs=["d.out"]),
        ran=True,
    ),
    "one output of two that was not written": Bad(
        Code.MISSINGOUTPUTFILE,
        ("f.out", "not written"),
        lambda site: site.script("echo x > e.out", outputs=["e.out", "f.out"]),
        ran=True,
    ),
    "a storage that may not be written": Bad(
        Code.STAGEOUTAUTHENTICATIONFAILURE,
        ("g.out", "Permission denied", "needs access"),
        lambda site: site.script("echo x > g.out", outputs=["g.out"], **files("output", endpoint="SEALED")),
        ran=True,
    ),
    "a transformation from elsewhere": Bad(
        Code.TRFDOWNLOADFAILURE,
        ("elsewhere.example", "allows", "transformation_urls"),
        lambda site: site.submit("https://elsewhere.example/trf/x.sh"),
    ),
    "a transformation over plain http": Bad(
        Code.TRFDOWNLOADFAILURE,
        ("http://", "allows", "transformation_urls"),
        lambda site: site.submit(site.server.url.replace("https", "http") + "/trf/x.sh"),
    ),
    "a transformation that is not there": Bad(
        Code.TRFDOWNLOADFAILURE,
        ("none.sh", "404"),
        lambda site: site.submit(site.server.url + "/trf/none.sh"),
    ),
    "a transformation that has moved": Bad(
        Code.TRFDOWNLOADFAILURE,
        ("moved.sh", "302", "redirects are not followed"),
        lambda site: site.submit(site.other_url + "/trf/moved.sh"),
    ),
    "a program that is not there": Bad(
        Code.TRANSFORMNOTFOUND,
        ("/no/such/program", "No such file", "install it"),
        lambda site: site.submit("/no/such/program"),
        ran=True,
    ),
    "a program that is none": Bad(
        Code.PAYLOADEXECUTIONEXCEPTION,
        ("cannot execute", "Permission denied", "correct the job's transformation"),
        lambda site: site.submit("/etc/passwd"),
        ran=True,
    ),
    "a payload that fails": Bad(
        Code.PAYLOADEXECUTIONFAILURE,
        ("exited with 3", "payload.stderr"),
        lambda site: site.script("echo what went wrong >&2; exit 3"),
        ran=True,
    ),
    "a payload that is killed": Bad(
        Code.PAYLOADEXECUTIONFAILURE, ("SIGKILL",), lambda site: site.script("kill -9 $$"), ran=True
    ),
    "a payload that crashes": Bad(Code.PAYLOADSIGSEGV, ("SIGSEGV",), lambda site: site.script("kill -11 $$"), ran=True),
}


@dataclass
class Ran:
    """The pilot that ran them all."""

    site: Any
    ended: Any
    ids: dict[str, int]
    good: int
    """A job that was submitted as the last, and is good."""


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """A server that sends whoever asks elsewhere, and its authority."""
    authority = TestAuthority(tmp_path_factory.mktemp("authority"))
    with ScriptedServer(tls=authority.server_context()) as server:
        server.script.append(Answer(status=302, headers={"Location": "/trf/x.sh"}))
        yield server, authority.ca_file


@pytest.fixture(scope="module")
def ran(module_site, unprivileged, moved):
    site = module_site
    server, ca_file = moved
    site.other_url = f"https://127.0.0.1:{server.port}"
    both = site.folder / "authorities.pem"
    both.write_bytes(site.server.ca_file.read_bytes() + ca_file.read_bytes())
    site.pilot["ca_file"] = both
    sealed = site.folder / "sealed"
    sealed.mkdir(mode=0o555)
    site.settings["read"] = []
    site.settings["transformation_urls"] = [site.server.url + "/trf", site.other_url + "/trf"]
    site.settings["storages"]["SEALED"] = {"url": f"file://{sealed}"}
    (site.storage / "in.dat").write_bytes(CONTENT)
    ids = {name: bad.submit(site) for name, bad in JOBS.items()}
    good = site.submit()
    return Ran(site, site.run("--jobs", 0, prefix=unprivileged), ids, good)


@pytest.mark.parametrize("name", JOBS)
def test_a_bad_job_is_reported_with_its_reason(ran, name):
    bad, job = JOBS[name], ran.site.job(ran.ids[name])
    assert job.status == job.reported_state == "failed"
    assert job.fields["pilot_error_code"] == bad.code
    reason = job.fields["pilot_error_diag"]
    assert not [word for word in bad.says if word not in reason], reason
    assert not job.errors, "the server found the report itself wrong"


@pytest.mark.parametrize("name", JOBS)
def test_the_log_of_a_bad_job_comes_out_and_says_why(ran, name):
    job = ran.site.job(ran.ids[name])
    assert list(json.loads(job.report)) == [job.description["logFile"]]
    log = ran.site.log_of(job.id)
    assert job.fields["pilot_error_diag"] in log["pilot.log"].decode()
    assert ("payload.stdout" in log) == JOBS[name].ran


@pytest.mark.parametrize("name", JOBS)
def test_one_line_tells_of_a_bad_job(ran, name):
    told = [line for line in ran.ended.of_level("ERROR") if f"[{ran.ids[name]}]" in line.split()]
    assert len(told) == 1, told


def test_no_other_line_does(ran):
    assert len(ran.ended.of_level("ERROR")) == len(JOBS)


def test_nothing_of_a_bad_job_stays_on_the_storages(ran):
    logs = {ran.site.job(job).description["logFile"] for job in (*ran.ids.values(), ran.good)}
    assert {path.name for path in ran.site.storage.iterdir()} == {"in.dat", *logs}
    assert (ran.site.storage / "in.dat").read_bytes() == CONTENT


def test_the_pilot_goes_on_to_the_next_job_and_has_not_failed_itself(ran):
    assert ran.site.job(ran.good).status == "finished"
    assert ran.ended.code == 0


def test_what_the_payload_said_is_in_the_log(ran):
    assert ran.site.log_of(ran.ids["a payload that fails"])["payload.stderr"] == b"what went wrong\n"


def test_the_payloads_own_exit_is_reported_beside_the_pilots_code(ran):
    exits = {name: ran.site.job(number).fields.get("trans_exit_code") for name, number in ran.ids.items()}
    assert exits["a payload that fails"] == "3"
    assert exits["a payload that is killed"] == "137"
    assert exits["an output that was not written"] == "0"
    assert exits["an input that does not exist"] is None
