"""Which backend is tried with which replica, in which order, and what a failed attempt leads to."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import errors
from pilot_core.api.provider import Provider
from pilot_core.api.staging import Replica
from pilot_core.selection import Candidate, NextStep, candidates, explain, next_step, remaining, scheme_of


def stager(name, *schemes, priority=50, capabilities=()):
    return Provider(
        name=name,
        factory=lambda settings, context: None,
        schemes=frozenset(schemes),
        priority=priority,
        capabilities=frozenset(capabilities),
    )


HTTP = stager("http", "http", "https")
XROOTD = stager("xrootd", "root", "https", priority=40)
FILE = stager("file", "file")
S3 = stager("s3", "https", capabilities=("resume",))
A = Replica(url="https://a/f", rse="A", order=0)
B = Replica(url="https://b/f", rse="B", order=1)
ROOT = Replica(url="root://c//f", rse="C", order=2)


def order(stagers, replicas, **options):
    options = {"activity": "read", "site_order": {}, **options}
    return [(item.stager.name, item.replica.rse) for item in candidates(stagers, replicas, **options)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(
            {},
            [("xrootd", "A"), ("http", "A"), ("s3", "A"), ("xrootd", "B"), ("http", "B"), ("s3", "B"), ("xrootd", "C")],
            id="replica order, then priority, then name",
        ),
        pytest.param(
            {"site_order": {"read": ("s3", "http")}},
            [("s3", "A"), ("s3", "B"), ("http", "A"), ("http", "B"), ("xrootd", "A"), ("xrootd", "B"), ("xrootd", "C")],
            id="the site's order comes first, what it does not name last",
        ),
        pytest.param(
            {"site_order": {"write": ("s3",)}},
            [("xrootd", "A"), ("http", "A"), ("s3", "A"), ("xrootd", "B"), ("http", "B"), ("s3", "B"), ("xrootd", "C")],
            id="the order of another activity means nothing",
        ),
        pytest.param({"needed": frozenset({"resume"})}, [("s3", "A"), ("s3", "B")], id="needed capability"),
        pytest.param(
            {"unhealthy": frozenset({"http"}), "blocked": {"xrootd": "blocked by [plugins] block"}},
            [("s3", "A"), ("http", "A"), ("s3", "B"), ("http", "B")],
            id="failed lately comes after its equals",
        ),
        pytest.param(
            {"unhealthy": frozenset({"xrootd"}), "needed": frozenset(), "blocked": {"s3": "x"}},
            [("xrootd", "A"), ("http", "A"), ("xrootd", "B"), ("http", "B"), ("xrootd", "C")],
            id="a better priority outweighs health",
        ),
        pytest.param(
            {"storage_stagers": {"A": ("s3", "http"), "B": ("http",)}},
            [("s3", "A"), ("http", "B"), ("http", "A"), ("xrootd", "C")],
            id="a storage's own stagers, in their order, and no others",
        ),
    ],
)
def test_order_of_candidates(options, expected):
    assert order([HTTP, XROOTD, FILE, S3], [A, B, ROOT], **options) == expected


def test_the_log_goes_the_way_of_the_outputs_where_the_site_says_nothing_of_it():
    assert order([HTTP, S3], [A], activity="log", site_order={"write": ("s3",)}) == [("s3", "A"), ("http", "A")]
    both = {"write": ("s3",), "log": ("http",)}
    assert order([HTTP, S3], [A], activity="log", site_order=both) == [("http", "A"), ("s3", "A")]


def test_what_lies_nearby_comes_before_what_lies_elsewhere_whatever_the_sites_order_of_backends():
    near, far = Replica(url="https://a/f", rse="A", order=1, domain="lan"), replace(ROOT, domain="wan", order=0)
    options = {"activity": "read", "site_order": {"read": ("xrootd", "http")}}
    assert order([HTTP, XROOTD], [far, near], **options) == [("xrootd", "A"), ("http", "A"), ("xrootd", "C")]
    verdicts = explain([HTTP, stager("xrootd", "root")], [far, near], **options)
    placed = [(v.stager.name, v.rule, v.text) for v in verdicts if v.place]
    assert placed == [("http", "domain", "it lies nearby"), ("xrootd", "domain", "it lies elsewhere")]


@pytest.mark.parametrize(
    ("url", "scheme"),
    [("HTTPS://x/y", "https"), ("root://x//y", "root"), ("/a/b", ""), ("", ""), ("http://[::1", "http"), (":", "")],
)
def test_scheme_of_a_url(url, scheme):
    assert scheme_of(url) == scheme


def test_explain_names_the_rule_for_each_place_and_each_exclusion():
    verdicts = explain(
        [HTTP, XROOTD, FILE, S3],
        [A],
        activity="read",
        site_order={"read": ("http",)},
        needed=frozenset(),
        blocked={"s3": "blocked by [plugins] block = ['s3']"},
    )
    assert [(v.stager.name, v.place, v.rule, v.text) for v in verdicts] == [
        ("http", 1, "site", "the site's order names it as 1"),
        ("xrootd", 2, "site", "the site's order does not name it"),
        ("file", None, "scheme", "serves file, not https"),
        ("s3", None, "blocked", "blocked by [plugins] block = ['s3']"),
    ]


def test_explain_names_storage_capability_and_the_only_candidate():
    verdicts = explain(
        [HTTP, XROOTD, S3],
        [A],
        activity="read",
        site_order={},
        needed=frozenset({"resume"}),
        storage_stagers={"A": ("s3", "http")},
    )
    assert [(v.stager.name, v.place, v.rule, v.text) for v in verdicts] == [
        ("s3", 1, "only", "the only candidate"),
        ("http", None, "capability", "lacks resume"),
        ("xrootd", None, "storage", "the storage A is to be reached by s3, http only"),
    ]


@pytest.mark.parametrize(
    ("second", "options", "rule"),
    [
        (stager("zz", "https", priority=60), {}, "priority"),
        (stager("aa", "https"), {"unhealthy": frozenset({"aa"})}, "health"),
        (stager("zz", "https"), {}, "name"),
    ],
)
def test_the_deciding_rule_is_the_first_that_tells_two_neighbours_apart(second, options, rule):
    verdicts = explain([second, HTTP], [A], activity="read", site_order={}, **options)
    assert [v.stager.name for v in verdicts] == ["http", second.name]
    assert {v.rule for v in verdicts} == {rule}


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (errors.SourceNotFound("x"), NextStep.NEXT_REPLICA),
        (errors.ChecksumMismatch("x"), NextStep.NEXT_REPLICA),
        (errors.SizeMismatch("x"), NextStep.NEXT_REPLICA),
        (errors.BackendUnavailable("x"), NextStep.NEXT_BACKEND),
        (errors.AuthError("x"), NextStep.NEXT_BACKEND),
        (errors.TransientError("x", retry_after=3), NextStep.RETRY),
        (errors.TransferTimeout("x"), NextStep.RETRY),
        (errors.NoSpace("x"), NextStep.STOP),
        (errors.Cancelled("x"), NextStep.STOP),
        (KeyboardInterrupt(), NextStep.STOP),
        (errors.TargetExists("x"), NextStep.NEXT_REPLICA),
        (errors.TransferError("says nothing"), NextStep.PLUGIN_BUG),
        (errors.ConfigError("x"), NextStep.PLUGIN_BUG),
        (OSError(5, "x"), NextStep.PLUGIN_BUG),
        (SystemExit(0), NextStep.PLUGIN_BUG),
        (ValueError("x"), NextStep.PLUGIN_BUG),
    ],
)
def test_the_class_of_the_error_says_what_happens_next(error, step):
    assert next_step(error) is step


def test_every_transfer_error_but_the_bare_one_has_its_own_next_step():
    found = {errors.TransferError}
    while new := {sub for kind in found for sub in kind.__subclasses__()} - found:
        found |= new
    ours = {kind for kind in found if kind.__module__ == errors.__name__} - {errors.TransferError}
    assert {next_step(kind("x")) for kind in ours} == set(NextStep) - {NextStep.PLUGIN_BUG}


QUEUE = [Candidate(one, replica) for replica in (A, B) for one in (HTTP, S3)]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (NextStep.NEXT_REPLICA, [("http", "B"), ("s3", "B")]),
        (NextStep.NEXT_BACKEND, [("s3", "A"), ("s3", "B"), ("http", "B")]),
        (NextStep.PLUGIN_BUG, [("s3", "A"), ("s3", "B"), ("http", "B")]),
        (NextStep.RETRY, [("s3", "A"), ("http", "B"), ("s3", "B")]),
        (NextStep.STOP, []),
    ],
)
def test_what_is_left_after_a_failed_attempt(step, left):
    assert [(item.stager.name, item.replica.rse) for item in remaining(QUEUE, QUEUE[0], step)] == left


names = st.sampled_from(["http", "s3", "xrootd", "file"])
schemes = st.sampled_from(["http", "https", "root", "file"])
stagers = st.lists(
    st.builds(
        lambda name, some, priority, can: stager(name, *some, priority=priority, capabilities=can),
        names,
        st.sets(schemes),
        st.integers(0, 3),
        st.sets(st.sampled_from(["resume", "checksum:md5"])),
    ),
    max_size=4,
)
replicas = st.lists(
    st.builds(
        Replica,
        url=st.one_of(st.text(max_size=8), st.builds("{}://{}/f".format, schemes, st.sampled_from("ab"))),
        rse=st.sampled_from(["", "A", "B"]),
        order=st.integers(0, 2),
    ),
    max_size=4,
)
options = st.fixed_dictionaries(
    {
        "activity": st.sampled_from(["read", "write", "log", ""]),
        "site_order": st.dictionaries(st.sampled_from(["read", "write", "log"]), st.lists(names, max_size=3)),
        "needed": st.frozensets(st.sampled_from(["resume", "checksum:md5"])),
        "unhealthy": st.frozensets(names),
        "blocked": st.dictionaries(names, st.text(min_size=1, max_size=3), max_size=2),
        "storage_stagers": st.dictionaries(st.sampled_from(["A", "B"]), st.lists(names, max_size=2)),
    }
)


@given(stagers, replicas, options, st.randoms(use_true_random=False))
def test_the_order_of_the_arguments_plays_no_part(some, places, given_options, random: Random):
    first = candidates(some, places, **given_options)
    mixed_stagers, mixed_places = list(some), list(places)
    random.shuffle(mixed_stagers)
    random.shuffle(mixed_places)
    again = candidates(mixed_stagers, mixed_places, **given_options)
    seen = [(item.stager.name, item.stager.priority, item.replica) for item in first]
    assert seen == [(item.stager.name, item.stager.priority, item.replica) for item in again]


@given(stagers, replicas, options)
def test_every_pair_has_one_verdict_and_every_candidate_can_serve(some, places, given_options):
    verdicts = explain(some, places, **given_options)
    pairs = [(verdict.stager.name, verdict.replica) for verdict in verdicts]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {(one.name, place) for one in some for place in places}
    chosen = [verdict for verdict in verdicts if verdict.place is not None]
    assert [verdict.place for verdict in chosen] == list(range(1, len(chosen) + 1))
    assert all(verdict.text for verdict in verdicts)
    for verdict in chosen:
        assert scheme_of(verdict.replica.url) in verdict.stager.schemes
        assert given_options["needed"] <= verdict.stager.capabilities
        assert verdict.stager.name not in given_options["blocked"]


@given(stagers, replicas, options, st.data())
def test_attempts_come_to_an_end_whatever_happens(some, places, given_options, data):
    queue = candidates(some, places, **given_options)
    while queue:
        left = remaining(queue, queue[0], data.draw(st.sampled_from(NextStep)))
        assert len(left) < len(queue)
        assert all(item in queue for item in left)
        queue = left
