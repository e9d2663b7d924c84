"""Where a job's files lie and go: what the queue says, what the catalogue knows, what the server suggests."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import (
    AuthError,
    Cancelled,
    CancelToken,
    CommunicationError,
    InputFile,
    Job,
    JobDescriptionError,
    OutputFile,
    PilotErrorCode,
    Queue,
    Replica,
    RequestRefused,
    Storage,
    StorageProtocol,
    TransferError,
    TransferTimeout,
    deterministic_path,
)
from pilot_core.catalogs import PATIENCE, Catalogue
from pilot_core.logs import job_logger
from pilot_core.routes import Routes
from pilot_core.testing.clock import FakeClock

PATH = deterministic_path("s", "f")
FILE = InputFile(lfn="f", scope="s")
OUT = OutputFile(lfn="out", scope="s")


def protocols(*pairs):
    return tuple(StorageProtocol(url=url, activities=tuple(activities.split())) for url, activities in pairs)


NEAR = Storage(
    rse="NEAR",
    url="root://near//p",
    layout="rucio",
    protocols=protocols(
        ("root://near//p", "read_lan"),
        ("davs://near/p", "read_lan write_lan delete"),
        ("davs://door/p", "read_wan write_wan"),
    ),
)
SCRATCH = Storage(rse="SCRATCH", url="file:///scratch")
FAR = Storage(rse="FAR", url="davs://far/p", layout="rucio")
QUEUE = Queue(
    name="Q",
    storages={storage.rse: storage for storage in (NEAR, SCRATCH, FAR)},
    read=("NEAR", "SCRATCH"),
    write=("NEAR", "SCRATCH"),
)


class Catalog:
    """A catalogue that knows some replicas, and may be in trouble."""

    def __init__(self, replicas=(), trouble=None, places=()):
        self.known = {"f": [Replica(url=url, rse=rse, order=n) for n, (rse, url) in enumerate(replicas)]}
        self.trouble = trouble
        self.places = dict(places)
        self.asked = []
        self.deadlines = []

    def replicas(self, files, *, cancel, deadline):
        self.asked.append([file.lfn for file in files])
        self.deadlines.append(deadline.remaining())
        if self.trouble:
            raise self.trouble
        return self.known


class Naming(Catalog):
    """One that names places to write to as well."""

    def destinations(self, rse, files, *, cancel, deadline):
        self.asked.append((rse, [file.lfn for file in files]))
        if rse not in self.places:
            raise RequestRefused(f"no RSE {rse}")
        return {file.lfn: [Replica(url=f"{self.places[rse]}/{file.lfn}", rse=rse)] for file in files}


def catalogue(made):
    return Catalogue(name="tiny", made=made, clock=FakeClock(), log=job_logger(7, "catalog"))


def routes(queue=QUEUE, catalog=None, **job):
    found = Routes(queue, Job(id=7, transformation="x", **job), catalogue(catalog) if catalog else None)
    found.ask_for_inputs([FILE], cancel=CancelToken())
    return found


def urls(replicas):
    assert [replica.order for replica in replicas] == list(range(len(replicas)))
    return [replica.url for replica in replicas]


def problem(call, *arguments):
    with pytest.raises(TransferError) as caught:
        call(*arguments)
    return str(caught.value), caught.value.error_code


# -- inputs by the queue alone -----------------------------------------------------------------------------------------


def test_an_input_is_read_by_each_protocol_for_that_from_each_storage_in_order():
    found = routes().sources(FILE)
    assert urls(found) == [f"root://near//p/{PATH}", f"davs://near/p/{PATH}", "file:///scratch/f"]
    assert {replica.domain for replica in found} == {"lan"}
    assert [replica.root for replica in found] == ["root://near//p", "davs://near/p", "file:///scratch"]


def test_storages_elsewhere_come_last_and_by_their_protocols_for_those_afar():
    queue = replace(QUEUE, read=("SCRATCH",), read_wan=("NEAR", "FAR"))
    found = routes(queue).sources(FILE)
    assert urls(found) == ["file:///scratch/f", f"davs://door/p/{PATH}", f"davs://far/p/{PATH}"]
    assert [replica.domain for replica in found] == ["lan", "wan", "wan"]


def test_the_servers_suggestion_is_the_place_where_it_is_described():
    assert urls(routes().sources(replace(FILE, rse="FAR"))) == [f"davs://far/p/{PATH}"]
    assert urls(routes().sources(replace(FILE, rse="NOWHERE")))[0] == f"root://near//p/{PATH}"


def test_a_queue_allows_schemes_in_its_order_and_no_others():
    queue = replace(QUEUE, schemes={"read": ("davs", "root"), "write": ("file",)})
    assert urls(routes(queue).sources(FILE)) == [f"davs://near/p/{PATH}", f"root://near//p/{PATH}"]
    assert urls(routes(queue).destinations(OUT, "write")) == ["file:///scratch/out"]
    assert urls(routes(queue).destinations(OUT, "log")) == ["file:///scratch/out"]
    assert problem(routes(replace(QUEUE, schemes={"read": ("s3",)})).sources, FILE) == (
        "input f: queue Q has no storage to read it from by the schemes s3",
        PilotErrorCode.NOSTORAGEPROTOCOL,
    )
    assert problem(routes(replace(QUEUE, schemes={"log": ("s3",)})).destinations, OUT, "log") == (
        "output out: queue Q has no storage to write it to by the schemes s3",
        PilotErrorCode.NOSTORAGEPROTOCOL,
    )


def test_a_queue_that_is_not_to_read_nearby_does_not():
    queue = replace(QUEUE, allow_lan=False, read_wan=("FAR",))
    assert urls(routes(queue).sources(FILE)) == [f"davs://far/p/{PATH}"]


# -- inputs by the catalogue -------------------------------------------------------------------------------------------

REPLICAS = [
    ("FAR", "root://far//p/x"),
    ("THERE", "davs://there/x"),
    ("NEAR", "davs://door/p/x"),
    ("SCRATCH", "davs://scratch/s/f"),
]


def test_what_the_catalogue_knows_nearby_is_read_by_the_queues_own_protocols_first():
    found = routes(catalog=Catalog(REPLICAS)).sources(FILE)
    assert urls(found) == [
        *(f"root://near//p/{PATH}", f"davs://near/p/{PATH}", "davs://door/p/x"),
        # not deterministic: only the catalogue knows the path
        "davs://scratch/s/f",
    ]
    assert {replica.domain for replica in found} == {"lan"}


def test_what_lies_elsewhere_is_read_where_the_queue_allows_that_and_last():
    found = routes(replace(QUEUE, allow_wan=True), Catalog(REPLICAS)).sources(FILE)
    assert urls(found)[-2:] == ["root://far//p/x", "davs://there/x"]
    assert [replica.domain for replica in found] == ["lan"] * 4 + ["wan"] * 2
    named = routes(replace(QUEUE, read_wan=("THERE",)), Catalog(REPLICAS)).sources(FILE)
    assert urls(named)[-1] == "davs://there/x"


def test_the_servers_suggestion_goes_first_among_its_likes():
    allowed = replace(QUEUE, allow_wan=True)
    near = routes(allowed, Catalog(REPLICAS)).sources(replace(FILE, rse="SCRATCH"))
    assert urls(near)[0] == "davs://scratch/s/f"
    far = routes(allowed, Catalog(REPLICAS)).sources(replace(FILE, rse="THERE"))
    assert urls(far)[-2:] == ["davs://there/x", "root://far//p/x"]


def test_without_storages_nearby_the_suggested_one_is_near_and_so_is_what_the_catalogue_calls_so():
    queue = Queue(name="Q", allow_wan=True)
    found = routes(queue, Catalog(REPLICAS)).sources(replace(FILE, rse="THERE"))
    assert [(replica.rse, replica.domain) for replica in found][:2] == [("THERE", "lan"), ("FAR", "wan")]
    catalog = Catalog()
    catalog.known["f"] = [
        Replica(url="root://a//f", rse="A", domain="wan"),
        Replica(url="root://b//f", rse="B", domain="lan"),
    ]
    assert urls(routes(queue, catalog).sources(FILE)) == ["root://b//f", "root://a//f"]


def test_all_inputs_are_asked_for_at_once():
    catalog = Catalog(REPLICAS)
    found = Routes(QUEUE, None, catalogue(catalog))
    files = [replace(FILE, lfn=f"f{number}") for number in range(1000)]
    found.ask_for_inputs(files, cancel=CancelToken())
    assert problem(found.sources, files[3])[1] is PilotErrorCode.NOREPLICAS
    assert catalog.asked == [[file.lfn for file in files]]
    assert catalog.deadlines == [PATIENCE]


def test_a_job_without_inputs_asks_nothing():
    catalog = Catalog()
    Routes(QUEUE, None, catalogue(catalog)).ask_for_inputs([], cancel=CancelToken())
    assert catalog.asked == []


def test_an_input_without_replicas_is_told_in_one_line_and_with_its_code():
    assert problem(routes(catalog=Catalog()).sources, FILE) == (
        (
            "input s:f: the catalogue knows no replica of it that can be read here; "
            "check its name, whether it still exists, and which stagers are installed"
        ),
        PilotErrorCode.NOREPLICAS,
    )
    assert problem(routes(catalog=Catalog()).sources, replace(FILE, scope="")) == (
        (
            "input f: the catalogue knows no replica of it that can be read here; "
            "it has no scope, by which catalogues know files"
        ),
        PilotErrorCode.NOREPLICAS,
    )
    assert problem(routes(catalog=Catalog(REPLICAS[:2])).sources, FILE) == (
        "input s:f: it lies elsewhere only (FAR, THERE), which queue Q does not allow (allow_wan)",
        PilotErrorCode.NOREPLICAS,
    )
    queue = replace(QUEUE, schemes={"read": ("s3",)})
    assert problem(routes(queue, Catalog(REPLICAS)).sources, FILE) == (
        "input s:f: its 4 replicas (davs, root) are none that queue Q allows",
        PilotErrorCode.NOREPLICAS,
    )


@pytest.mark.parametrize(
    "trouble",
    [
        CommunicationError("no answer"),
        TransferTimeout("slow"),
        RequestRefused("no"),
        AuthError("who?"),
        ValueError("bug"),
    ],
)
def test_a_catalogue_in_trouble_leaves_it_to_the_queue(trouble, caplog):
    with caplog.at_level(logging.WARNING):
        found = routes(catalog=Catalog(trouble=trouble)).sources(FILE)
    assert urls(found)[0] == f"root://near//p/{PATH}"
    assert f"because of the catalogue: {trouble}" in caplog.text.replace("catalog.tiny broke: ValueError: ", "")


@pytest.mark.parametrize("answer", [None, [], {"f": ["root://a//f"]}, {"f": 3}])
def test_a_catalogue_that_answers_nonsense_is_in_trouble(answer, caplog):
    catalog = Catalog()
    catalog.known = answer
    found = routes(catalog=catalog).sources(FILE)
    assert urls(found)[0] == f"root://near//p/{PATH}"
    assert "because of the catalogue: catalog.tiny broke: " in caplog.text


def test_a_catalogue_in_trouble_is_the_reason_where_the_queue_knows_nothing():
    found = routes(Queue(name="Q"), Catalog(trouble=CommunicationError("tiny.example: no answer")))
    assert problem(found.sources, FILE) == (
        ("input f: queue Q has no storage to read it from, and the catalogue does not answer: tiny.example: no answer"),
        PilotErrorCode.RUCIOLISTREPLICASFAILED,
    )


def test_a_job_that_is_called_off_does_not_go_on_without_the_catalogue():
    with pytest.raises(Cancelled):
        routes(catalog=Catalog(trouble=Cancelled("called off")))


def test_what_was_not_asked_for_is_not_taken():
    catalog = Catalog(REPLICAS)
    found = Routes(QUEUE, None, catalogue(catalog))
    found.ask_for_inputs([replace(FILE, lfn="g")], cancel=CancelToken())
    assert problem(found.sources, FILE)[1] is PilotErrorCode.NOREPLICAS


# -- outputs -----------------------------------------------------------------------------------------------------------

THREE = replace(QUEUE, write=("NEAR", "SCRATCH", "FAR"))


@pytest.mark.parametrize(
    ("rse", "queue_says", "job_says", "places"),
    [
        ("", "job", "", ["NEAR", "SCRATCH", "FAR"]),
        ("", "job", "off", ["NEAR"]),
        ("", "on", "off", ["NEAR", "SCRATCH", "FAR", "WAN"]),
        ("SCRATCH", "job", "", ["SCRATCH"]),
        ("SCRATCH", "off", "on", ["SCRATCH"]),
        # the next one, round the list
        ("SCRATCH", "job", "on", ["SCRATCH", "FAR", "NEAR", "WAN"]),
        ("FAR", "on", "", ["FAR", "NEAR", "SCRATCH", "WAN"]),
        # described, and not among those for outputs
        ("WAN", "job", "on", ["WAN", "NEAR", "SCRATCH", "FAR"]),
        # not described here: to the queue's own, as Pilot 3
        ("NOWHERE", "job", "on", ["NEAR", "SCRATCH", "FAR", "WAN"]),
        ("NOWHERE", "job", "off", ["NEAR"]),
    ],
)
def test_where_an_output_goes_and_which_alternatives_it_has(rse, queue_says, job_says, places):
    storages = {**THREE.storages, "WAN": replace(FAR, rse="WAN", url="davs://wan/p")}
    queue = replace(THREE, alt_stageout=queue_says, storages=storages, write_wan=("WAN",))
    found = routes(queue, alt_stageout=job_says)
    assert list(dict.fromkeys(one.rse for one in found.destinations(replace(OUT, rse=rse), "write"))) == places
    assert [found.elsewhere(replace(OUT, rse=rse), "write", place) for place in places] == [False] + [True] * (
        len(places) - 1
    )


def test_the_site_that_gathers_the_outputs_is_no_alternative():
    found = routes(THREE, alt_stageout="on", nucleus="FAR")
    assert {one.rse for one in found.destinations(OUT, "write")} == {"NEAR", "SCRATCH"}
    found = routes(
        replace(THREE, write=("NEAR", "T1_DATADISK"), storages={**THREE.storages, "T1_DATADISK": FAR}), nucleus="T1"
    )
    assert {one.rse for one in found.destinations(OUT, "write")} == {"NEAR"}
    # but it is where an output goes that belongs there
    assert routes(THREE, nucleus="FAR").destinations(replace(OUT, rse="FAR"), "write")[0].rse == "FAR"


def test_outputs_are_written_by_the_protocols_for_that():
    assert urls(routes().destinations(replace(OUT, rse="NEAR"), "write")) == [
        f"davs://near/p/{deterministic_path('s', 'out')}"
    ]
    elsewhere = replace(QUEUE, write=("SCRATCH",))
    assert urls(routes(elsewhere).destinations(replace(OUT, rse="NEAR"), "write"))[0].startswith("davs://door/p/")


def test_the_log_goes_to_its_own_storage_first_and_then_to_those_of_the_queue():
    queue = replace(QUEUE, log=("SCRATCH",))
    assert [one.rse for one in routes(queue).destinations(replace(OUT, rse="FAR"), "log")] == ["FAR", "SCRATCH"]
    assert [one.rse for one in routes(queue).destinations(OUT, "log")] == ["SCRATCH"]
    off = routes(queue, alt_stageout="off")
    assert [one.rse for one in off.destinations(replace(OUT, rse="FAR"), "log")] == ["FAR"]


def test_a_storage_that_only_the_catalogue_knows_is_written_as_that_says():
    catalog = Naming(places={"T1": "davs://t1/p"})
    found = routes(Queue(name="Q"), catalog)
    files = [replace(OUT, rse="T1"), replace(OUT, lfn="more", rse="T1")]
    found.ask_for_outputs(files, "write", cancel=CancelToken())
    assert urls(found.destinations(files[0], "write")) == ["davs://t1/p/out"]
    assert catalog.asked[1:] == [("T1", ["out", "more"])]


def test_the_log_is_asked_for_too_where_the_outputs_have_gone():
    catalog = Naming(places={"T1": "davs://t1/p"})
    found = routes(Queue(name="Q"), catalog)
    output, log = replace(OUT, rse="T1"), replace(OUT, lfn="log.tgz", rse="T1")
    for file, activity in ((output, "write"), (log, "log"), (output, "write"), (log, "log")):
        found.ask_for_outputs([file], activity, cancel=CancelToken())
        assert urls(found.destinations(file, activity)) == [f"davs://t1/p/{file.lfn}"]
    assert catalog.asked[1:] == [("T1", ["out"]), ("T1", ["log.tgz"])]


def test_the_catalogue_is_asked_for_the_alternative_that_the_server_wanted():
    queue = replace(QUEUE, write=("SCRATCH",), alt_stageout="on")
    found = routes(queue, Naming(places={"T1": "davs://t1/p"}))
    file = replace(OUT, rse="T1")
    found.ask_for_outputs([file], "write", cancel=CancelToken())
    assert urls(found.destinations(file, "write")) == ["file:///scratch/out", "davs://t1/p/out"]
    assert found.elsewhere(file, "write", "SCRATCH") is False
    assert found.elsewhere(file, "write", "T1") is True


@pytest.mark.parametrize(
    ("catalog", "says"),
    [(Naming(), "no RSE T1"), (Catalog(), "the catalogue tiny names no places to write to")],
)
def test_a_storage_that_nobody_describes_is_none(catalog, says):
    found = routes(Queue(name="Q"), catalog)
    file = replace(OUT, rse="T1")
    found.ask_for_outputs([file], "write", cancel=CancelToken())
    assert problem(found.destinations, file, "write") == (
        f"output out: queue Q has no storage to write it to; of T1 the catalogue says: {says}",
        PilotErrorCode.NOSTORAGEPROTOCOL,
    )


def test_what_the_catalogue_says_of_the_queues_own_storages_is_told():
    found = routes(Queue(name="Q", write=("T1",)), Naming())
    found.ask_for_outputs([OUT], "write", cancel=CancelToken())
    says, _ = problem(found.destinations, OUT, "write")
    assert says == "output out: queue Q has no storage to write it to; of T1 the catalogue says: no RSE T1"


def test_a_queue_that_allows_nothing_near_says_so():
    says, _ = problem(routes(replace(QUEUE, read_wan=(), allow_lan=False)).sources, FILE)
    assert says.endswith(
        " has no storage to read it from: all are near, from where it does not allow to read (allow_lan)"
    )


def test_a_file_is_removed_by_the_protocol_for_that():
    found = routes(replace(QUEUE, storages={"NEAR": NEAR}))
    assert urls(found.removals("NEAR", "davs://door/p/a/b")) == ["davs://near/p/a/b", "davs://door/p/a/b"]
    assert urls(found.removals("NEAR", "davs://near/p/a/b")) == ["davs://near/p/a/b"]
    assert urls(found.removals("NEAR", "davs://elsewhere/x")) == ["davs://elsewhere/x"]
    assert urls(found.removals("NOWHERE", "davs://x/y")) == ["davs://x/y"]


@pytest.mark.parametrize("scope", ["..", "a/b", "a\nb"])
def test_a_scope_leads_out_of_no_storage(scope):
    for call, file in ((routes().sources, FILE), (lambda f: routes().destinations(f, "write"), OUT)):
        with pytest.raises(JobDescriptionError, match="is not the name of a Rucio scope"):
            call(replace(file, scope=scope))
    with pytest.raises(JobDescriptionError, match="has no scope"):
        routes().sources(replace(FILE, scope=""))


NAMES = st.sampled_from(["NEAR", "SCRATCH", "FAR", "THERE", ""])


@given(
    st.lists(st.tuples(NAMES, st.sampled_from(["root://a//x", "davs://b/x", "s3://c/x"])), max_size=6),
    st.lists(NAMES.filter(bool), max_size=3, unique=True),
    st.booleans(),
    st.booleans(),
    NAMES,
)
def test_whatever_the_catalogue_says_what_is_near_is_first_and_nothing_is_named_twice(known, read, lan, wan, rse):
    queue = replace(QUEUE, read=tuple(read), allow_lan=lan, allow_wan=wan)
    try:
        found = routes(queue, Catalog(known)).sources(replace(FILE, rse=rse))
    except TransferError:
        return
    domains = [replica.domain for replica in found]
    assert domains == sorted(domains)
    assert len({replica.url for replica in found}) == len(found) > 0
    assert {replica.rse for replica in found} <= {name for name, _ in known}
    if not lan:
        assert "lan" not in domains
    if not wan:
        assert "wan" not in domains
