"""Recording real pilots, and replaying them: everything is as it was, and what is not is said with its place."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from e2e_recordings import REFUSED, SITUATIONS, record

from pilot_core import BadInput
from pilot_core.replay import replay
from pilot_core.testing.recordings import assert_replays

KEPT = sorted(name for name, situation in SITUATIONS.items() if situation.kept)
RECORDINGS = Path(__file__).parent / "recordings"


def command(*words):
    """Run `pilot-core`; returns exit code, standard output and standard error."""
    argv = [sys.executable, "-m", "pilot_core", *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def kept(tmp_path):
    """Copy a recording that lies beside the tests, to be spoilt; returns its directory."""

    def copy(name):
        shutil.copytree(RECORDINGS / name, tmp_path / name)
        return tmp_path / name

    return copy


def edit_har(folder, change):
    """Change the entries of a recording's HAR."""
    path = folder / "traffic.har"
    har = json.loads(path.read_text())
    change(har["log"]["entries"])
    path.write_text(json.dumps(har))


def edit_body(entry, change):
    """Change the JSON object of a recorded request."""
    value = json.loads(entry["request"]["postData"]["text"])
    change(value)
    entry["request"]["postData"]["text"] = json.dumps(value)


# -- recorded, and the same again --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_was_recorded_replays(own_or_shared, tmp_path, name):
    situation = SITUATIONS[name]
    recording = tmp_path / "recording"
    ended = record(own_or_shared(situation), situation, recording)
    assert ended.code == situation.exit_code, ended.text
    result = assert_replays(recording)
    assert result.exchanges == result.of > 0
    assert result.exit_code == situation.exit_code
    assert_replays(recording, strict=False)


@pytest.fixture
def own_or_shared(request):
    """A site: on a server of its own where a fault meets every connection, whoever makes it."""

    def choose(situation):
        return request.getfixturevalue("lonely_site" if situation.fault == REFUSED else "site")

    return choose


@pytest.fixture
def lonely_site(tmp_path):
    from e2e_site import a_site
    from pilot_devserver.devserver import DevServer

    with DevServer(tmp_path / "server", adder_delay=0.0) as server, a_site(server, tmp_path) as made:
        yield made


@pytest.mark.parametrize("name", KEPT)
def test_the_recordings_beside_the_tests_replay(name):
    result = assert_replays(RECORDINGS / name)
    assert result.exchanges == result.of >= 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_pilot_that_was_told_to_end_is_told_again(site, tmp_path, number):
    gate = site.gate()
    site.script(gate.script)
    pilot = site.start("--record", tmp_path / "recording")
    gate.wait()
    pilot.signal(number)
    assert pilot.wait().code == 128 + number
    assert assert_replays(tmp_path / "recording").exit_code == 128 + number


def test_a_pilot_that_was_killed_leaves_a_recording_that_replays_as_far_as_it_goes(site, tmp_path):
    recording = tmp_path / "recording"
    gate = site.gate()
    site.submit()
    site.script(gate.script)
    pilot = site.start("--jobs", 0, "--record", recording)
    gate.wait()
    pilot.signal(signal.SIGKILL)
    gate.open()
    site.no_processes()
    pilot.kill()
    entries = json.loads((recording / "traffic.har").read_text())["log"]["entries"]
    result = assert_replays(recording)
    assert result.broke_off
    assert result.jobs == 2
    assert result.exchanges == result.of == len(entries)


def test_payloads_and_transfers_can_be_real_again(site, tmp_path):
    site.script("echo hello > a.out", outputs=["a.out"])
    assert site.run("--record", tmp_path / "recording").code == 0
    (site.storage / "a.out").unlink()
    assert_replays(tmp_path / "recording", real=True)
    assert (site.storage / "a.out").read_text() == "hello\n"
    (site.storage / "a.out").unlink()
    assert_replays(tmp_path / "recording")
    assert not (site.storage / "a.out").exists()


