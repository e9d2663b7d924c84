"""The URL's grammar: what it says, and what is wrong with it in one line."""

import re
import string
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_stager_fault.grammar import parse
from pilot_stager_fault.kinds import KINDS, MOVING, OPERATIONS, documentation

from pilot_core import BackendUnavailable, Storage

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize(
    ("url", "real", "names"),
    [
        ("fault://none/file:///data/x", "file:///data/x", ["none"]),
        ("FAULT://none/file:///data/x", "file:///data/x", ["none"]),
        ("fault://slow;rate=5,transient;first=2/davs://h:1/a//b?c=d#e", "davs://h:1/a//b?c=d#e", ["slow", "transient"]),
        ("fault://none/fault://hang/s3://b/k", "fault://hang/s3://b/k", ["none"]),
        ("fault://none/file:///a%2Fb;c,d", "file:///a%2Fb;c,d", ["none"]),
    ],
)
def test_the_real_url_stands_there_as_it_is(url, real, names):
    found = parse(url)
    assert found.url == real
    assert [fault.kind.name for fault in found.faults] == names


def test_keys_say_when_and_how():
    [fault] = parse(
        "fault://transient;first=2;after=1;retry-after=0.5;on=stat+fetch;probability=0.25;seed=a%2Cb/x:y"
    ).faults
    assert (fault.first, fault.after, fault.probability, fault.seed) == (2, 1, 0.25, "a,b")
    assert fault.operations == ("stat", "fetch")
    assert fault.values == {"retry-after": 0.5}
    assert [fault.kind.name for fault in parse("fault://none/x:y").due("fetch", 1)] == ["none"]


@given(first=st.none() | st.integers(1, 5), after=st.integers(0, 5), attempt=st.integers(1, 15))
def test_a_fault_lets_the_first_attempts_through_and_strikes_the_next(first, after, attempt):
    keys = f";after={after}" + (f";first={first}" if first else "")
    due = parse(f"fault://auth{keys}/x:y").due("fetch", attempt)
    assert bool(due) is (attempt > after and (first is None or attempt <= after + first))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("fault://none", "not the URL of a storage that fails; write it like fault://transient;first=2/file:///data/x"),
        ("fault:///file:///x", "unknown fault ''; known: auth, "),
        ("fault://none/data/x", "not the URL of a storage that fails; "),
        ("fault:none/file:///x", "not the URL of a storage that fails; "),
        ("fault://trnsient/file:///x", "unknown fault 'trnsient'; did you mean 'transient'?"),
        ("fault://transient;frst=2/file:///x", "unknown key 'frst' of transient; did you mean 'first'?"),
        ("fault://transient;first/file:///x", "transient: write first=VALUE, once"),
        ("fault://transient;first=1;first=2/file:///x", "transient: write first=VALUE, once"),
        ("fault://transient;first=0/file:///x", "transient: first=0: must be 1 or more"),
        ("fault://transient;first=x/file:///x", "transient: first='x': must be a whole number"),
        ("fault://transient;first=1.5/file:///x", "transient: first='1.5': must be a whole number"),
        ("fault://transient;after=-1/file:///x", "transient: after=-1: must be 0 or more"),
        ("fault://transient;probability=2/file:///x", "transient: probability=2 is above 1"),
        ("fault://slow;rate=0/file:///x", "slow: rate=0: must be 0.001 or more"),
        ("fault://slow;rate=nan/file:///x", "slow: rate='nan': must be a number"),
        ("fault://slow;first=%0A/file:///x", "slow: first='\\n': must be a whole number"),
        ("fault://slow;on=stat/file:///x", "slow: cannot strike stat, only fetch, store"),
        ("fault://auth;on=fetsh/file:///x", "auth: on='fetsh'; did you mean 'fetch'?"),
        ("fault://auth,/file:///x", "unknown fault ''; known: auth, "),
    ],
)
def test_what_is_wrong_with_a_url_is_one_line(url, message):
    with pytest.raises(BackendUnavailable) as caught:
        parse(url)
    assert str(caught.value).startswith(f"{url}: {message}")
    assert "\n" not in str(caught.value)


def test_a_password_before_the_faults_is_told_without_it():
    with pytest.raises(BackendUnavailable) as caught:
        parse("fault://u:canary@none/file:///x")
    assert str(caught.value) == "fault://none/file:///x: user and password belong into the real URL, behind the faults"


@given(st.text() | st.text(alphabet="fault:/;,=.0129transieon").map("fault://".__add__))
def test_whatever_a_url_is_it_can_be_taken_apart_or_is_told_in_one_line(url):
    message = "."
    try:
        parse(url)
    except BackendUnavailable as error:
        message = str(error)
    assert len(message.splitlines()) == 1


@st.composite
def faults(draw):
    kind = draw(st.sampled_from(list(KINDS.values())))
    seed = draw(st.text(string.printable))
    first = draw(st.integers(1, 10**9))
    return f"{kind.name};first={first};seed={quote(seed, safe='')}", kind, first, seed


@given(st.lists(faults(), min_size=1, max_size=3), st.text(st.characters(codec="utf-8")))
def test_a_url_that_was_put_together_comes_apart_again(made, rest):
    found = parse(f"fault://{','.join(text for text, *_ in made)}/file:{rest}")
    assert found.url == f"file:{rest}"
    assert [(fault.kind, fault.first, fault.seed) for fault in found.faults] == [tuple(item[1:]) for item in made]


def test_a_fault_strikes_what_it_can():
    for kind in KINDS.values():
        assert set(kind.operations) <= set(OPERATIONS)
        assert set(parse(f"fault://{kind.name}/x:y").faults[0].operations) == set(kind.operations) & set(MOVING)


def test_a_storage_of_a_queue_may_be_one_that_fails():
    storage = Storage(rse="R", url="fault://transient;first=2,slow;rate=9/file:///data", layout="rucio")
    found = parse(storage.url_of("user.x", "a b,c;d"))
    assert found.url.startswith("file:///data/user/x/")
    assert found.url.endswith("/a%20b%2Cc%3Bd")


def test_the_readme_has_the_tables_and_storages_that_can_be_read():
    text = README.read_text()
    assert documentation() in text
    [toml] = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    urls = re.findall(r'^url = "(.*)"$', toml, re.MULTILINE)
    assert [[fault.kind.name for fault in parse(f"{url}/f").faults] for url in urls] == [
        ["transient", "slow"],
        ["no-space"],
    ]
