"""Where files lie on a storage, by the rules of Rucio."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import Queue, Storage, StorageProtocol, deterministic_path


@pytest.mark.parametrize(
    ("scope", "lfn", "path"),
    [
        # the two bytes are those of `printf %s scope:lfn | md5sum`
        ("mc15_13TeV", "HITS.05608147._000001.pool.root.1", "mc15_13TeV/02/d2/HITS.05608147._000001.pool.root.1"),
        ("user.jdoe", "user.jdoe.1._000001.out.root", "user/jdoe/0f/14/user.jdoe.1._000001.out.root"),
        ("group.phys-higgs", "log.tgz", "group/phys-higgs/d5/2e/log.tgz"),
        ("data.2026", "file", "data.2026/0a/aa/file"),
        ("userfoo.bar", "x", "userfoo/bar/77/e5/x"),
        ("user", "x", "user/f6/b9/x"),
    ],
)
def test_paths_are_those_of_rucio(scope, lfn, path):
    assert deterministic_path(scope, lfn) == path


NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="/\0"), min_size=1, max_size=30
).filter(lambda name: name not in {".", ".."})
SCOPES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(SCOPES, NAMES)
def test_a_path_is_scope_two_bytes_of_the_md5_and_name(scope, lfn):
    digest = hashlib.md5(f"{scope}:{lfn}".encode()).hexdigest()
    folder = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
    assert deterministic_path(scope, lfn).rsplit("/", 3) == [folder, digest[0:2], digest[2:4], lfn]


@pytest.mark.parametrize(
    ("url", "layout", "scope", "lfn", "expected"),
    [
        ("file:///data", "flat", "s", "f", "file:///data/f"),
        ("file:///data/", "flat", "s", "f", "file:///data/f"),
        ("file:///data//", "flat", "", "f", "file:///data/f"),
        ("davs://h:443/p", "rucio", "user.me", "f", None),
        ("davs://h/p", "flat", "s", "a b%c#d?e", "davs://h/p/a%20b%25c%23d%3Fe"),
        ("davs://h/p", "flat", "s", "é", "davs://h/p/%C3%A9"),
        ("root://h//p", "flat", "s", "f", "root://h//p/f"),
    ],
)
def test_urls_lie_below_the_prefix_and_are_encoded(url, layout, scope, lfn, expected):
    storage = Storage(rse="A", url=url, layout=layout)
    expected = expected or f"{url}/{deterministic_path(scope, lfn)}"
    assert storage.url_of(scope, lfn) == expected


@given(NAMES, st.sampled_from(["flat", "rucio"]), SCOPES)
def test_any_name_comes_back_from_its_url_and_stays_below_the_prefix(lfn, layout, scope):
    url = Storage(rse="A", url="davs://host:443/prefix", layout=layout).url_of(scope, lfn)
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("davs", "host:443", "", "")
    assert posixpath.basename(unquote(parts.path)) == lfn
    assert posixpath.normpath(unquote(parts.path)).startswith("/prefix/")
    assert url.isascii()


def test_a_queue_that_says_nothing_is_careful():
    queue = Queue(name="Q")
    assert (queue.heartbeat_seconds, queue.executor, queue.shell, queue.allow_http) == (1800.0, "process", False, False)
    assert queue.pass_environment == queue.transformation_urls == ()


DOORS = Storage(
    rse="A",
    url="root://near//p",
    layout="rucio",
    protocols=(
        StorageProtocol(url="root://near//p", activities=("read_lan", "write_lan")),
        StorageProtocol(url="davs://near/p", activities=("read_lan", "delete")),
        StorageProtocol(url="davs://far/p", activities=("read_wan", "write_wan")),
    ),
)


@pytest.mark.parametrize(
    ("activity", "prefixes"),
    [
        ("read_lan", ("root://near//p", "davs://near/p")),
        ("write_lan", ("root://near//p",)),
        ("read_wan", ("davs://far/p",)),
        ("write_wan", ("davs://far/p",)),
        ("delete", ("davs://near/p",)),
    ],
)
def test_each_activity_has_its_protocols_in_order(activity, prefixes):
    assert DOORS.prefixes(activity) == prefixes
    path = deterministic_path("s", "a b").replace(" ", "%20")
    assert DOORS.urls_of("s", "a b", activity) == tuple(f"{prefix}/{path}" for prefix in prefixes)


def test_who_is_near_may_use_the_protocols_for_those_far_away_but_not_the_other_way_round():
    far = replace(DOORS, protocols=DOORS.protocols[2:])
    assert (far.prefixes("read_lan"), far.prefixes("delete")) == (("davs://far/p",), ("davs://far/p",))
    near = replace(DOORS, protocols=DOORS.protocols[:1])
    assert near.prefixes("read_wan") == (near.url,)


def test_a_protocol_without_activities_is_for_all_and_none_is_named_twice():
    storage = Storage(
        rse="A",
        url="u://x",
        protocols=(StorageProtocol(url="a://h/p"), StorageProtocol(url="a://h/p"), DOORS.protocols[0]),
    )
    assert storage.prefixes("read_lan") == ("a://h/p", "root://near//p")
    assert storage.prefixes("delete") == ("a://h/p",)
    assert Storage(rse="A", url="u://x").prefixes("delete") == ("u://x",)


def test_the_root_of_a_url_is_the_prefix_it_was_made_of():
    near, far = StorageProtocol(url="file:///pool/data/"), StorageProtocol(url="davs://host/pool")
    storage = Storage(rse="X", url="file:///pool", protocols=(near, far))
    assert storage.root_of("file:///pool/data/a/b") == "file:///pool/data"
    assert storage.root_of("file:///pool/else/b") == "file:///pool"
    assert storage.root_of("davs://host/pool/a") == "davs://host/pool"
    assert storage.root_of("file:///pools/b") == ""
    assert replace(storage, made=True).root_of("file:///pool/a") == ""
