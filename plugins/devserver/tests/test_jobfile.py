"""Jobs as people write them."""

import json
import zlib

import pytest
from pilot_devserver.jobfile import InputTemplate, JobTemplate, Preparation, read_job_file
from pilot_devserver.site import SiteQueue

from pilot_core import BadInput, ConfigError


@pytest.fixture
def preparation(tmp_path):
    queues = [SiteQueue(name, tmp_path / name) for name in ("Q1", "Q2")]
    for folder in ("Q1", "Q2", "trf"):
        (tmp_path / folder).mkdir()
    return Preparation(queues, tmp_path / "trf", "https://127.0.0.1:1")


TOML = """
[[jobs]]
transformation = "sort"
parameters = "-o sorted.{n}.txt words.txt"
inputs = ["words.txt", { lfn = "there.txt", size = 3, checksum = "ad:00000001", guid = "G", rse = "OTHER" }]
outputs = ["sorted.{n}.txt"]
queue = "Q2"
label = "user"
name = "sorting"
count = 2
memory_mb = 2000
"""


def test_a_file_becomes_what_the_store_keeps(preparation, tmp_path):
    (tmp_path / "jobs.toml").write_text(TOML)
    (tmp_path / "words.txt").write_bytes(bytes(4))
    [template] = read_job_file(tmp_path / "jobs.toml")
    one, two = preparation.specs(template)
    assert (one.queue, one.label, one.name, two.name, one.memory_mb) == ("Q2", "user", "sorting.1", "sorting.2", 2000)
    assert two.parameters == "-o sorted.2.txt words.txt"
    words, there, output, log = one.files
    adler32 = f"{zlib.adler32(bytes(4)):08x}"
    assert (words.size, words.checksum, words.endpoint) == (4, f"ad:{adler32}", "Q2_DATADISK")
    assert (tmp_path / "Q2/words.txt").read_bytes() == bytes(4)
    assert (there.size, there.checksum, there.guid, there.endpoint) == (3, "ad:00000001", "G", "OTHER")
    assert (output.lfn, output.kind, log.kind) == ("sorted.1.txt", "output", "log")
    assert log.lfn != two.files[-1].lfn


def test_json_files_hold_the_same(tmp_path):
    for content in ([{"transformation": "true"}], {"jobs": [{"transformation": "true"}]}):
        (tmp_path / "jobs.json").write_text(json.dumps(content))
        assert read_job_file(tmp_path / "jobs.json") == [JobTemplate(transformation="true")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[jobs", r"jobs\.toml: neither TOML nor JSON"),
        ("x = 1", r"jobs\.toml: has no jobs"),
        ("jobs = []", r"jobs\.toml: has no jobs"),
        ("jobs = [3]", r"jobs\[0\]: must be a table"),
        ("[[jobs]]\ninput = []", r"jobs\[0\]\.input: unknown key; did you mean 'inputs'\?"),
        ("[[jobs]]\ncount = '3'", r"jobs\[0\]\.count: must be a whole number, not '3'"),
        ("[[jobs]]\ncount = true", r"jobs\[0\]\.count: must be a whole number, not True"),
        ("[[jobs]]\noutputs = [1]", r"jobs\[0\]\.outputs: must be a list of texts"),
        ("[[jobs]]\ninputs = 'x'", r"jobs\[0\]\.inputs: must be a list of paths or tables"),
        ("[[jobs]]\ninputs = [{ lnf = 'x' }]", r"jobs\[0\]\.inputs\[0\]\.lnf: unknown key; did you mean 'lfn'\?"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(tmp_path, text, message):
    (tmp_path / "jobs.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_job_file(tmp_path / "jobs.toml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot read the jobs: No such file"):
        read_job_file(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (JobTemplate(), "needs a transformation or a script"),
        (JobTemplate(transformation="x", count=0), "count 0: must be 1 or more"),
        (JobTemplate(transformation="x", count=2, outputs=("a",)), r"put \{n\} into the outputs' names"),
        (JobTemplate(transformation="x", queue="Q3"), "the server has no queue 'Q3'; it has Q1, Q2"),
        (JobTemplate(transformation="x", inputs=(InputTemplate(),)), "needs a path, or an lfn"),
        (JobTemplate(transformation="x", inputs=(InputTemplate(lfn="a/b"),)), "without slashes"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused(preparation, template, message):
    with pytest.raises(BadInput, match=message):
        preparation.specs(template)


def test_an_input_never_replaces_another_file_of_the_same_name(preparation, tmp_path):
    (tmp_path / "words.txt").write_text("new")
    (tmp_path / "Q1/words.txt").write_text("old")
    template = JobTemplate(transformation="x", inputs=(InputTemplate(path=tmp_path / "words.txt"),))
    with pytest.raises(BadInput, match="another file of this name is there"):
        preparation.specs(template)
    assert (tmp_path / "Q1/words.txt").read_text() == "old"
    (tmp_path / "words.txt").write_text("old")
    assert preparation.specs(template)[0].files[0].size == 3
    assert sorted(path.name for path in (tmp_path / "Q1").iterdir()) == ["words.txt"]


def test_an_input_that_is_not_there_is_named(preparation, tmp_path):
    template = JobTemplate(transformation="x", inputs=(InputTemplate(path=tmp_path / "none"),))
    with pytest.raises(BadInput, match=r"none: cannot be read: No such file"):
        preparation.specs(template)


def test_inputs_can_be_registered_without_being_copied(preparation, tmp_path):
    (tmp_path / "words.txt").write_text("abc")
    only = Preparation([SiteQueue("Q1", tmp_path / "Q1")], tmp_path / "trf", "", copy=False)
    template = JobTemplate(transformation="x", inputs=(InputTemplate(path=tmp_path / "words.txt"),), log=False)
    [spec] = only.specs(template)
    assert [file.size for file in spec.files] == [3]
    assert not list((tmp_path / "Q1").iterdir())


def test_a_script_is_offered_by_the_server(preparation, tmp_path):
    (tmp_path / "job.py").write_text("one")
    template = JobTemplate(script=tmp_path / "job.py", parameters="{server} {n}")
    [spec] = preparation.specs(template)
    assert spec.transformation == "https://127.0.0.1:1/trf/job.py"
    assert spec.parameters == "https://127.0.0.1:1 1"
    (tmp_path / "job.py").write_text("two")
    preparation.specs(template)
    assert (tmp_path / "trf/job.py").read_text() == "two"
