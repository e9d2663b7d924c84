"""PanDA's queuedata as a Queue: fields, formats, mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pilot_queue_source_cric.queuedata import COPYTOOLS, entry_of, parse_queue
from pilot_queue_source_cric.values import Table

from pilot_core import ConfigError, Queue, Storage, StorageProtocol

QUEUEDATA = {
    "nickname": "HERE",
    "panda_resource": "HERE",
    "atlas_site": "SITE",
    "gstat": "GSTAT",
    "type": "unified",
    "state": "ACTIVE",
    "status": "online",
    "catchall": "setdebugmode,nopenfiles=4096",
    "environ": "A=b,C=d=e, D='f g'",
    "maxwdir": 14336,
    "maxrss": "4000",
    "copytools": {"rucio": {"setup": ""}},
    "acopytools": {"read_lan": ["rucio"], "write_lan": ["gfal"], "pl": ["lsm"]},
    "astorages": {
        "read_lan": ["DISK", "SCRATCH"],
        "read_lan_analysis": ["SCRATCH"],
        "write_lan": ["DISK"],
        "pl": ["LOGS", "DISK"],
    },
}

PROTOCOL = {"endpoint": "root://disk.example:1094/", "path": "/eos/atlas/", "flavour": "XROOTD", "id": 1}
WEBDAV = {"endpoint": "davs://disk.example:443", "path": "/eos/atlas/", "flavour": "WEBDAV", "id": 2}
SRM = {"endpoint": "srm://disk.example:8443", "path": ["/srm/v2", "SFN=/eos"][0], "flavour": "SRMv2", "id": 3}


def endpoint(**changed):
    protocols = {"read_lan": [PROTOCOL], "write_lan": [WEBDAV], "read_wan": [WEBDAV]}
    return {"state": "ACTIVE", "is_deterministic": True, "arprotocols": protocols} | changed


def parse(changes=None, endpoints=None, name="HERE"):
    entry = entry_of(QUEUEDATA | (changes or {}), name, "HERE.all.json")
    assert entry is not None
    return parse_queue(entry, name, None if endpoints is None else Table(endpoints, "ddmendpoints.json: "))


def storage(**changed):
    return parse(endpoints={"DISK": endpoint(**changed)}).storages["DISK"]


def problem(changes=None, endpoints=None):
    with pytest.raises(ConfigError) as caught:
        parse(changes, endpoints)
    return str(caught.value)


def test_the_fields_of_the_queue():
    assert parse() == Queue(
        name="HERE",
        site="SITE",
        status="online",
        read=("DISK", "SCRATCH"),
        write=("DISK",),
        log=("LOGS", "DISK"),
        stagers={"read": ("xrootd", "http"), "write": ("http", "xrootd")},
        environment={"A": "b", "C": "d=e", "D": "f g"},
        max_memory_mb=4000,
        max_disk_mb=14336,
        source="HERE.all.json: HERE",
        extra=QUEUEDATA,
    )


def test_a_queue_with_nothing_but_a_name_has_the_defaults():
    entry = entry_of({"nickname": "HERE"}, "HERE", "f")
    assert parse_queue(entry, "HERE", None) == Queue(name="HERE", source="f: HERE", extra={"nickname": "HERE"})


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "online"),
        ({"status": "test"}, "test"),
        ({"status": "BrokerOff"}, "brokeroff"),
        ({"status": "offline"}, "offline"),
        ({"status": "standby"}, "offline"),
        ({"status": None}, "online"),
        ({"state": "INACTIVE"}, "offline"),
        ({"state": "DISABLED", "status": "test"}, "offline"),
        ({"state": None}, "online"),
    ],
)
def test_what_is_not_active_is_offline(changes, status):
    assert parse(changes).status == status


def test_the_site_is_gstats_where_there_is_no_atlas_site():
    assert parse({"atlas_site": ""}).site == "GSTAT"


@pytest.mark.parametrize("value", [None, "", 0, -1, "-1", 0.0])
def test_a_limit_of_nothing_is_no_limit(value):
    assert parse({"maxwdir": value, "maxrss": value}).max_disk_mb == 0


def test_an_analysis_queue_looks_its_own_activities_up_first():
    queue = parse({"type": "analysis"})
    assert queue.read == ("SCRATCH",)
    assert queue.write == ("DISK",)


def test_older_names_of_activities_count_where_the_newer_have_nothing():
    queue = parse({"astorages": {"pr": ["A"], "pw": ["B"], "w": ["C"], "write_lan": []}})
    assert (queue.read, queue.write, queue.log) == (("A",), ("B",), ("B",))


@pytest.mark.parametrize(
    ("changes", "stagers"),
    [
        ({"acopytools": {"default": ["xrdcp"]}}, {"read": ("xrootd",), "write": ("xrootd",), "log": ("xrootd",)}),
        ({"acopytools": None}, dict.fromkeys(("read", "write", "log"), ("xrootd", "http"))),
        ({"acopytools": [], "copytools": {}}, {}),
        ({"acopytools": {"read_lan": "mv"}, "copytools": None}, {"read": ("file",)}),
        (
            {"acopytools": {"read_lan": ["gfal", "rucio", "mv"]}, "copytools": None},
            {"read": ("http", "xrootd", "file")},
        ),
    ],
)
def test_copy_tools_become_the_order_of_stagers(changes, stagers):
    assert parse(changes).stagers == stagers


def test_the_table_of_copy_tools_is_that_of_the_readme(pytestconfig):
    readme = (pytestconfig.rootpath / "plugins/queue-source-cric/README.md").read_text()
    rows = [line.split("|") for line in readme.splitlines() if line.startswith("| `")]
    documented = {
        tool.strip().strip("`"): tuple(name.strip().strip("`") for name in row[2].split(","))
        for row in rows
        for tool in row[1].split(",")
    }
    assert {tool: documented.get(tool) for tool in COPYTOOLS} == dict(COPYTOOLS)


@pytest.mark.parametrize(
    ("schemas", "schemes"),
    [
        (None, {}),
        (
            {"read_lan": ["root", "srm"], "default": ["webdav"]},
            {
                "read": ("root",),
                "write": ("davs", "dav", "https", "http"),
                "log": ("davs", "dav", "https", "http"),
            },
        ),
        # by copy tool, those of the activity's tools; other tools' do not count
        (
            {"read_lan": {"rucio": ["root"], "lsm": ["s3"]}, "write_lan": {"default": ["davs"]}},
            {
                "read": ("root",),
                "write": ("davs",),
                "log": ("davs",),
            },
        ),
        # what nobody here can serve is no limit
        ({"read_lan": ["srm"]}, {}),
    ],
)
def test_schemes_that_are_allowed_by_activity(schemas, schemes):
    assert parse({"acopytools_schemas": schemas}).schemes == schemes


def test_what_may_be_read_and_where_outputs_may_go():
    queue = parse(
        {
            "allow_lan": False,
            "allow_wan": True,
            "direct_access_lan": "True",
            "direct_access_wan": "False",
            "params": {"allow_altstageout": True},
            "astorages": {"read_lan": ["A"], "read_wan": ["B"], "write_lan": ["A"], "write_wan": ["C", "B"]},
        }
    )
    assert (queue.allow_lan, queue.allow_wan, queue.direct_access_lan, queue.direct_access_wan) == (
        False,
        True,
        True,
        False,
    )
    assert (queue.read, queue.read_wan, queue.write, queue.write_wan) == (("A",), ("B",), ("A",), ("C", "B"))
    assert queue.alt_stageout == "on"
    assert parse({"params": {"allow_altstageout": False}}).alt_stageout == "off"
    assert parse({"params": None}).alt_stageout == "job"


def test_a_sites_entry_as_cric_exports_it_is_enough():
    """The fields and values of a production queue's entry that matter here, those without a value included."""
    queue = parse(
        {
            "astorages": {"pr": ["AGLT2_DATADISK"], "pw": ["AGLT2_DATADISK"], "pl": []},
            "acopytools": {"pr": ["rucio"], "pw": ["rucio"]},
            "environ": "None",
            "allow_lan": True,
            "allow_wan": True,
            "direct_access_lan": True,
            "direct_access_wan": True,
            "params": {},
        },
        {
            "AGLT2_DATADISK": {
                "state": "ACTIVE",
                "type": "DATADISK",
                "is_deterministic": True,
                "arprotocols": {
                    "read_lan": [
                        {"endpoint": "root://lan.example:1094/", "flavour": "XROOTD", "id": 3, "path": "/atlas/rucio/"},
                        {"endpoint": "davs://web.example:443", "flavour": "WEBDAV", "id": 4, "path": "/atlas/rucio/"},
                    ],
                    "write_lan": [
                        {"endpoint": "davs://web.example:443", "flavour": "WEBDAV", "id": 4, "path": "/atlas/rucio/"}
                    ],
                    "delete": [
                        {"endpoint": "davs://web.example:443", "flavour": "WEBDAV", "id": 4, "path": "/atlas/rucio/"}
                    ],
                },
                "rprotocols": {},
            }
        },
    )
    assert (queue.read, queue.write, queue.log) == (("AGLT2_DATADISK",),) * 3
    assert queue.stagers == dict.fromkeys(("read", "write", "log"), ("xrootd", "http"))
    assert queue.environment == {}
    disk = queue.storages["AGLT2_DATADISK"]
    assert disk.urls_of("mc16", "f", "read_lan") == (
        "root://lan.example:1094//atlas/rucio/mc16/97/f2/f",
        "davs://web.example:443/atlas/rucio/mc16/97/f2/f",
    )
    assert disk.prefixes("write_lan") == disk.prefixes("delete") == ("davs://web.example:443/atlas/rucio",)