def test_extensions_need_not_be_there_for_a_replay(site, tmp_path):
    folder = tmp_path / "plugins"
    info = folder / "shaping-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pilot-extension-shaping\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pilot_core.plugins.v1]\nextension.shaping = shaping\n")
    (folder / "shaping.py").write_text(
        "from pilot_core import Diagnosis, PayloadCommand, hookimpl\n\n\n"
        "@hookimpl\ndef pilot_wrap_command(command):\n"
        "    return PayloadCommand(argv=('/usr/bin/env', *command.argv), environment=command.environment)\n\n\n"
        "@hookimpl\ndef pilot_collect_metadata(payload):\n    return {'shape': 'round'}\n\n\n"
        "@hookimpl\ndef pilot_diagnose_failure(payload):\n"
        "    return Diagnosis(error_code=1305, message='too round', payload_error_code=77, payload_error='oh')\n"
    )
    site.tables["plugins"] = {"paths": [str(folder)]}
    job = site.script("exit 1")
    assert site.run("--record", tmp_path / "recording").code == 0
    assert "too round" in site.job(job).fields["pilot_error_diag"]
    shutil.rmtree(folder)
    assert_replays(tmp_path / "recording")


SPEAKS_NO_HTTP = '''
import json
from pathlib import Path

from pilot_core import Job, Provider, ServerAnswer, hookimpl

JOBS = [Job(id=5, attempt=1, transformation="/bin/true"), Job(id=6, attempt=1, transformation="/bin/false")]


class Drop:
    """Gives two jobs, and keeps what it is told in a file."""

    def __init__(self, settings, context):
        self.jobs = list(JOBS)

    def acquire(self, request, *, cancel, deadline):
        return [self.jobs.pop(0)] if self.jobs else []

    def update(self, update, *, cancel, deadline):
        with open(Path(__file__).parent / "told", "a") as stream:
            print(json.dumps(update.to_json()), file=stream)
        return ServerAnswer()

    def close(self):
        pass


@hookimpl
def pilot_communicators():
    yield Provider(name="drop", factory=Drop)
'''


@pytest.fixture
def drop(site, tmp_path):
    """A site whose communicator speaks no HTTP."""
    folder = tmp_path / "plugins"
    info = folder / "drop-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pilot-communicator-drop\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pilot_core.plugins.v1]\ncommunicator.drop = drop\n")
    (folder / "drop.py").write_text(SPEAKS_NO_HTTP)
    site.tables["plugins"] = {"paths": [str(folder)]}
    site.pilot["communicator"] = "drop"
    return site


def test_a_communicator_without_http_is_replayed_by_its_calls(drop, tmp_path):
    recording = tmp_path / "recording"
    assert drop.run("--jobs", 0, "--record", recording).code == 0
    told = (tmp_path / "plugins/told").read_text()
    assert assert_replays(recording).jobs == 2
    assert (tmp_path / "plugins/told").read_text() == told
    events = (recording / "events.jsonl").read_text()
    (recording / "events.jsonl").write_text(
        events.replace('"transformation": "/bin/false"', '"transformation": "/bin/no"')
    )
    (first, *_) = replay(recording).divergences
    assert (first.about, first.field) == ("command", "before[0]")
    (recording / "events.jsonl").write_text(events.replace('"state": "finished"', '"state": "failed"'))
    (first, *_) = replay(recording).divergences
    assert (first.about, first.field, first.recorded, first.now) == ("update", "request.state", "failed", "finished")


# -- what is not the same ----------------------------------------------------------------------------------------------


def test_a_changed_field_is_named_with_its_exchange(kept):
    folder = kept("two-jobs")

    def change(entries):
        edit_body(entries[-2], lambda body: body.update(pilot_error_code=1234))

    edit_har(folder, change)
    (only,) = replay(folder).divergences
    assert only.about == "POST /api/v1/pilot/update_job"
    assert (only.field, only.recorded, only.now) == ("body.pilot_error_code", "1234", "1305")
    entries = json.loads((folder / "traffic.har").read_text())["log"]["entries"]
    assert only.place == f"exchange {len(entries) - 1}"


def test_a_field_inside_of_a_text_is_named_by_its_path(kept):
    folder = kept("finished")

    def change(entries):
        def inside(body):
            report = json.loads(body["job_output_report"])
            report["doubled.out"]["fsize"] += 1
            body["job_output_report"] = json.dumps(report)

        edit_body(entries[-1], inside)

    edit_har(folder, change)
    (only,) = replay(folder).divergences
    assert (only.field, only.recorded, only.now) == ("body.job_output_report.doubled.out.fsize", "8001", "8000")


