"""Outputs entered into a real Rucio server, and the places that it names for them; read back by its own client."""

import json

import pytest

from pilot_core import CommunicationError, NamesDestinations, OutputFile, Queue, RequestRefused, deterministic_path
from pilot_core.testing.loopback import Reaction
from pilot_core.testing.servers.rucio import NEEDS, KnownFile

pytestmark = pytest.mark.needs(NEEDS)

LFN = "out.root"
PATH = deterministic_path("user.pilot", LFN)
HTTPS, ROOT = f"davs://near.example.org:443/data/{PATH}", f"root://near.example.org:1094//data/{PATH}"


# -- places to write to ------------------------------------------------------------------------------------------------


def test_places_to_write_to_are_by_near_doors_first(server, catalog, limits):
    assert isinstance(catalog, NamesDestinations)
    files = [OutputFile(scope="user.pilot", lfn=LFN), OutputFile(scope="data26", lfn="b.root")]
    near = catalog.seen_from(Queue(name="HERE")).destinations("NEAR_DISK", files, **limits)
    assert [(each.url, each.order, each.domain) for each in near[LFN]] == [(HTTPS, 0, "lan"), (ROOT, 1, "lan")]
    far = catalog.destinations("NEAR_DISK", files, **limits)
    assert [(each.url, each.domain, each.root) for each in far[LFN]] == [
        (HTTPS, "wan", "davs://near.example.org:443/data"),
        (ROOT, "wan", "root://near.example.org:1094//data"),
    ]
    assert far["b.root"][0].url == f"davs://near.example.org:443/data/{deterministic_path('data26', 'b.root')}"


def test_a_door_is_named_for_what_it_is_for(server, login, make, limits):
    read_only, last = ("davs://a.example.org:443/", {"read_wan": 1}), ("root://b.example.org:1094//", {"write_wan": 2})
    best, inner = ("https://c.example.org:443/", {"write_wan": 1}), ("file:///in/", {"write_lan": 1, "read_lan": 1})
    server.rse("DOORS_DISK", read_only, last, best, inner, site="INSIDE")
    files = [OutputFile(scope="user.pilot", lfn=LFN)]
    far = make(**login).destinations("DOORS_DISK", files, **limits)[LFN]
    assert [each.url.partition(":")[0] for each in far] == ["https", "root"]
    near = make(**login, site="INSIDE").destinations("DOORS_DISK", files, **limits)[LFN]
    assert [each.url.partition(":")[0] for each in near] == ["file", "https", "root"]
    assert near[0].url == f"file:///in/{PATH}"
    with pytest.raises(RequestRefused, match=r"no protocol to write with from here \(s3\)"):
        make(**login, schemes=("s3",)).destinations("DOORS_DISK", files, **limits)


def test_what_is_stored_at_a_place_of_rucios_can_be_registered_there(server, catalog, outputs, limits):
    names = [f"{number}.root" for number in range(30)]
    places = catalog.destinations("FAR_DISK", [OutputFile(scope="user.pilot", lfn=lfn) for lfn in names], **limits)
    job, reports = outputs("FAR_DISK", {lfn: places[lfn][0].url for lfn in names})
    catalog.register(job, reports, **limits)
    assert {row["url"] for row in server.entries()} == {places[lfn][0].url for lfn in names}


def test_a_storage_that_takes_no_files_is_refused(server, catalog, limits):
    server.rse("NO_RULE_DISK", "davs://x.example.org:443/", deterministic=False)
    server.rse("SHUT_DISK", "davs://x.example.org:443/")
    server.native("client.update_rse('SHUT_DISK', {'availability_write': False}); result = 1")
    files = [OutputFile(scope="user.pilot", lfn=LFN)]
    for rse, why in {"NOBODYS": "RSENotFound", "NO_RULE_DISK": "no rule", "SHUT_DISK": "takes no files"}.items():
        with pytest.raises(RequestRefused, match=why):
            catalog.destinations(rse, files, **limits)
    assert catalog.destinations("NOBODYS", [], **limits) == {}