# -- formats -----------------------------------------------------------------------------------------------------------


def test_the_nested_format_is_read_too():
    entry = entry_of({"HERE": QUEUEDATA, "THERE": {}}, "HERE", "f")
    assert parse_queue(entry, "HERE", None).site == "SITE"


@pytest.mark.parametrize("data", [None, {}, {"THERE": QUEUEDATA}, QUEUEDATA])
def test_a_document_without_the_queue_has_none(data):
    assert entry_of(data, "ELSEWHERE", "f") is None


def test_a_flat_document_that_names_no_queue_is_the_one_asked_for():
    assert entry_of({"status": "online"}, "HERE", "f") is not None


# -- storages ----------------------------------------------------------------------------------------------------------


ROOT_URL, DAVS_URL = "root://disk.example:1094//eos/atlas", "davs://disk.example:443/eos/atlas"


def test_a_storage_has_the_protocols_of_each_activity_and_for_the_rest_the_one_that_serves_both_ways():
    assert storage() == Storage(
        rse="DISK",
        url=DAVS_URL,
        layout="rucio",
        protocols=(
            StorageProtocol(url=ROOT_URL, activities=("read_lan",)),
            StorageProtocol(url=DAVS_URL, activities=("read_wan", "write_lan")),
        ),
    )


def test_each_activity_keeps_its_own_order_of_protocols():
    both = {"read_lan": [PROTOCOL, WEBDAV, PROTOCOL], "read_wan": [WEBDAV, PROTOCOL], "delete": [WEBDAV]}
    found = storage(arprotocols=both)
    assert found.prefixes("read_lan") == (ROOT_URL, DAVS_URL)
    assert found.prefixes("read_wan") == (DAVS_URL, ROOT_URL)
    assert found.prefixes("delete") == (DAVS_URL,)
    older = storage(arprotocols={"r": [WEBDAV], "w": [PROTOCOL], "d": [WEBDAV]})
    assert (older.prefixes("read_lan"), older.prefixes("write_wan")) == ((DAVS_URL,), (ROOT_URL,))