def test_what_is_volatile_may_change_its_value_but_not_its_kind(kept):
    folder = kept("finished")
    edit_har(folder, lambda entries: edit_body(entries[-1], lambda body: body.update(node="other", max_rss=1)))
    assert replay(folder).same
    edit_har(folder, lambda entries: edit_body(entries[-1], lambda body: body.update(max_rss="much")))
    (only,) = replay(folder).divergences
    assert (only.field, only.recorded) == ("body.max_rss", "much (text)")
    edit_har(folder, lambda entries: edit_body(entries[-1], lambda body: body.pop("max_rss")))
    (only,) = replay(folder).divergences
    assert (only.field, only.recorded) == ("body.max_rss", "(not there)")


def test_a_request_that_is_not_recorded_is_told(kept):
    folder = kept("finished")
    edit_har(folder, lambda entries: entries.pop())
    first = replay(folder).divergences[0]
    assert (first.field, first.recorded, first.now) == ("request", "(nothing)", "POST /api/v1/pilot/update_job")


def test_a_request_that_is_not_made_is_told(kept):
    folder = kept("finished")

    def change(entries):
        again = json.loads(json.dumps(entries[-1]))
        again["_started"] += 1
        again["request"]["url"] = again["request"]["url"].replace("update_job", "another_call")
        entries.append(again)

    edit_har(folder, change)
    (only,) = replay(folder).divergences
    assert (only.field, only.recorded, only.now) == ("request", "POST /api/v1/pilot/another_call", "(nothing)")


def test_another_order_is_told_unless_order_does_not_matter(kept):
    folder = kept("two-jobs")

    def swap(entries):
        first, second = entries[0], entries[1]
        first["_started"], second["_started"] = second["_started"], first["_started"]

    edit_har(folder, swap)
    first = replay(folder).divergences[0]
    assert first.place == "exchange 1"
    assert (first.recorded, first.now) == ("POST /api/v1/pilot/update_job", "POST /api/v1/pilot/acquire_jobs")
    assert replay(folder, strict=False).same


def test_a_pilot_that_behaves_otherwise_is_caught(kept, monkeypatch):
    from pilot_communicator_panda import encode

    folder = kept("failed")
    made = encode.encode_update
    monkeypatch.setattr(
        encode, "encode_update", lambda update, log: {**made(update, log), "job_sub_status": "none of your business"}
    )
    first = replay(folder).divergences[0]
    assert (first.place, first.field) == ("exchange 2", "body.job_sub_status")
    assert first.now == "none of your business"


def test_another_answer_of_the_server_changes_what_the_pilot_does(kept):
    folder = kept("failed")

    def change(entries):
        content = entries[0]["response"]["content"]
        content["text"] = content["text"].replace("exit 3", "exit 4")

    edit_har(folder, change)
    first = replay(folder).divergences[0]
    assert (first.about, first.recorded, first.now) == ("command", "exit 3", "exit 4")


def test_another_communicator_is_caught_at_its_first_request(kept):
    folder = kept("finished")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["communicator"] = "panda-legacy"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    first = replay(folder).divergences[0]
    assert (first.place, first.now) == ("exchange 1", "POST /server/panda/getJob")


# -- the commands ------------------------------------------------------------------------------------------------------


def test_the_command_tells_people_and_programs(kept):
    folder = kept("two-jobs")
    code, out, err = command("replay", folder)
    assert (code, err) == (0, "")
    assert out.startswith("as recorded: ")
    assert "2 jobs, exit code 0" in out
    edit_har(folder, lambda entries: edit_body(entries[1], lambda body: body.update(job_status="holding")))
    code, out, _ = command("replay", folder)
    assert code == 1
    assert out.splitlines()[:4] == [
        "diverged at exchange 2 (POST /api/v1/pilot/update_job)",
        "  body.job_status",
        "    recorded  holding",
        "    now       starting",
    ]
    code, out, _ = command("replay", folder, "--json")
    assert code == 1
    told = json.loads(out)
    assert told["same"] is False
    assert told["divergences"][0]["field"] == "body.job_status"


