"""A pilot that asks a real Rucio where inputs lie and outputs go, enters them, and tells how transfers went."""

import json
import subprocess
import sys
import zlib

import pytest

from pilot_core import deterministic_path
from pilot_core.testing.servers.rucio import NEEDS, KnownFile

pytestmark = pytest.mark.needs(NEEDS)

DATA = b"what the payload reads\n"
ADLER = f"{zlib.adler32(DATA):08x}"

CONFIG = """
[catalog.rucio]
url = "{url}"
account = "root"
username = "{user}"
password_file = "{password}"
ca_file = "{ca}"
attach = true
traces = true

[queues.HERE]
catalog = "rucio"
register_outputs = true
allow_wan = true
write = ["OUT_DISK"]
"""
JOB = f"""
id = 4711
task_id = 815
label = "managed"
transformation = "/bin/cp"
parameters = "in.root out.root"

[[inputs]]
lfn = "in.root"
scope = "data26"
size = {len(DATA)}
checksum = "adler32:{ADLER}"

[[outputs]]
lfn = "out.root"
scope = "user.pilot"
dataset = "user.pilot.out"
rse = "OUT_DISK"

[log]
lfn = "log.tgz"
scope = "user.pilot"
guid = "0A1B2C3D-4E5F-4678-9ABC-000000000099"
rse = "OUT_DISK"
"""


@pytest.fixture
def site(server, tmp_path):
    """Two replicas, the near one corrupt, and a storage for outputs: only Rucio knows of them."""
    path = deterministic_path("data26", "in.root")
    for name, data in (("near", b"?" * len(DATA)), ("far", DATA)):
        file = tmp_path / name / path
        file.parent.mkdir(parents=True)
        file.write_bytes(data)
    (tmp_path / "out").mkdir()
    server.rse("SPOILT_DISK", f"file://{tmp_path}/near", site="HERE")
    server.rse("GOOD_DISK", f"file://{tmp_path}/far", site="THERE")
    server.rse("OUT_DISK", f"file://{tmp_path}/out", site="HERE")
    places = [("SPOILT_DISK", ""), ("GOOD_DISK", "")]
    server.file(KnownFile(scope="data26", lfn="in.root", size=len(DATA), adler32=ADLER, places=places))
    server.dataset("user.pilot", "user.pilot.out")
    told = {"url": server.url, "user": server.user, "password": server.folder / "password"}
    (tmp_path / "site.toml").write_text(CONFIG.format(**told, ca=server.authority.ca_file))
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


@pytest.fixture
def run_job(site):
    def run(*options):
        command = [
            sys.executable,
            "-m",
            "pilot_core",
            "run-job",
            "job.toml",
            "--config",
            "site.toml",
            "--queue",
            "HERE",
        ]
        return subprocess.run([*command, *options], cwd=site, capture_output=True, text=True, check=False)

    return run


def test_a_job_is_served_by_rucio_alone(server, site, run_job):
    done = run_job("--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["state"] == "finished"
    place = site / "out" / deterministic_path("user.pilot", "out.root")
    assert place.read_bytes() == DATA
    listed = server.native(
        "asked = [{'scope': 'user.pilot', 'name': name} for name in ('out.root', 'log.tgz')]\n"
        "rows = list(client.list_replicas(asked, schemes=['file']))\n"
        "content = [row['name'] for row in client.list_content('user.pilot', 'user.pilot.out')]\n"
        "result = {**{row['name']: [row['bytes'], row['adler32'], *row['rses']] for row in rows}, 'content': content}"
    )
    assert listed["out.root"] == [len(DATA), ADLER, "OUT_DISK"]
    assert listed["log.tgz"][2] == "OUT_DISK"
    assert listed["content"] == ["out.root"]
    traces = server.traces()
    assert {(trace["appid"], trace["pq"], trace["localSite"]) for trace in traces} == {("4711", "HERE", "HERE")}
    told = {(trace["eventType"], trace["filename"], trace["remoteSite"], trace["clientState"]) for trace in traces}
    assert {
        ("get_sm", "in.root", "SPOILT_DISK", "FAILED_ChecksumMismatch"),
        ("get_sm", "in.root", "GOOD_DISK", "DONE"),
        ("put_sm", "out.root", "OUT_DISK", "DONE"),
        ("put_sm", "log.tgz", "OUT_DISK", "DONE"),
    } <= told


def test_a_file_that_rucio_does_not_know_is_told_as_such(site, run_job):
    (site / "job.toml").write_text(JOB.replace("in.root", "nobodys.root"))
    done = run_job("--json")
    assert done.returncode == 1, done.stderr
    assert "the catalogue knows no replica of it" in done.stdout


def test_the_explanation_names_what_rucio_knows(site, run_job):
    done = run_job("--explain")
    assert done.returncode == 0, done.stderr
    assert f"{site}/far/" in done.stdout
    assert "password" not in done.stdout