def test_protocols_that_no_stager_has_are_left_out_where_there_are_others():
    found = storage(arprotocols={"read_lan": [SRM, PROTOCOL], "write_lan": [SRM]})
    assert found.prefixes("read_lan") == (ROOT_URL,)
    assert found.prefixes("write_lan")[0].startswith("srm:")


def test_where_none_serves_both_ways_the_first_for_writing_counts():
    assert storage(arprotocols={"read_lan": [PROTOCOL], "write_lan": [WEBDAV]}).url.startswith("davs:")


def test_a_storage_that_is_only_read_is_reached_by_the_first_protocol_for_reading():
    queue = parse(endpoints={"SCRATCH": endpoint()})
    assert queue.storages["SCRATCH"].url == "root://disk.example:1094//eos/atlas"


def test_schemes_that_no_stager_has_come_last():
    assert storage(arprotocols={"write_lan": [SRM, WEBDAV], "read_lan": [SRM]}).url.startswith("davs:")
    assert storage(arprotocols={"write_lan": [SRM]}).url.startswith("srm:")


def test_a_storage_that_is_not_deterministic_is_flat():
    assert storage(is_deterministic=False).layout == "flat"


@pytest.mark.parametrize(
    ("start", "path", "url"),
    [
        ("file://", "/data/disk", "file:///data/disk"),
        ("/data/", "disk/", "file:///data/disk"),
        ("file:///data//", "", "file:///data"),
        ("file://localhost/data", "/x", "file:///data/x"),
        ("s3://s3.example:443", "bucket/x", "s3://s3.example:443/bucket/x"),
        ("https://h/", "", "https://h"),
    ],
)
def test_endpoint_and_path_make_one_prefix(start, path, url):
    assert storage(arprotocols={"write_lan": [{"endpoint": start, "path": path}]}).url == url