def test_the_documented_commands_record_replay_and_save_a_test(shell, server):
    shell('pilot-core submit --state-dir state --transformation /bin/echo --parameters "hello world"')
    shell("pilot-core run --config state/pilot.toml --record recording")
    assert shell("pilot-core replay recording").startswith("as recorded: ")
    shell("pilot-core replay recording --save-test test_bug.py")
    assert "1 passed" in shell("pytest test_bug.py")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "no recording: give the directory"),
        (("nowhere",), "does not exist"),
        (("nowhere", "--save-test", "test_x.py"), "does not exist"),
        ((RECORDINGS / "failed", "--save-test", "bug.py"), "named test_*.py"),
        ((RECORDINGS / "failed", "--save-test", "no/where/test_x.py"), "cannot be written"),
        ((RECORDINGS / "failed", "--any-oder"), "--any-order"),
    ],
)
def test_what_cannot_be_replayed_is_told_in_one_line(words, says):
    code, out, err = command("replay", *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1


def test_a_communicator_that_is_not_installed_is_no_divergence(kept):
    folder = kept("failed")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"]["communicator"] = "pigeon"
    del manifest["plugins"]["communicator.panda"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    code, out, err = command("replay", folder)
    assert (code, out) == (3, "")
    assert "no communicator 'pigeon' is installed" in err
    assert err.count("\n") == 1


def set_server(folder, server):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["settings"]["server"] = server
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("server", ["http:@127.0.0.2:9", "http:7"])
def test_a_replay_talks_to_its_own_server_whatever_the_recording_says(kept, server):
    folder = kept("finished")
    set_server(folder, server)
    result = replay(folder)
    assert result.exchanges == result.of


def test_a_recorded_server_that_is_no_url_is_told(kept):
    folder = kept("finished")
    set_server(folder, "http://[bad")
    with pytest.raises(BadInput, match="its settings cannot be used: server: "):
        replay(folder)


def test_a_recording_of_another_version_is_refused(kept):
    folder = kept("failed")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"plugin_api": 1', '"plugin_api": 2'))
    code, _, err = command("replay", folder)
    assert code == 2
    assert "version 2 of the plugin API" in err
    assert err.count("\n") == 1


def test_the_volatile_fields_are_told():
    code, out, _ = command("replay", "--list-volatile")
    assert code == 0
    assert "start_time" in out
    assert "a time of day" in out


def test_a_recording_becomes_a_test(kept, tmp_path):
    folder = kept("failed")
    code, _, err = command("replay", folder, "--save-test", tmp_path / "test_bug_17.py")
    assert code == 0, err
    shutil.rmtree(folder)
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path / "test_bug_17.py"]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    edit_har(tmp_path / "recording_bug_17", lambda entries: edit_body(entries[1], lambda body: body.update(job_id=99)))
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "body.job_id: recorded '99'" in done.stdout
    code, _, err = command("replay", RECORDINGS / "failed", "--save-test", tmp_path / "test_bug_17.py")
    assert code == 2
    assert "is there already" in err


def test_record_takes_an_empty_directory_only(site, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "file").touch()
    job = site.submit()
    for place, says in (("full", "not empty"), ("file", "not a directory"), ("no/where", "does not exist")):
        ended = site.run("--record", tmp_path / place)
        assert ended.code == 2
        assert says in ended.last
        assert str(tmp_path / place) in ended.last
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
    assert site.job(job).status == "activated"
    (tmp_path / "empty").mkdir()
    assert site.run("--record", tmp_path / "empty").code == 0
    assert site.job(job).status == "finished"


@pytest.mark.needs("bin:unshare")
def test_a_full_disk_ends_the_recording_and_not_the_job(site, tmp_path, on_small_disk):
    (tmp_path / "small").mkdir()
    job = site.script(f"cat /dev/zero > {tmp_path}/small/filler; true")
    prefix = on_small_disk(tmp_path / "small", "300k")
    ended = site.start("--record", tmp_path / "small/recording", prefix=prefix).wait()
    assert ended.code == 0, ended.text
    assert site.job(job).status == "finished"
    assert len([line for line in ended.lines if "recording" in line and "No space left" in line]) == 1


# -- secrets -----------------------------------------------------------------------------------------------------------


def forms(canary):
    """A secret as it may be written."""
    data = canary.encode()
    found = {data, json.dumps(canary)[1:-1].encode(), quote(canary, safe="").encode(), data.hex().encode()}
    for shift in range(3):
        coded = base64.b64encode(b"x" * shift + data + b"y")
        # without what depends on the neighbours
        found.add(coded[4:-4])
        found.add(base64.urlsafe_b64encode(b"x" * shift + data + b"y")[4:-4])
    return found


def leaks(folder, *canaries):
    """Return the files below a folder in which a secret is, in whatever form."""
    return [
        (path.name, form)
        for path in folder.rglob("*")
        if path.is_file()
        for canary in canaries
        for form in forms(canary)
        if form in path.read_bytes()
    ]


@pytest.mark.parametrize("communicator", ["panda", "panda-legacy"])
def test_no_secret_gets_into_a_recording(site, tmp_path, communicator):
    token = Path(site.server.state.token_file).read_text().strip()
    user, pilots = 'canary/of+the "user"', "canary=of&the%pilots"
    site.pilot |= {
        "cert": None,
        "communicator": communicator,
        "token_file": site.server.state.token_file,
        "token_origin": "wlcg.production",
    }
    private = "-----BEGIN PRIVATE KEY-----\nQ0FOQVJZIG9mIHRoZSBrZXk=\n-----END PRIVATE KEY-----"
    coded = base64.b64encode(user.encode()).decode()
    site.settings["environment"]["MY_TOKEN"] = "canary-of-the-queue"
    job = site.script(
        f": {quote(user, safe='')} {coded}; echo '{private}' > key.out; exit 1",
        outputs=["key.out"],
        spec=lambda spec: replace(
            spec, extra={"secrets": {"A": user, "n": {"B": user}}, "pilotSecrets": {"C": pilots}}
        ),
    )
    recording = tmp_path / "recording"
    ended = site.run("--record", recording, "--log-level", "debug")
    assert ended.code == 0
    assert site.job(job).status == "failed"
    assert leaks(recording, token, user, pilots, "canary-of-the-queue", "Q0FOQVJZIG9mIHRoZSBrZXk=") == []
    headers = {h["name"]: h["value"] for h in first_entry(recording)["request"]["headers"]}
    assert headers["Authorization"] == "Bearer <hidden>"
    assert_replays(recording)


def first_entry(recording):
    return json.loads((recording / "traffic.har").read_text())["log"]["entries"][0]


def test_secrets_that_nobody_granted_stay_out_and_the_recording_replays(site, tmp_path):
    (site.storage / "in.dat").write_bytes(b"x" * 100)
    words = "--password canary-of-argv --api-key='canary-of-a-quote' https://s3.example/x?X-Amz-Signature=canary-of-url"
    job = site.script(
        f": {words}; echo --token canary-of-stdout; AWS_SECRET_ACCESS_KEY=canary-of-env cat in.dat > o",
        inputs=["in.dat"],
        outputs=["o"],
    )
    ended = site.run("--record", tmp_path / "recording", "--log-level", "debug")
    assert ended.code == 0
    assert site.job(job).status == "finished"
    canaries = ("canary-of-argv", "canary-of-a-quote", "canary-of-url", "canary-of-env")
    assert leaks(tmp_path / "recording", *canaries) == []
    assert_replays(tmp_path / "recording")


def test_the_password_of_a_proxy_stays_out(site, tmp_path):
    site.pilot["proxy"] = "http://canary-name:canary%2Fpassword@127.0.0.1:9"
    ended = site.run("--record", tmp_path / "recording", "--acquire-budget", 1)
    assert ended.code == 4
    assert leaks(tmp_path / "recording", "canary%2Fpassword", "canary/password") == []
    entry = first_entry(tmp_path / "recording")
    assert entry["response"]["status"] == 0
    assert "refused" in entry["response"]["_error"]
