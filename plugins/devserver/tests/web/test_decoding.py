"""Bodies are taken apart whatever was sent."""

import gzip
import json

import pytest
from hypothesis import given, strategies
from pilot_devserver.web.decoding import MOST_BYTES, Nested, decode, decode_query, job_ids, unfold

JSON = "application/json"


def test_json_a_form_and_a_query_have_fields():
    assert decode(b'{"a": [1]}', JSON).value == {"a": [1]}
    assert decode(b"a=1&b=x+y&a=2", "application/x-www-form-urlencoded").value == {"a": ["1", "2"], "b": "x y"}
    assert decode_query("job_ids=1&job_ids=2").value == {"job_ids": ["1", "2"]}
    assert decode_query("").kind == "empty"


def test_packed_json_is_unpacked_and_says_so():
    body = decode(gzip.compress(b'{"a": 1}'), JSON, "gzip")
    assert (body.kind, body.value) == ("json", {"a": 1})
    assert body.notes[0].startswith("unpacked from gzip")


def test_a_bomb_is_unpacked_only_so_far():
    body = decode(gzip.compress(b" " * (MOST_BYTES * 4)), JSON, "gzip")
    assert len(body.text) == MOST_BYTES
    assert "cut after" in body.notes[0]


def test_a_damaged_gzip_is_dumped_with_the_reason():
    body = decode(b"\x1f\x8b\x08\0" + bytes(range(100)), JSON, "gzip")
    assert body.kind == "binary"
    assert "cannot be unpacked" in body.notes[0] or "as far as it goes" in body.notes[0]


def test_what_python_prints_is_read_and_never_run():
    assert decode(b"{'success': True, 'data': None}", "text/plain").value == {"success": True, "data": None}
    assert decode(b"[__import__('os')]", "text/plain").kind == "text"


@pytest.mark.parametrize(
    ("data", "kind", "note"),
    [
        (b"", "empty", ""),
        (b"{", "text", "no JSON"),
        (b"[" * 100000, "text", ""),
        (b"<html>", "text", ""),
        (b"\xff\xfe hello", "text", "byte 0 is not UTF-8"),
        (bytes(range(256)), "binary", "no text"),
        (b"StatusCode=0&command=NULL", "form", ""),
        (b"alive=yes and kicking", "text", ""),
    ],
)
def test_what_cannot_be_read_is_shown_with_the_reason(data, kind, note):
    body = decode(data, "text/plain")
    assert body.kind == kind
    assert note in " ".join(body.notes)


def test_a_body_of_which_only_the_beginning_was_kept_says_so():
    assert "only the first 3 of 1,000 bytes" in decode(b"abc", "text/plain", size=1000).notes[0]


def test_json_within_texts_is_unfolded_at_any_depth():
    inner = json.dumps({"out.txt": {"fsize": 1}})
    found = unfold({"job_output_report": inner, "plain": "{no", "list": [json.dumps([inner])]})
    assert found["job_output_report"] == Nested({"out.txt": {"fsize": 1}}, "JSON")
    assert found["plain"] == "{no"
    assert found["list"][0] == Nested([Nested({"out.txt": {"fsize": 1}}, "JSON")], "JSON")
    assert unfold({"content": "StatusCode=0&command=NULL"})["content"].how == "form"


def test_jobs_are_found_by_the_names_that_both_protocols_have():
    assert list(job_ids({"data": {"jobs": [{"PandaID": 5}, {"PandaID": "6"}]}, "job_id": 7})) == [5, 6, 7]
    assert list(job_ids(unfold({"jobList": json.dumps([{"jobId": "8"}]), "ids": "9,10", "job_ids": [11]}))) == [
        8,
        9,
        10,
        11,
    ]
    assert list(job_ids({"job_id": True, "jobId": "x", "PandaID": "9" * 30})) == []


@given(strategies.binary(), strategies.sampled_from([JSON, "text/plain", "application/x-www-form-urlencoded", ""]))
def test_any_bytes_are_decoded(data, content_type):
    for encoding in ("", "gzip"):
        body = decode(data, content_type, encoding)
        list(job_ids(unfold(body.value)))
        assert body.structured or body.text or body.kind in ("empty", "text", "html")