@pytest.mark.parametrize("changed", [{"state": "DISABLED"}, {"arprotocols": {}}, {"arprotocols": None}])
def test_a_storage_that_cannot_be_used_is_left_out(changed):
    assert parse(endpoints={"DISK": endpoint(**changed)}).storages == {}


def test_storages_of_other_queues_are_not_looked_at():
    assert parse(endpoints={"ELSEWHERE": "nonsense"}).storages == {}


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": 3}, "status: must be a string, not a number"),
        ({"maxwdir": "many"}, "maxwdir: 'many' is not a whole number"),
        ({"maxrss": True}, "maxrss: must be a whole number, not a boolean"),
        ({"maxrss": 1.5}, "maxrss: must be a whole number, not a number"),
        ({"environ": "A=b,C"}, "environ: 'C' is not NAME=value"),
        ({"environ": "1A=b"}, "environ: '1A=b' is not NAME=value"),
        ({"astorages": ["DISK"]}, "astorages: must be an object, not an array"),
        ({"astorages": {"read_lan": [3]}}, "astorages.read_lan: must be an array of strings, not [3]"),
        ({"acopytools": "rucio"}, "acopytools: must be an object, not a string"),
    ],
)
def test_a_wrong_field_is_named(changes, expected):
    assert problem(changes) == f"HERE.all.json: HERE.{expected}"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"is_deterministic": "yes"}, "is_deterministic: must be true or false, not a string"),
        ({"arprotocols": {"write_lan": {}}}, "arprotocols.write_lan: must be an array, not an object"),
        ({"arprotocols": {"write_lan": [3]}}, "arprotocols.write_lan[0]: must be an object, not a number"),
        (
            {"arprotocols": {"write_lan": [{"endpoint": "data/"}]}},
            "arprotocols.write_lan[0].endpoint: 'data/' is not a URL",
        ),
        (
            {"arprotocols": {"write_lan": [{"endpoint": "file://", "path": "/data/../etc"}]}},
            "arprotocols.write_lan[0].endpoint: 'file:///data/../etc' is not an absolute file URL",
        ),
        (
            {"arprotocols": {"write_lan": [{"endpoint": "davs:///x"}]}},
            "arprotocols.write_lan[0].endpoint: 'davs:///x' names no host",
        ),
        (
            {"arprotocols": {"write_lan": [{"endpoint": "davs://h", "path": "/a b"}]}},
            "arprotocols.write_lan[0].path: 'davs://h/a b' is not a URL prefix",
        ),
    ],
)
def test_a_wrong_storage_is_named(changed, expected):
    assert problem(endpoints={"DISK": endpoint(**changed)}) == f"ddmendpoints.json: DISK.{expected}"


keys = st.one_of(st.sampled_from([*QUEUEDATA, "DISK", "read_lan", "write_lan", "pl", "HERE"]), st.text(max_size=5))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("file:///d"))
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))
entries = st.dictionaries(
    st.sampled_from(["endpoint", "path", "flavour"]),
    st.one_of(scalars, st.sampled_from(["root://h/", "/a", "dav://["])),
)
protocols = st.dictionaries(
    st.sampled_from(["read_lan", "write_lan", "read_wan"]), st.lists(entries | values, max_size=2)
)
endpoints = st.fixed_dictionaries({}, optional={"arprotocols": protocols, "state": values, "is_deterministic": values})


@given(
    st.dictionaries(st.sampled_from(list(QUEUEDATA)), values, max_size=4),
    st.dictionaries(st.sampled_from(["DISK", "SCRATCH", "LOGS"]), endpoints | values),
)
def test_any_json_gives_a_queue_or_a_config_error_on_one_line(changes, found):
    data = QUEUEDATA | changes
    try:
        entry = entry_of(data, "HERE", "f")
        queue = entry and parse_queue(entry, "HERE", Table(found, "d: "))
    except ConfigError as error:
        message = str(error)
        assert message.startswith(("f: HERE", "d: "))
        assert "\n" not in message
    else:
        if queue:
            assert queue.status in {"online", "test", "brokeroff", "offline"}
            for rse, item in queue.storages.items():
                assert item.rse == rse
                assert "://" in item.url_of("s", "l")
