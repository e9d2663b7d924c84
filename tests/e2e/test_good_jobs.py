"""Jobs that go well: what comes out of them, what the server knows of it, and what the payload is given."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import replace

import pytest


def adler32(content):
    return f"{zlib.adler32(content):08x}"


def printed_environment(site, job):
    """Return what a payload printed with `env -0`."""
    entries = site.log_of(job)["payload.stdout"].decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def test_inputs_come_in_and_outputs_go_out_byte_by_byte(site):
    content = bytes(range(256)) * 5000
    (site.storage / "in.dat").write_bytes(content)
    (site.storage / "empty.dat").write_bytes(b"")
    text = "cp in.dat copy.out; cp empty.dat empty.out; rev < /dev/null; ls -l in.dat empty.dat"
    job = site.script(text, inputs=["in.dat", "empty.dat"], outputs=["copy.out", "empty.out"])
    assert site.run().code == 0
    found = site.job(job)
    assert found.status == "finished"
    assert set(found.file_status.values()) == {"ready"}
    assert (site.storage / "copy.out").read_bytes() == content
    assert (site.storage / "empty.out").read_bytes() == b""
    report = json.loads(found.report)
    for name in ("copy.out", "empty.out", found.description["logFile"]):
        stored = (site.storage / name).read_bytes()
        assert report[name]["fsize"] == len(stored)
        assert report[name]["adler32"] == adler32(stored)
        assert report[name]["surl"] == f"file://{site.storage}/{name}"
        assert report[name]["endpoint"] == site.rse
        assert report[name]["guid"]
    assert len(report) == 3
    assert report[found.description["logFile"]]["guid"] == found.description["logGUID"]
    assert found.fields["n_input_files"] == 2
    assert "copy.out" not in site.log_of(job)


def test_an_input_is_checked_against_md5_too(site):
    (site.storage / "in.dat").write_bytes(b"bytes")
    digest = hashlib.md5(b"bytes").hexdigest()
    job = site.submit(
        "/bin/cat", "in.dat", inputs=["in.dat"], spec=lambda spec: with_files(spec, "input", checksum=f"md5:{digest}")
    )
    site.run()
    assert site.job(job).status == "finished"
    assert site.log_of(job)["payload.stdout"] == b"bytes"


def with_files(spec, kind, **values):
    files = tuple(replace(file, **values) if file.kind == kind else file for file in spec.files)
    return replace(spec, files=files)


def test_an_output_that_need_not_be_written(site):
    job = site.script(
        "echo x > there.out",
        outputs=["there.out", "absent.out"],
        spec=lambda spec: with_files(spec, "output", dispatch_token="an"),
    )
    site.run()
    found = site.job(job)
    assert found.status == "finished"
    assert found.file_status["there.out"] == "ready"
    assert found.file_status["absent.out"] == "nooutput"


def test_the_log_has_what_belongs_to_the_job_and_nothing_of_another(site):
    jobs = [
        site.script(
            f"echo out {number}; echo err {number} >&2; mkdir sub; echo more {number} > sub/more.txt; ln -s / all"
        )
        for number in range(3)
    ]
    assert site.run("--jobs", 0).code == 0
    for number, job in enumerate(jobs):
        log = site.log_of(job)
        assert set(log) == {
            *("pilot.log", "journal.jsonl", "transfers.jsonl"),
            *("payload.stdout", "payload.stderr", "sub/more.txt"),
        }
        assert log["payload.stdout"] == f"out {number}\n".encode()
        assert log["payload.stderr"] == f"err {number}\n".encode()
        assert log["sub/more.txt"] == f"more {number}\n".encode()
        lines = log["pilot.log"].decode().splitlines()
        assert lines
        assert all(f"[{job}]" in line for line in lines), lines
        steps = [json.loads(line) for line in log["journal.jsonl"].splitlines()]
        assert [step["new"] for step in steps if step["step"] == "state"] == [
            "stage-in",
            "start",
            "running",
            "stage-out",
        ]
        assert {"acquired", "payload-starting", "payload-started", "payload-ended"} <= {step["step"] for step in steps}


def test_as_many_jobs_are_taken_as_asked_for(site):
    jobs = [site.submit() for _ in range(3)]
    assert site.run("--jobs", 2).code == 0
    assert [site.job(job).status for job in jobs] == ["finished", "finished", "activated"]


def test_a_server_without_jobs_is_no_error(site):
    ended = site.run("--jobs", 0)
    assert ended.code == 0
    assert ended.says("no job for queue", site.queue)


def test_only_jobs_of_the_label_that_is_asked_for_are_taken(site):
    job = site.submit(label="user")
    site.run("--jobs", 0)
    assert site.job(job).status == "activated"
    site.run("--jobs", 0, "--label", "user")
    assert site.job(job).status == "finished"


def test_files_lie_where_rucio_would_put_them(site):
    site.settings["storages"][site.rse]["layout"] = "rucio"

    def place(scope, name):
        digest = hashlib.md5(f"{scope}:{name}".encode()).hexdigest()
        return site.storage / scope.replace(".", "/") / digest[:2] / digest[2:4] / name

    source = place("user.someone", "in.dat")
    source.parent.mkdir(parents=True)
    source.write_bytes(b"from rucio\n")
    (site.storage / "in.dat").write_bytes(b"from rucio\n")

    def scoped(spec):
        return with_files(spec, "input", scope="user.someone")

    job = site.submit("/bin/cp", "in.dat x.out", inputs=["in.dat"], outputs=["x.out"], spec=scoped)
    (site.storage / "in.dat").unlink()
    site.run()
    found = site.job(job)
    assert found.status == "finished", found.fields
    assert place("dev", "x.out").read_bytes() == b"from rucio\n"
    assert json.loads(found.report)["x.out"]["surl"] == f"file://{place('dev', 'x.out')}"
    assert place("dev", found.description["logFile"]).is_file()


def test_parameters_in_base64(site):
    job = site.submit("/bin/echo", "'two words' --flag=ÄÖ", special="ej")
    assert base64.b64decode(site.job(job).description["jobPars"]).decode().startswith("'two words'")
    site.run()
    assert site.log_of(job)["payload.stdout"].decode() == "two words --flag=ÄÖ\n"


def test_no_shell_sees_the_parameters(site):
    job = site.submit("/bin/echo", "$HOME `id` ; echo 'x  y' > /dev/null *")
    site.run()
    assert site.log_of(job)["payload.stdout"] == b"$HOME `id` ; echo x  y > /dev/null *\n"
    assert json.loads(site.job(job).metadata)["pilot"]["shell"] is False


def test_a_shell_sees_them_where_the_queue_wants_it_and_the_record_says_so(site):
    site.settings["shell"] = True
    job = site.submit("echo", "$((2 + 3)) | tr 5 6; echo end")
    site.run()
    assert site.log_of(job)["payload.stdout"] == b"6\nend\n"
    assert json.loads(site.job(job).metadata)["pilot"]["shell"] is True


def test_a_transformation_from_an_allowed_url(site):
    script = site.server.state.transformations / f"{site.queue}.sh"
    script.write_text('#!/bin/sh\necho "from the server: $*"\n')
    site.settings["transformation_urls"] = [f"{site.server.url}/trf"]
    job = site.submit(f"{site.server.url}/trf/{script.name}", "'a b' c")
    site.run()
    assert site.job(job).status == "finished", site.job(job).fields
    assert site.log_of(job)["payload.stdout"] == b"from the server: a b c\n"


@pytest.mark.parametrize("way", ["token", "certificate", "proxy"])
def test_every_kind_of_credential(site, way):
    state = site.server.state
    if way == "token":
        site.pilot |= {"cert": None, "token_file": state.token_file, "token_origin": "wlcg.production"}
    elif way == "certificate":
        site.pilot |= {"cert": state.pilot_cert, "key": state.pilot_key}
    else:
        site.pilot |= {"cert": state.pilot_proxy}
    job = site.submit()
    assert site.run().code == 0
    assert site.job(job).status == "finished"


def test_settings_come_from_the_environment_too(site):
    variables = {f"PILOT_CORE_{name.upper()}": str(site.pilot.pop(name)) for name in list(site.pilot)}
    job = site.submit()
    assert site.run(env=variables).code == 0
    assert site.job(job).status == "finished"


def test_the_payload_gets_an_environment_of_its_own(site):
    secret = "canary-of-the-environment"
    poison = {
        "PILOT_CORE_PROXY": "",
        "PILOT_CORE_LOG_LEVEL": "info",
        "X509_USER_PROXY": f"/tmp/{secret}",
        "X509_USER_CERT": secret,
        "BEARER_TOKEN": secret,
        "BEARER_TOKEN_FILE": secret,
        "OIDC_AUTH_TOKEN": secret,
        "LD_PRELOAD": "",
        "PYTHONPATH": "/nonexistent",
        "LANG": "C.UTF-8",
        "LC_TIME": "C",
        "SITE_THING": "passed on",
        "OTHER_THING": "not",
    }
    site.settings["environment"] |= {"FROM_THE_QUEUE": "yes"}
    site.settings["pass_environment"] = ["SITE_*", "PILOT_CORE_*"]
    job = site.submit("/usr/bin/env", "-0", task_id=4711)
    assert site.run(env=poison).code == 0
    found = printed_environment(site, job)
    assert found == {
        "PATH": site.environment["PATH"],
        "LANG": "C.UTF-8",
        "LC_TIME": "C",
        "HOME": found["PWD"],
        "TMPDIR": found["PWD"],
        "PWD": found["PWD"],
        "PandaID": str(job),
        "PanDA_TaskID": "4711",
        "PanDA_AttemptNr": "1",
        "PANDA_RESOURCE": site.queue,
        "CORE_COUNT": "1",
        "FROM_THE_QUEUE": "yes",
        "SITE_THING": "passed on",
        "E2E_SITE": site.queue,
    }
    assert found["PWD"].startswith(f"{site.work}/job-{job}-")
    assert found["PWD"].endswith("/payload")


def test_the_payload_starts_in_its_own_directory_with_nothing_to_read_and_no_descriptors(site):
    job = site.script("pwd; cat; ls /proc/self/fd; cut -d ' ' -f 5,6 /proc/$$/stat; echo $$")
    site.run()
    pwd, *descriptors, group, pid = site.log_of(job)["payload.stdout"].decode().splitlines()
    assert pwd.startswith(f"{site.work}/job-{job}-")
    assert descriptors == ["0", "1", "2", "3"]  # the last is that of ls itself
    assert group.split() == [pid, pid], "not a process group and session of its own"


def test_what_a_payload_starts_and_waits_for_belongs_to_it(site):
    job = site.script("(echo late; echo x > late.out) & wait", outputs=["late.out"])
    site.run()
    assert site.job(job).status == "finished"


def test_times_of_the_phases_and_resources_are_reported(site):
    job = site.submit("/bin/sh", "-c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done'")
    site.run()
    found = site.job(job)
    pilot = json.loads(found.metadata)["pilot"]
    assert {"get-job", "stage-in", "payload", "stage-out", "log"} <= set(pilot["phases"])
    assert pilot["payload"]["exit_code"] == 0
    assert pilot["payload"]["user_seconds"] + pilot["payload"]["system_seconds"] > 0
    assert found.fields["max_rss"] > 0
    assert found.fields["cpu_consumption_unit"] == "s"
    assert len(found.fields["pilot_timing"].split("|")) == 6
    assert found.fields["start_time"] <= found.fields["end_time"]


def test_the_directories_of_jobs_stay_where_that_is_wanted(site):
    job = site.submit()
    ended = site.start("--keep-job-dirs").wait()
    assert ended.code == 0
    (folder,) = site.work.glob("job-*")
    assert folder.name.startswith(f"job-{job}-")
    steps = [json.loads(line)["step"] for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert steps[-3:] == ["report-ready", "report-acknowledged", "state"]


def test_harvester_hears_of_its_worker(site):
    site.submit()
    site.run("--harvester-id", site.queue, "--worker-id", 12)
    (worker,) = [found for found in site.server.store.workers() if found["harvester"] == site.queue]
    assert worker["worker"] == "12"
    assert worker["status"] == "finished"
    assert worker["started"]
    assert worker["ended"]


def test_the_node_is_described_where_that_is_wanted(site):
    site.run("--report-node", "--node", f"slot1@{site.queue}.example")
    (node,) = [found for found in site.server.store.worker_nodes() if found["host"] == f"{site.queue}.example"]
    assert node["data"]
