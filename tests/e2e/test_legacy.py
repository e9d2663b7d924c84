"""The legacy communicator on the same server: jobs go the same way, whatever the protocol."""

from __future__ import annotations

import json

import pytest

from pilot_core import PilotErrorCode as Code


@pytest.fixture
def legacy(site):
    site.pilot["communicator"] = "panda-legacy"
    return site


def test_three_jobs_with_files_over_the_form_api(legacy):
    (legacy.storage / "in.dat").write_bytes(bytes(range(256)) * 100)
    jobs = [
        legacy.script(f"cat in.dat in.dat > {name}; echo {name}", inputs=["in.dat"], outputs=[name])
        for name in ("a.out", "b.out", "c.out")
    ]
    assert legacy.run("--jobs", 0).code == 0
    for job, name in zip(jobs, ("a.out", "b.out", "c.out"), strict=True):
        found = legacy.job(job)
        assert found.status == "finished"
        assert (legacy.storage / name).stat().st_size == 51200
        assert json.loads(found.report)[name]["fsize"] == 51200
        assert legacy.log_of(job)["payload.stdout"] == f"{name}\n".encode()


@pytest.mark.parametrize("way", ["token", "certificate"])
def test_every_kind_of_credential_works(legacy, way):
    state = legacy.server.state
    if way == "token":
        legacy.pilot |= {"cert": None, "token_file": state.token_file, "token_origin": "wlcg.production"}
    else:
        legacy.pilot |= {"cert": state.pilot_cert, "key": state.pilot_key}
    job = legacy.submit()
    assert legacy.run().code == 0
    assert legacy.job(job).status == "finished"


def test_a_job_that_fails_is_reported_with_its_reason(legacy):
    jobs = [legacy.submit(outputs=["never.out"]), legacy.script("exit 3"), legacy.submit("/bin/echo", "'unbalanced")]
    assert legacy.run("--jobs", 0).code == 0
    found = [legacy.job(job) for job in jobs]
    assert [job.status for job in found] == ["failed"] * 3
    codes = [Code.MISSINGOUTPUTFILE, Code.PAYLOADEXECUTIONFAILURE, Code.CONVERSIONFAILURE]
    assert [int(job.fields["pilot_error_code"]) for job in found] == codes
    assert "never.out was not written" in found[0].fields["pilot_error_diag"]


def test_tobekilled_ends_the_payload(legacy):
    gate = legacy.gate()
    legacy.settings["heartbeat_seconds"] = 0.2
    job = legacy.script(gate.script)
    pilot = legacy.start()
    gate.wait()
    legacy.until(lambda: legacy.job(job).status == "running")
    assert legacy.server.store.kill(job)
    assert pilot.wait().code == 0
    legacy.check_clean()
    assert int(legacy.job(job).fields["pilot_error_code"]) == Code.PANDAKILL


def test_somebody_without_the_role_is_told(legacy):
    certificate = legacy.server.user_certificate
    legacy.pilot |= {"cert": certificate.cert_file, "key": certificate.key_file}
    legacy.submit()
    ended = legacy.run()
    assert ended.code == 5
    assert "role" in ended.last
