"""A job in a file: ours as TOML or JSON, and what is told of one that makes no sense."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import BadInput, InputFile, Job, OutputFile, Step
from pilot_core.jobfile import is_servers, job_of, read_data


def job(text):
    return job_of(tomli.loads(text), "job.toml")


def test_the_least_is_a_program_with_its_parameters():
    assert job('transformation = "echo"\nparameters = "hello world"') == Job(
        id=1, transformation="echo", parameters="hello world"
    )


def test_files_are_tables_or_names_alone():
    made = job(
        'transformation = "sort"\n'
        'inputs = ["a.txt", {lfn = "b.txt", size = 3, checksum = "adler32:1A"}]\n'
        'outputs = ["c.txt"]\nlog = "log.tgz"\npreprocess = "make"\n'
        "[input_lists]\n"
        '"list.txt" = ["a.txt"]\n'
    )
    assert made.inputs == (InputFile(lfn="a.txt"), InputFile(lfn="b.txt", size=3, checksum="adler32:0000001a"))
    assert made.outputs == (OutputFile(lfn="c.txt"),)
    assert made.log == OutputFile(lfn="log.tgz")
    assert made.preprocess == Step(command="make")
    assert made.input_lists == {"list.txt": ("a.txt",)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "transformation: is needed, and is not there"),
        ('transformation = " "', "transformation: is empty; name a program to run"),
        ('transformtion = "x"', "transformtion: unknown key; did you mean 'transformation'?"),
        ("transformation = 3", "transformation: must be a text, not a whole number"),
        ('core_count = "2"', "core_count: must be a whole number, not a text"),
        ("core_count = true", "core_count: must be a whole number, not true or false"),
        ("core_count = 0", "core_count: must be 1 or more"),
        ("id = 0", "id: must be 1 or more"),
        ("memory_mb = -1", "memory_mb: must be 0 or more"),
        ("memory_mb = 9999999999999999999", f"memory_mb: must be at most {2**63 - 1}"),
        ("memory_mb = 1.5", "memory_mb: must be a whole number, not a number with a fraction"),
        ("debug = 1", "debug: must be true or false, not a whole number"),
        ('inputs = "a"', "inputs: must be a list, not a text"),
        ("inputs = [3]", "inputs[0]: must be a table, not a whole number"),
        ('inputs = ["a", {lfn = "b", siz = 3}]', "inputs[1].siz: unknown key; did you mean 'size'?"),
        ("inputs = [{size = 3}]", "inputs[0].lfn: is needed, and is not there"),
        ('inputs = [{lfn = "a", size = "3"}]', "inputs[0].size: must be a whole number, not a text"),
        ('inputs = ["../a"]', "inputs[0].lfn: file name '../a': not a plain file name of at most 255 bytes"),
        ("secrets = {a = 3}", "secrets.a: must be a text, not a whole number"),
        ('secrets = {"a b" = 3}', 'secrets."a b": must be a text, not a whole number'),
        (
            'transformation = "x"\ninput_lists = {"a/b" = []}',
            "input_lists: file name 'a/b': not a plain file name of at most 255 bytes",
        ),
        ('alt_stageout = "yes"', "alt_stageout: must be one of on, off, or nothing"),
        ('access_mode = "stream"', "access_mode: must be one of direct, copy, or nothing"),
        (
            'transformation = "x"\noutputs = ["z"]\narchives = {z = ["../a"]}',
            "archives: file name '../a': not a plain file name of at most 255 bytes",
        ),
        (
            'transformation = "x"\narchives = {z = ["a"]}',
            "archives: 'z' is none of the job's outputs; add it to `outputs`",
        ),
        ("name = 2026-01-01", "name: must be a text, not a date or time"),
        ('parameters = "\\u0000"', "parameters: has a character in it that no program can be given"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, told):
    with pytest.raises(BadInput) as caught:
        job(text)
    assert str(caught.value).startswith(f"job.toml: {told}")
    assert "\n" not in str(caught.value)


def test_a_checksum_that_is_none_is_told():
    with pytest.raises(BadInput, match=r"^job.toml: inputs\[0\].checksum: .*crc"):
        job('transformation = "x"\ninputs = [{lfn = "a", checksum = "crc:1"}]')


def test_outputs_go_into_archives():
    made = job('transformation = "x"\noutputs = ["z.zip", "a"]\n[archives]\n"z.zip" = ["a", "*.root"]')
    assert made.archives == {"z.zip": ("a", "*.root")}


def test_two_files_of_one_name_are_an_error():
    with pytest.raises(BadInput, match="'a' is the name of two of the job's files"):
        job('transformation = "x"\ninputs = ["a"]\noutputs = ["a"]')


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0\n"), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."}
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
numbers = st.integers(0, 2**63 - 1)
inputs = st.builds(InputFile, lfn=names, scope=texts, guid=texts, size=st.none() | numbers, dataset=texts, rse=texts)
outputs = st.builds(OutputFile, lfn=names, scope=texts, may_be_missing=st.booleans())
jobs = st.builds(
    Job,
    id=st.integers(1, 2**63 - 1),
    attempt=st.none() | numbers,
    transformation=texts.filter(str.strip),
    parameters=texts,
    inputs=st.lists(inputs, max_size=3).map(tuple),
    outputs=st.lists(outputs, max_size=3).map(tuple),
    log=st.none() | outputs,
    core_count=st.integers(1, 64),
    memory_mb=numbers,
    priority=st.integers(-1000, 1000),
    debug=st.booleans(),
    alt_stageout=st.sampled_from(["", "on", "off"]),
    access_mode=st.sampled_from(["", "direct", "copy"]),
    postprocess=st.none() | st.builds(Step, command=texts, arguments=texts),
    input_lists=st.dictionaries(names, st.lists(texts).map(tuple), max_size=2),
    secrets=st.dictionaries(texts, texts, max_size=2),
    extra=st.dictionaries(texts, st.none() | numbers | texts | st.lists(texts), max_size=2),
).filter(lambda made: len({f.lfn for f in (*made.inputs, *made.files_out)}) == len(made.inputs) + len(made.files_out))


@given(jobs)
def test_every_job_can_be_written_down_and_read_again(made):
    assert job_of(json.loads(json.dumps(asdict(made))), "job.json") == made


keys = st.sampled_from([*asdict(Job(id=1)), "lfn", "size", "command", "x", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=12,
)


@given(values)
def test_any_data_is_a_job_or_one_line(data):
    made = None
    with suppress(BadInput):
        made = job_of(data, "job.json")
    assert made is None or made.transformation.strip()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"transformation": "x"}, False),
        ({"PandaID": 1}, True),
        ({"jobPars": ""}, True),
        ({"success": True, "data": {}}, True),
        ([], True),
    ],
)
def test_a_servers_description_is_told_by_its_keys(data, expected):
    assert is_servers(data) is expected
    assert not is_servers(dict.fromkeys(asdict(Job(id=1))))


@pytest.mark.parametrize(
    ("name", "text", "data"),
    [
        ("job.toml", "a = 1", {"a": 1}),
        ("job.json", '{"a": 1}', {"a": 1}),
        ("job", ' {"a": 1}', {"a": 1}),
        ("job", "a = 1", {"a": 1}),
        ("job.toml", "[a]\nb = 1", {"a": {"b": 1}}),
    ],
)
def test_json_and_toml_are_told_apart(tmp_path, name, text, data):
    (tmp_path / name).write_text(text)
    assert read_data(tmp_path / name) == (data, "{" in text)


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("job.toml", b"a = ", "not valid TOML: "),
        ("job.json", b"a = 1", "not valid JSON: "),
        ("job.json", b"[" * 100_000, "not valid JSON: "),
        ("job", b"\xff", "is not UTF-8 text (byte 0)"),
        ("job", None, "there is no such file"),
        (".", None, "cannot be read: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(tmp_path, name, data, told):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput) as caught:
        read_data(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {told}")
