"""A recording's files: whole at every moment, read as they were written, refused in one line when damaged."""

from __future__ import annotations

import base64
import gzip
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import (
    BadInput,
    Exchange,
    InputFile,
    Job,
    OutputFile,
    Queue,
    ServerAnswer,
    Step,
    Storage,
    StorageProtocol,
    TransferResult,
)
from pilot_core.api.traffic import LOST
from pilot_core.recording import Recorder
from pilot_core.recording.har import HarFile, har_entry
from pilot_core.recording.reading import Recording
from pilot_core.recording.scrub import Scrubber
from pilot_core.testing.clock import FakeClock
from pilot_core.values import decode, encode

JSON = (("Content-Type", "application/json"),)


def exchange(**values):
    made = {
        "method": "POST",
        "url": "https://panda.example:25443/api/v1/x?a=b&token=t",
        "started": 1e9,
        "seconds": 0.25,
    }
    return Exchange(**{**made, **values})


@contextmanager
def files_of_at_most(size):
    """Let no file grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def entries(path):
    return json.loads(path.read_text())["log"]["entries"]


# -- HAR ---------------------------------------------------------------------------------------------------------------


def test_the_har_is_whole_after_every_entry(tmp_path):
    har = HarFile(tmp_path / "a.har")
    assert entries(tmp_path / "a.har") == []
    for number in range(3):
        har.add({"number": number})
        assert [entry["number"] for entry in entries(tmp_path / "a.har")] == list(range(number + 1))
    har.close()
    log = json.loads((tmp_path / "a.har").read_text())["log"]
    assert log["version"] == "1.2"
    assert log["creator"]["name"] == "pilot-core"
    assert set(log["creator"]) == {"name", "version"}


def test_an_entry_for_which_there_is_no_room_leaves_the_har_whole(tmp_path):
    har = HarFile(tmp_path / "a.har")
    har.add({"number": 0})
    with files_of_at_most(500), pytest.raises(OSError, match="too large"):
        har.add({"text": "x" * 1000})
    assert entries(tmp_path / "a.har") == [{"number": 0}]
    har.add({"number": 1})
    assert [entry["number"] for entry in entries(tmp_path / "a.har")] == [0, 1]
    har.close()


def test_an_entry_has_everything_that_har_asks_for():
    entry = har_entry(
        exchange(
            request_headers=(*JSON, ("Cookie", "a=secret; b=more")),
            request_body=b'{"job_id": 7}',
            status=302,
            reason="Found",
            response_headers=(
                ("Content-Type", "text/plain"),
                ("Location", "https://other.example/"),
                ("Set-Cookie", "c=d"),
            ),
            response_body=b"ok",
            connect_seconds=0.1,
            wait_seconds=0.05,
        ),
        Scrubber(),
    )
    assert entry["startedDateTime"] == "2001-09-09T01:46:40.000Z"
    assert entry["time"] == 250.0
    assert entry["timings"] == {
        "blocked": -1, "dns": -1, "ssl": -1, "connect": 100.0, "send": 0, "wait": 50.0, "receive": 100.0,
    }  # fmt: skip
    assert entry["cache"] == {}
    request, response = entry["request"], entry["response"]
    assert request["queryString"] == [{"name": "a", "value": "b"}, {"name": "token", "value": "<hidden>"}]
    assert "token=t" not in request["url"]
    assert request["postData"] == {"params": [], "mimeType": "application/json", "text": '{"job_id": 7}'}
    assert request["cookies"] == [{"name": "a", "value": ""}, {"name": "b", "value": ""}]
    assert response["redirectURL"] == "https://other.example/"
    assert response["content"] == {"size": 2, "mimeType": "text/plain", "text": "ok"}
    for side, names in (
        (request, "method url httpVersion cookies headers queryString headersSize bodySize"),
        (response, "status statusText httpVersion cookies headers content redirectURL headersSize bodySize"),
    ):
        assert set(names.split()) <= set(side)


def test_a_compressed_body_is_shown_decoded_and_its_compression_noted():
    body = gzip.compress(b'{"job_id": 7, "token": "abc"}')
    post = har_entry(exchange(request_headers=JSON, request_body=body), Scrubber())["request"]["postData"]
    assert json.loads(post["text"]) == {"job_id": 7, "token": "<hidden>"}
    assert post["_compression"] == "gzip"
    assert str(len(body)) in post["comment"]


def test_a_body_that_is_no_text_is_base64_and_holds_no_secret_either():
    scrubber = Scrubber()
    scrubber.learn(["secret-word"])
    content = har_entry(exchange(status=200, response_body=b"\xff\x00secret-word\xfe"), scrubber)["response"]["content"]
    assert content["encoding"] == "base64"
    assert base64.b64decode(content["text"]) == b"\xff\x00<hidden>\xfe"


def test_an_exchange_without_an_answer_has_status_0_and_says_why():
    entry = har_entry(exchange(failure=LOST, error="it went away"), Scrubber())
    assert entry["response"]["status"] == 0
    assert entry["response"]["_error"] == entry["_error"] == "it went away"
    assert entry["_failure"] == LOST


@given(st.binary(max_size=200))
def test_any_body_can_be_recorded_and_read_again(body):
    entry = har_entry(exchange(status=200, response_body=body, request_body=body), Scrubber())
    content = json.loads(json.dumps(entry))["response"]["content"]
    read = base64.b64decode(content["text"]) if "encoding" in content else content["text"].encode()
    if not body.startswith(b"\x1f\x8b") and b"=" not in body:
        assert read == body or b"hidden" in read or b"://" in body


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Job(
            id=7,
            attempt=2,
            transformation="/bin/true",
            inputs=(InputFile(lfn="a", size=5), InputFile(lfn="b")),
            log=OutputFile(lfn="log"),
            preprocess=Step(command="x"),
            input_lists={"list": ("a", "b")},
            secrets={"A": "b"},
            extra={"any": [1, {"thing": None}]},
        ),
        Queue(name="Q", storages={"R": Storage(rse="R", url="file:///x", stagers=("file",))}, read=("R",)),
        Queue(
            name="Q",
            storages={
                "R": Storage(
                    rse="R",
                    url="root://a//b",
                    protocols=(
                        StorageProtocol(url="root://a//b", activities=("read_lan",)),
                        StorageProtocol(url="c:/d"),
                    ),
                )
            },
            schemes={"read": ("root", "davs")},
            catalog="rucio",
        ),
        ServerAnswer(commands=("debug",), heartbeat_seconds=5),
        TransferResult(size=1, checksum="adler32:00000001", url="u"),
    ],
)
def test_values_come_back_from_json_as_they_were(value):
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"id": "seven"}, "Job.id: a value of type int was expected, not str"),
        ({"id": 7, "colour": 1}, "Job.colour: there is no such field"),
        ({"id": 7, "inputs": [{"lfn": 1}]}, "Job.inputs[0].lfn: a value of type str was expected"),
        ({"id": 7, "inputs": {}}, "Job.inputs: a value of type list was expected"),
        ([], "Job: a value of type dict was expected"),
        ({}, "missing 1 required"),
    ],
)
def test_values_that_do_not_fit_are_refused_with_their_place(value, says):
    with pytest.raises(ValueError, match=r".") as caught:
        decode(Job, value)
    assert says in str(caught.value)


# -- the recorder ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "recording"


@pytest.fixture
def recorder(folder):
    made = Recorder(folder, FakeClock())
    yield made
    made.close(0)


def test_a_recording_can_be_read_while_it_grows(recorder, folder):
    assert not Recording.read(folder).whole
    number = recorder.begin_call("update", {"job_id": 7, "state": "running"})
    recorder.exchanged(exchange(failure=LOST, error="gone", started=2e9))
    recorder.exchanged(exchange(status=200, response_body=b"{}", request_body=b"[1]", started=1e9))
    assert [found.failure for found in Recording.read(folder).exchanges] == [LOST]
    recorder.end_call(number, answer={})
    found = Recording.read(folder)
    assert [(each.number, each.call, each.status) for each in found.exchanges] == [(1, 1, 200), (2, 1, 0)]
    assert found.exchanges[0].target == "/api/v1/x?a=b&token=<hidden>"
    assert found.exchanges[0].body == b"[1]"
    assert [event["what"] for event in found.events] == ["call", "answer"]
    recorder.close(4)
    assert Recording.read(folder).manifest.exit_code == 4


def test_an_answer_is_written_when_its_secrets_are_known(recorder, folder):
    number = recorder.begin_call("acquire", {})
    recorder.exchanged(exchange(status=200, response_body=b"the text has a-secret-word in it"))
    assert Recording.read(folder).exchanges == []
    recorder.learn(["a-secret-word"])
    recorder.end_call(number, answer=None)
    (found,) = Recording.read(folder).exchanges
    assert found.answer == b"the text has <hidden> in it"


def test_a_token_that_was_renewed_is_kept_out_too(recorder, folder):
    tokens = ["the-first-token"]
    recorder.learn_from(lambda: tokens)
    recorder.event("note", text="the-first-token")
    tokens.append("the-second-token")
    recorder.event("note", text="the-second-token")
    assert [event["text"] for event in Recording.read(folder).events] == ["<hidden>", "<hidden>"]


def test_a_recording_that_cannot_be_written_is_given_up_with_one_line(recorder, folder, caplog):
    recorder.event("note", text="good")
    with files_of_at_most(os.path.getsize(folder / "events.jsonl") + 10):
        recorder.event("note", text="x" * 5000)
        recorder.event("note", text="y" * 5000)
    recorder.event("note", text="later")
    recorder.exchanged(exchange())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "the recording in" in caplog.text
    found = Recording.read(folder)
    assert [event["text"] for event in found.events] == ["good"]
    assert found.exchanges == []


def test_a_pilot_that_does_not_record_pays_nothing_for_it():
    code = "import sys, pilot_core.pilot, pilot_core.cli.run; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert "pilot_core.jobrun" in done.stdout.split()
    assert not [name for name in done.stdout.split() if name.startswith(("pilot_core.recording", "pilot_core.replay"))]


# -- bad recordings ----------------------------------------------------------------------------------------------------


def spoil(folder, file, change):
    path = folder / file
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("manifest.json", lambda text: text.replace('"version": 1,', '"version": 2,', 1), "format version 2"),
        (
            "manifest.json",
            lambda text: text.replace('"plugin_api": 1', '"plugin_api": 7'),
            "version 7 of the plugin API",
        ),
        ("manifest.json", lambda text: text.replace("pilot-core recording", "holiday pictures"), "is not the manifest"),
        ("manifest.json", lambda text: text[: len(text) // 2], "is not JSON"),
        ("manifest.json", lambda _: "[]", "is not the manifest"),
        (
            "manifest.json",
            lambda text: text.replace('"host": "', '"guest": "'),
            "manifest.guest: there is no such field",
        ),
        ("traffic.har", lambda _: "{}", "is not a HAR"),
        ("traffic.har", lambda text: text[:-30], "is not JSON"),
        ("traffic.har", lambda text: text.replace('"method"', '"way"'), "entry 1: KeyError"),
        ("traffic.har", lambda text: text.replace('"1.2"', '"1.1"'), "HAR of version 1.2"),
        ("events.jsonl", lambda text: "nonsense\n" + text, "line 1: is not JSON"),
        ("events.jsonl", lambda text: text + "{}\n", "line 2: is not an event"),
        ("events.jsonl", lambda text: "[" * 100000 + "\n", "nested too deeply"),
        ("events.jsonl", lambda text: "9" * 5000 + "\n", "cannot be read as JSON"),
        ("traffic.har", lambda text: text.replace('"status": 200', '"status": Infinity'), "entry 1: OverflowError"),
        ("traffic.har", lambda text: text.replace('"time": ', '"time": NaN, "_was": '), "its times are no times"),
        ("events.jsonl", lambda text: text.replace('"at": ', '"at": NaN, "was": '), "at: a time was expected"),
        ("events.jsonl", lambda text: text.replace('"note"', '"state"'), "job: a whole number was expected"),
        (
            "events.jsonl",
            lambda text: text.replace('"note"', '"stager-call", "stager": [1]'),
            "stager: a text was expected",
        ),
    ],
)
def test_a_damaged_recording_is_refused_in_one_line(recorder, folder, file, change, says):
    recorder.exchanged(exchange(status=200))
    recorder.event("note")
    spoil(folder, file, change)
    with pytest.raises(BadInput) as caught:
        Recording.read(folder)
    assert says in str(caught.value)
    assert str(folder / file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["manifest.json", "traffic.har", "events.jsonl"])
def test_a_recording_with_a_missing_file_is_refused(recorder, folder, file):
    (folder / file).unlink()
    with pytest.raises(BadInput, match="is missing"):
        Recording.read(folder)
    (folder / file).write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        Recording.read(folder)


def test_what_is_no_directory_is_refused(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        Recording.read(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="is not a directory"):
        Recording.read(tmp_path / "file")
    with pytest.raises(BadInput, match="does not exist"):
        Recording.read(tmp_path / ("x" * 300))


def test_a_last_line_that_is_not_whole_is_what_a_killed_pilot_leaves(recorder, folder):
    recorder.event("note", text="good")
    with (folder / "events.jsonl").open("a") as stream:
        stream.write('{"n": 2, "at": 1, "wh')
    assert [event["text"] for event in Recording.read(folder).events] == ["good"]