# -- registration ------------------------------------------------------------------------------------------------------


def test_rucios_own_client_reads_what_was_registered(server, login, make, outputs, limits):
    server.dataset("user.pilot", "user.pilot.out")
    job, reports = outputs("NEAR_DISK", {LFN: HTTPS}, dataset="user.pilot.out")
    make(**login, attach=True).register(job, reports, **limits)
    read = server.native(
        "file = client.get_metadata('user.pilot', 'out.root')\n"
        "(replica,) = client.list_replicas([{'scope': 'user.pilot', 'name': 'out.root'}], schemes=['davs'])\n"
        "content = [row['name'] for row in client.list_content('user.pilot', 'user.pilot.out')]\n"
        "names = ('bytes', 'adler32', 'guid', 'account')\n"
        "result = {**{n: file[n] for n in names}, 'pfns': list(replica['pfns']), 'content': content,"
        " 'states': replica['states']}"
    )
    assert read == {
        "bytes": 7,
        "adler32": "00000007",
        "guid": "0a1b2c3d4e5f46789abc000000000007",
        "account": "root",
        "pfns": [HTTPS],
        "content": [LFN],
        "states": {"NEAR_DISK": "AVAILABLE"},
    }


def test_what_rucios_own_client_registered_is_known_already(server, catalog, outputs, limits):
    file = {"scope": "user.pilot", "name": LFN, "bytes": 7, "adler32": "00000007", "pfn": HTTPS}
    server.native(f"client.add_replicas('NEAR_DISK', {json.dumps([file])}); result = 1")
    server.requests()
    job, reports = outputs("NEAR_DISK", {LFN: HTTPS})
    catalog.register(job, reports, **limits)
    assert "POST /replicas" not in server.requests()
    for change in ({"size": 8}, {"checksum": "adler32:deadbeef"}):
        job, reports = outputs("NEAR_DISK", {LFN: HTTPS}, **change)
        with pytest.raises(RequestRefused, match="is known to Rucio with 7 bytes and adler32:00000007"):
            catalog.register(job, reports, **limits)


def test_a_second_place_of_a_known_file_is_added(server, catalog, outputs, limits):
    server.file(KnownFile(scope="user.pilot", lfn=LFN, size=7, adler32="00000007", places=[("FAR_DISK", "")]))
    job, reports = outputs("NEAR_DISK", {LFN: ROOT})
    catalog.register(job, reports, **limits)
    assert {row["rse"] for row in server.entries()} == {"FAR_DISK", "NEAR_DISK"}


def test_a_replica_that_was_announced_becomes_available(server, catalog, outputs, limits):
    """Rucio's upload announces a replica before the file is there (state COPYING)."""
    file = {"scope": "user.pilot", "name": LFN, "bytes": 7, "adler32": "00000007", "state": "C"}
    server.native(f"client.add_replicas('NEAR_DISK', {json.dumps([file])}); result = 1")
    assert [row["state"] for row in server.entries()] == ["C"]
    job, reports = outputs("NEAR_DISK", {LFN: ROOT})
    catalog.register(job, reports, **limits)
    assert [row["state"] for row in server.entries()] == ["A"]


def test_a_file_stored_by_a_door_that_rucio_does_not_know_is_registered_if_it_is_at_its_place(
    server, catalog, outputs, limits
):
    server.rse("ONE_DISK", "davs://near.example.org:443/data")
    job, reports = outputs("ONE_DISK", {LFN: f"file:///pool/data/{PATH}"})
    catalog.register(job, reports, **limits)
    assert [row["url"] for row in server.entries()] == [HTTPS]
    job, reports = outputs("ONE_DISK", {"other.root": "file:///pool/data/other.root"})
    with pytest.raises(RequestRefused, match="RSEProtocolNotSupported"):
        catalog.register(job, reports, **limits)


