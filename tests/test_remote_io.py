"""Direct access: which inputs are read where they lie, and what the payload is told of them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import CancelToken, InputFile, Job, Queue, Replica
from pilot_core.remote_io import RemoteInputs, is_analysis, may_be_remote, replicas_for
from pilot_core.transfers import remote_inputs

FILE = InputFile(lfn="AOD.1._01.pool.root.1", guid="G-1")
PRODUCTION = Job(id=1, transformation="Reco_tf.py", transfer_type="direct", inputs=(FILE,))
ANALYSIS = replace(PRODUCTION, transformation="https://panda.example/trf/runGen", transfer_type="")
QUEUE = Queue(name="Q", direct_access_lan=True, direct_access_wan=True)


@pytest.mark.parametrize(
    ("job", "token", "wanted"),
    [
        (PRODUCTION, "", True),
        (replace(PRODUCTION, transfer_type=""), "", False),
        (ANALYSIS, "", True),
        (PRODUCTION, "local", False),
        (ANALYSIS, "local", False),
        (replace(PRODUCTION, access_mode="copy"), "", False),
        (replace(ANALYSIS, access_mode="copy"), "", False),
        (replace(PRODUCTION, access_mode="direct", transfer_type=""), "local", True),
    ],
)
def test_which_jobs_read_inputs_where_they_lie(job, token, wanted):
    assert may_be_remote(job, replace(FILE, token=token)) is wanted


@pytest.mark.parametrize(
    ("lfn", "wanted"),
    [
        ("AOD.1._01.pool.root.1", True),
        ("HITS.zip", True),
        ("panda.123.lib.tgz", False),
        ("user.me.lib.tar", False),
        ("DBRelease-31.8.1.tar.gz", False),
        ("DBRelease.tar.gz.3", False),
        ("log.1.job.log.tgz.1", False),
        ("data15.RAW._lb01.data", False),
        ("RAW.123", False),
        ("data.raw.1", False),
        ("drawn.root", True),
        ("start.root", True),
    ],
)
def test_archives_and_raw_data_are_copied(lfn, wanted):
    assert may_be_remote(PRODUCTION, replace(FILE, lfn=lfn)) is wanted


def near(url):
    return Replica(url=url, domain="lan")


def far(url):
    return Replica(url=url, domain="wan")


@pytest.mark.parametrize(
    ("replicas", "changes", "chosen"),
    [
        ([near("root://a//f"), far("root://b//f")], {}, "root://a//f"),
        # copied from nearby rather than read elsewhere
        ([near("s3://a/f"), far("root://b//f")], {}, None),
        ([near("s3://a/f"), near("davs://a/f")], {}, "davs://a/f"),
        ([near("file:///a/f")], {}, "file:///a/f"),
        ([near("root://a//f"), far("root://b//f")], {"direct_access_lan": False}, None),
        ([far("http://b/f"), far("https://b/f")], {}, "https://b/f"),
        ([far("https://b/f")], {"direct_access_wan": False}, None),
        ([Replica(url="root://a//f")], {}, "root://a//f"),
        # not for the payload's eyes
        ([near("https://me:secret@a/f"), near("https://a/f")], {}, "https://a/f"),
        ([near("https://a/f?sig=1&x='2'")], {}, "https://a/f?sig=1&x='2'"),
        ([near("https://a/f?sig=1&x=2"), near("root://a//f%20g")], {"shell": True}, "root://a//f%20g"),
        ([], {}, None),
    ],
)
def test_which_replica_is_read_where_it_lies(replicas, changes, chosen):
    found = replicas_for(replace(QUEUE, **changes), replicas)
    assert [replica.url for replica in found][:1] == ([chosen] if chosen else [])


def test_what_is_read_where_it_lies_keeps_the_order_of_the_replicas():
    replicas = [near("root://b//f"), near("s3://c/f"), near("davs://a/f"), far("root://d//f")]
    assert [replica.url for replica in replicas_for(QUEUE, replicas)] == ["root://b//f", "davs://a/f"]


URL = "root://a//p/AOD.1._01.pool.root.1"
REMOTE = RemoteInputs({FILE.lfn: near(URL)})


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("AOD.1._01.pool.root.1", URL),
        ("--inputAODFile=AOD.1._01.pool.root.1", f"--inputAODFile={URL}"),
        ("./AOD.1._01.pool.root.1", URL),
        ("['AOD.1._01.pool.root.1','b']", f"['{URL}','b']"),
        ("a,AOD.1._01.pool.root.1,AOD.1._01.pool.root.1", f"a,{URL},{URL}"),
        ("read AOD.1._01.pool.root.1.", f"read {URL}."),
        # other names, and what is a place already
        ("AOD.1._01.pool.root.1.bak", None),
        ("AOD.1._01.pool.root.12", None),
        ("NAOD.1._01.pool.root.1", None),
        ("/data/AOD.1._01.pool.root.1", None),
        ("AOD.1._01.pool.root.1/x", None),
        ("AOD_1._01.pool.root.1", None),
    ],
)
def test_a_payload_is_told_urls_in_the_place_of_names(word, told):
    assert REMOTE.argv(PRODUCTION, ["prog", word]) == ("prog", told or word)


def test_a_name_that_begins_another_is_not_taken_for_it():
    remote = RemoteInputs({"f": near("root://a//f"), "f.1": near("root://a//f.1")})
    assert remote.argv(PRODUCTION, ["f.1,f"]) == ("root://a//f.1,root://a//f",)


def test_an_analysis_is_told_by_its_options():
    given = ("./runGen", "-i", "['AOD.1._01.pool.root.1']")
    assert REMOTE.argv(ANALYSIS, given) == (*given, "--usePFCTurl", "--directIn")
    assert REMOTE.argv(ANALYSIS, (*given, "--directIn")) == (*given, "--directIn", "--usePFCTurl")
    assert RemoteInputs().argv(ANALYSIS, given) == given
    line = REMOTE.argv(ANALYSIS, ("/bin/sh", "-c", "./runGen -i x"), shell=True)
    assert line == ("/bin/sh", "-c", "./runGen -i x --usePFCTurl --directIn")


def test_lists_of_inputs_have_the_urls_too():
    job = replace(PRODUCTION, input_lists={"in.txt": (FILE.lfn, "local")})
    assert REMOTE.lists(job) == {"in.txt": [URL, "local"]}
    assert REMOTE.lists(replace(job, transformation=ANALYSIS.transformation)) == {"in.txt": (FILE.lfn, "local")}


def test_the_catalogue_of_files_has_urls_and_names():
    odd = InputFile(lfn='a<&">b', guid="G-2")
    text = REMOTE.pool_file_catalog(replace(PRODUCTION, inputs=(FILE, odd)))
    top = ET.fromstring(text.encode())
    assert top.tag == "POOLFILECATALOG"
    found = [
        (file.get("ID"), file.find("physical/pfn").get("name"), file.find("logical/lfn").get("name"))
        for file in top.findall("File")
    ]
    assert found == [("G-1", URL, FILE.lfn), ("G-2", odd.lfn, odd.lfn)]
    assert top.find("File/physical/pfn").get("filetype") == "ROOT_All"


def test_an_analysis_is_a_job_whose_program_is_fetched():
    assert is_analysis(ANALYSIS)
    assert not is_analysis(PRODUCTION)


@given(st.lists(st.text(st.characters(blacklist_categories=("Cs", "Cc"))), max_size=5))
def test_arguments_without_an_inputs_name_stay_as_they_are(words):
    words = [word for word in words if FILE.lfn not in word]
    assert REMOTE.argv(PRODUCTION, words) == tuple(words)


class Places:
    """Where an input lies, without a queue's storages."""

    def __init__(self, *urls):
        self.replicas = [near(url) for url in urls]

    def ask_for_inputs(self, files, *, cancel):
        """Nobody is asked."""

    def sources(self, file):
        return self.replicas


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({"root://a//f": True, "root://b//f": True}, "root://a//f"),
        ({"root://a//f": False, "root://b//f": True}, "root://b//f"),
        ({"root://a//f": None, "root://b//f": True}, "root://b//f"),
        ({"root://a//f": False, "root://b//f": None}, "root://b//f"),
        ({"root://a//f": None, "root://b//f": None}, "root://a//f"),
        ({"root://a//f": False, "root://b//f": False}, None),
    ],
)
def test_a_place_that_answers_comes_before_one_that_does_not(there, chosen):
    found = remote_inputs(
        PRODUCTION,
        [FILE],
        QUEUE,
        Places(*there),
        cancel=CancelToken(),
        is_there=lambda _file, replica: there[replica.url],
    )
    assert found.replicas == ({FILE.lfn: near(chosen)} if chosen else {})
