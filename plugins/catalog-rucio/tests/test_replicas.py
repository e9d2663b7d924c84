"""Where files lie, by a real Rucio server: order, domains, protocols, names; compared with Rucio's own client."""

import json

import pytest

from pilot_core import InputFile, Queue, RequestRefused, SeenFromQueue
from pilot_core.testing.servers.rucio import NEEDS, KnownFile

pytestmark = pytest.mark.needs(NEEDS)

FILE = InputFile(scope="user.pilot", lfn="in.root")
PLACES = [("NEAR_DISK", ""), ("FAR_DISK", "")]


def told(replicas):
    return [(each.rse, each.domain, each.url.partition(":")[0]) for each in replicas]


def test_each_protocol_of_a_storage_is_a_replica_in_the_order_of_its_priority(server, catalog, limits):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=[("FAR_DISK", "")]))
    found = catalog.replicas([FILE], **limits)["in.root"]
    assert told(found) == [("FAR_DISK", "wan", "root"), ("FAR_DISK", "wan", "davs")]
    assert [each.order for each in found] == [0, 1]
    assert found[1].url.startswith("davs://far.example.org:443/data/user/pilot/")


def test_what_lies_at_the_queues_site_comes_first_by_its_own_door(server, catalog, limits):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=PLACES))
    assert isinstance(catalog, SeenFromQueue)
    for site, near, far in (("HERE", "NEAR_DISK", "FAR_DISK"), ("THERE", "FAR_DISK", "NEAR_DISK")):
        found = catalog.seen_from(Queue(name="Q", site=site)).replicas([FILE], **limits)["in.root"]
        assert [(each.rse, each.domain) for each in found] == [(near, "lan")] * 2 + [(far, "wan")] * 2
    elsewhere = catalog.seen_from(Queue(name="NOWHERE")).replicas([FILE], **limits)["in.root"]
    assert {each.domain for each in elsewhere} == {"wan"}


def test_a_site_in_the_settings_wins_over_the_queues(server, login, make, limits):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=PLACES))
    seen = make(**login, site="THERE").seen_from(Queue(name="Q", site="HERE"))
    assert seen.replicas([FILE], **limits)["in.root"][0].rse == "FAR_DISK"


def test_doors_are_those_of_the_domain(server, catalog, limits):
    """A protocol that serves only from within is not named to those outside, and the other way round."""
    within, outside = ("file:///data/store/", {"read_lan": 1}), ("davs://gate.example.org:443/store/", {"read_wan": 1})
    server.rse("DOORS_DISK", within, outside, site="INSIDE")
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=[("DOORS_DISK", "")]))
    (near,) = catalog.seen_from(Queue(name="INSIDE")).replicas([FILE], **limits)["in.root"]
    (far,) = catalog.replicas([FILE], **limits)["in.root"]
    assert near.url.startswith("file:///data/store/user/pilot/"), near.url
    assert far.url.startswith("davs://gate.example.org:443/store/user/pilot/")


def test_only_schemes_that_are_wanted_are_named(server, login, make, limits):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=PLACES))
    only = make(**login, schemes=("davs",)).replicas([FILE], **limits)["in.root"]
    assert {each.url.partition(":")[0] for each in only} == {"davs"}
    best = make(**login, schemes=()).replicas([FILE], **limits)["in.root"]
    assert sorted(told(best)) == [("FAR_DISK", "wan", "root"), ("NEAR_DISK", "wan", "davs")]
    assert not make(**login, schemes=("srm",)).replicas([FILE], **limits)["in.root"]


def test_a_storage_that_is_not_to_be_read_is_left_out(server, catalog, limits):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=PLACES))
    server.native("client.update_rse('FAR_DISK', {'availability_read': False}); result = 1")
    try:
        assert {each.rse for each in catalog.replicas([FILE], **limits)["in.root"]} == {"NEAR_DISK"}
    finally:
        server.native("client.update_rse('FAR_DISK', {'availability_read': True}); result = 1")


def test_replicas_on_tape_are_named_only_if_that_is_wanted(server, login, make, limits):
    server.rse("SLOW_TAPE", "root://tape.example.org:1094//tape")
    server.native("client.update_rse('SLOW_TAPE', {'rse_type': 'TAPE'}); result = 1")
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=[("SLOW_TAPE", ""), ("FAR_DISK", "")]))
    disk = make(**login).replicas([FILE], **limits)["in.root"]
    every = make(**login, tape=True).replicas([FILE], **limits)["in.root"]
    assert {each.rse for each in disk} == {"FAR_DISK"}
    assert {each.rse for each in every} == {"FAR_DISK", "SLOW_TAPE"}


def test_names_become_urls_that_can_be_asked_for(server, catalog, limits):
    """Rucio puts a name into a URL as it is."""
    server.file(KnownFile(scope="user.pilot", lfn="ä b.root", places=[("NEAR_DISK", "")]))
    file = InputFile(scope="user.pilot", lfn="ä b.root")
    found = catalog.replicas([file], **limits)["ä b.root"]
    assert all(each.url.endswith("/%C3%A4%20b.root") for each in found), found


def test_the_files_of_a_dataset_are_not_what_was_asked_for(server, catalog, limits):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=PLACES))
    server.dataset("user.pilot", "a.dataset")
    dids = [{"scope": "user.pilot", "name": "in.root"}]
    server.native(f"client.attach_dids('user.pilot', 'a.dataset', {dids}); result = 1")
    assert not catalog.replicas([InputFile(scope="user.pilot", lfn="a.dataset")], **limits)


def test_many_files_take_few_requests(server, catalog, limits):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=PLACES))
    nobody = [InputFile(scope="user.pilot", lfn=f"{number}.root") for number in range(1100)]
    found = catalog.replicas([*nobody, FILE], **limits)
    assert [lfn for lfn, replicas in found.items() if replicas] == ["in.root"]
    assert server.requests() == ["GET /auth/userpass", *["POST /replicas/list"] * 3]


def test_an_order_that_rucio_does_not_know_is_refused_in_one_line(server, login, make, limits):
    server.file(KnownFile(scope="user.pilot", lfn="in.root", places=PLACES))
    with pytest.raises(
        RequestRefused, match=r"replicas of user\.pilot:in\.root at .*SortingAlgorithmNotSupported"
    ) as error:
        make(**login, sort="by-colour").replicas([FILE], **limits)
    assert "\n" not in str(error.value)


def test_rucios_own_client_sees_the_same(server, catalog, limits):
    """Same places in the same order, but for names that have to be encoded."""
    for number in range(5):
        places = [PLACES, PLACES[:1], PLACES[1:], [], PLACES][number]
        server.file(KnownFile(scope="user.pilot", lfn=f"{number}.root", size=number, places=places))
    files = [InputFile(scope="user.pilot", lfn=f"{number}.root") for number in range(6)]
    dids = json.dumps([{"scope": file.scope, "name": file.lfn} for file in files])
    for site in ("HERE", "THERE"):
        schemes = ["root", "roots", "davs", "dav", "https", "http", "s3", "s3+https", "file"]
        asked = f"client.list_replicas({dids}, schemes={schemes}, client_location={{'site': {site!r}}})"
        theirs = {row["name"]: row["pfns"] for row in server.native(f"result = list({asked})")}
        ours = catalog.seen_from(Queue(name=site)).replicas(files, **limits)
        assert theirs.keys() == ours.keys() == {file.lfn for file in files[:5]}
        for lfn, replicas in ours.items():
            due = [(pfn, row["rse"], row["domain"]) for pfn, row in theirs[lfn].items()]
            assert [(each.url, each.rse, each.domain) for each in replicas] == due