@pytest.mark.parametrize(
    ("rse", "surl", "why"),
    [
        ("NEAR_DISK", "davs://near.example.org:443/data/elsewhere/out.root", "InvalidPath"),
        ("NEAR_DISK", f"davs://stranger.example.org:443/data/{PATH}", "InvalidPath"),
        ("NOBODYS", HTTPS, "RSENotFound"),
        ("", HTTPS, "on no storage"),
    ],
)
def test_what_rucio_cannot_have_is_refused_in_one_line(server, catalog, outputs, limits, rse, surl, why):
    job, reports = outputs(rse, {LFN: surl})
    with pytest.raises(RequestRefused, match=why) as error:
        catalog.register(job, reports, **limits)
    assert str(error.value).isprintable()
    assert not server.entries()


def test_a_checksum_that_rucio_has_no_place_for_is_refused(server, catalog, outputs, limits):
    job, reports = outputs("NEAR_DISK", {LFN: HTTPS}, checksum=f"sha256:{'0' * 64}")
    with pytest.raises(RequestRefused, match="adler32 and md5 only"):
        catalog.register(job, reports, **limits)


def test_a_dataset_that_is_not_there_is_told(server, login, make, outputs, limits):
    job, reports = outputs("NEAR_DISK", {LFN: HTTPS}, dataset="data26:nobodys")
    with pytest.raises(RequestRefused, match=r"putting outputs into data26:nobodys .*DataIdentifierNotFound"):
        make(**login, attach=True).register(job, reports, **limits)


def test_outputs_are_put_into_their_datasets_once_each(server, login, make, outputs, limits):
    for scope, name in (("user.pilot", "one"), ("data26", "two")):
        server.dataset(scope, name)
    catalog = make(**login, attach=True)
    for dataset, lfn in (("one", "a.root"), ("data26:two", "b.root"), ("one", "c.root"), ("one", "a.root")):
        place = f"davs://near.example.org:443/data/{deterministic_path('user.pilot', lfn)}"
        job, reports = outputs("NEAR_DISK", {lfn: place}, dataset=dataset)
        catalog.register(job, reports, **limits)
    assert server.contents("user.pilot", "one") == ["user.pilot:a.root", "user.pilot:c.root"]
    assert server.contents("data26", "two") == ["user.pilot:b.root"]


def test_an_answer_that_was_lost_makes_no_second_entry(server, between, outputs, limits):
    server.dataset("user.pilot", "user.pilot.out")
    lost = []

    def spoil(request, data):
        first = request.target not in lost
        lost.append(request.target)
        return Reaction(data=b"" if first else data, then="reset" if first else "keep")

    job, reports = outputs("NEAR_DISK", {LFN: HTTPS}, dataset="user.pilot.out")
    between(spoil, attach=True, tries=3).register(job, reports, **limits)
    assert {"/replicas/list", "/replicas", "/dids/attachments"} <= set(lost)
    assert [(row["name"], row["sizes"]) for row in server.entries()] == [(LFN, [7, 7])]
    assert server.contents("user.pilot", "user.pilot.out") == [f"user.pilot:{LFN}"]


def test_another_file_that_came_in_meanwhile_is_noticed(server, between, outputs, limits):
    """Rucio accepts the second one without a word, and keeps the first."""

    def spoil(request, data):
        if request.target == "/replicas/list" and not server.entries():
            server.file(KnownFile(scope="user.pilot", lfn=LFN, size=99, adler32="00000063", places=[("FAR_DISK", "")]))
        return Reaction(data=data)

    job, reports = outputs("NEAR_DISK", {LFN: HTTPS})
    with pytest.raises(RequestRefused, match="is known to Rucio with 99 bytes"):
        between(spoil).register(job, reports, **limits)


def test_a_registration_that_has_no_effect_is_no_success(server, between, said, outputs, limits):
    def swallow(request, data):
        return Reaction(data=said(200) if request.target == "/replicas/list" else data)

    job, reports = outputs("NEAR_DISK", {LFN: HTTPS})
    with pytest.raises(CommunicationError, match="and does not know it then"):
        between(swallow).register(job, reports, **limits)
