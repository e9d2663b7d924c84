"""Queues from TOML: what is read, and how every mistake is named."""

from __future__ import annotations

import datetime as dt
import logging
import re

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import CancelToken, ConfigError, Context, Deadline, Queue, Storage, StorageProtocol, SystemClock
from pilot_core.builtin.toml_queue import TomlQueueSettings, TomlQueueSource, parse_queues, pilot_queue_sources

FULL = """
[queues.HERE]
site = "SITE"
status = "test"
read = ["DISK", "TAPE"]
write = ["DISK"]
log = ["TAPE"]
executor = "bubblewrap"
heartbeat_seconds = 60
shell = true
pass_environment = ["PATH", "LC_*"]
transformation_urls = ["https://example.org/trf/", "http://example.org/trf"]
allow_http = true
max_memory_mb = 2000
max_disk_mb = 30000
kill_grace_seconds = 2.5
read_wan = ["FAR"]
write_wan = ["FAR"]
catalog = "rucio"
register_outputs = true
allow_lan = false
allow_wan = true
direct_access_lan = true
direct_access_wan = true
alt_stageout = "on"

[queues.HERE.stagers]
read = ["file", "xrootd"]

[queues.HERE.schemes]
read = ["root", "davs"]

[queues.HERE.environment]
X509_CERT_DIR = "/etc/grid-security/certificates"

[queues.HERE.storages.DISK]
url = "file:///data/disk/"
layout = "rucio"
stagers = ["file"]
made = true

[queues.HERE.storages.TAPE]
url = "davs://tape.example.org:443/tape"

[queues.HERE.storages.FAR]
[[queues.HERE.storages.FAR.protocols]]
url = "root://far.example.org:1094//far/"
activities = ["read_wan"]
[[queues.HERE.storages.FAR.protocols]]
url = "davs://far.example.org:443/far"
"""


def queue(text: str) -> Queue:
    """Parse the text, which is that of the one queue HERE."""
    return parse_queues(tomli.loads(text), "pilot.toml")["HERE"]


def problem(text: str) -> str:
    """Return the message that a document gives."""
    with pytest.raises(ConfigError) as caught:
        parse_queues(tomli.loads(text), "pilot.toml")
    return str(caught.value)


def test_every_field_is_read():
    assert queue(FULL) == Queue(
        name="HERE",
        site="SITE",
        status="test",
        storages={
            "DISK": Storage(rse="DISK", url="file:///data/disk", layout="rucio", stagers=("file",), made=True),
            "TAPE": Storage(rse="TAPE", url="davs://tape.example.org:443/tape"),
            "FAR": Storage(
                rse="FAR",
                url="root://far.example.org:1094//far",
                protocols=(
                    StorageProtocol(url="root://far.example.org:1094//far", activities=("read_wan",)),
                    StorageProtocol(url="davs://far.example.org:443/far"),
                ),
            ),
        },
        read=("DISK", "TAPE"),
        write=("DISK",),
        log=("TAPE",),
        read_wan=("FAR",),
        write_wan=("FAR",),
        catalog="rucio",
        register_outputs=True,
        allow_lan=False,
        allow_wan=True,
        direct_access_lan=True,
        direct_access_wan=True,
        alt_stageout="on",
        stagers={"read": ("file", "xrootd")},
        schemes={"read": ("root", "davs")},
        executor="bubblewrap",
        heartbeat_seconds=60.0,
        shell=True,
        environment={"X509_CERT_DIR": "/etc/grid-security/certificates"},
        pass_environment=("PATH", "LC_*"),
        transformation_urls=("https://example.org/trf", "http://example.org/trf"),
        allow_http=True,
        max_memory_mb=2000,
        max_disk_mb=30000,
        kill_grace_seconds=2.5,
        source="pilot.toml: queues.HERE",
    )


def test_every_field_of_a_queue_and_of_a_storage_can_be_set():
    """A field that is added to the interface must be added to the reader too."""
    from pilot_core.builtin import toml_queue

    assert set(toml_queue._QUEUE) == set(Queue.__dataclass_fields__) - {"name", "source", "extra"}
    assert set(toml_queue._STORAGE) == set(Storage.__dataclass_fields__) - {"rse"}
    assert set(toml_queue._PROTOCOL) == set(StorageProtocol.__dataclass_fields__)


def test_an_empty_table_is_a_queue_with_the_defaults():
    assert queue("[queues.HERE]") == Queue(name="HERE", source="pilot.toml: queues.HERE")


def test_a_queue_with_a_catalogue_may_name_storages_that_only_the_catalogue_knows():
    assert queue("[queues.HERE]\ncatalog = 'rucio'\nread = ['DISK']").read == ("DISK",)


def test_a_document_without_queues_has_none():
    assert parse_queues({}, "pilot.toml") == {}
    assert parse_queues({"server": 3}, "pilot.toml") == {}


STORAGE = "[queues.HERE.storages.X]\nurl = 'file:///d'\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("queues = 3", "queues: must be a table, not an integer"),
        ("queues.HERE = []", "queues.HERE: must be a table, not an array"),
        ("[queues.'']", "queues.\"\": '' is not the name of a queue"),
        ('[queues."a\\nb"]', "queues.\"a\\u000ab\": 'a\\nb' is not the name of a queue"),
        ("[queues.HERE]\nsitee = 'S'", "queues.HERE.sitee: unknown key (did you mean 'site'?)"),
        ("[queues.HERE]\n'a b' = 1", 'queues.HERE."a b": unknown key'),
        ("[queues.HERE]\nsite = 1979-05-27", "queues.HERE.site: must be a string, not a date or time"),
        ('[queues.HERE]\nsite = "\\u0000"', "queues.HERE.site: must not contain a NUL character"),
        (
            "[queues.HERE]\nstatus = 'onlin'",
            "queues.HERE.status: 'onlin' is not one of online, test, brokeroff, offline (did you mean 'online'?)",
        ),
        (
            STORAGE + "layout = 'flatt'",
            "queues.HERE.storages.X.layout: 'flatt' is not one of flat, rucio (did you mean 'flat'?)",
        ),
        (STORAGE + "lay = 1", "queues.HERE.storages.X.lay: unknown key (did you mean 'layout'?)"),
        ("[queues.HERE.storages.X]", "queues.HERE.storages.X: the key 'url' is missing"),
        ("[queues.HERE.storages.X]\nprotocols = []", "queues.HERE.storages.X: the key 'url' is missing"),
        (
            STORAGE + "protocols = [{url = 'root://h//p'}, {activities = ['read_lan']}]",
            "queues.HERE.storages.X.protocols[1]: the key 'url' is missing",
        ),
        (
            STORAGE + "protocols = [{url = 'root://h//p', activities = ['del']}]",
            (
                "queues.HERE.storages.X.protocols[0].activities[0]: 'del' is not one of "
                "read_lan, read_wan, write_lan, write_wan, delete (did you mean 'delete'?)"
            ),
        ),
        (
            STORAGE + "protocols = {url = 'root://h//p'}",
            "queues.HERE.storages.X.protocols: must be an array of tables, not a table",
        ),
        (
            "[queues.HERE.schemes]\nread = ['root:']",
            "queues.HERE.schemes.read[0]: 'root:' is not a URL's scheme (like root or davs)",
        ),
        (
            "[queues.HERE]\nregister_outputs = true",
            "queues.HERE.register_outputs: needs a catalogue: name it by the key 'catalog'",
        ),
        (
            "[queues.HERE]\ncatalog = 'Rucio'",
            "queues.HERE.catalog: 'Rucio' is not a catalogue's name (lower-case letters, digits and dashes)",
        ),
        ("[queues.HERE]\nalt_stageout = 'yes'", "queues.HERE.alt_stageout: 'yes' is not one of job, on, off"),
        (
            "[queues.HERE]\nread_wan = ['FAR']",
            "queues.HERE.read_wan[0]: no storage 'FAR': add [queues.HERE.storages.FAR]",
        ),
        (
            "[queues.HERE.storages.'a/b']\nurl='file:///d'",
            "queues.HERE.storages.\"a/b\": 'a/b' is not the name of an RSE",
        ),
        (
            "[queues.HERE.storages.X]\nurl = 'file:data'",
            "queues.HERE.storages.X.url: 'file:data' is not an absolute file URL (like file:///data)",
        ),
        (
            "[queues.HERE.storages.X]\nurl = 'file://data/x'",
            "queues.HERE.storages.X.url: 'file://data/x' is not an absolute file URL (like file:///data)",
        ),
        (
            "[queues.HERE.storages.X]\nurl = 'file:///data/../etc'",
            "queues.HERE.storages.X.url: 'file:///data/../etc' must not contain '..'",
        ),
        (
            "[queues.HERE.storages.X]\nurl = '/data'",
            "queues.HERE.storages.X.url: '/data' is not a URL (like file:///data or davs://host:443/path)",
        ),
        ("[queues.HERE.storages.X]\nurl = 'davs:///x'", "queues.HERE.storages.X.url: 'davs:///x' names no host"),
        (
            "[queues.HERE.storages.X]\nurl = 'davs://h:x/'",
            "queues.HERE.storages.X.url: 'davs://h:x/' is not a URL: Port could not be cast to integer value as 'x'",
        ),
        (
            "[queues.HERE.storages.X]\nurl = 's3://h/b?a=1'",
            "queues.HERE.storages.X.url: 's3://h/b?a=1' must not have a query or a fragment",
        ),
        (
            "[queues.HERE]\nread = ['DISC']\n[queues.HERE.storages.DISK]\nurl = 'file:///d'",
            "queues.HERE.read[0]: no storage 'DISC' (did you mean 'DISK'?): add [queues.HERE.storages.DISC]",
        ),
        (
            "[queues.HERE]\nwrite = ['B.C']",
            "queues.HERE.write[0]: no storage 'B.C': add [queues.HERE.storages.\"B.C\"]",
        ),
        ("[queues.HERE]\nlog = 'X'", "queues.HERE.log: must be an array, not a string"),
        (
            "[queues.HERE]\nread = ['X', 'X']\n" + STORAGE,
            "queues.HERE.read[1]: 'X' is listed twice",
        ),
        (
            "[queues.HERE.stagers]\nread = ['HTTP']",
            "queues.HERE.stagers.read[0]: 'HTTP' is not a plugin's name (lower-case letters, digits and dashes)",
        ),
        ("[queues.HERE.stagers]\nreed = []", "queues.HERE.stagers.reed: unknown key (did you mean 'read'?)"),
        ("[queues.HERE]\nheartbeat_seconds = 0", "queues.HERE.heartbeat_seconds: must be above 0, not 0"),
        (
            "[queues.HERE]\nheartbeat_seconds = nan",
            "queues.HERE.heartbeat_seconds: must be a number of seconds up to 1e9, not nan",
        ),
        ("[queues.HERE]\nkill_grace_seconds = -1", "queues.HERE.kill_grace_seconds: must be 0 or more, not -1"),
        (
            "[queues.HERE]\nkill_grace_seconds = true",
            "queues.HERE.kill_grace_seconds: must be a number of seconds, not a boolean",
        ),
        ("[queues.HERE]\nmax_memory_mb = -5", "queues.HERE.max_memory_mb: must be 0 or more, not -5"),
        ("[queues.HERE]\nmax_disk_mb = 1.5", "queues.HERE.max_disk_mb: must be an integer, not a float"),
        ("[queues.HERE]\nshell = 'yes'", "queues.HERE.shell: must be true or false, not a string"),
        ("[queues.HERE.environment]\nA = 1", "queues.HERE.environment.A: must be a string, not an integer"),
        (
            "[queues.HERE.environment]\n'A=B' = ''",
            'queues.HERE.environment."A=B": is not the name of an environment variable',
        ),
        (
            "[queues.HERE]\npass_environment = ['*']",
            "queues.HERE.pass_environment[0]: '*' is not a variable's name, or a prefix of one that ends in '*'",
        ),
        (
            "[queues.HERE]\ntransformation_urls = ['http://h/']",
            "queues.HERE.transformation_urls[0]: 'http://h' is not https; allow_http = true permits it",
        ),
        (
            "[queues.HERE]\ntransformation_urls = ['ftp://h/']",
            "queues.HERE.transformation_urls[0]: 'ftp://h/' is not an https:// or http:// URL",
        ),
    ],
)
def test_every_mistake_is_named_with_file_and_key_path(text, expected):
    assert problem(text) == f"pilot.toml: {expected}"


keys = st.one_of(
    st.sampled_from(["HERE", "X", *Queue.__dataclass_fields__, *Storage.__dataclass_fields__, "read", "write", "log"]),
    st.text(max_size=6),
)
scalars = st.one_of(
    st.sampled_from(["flat", "rucio", "online", "file:///d", "https://h/x", "X", "file", "PATH", "A*"]),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.just(dt.datetime(2024, 1, 1)),  # noqa: DTZ001  (TOML has local times)
    st.dates(),
    st.times(),
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))
tables = st.dictionaries(keys, values, max_size=4)
queues_table = st.dictionaries(keys, tables | st.fixed_dictionaries({"storages": st.dictionaries(keys, tables)}))


def assert_sound(found):
    """Check what every parsed queue promises."""
    for name, queue in found.items():
        assert queue.name == name
        assert {*queue.read, *queue.write, *queue.log} <= set(queue.storages)
        assert queue.heartbeat_seconds > 0
        assert min(queue.max_disk_mb, queue.max_memory_mb, queue.kill_grace_seconds) >= 0
        for rse, storage in queue.storages.items():
            assert storage.rse == rse
            assert storage.url_of("scope", "lfn").endswith("lfn")


@given(st.fixed_dictionaries({"queues": queues_table | values}) | tables)
def test_any_data_gives_sound_queues_or_a_config_error_on_one_line(data):
    try:
        found = parse_queues(data, "pilot.toml")
    except ConfigError as error:
        text = str(error)
        assert text.startswith("pilot.toml: queues")
        assert text.isprintable()
    else:
        assert_sound(found)


# -- the source --------------------------------------------------------------------------------------------------------


def source(tmp_path, file=None, config_file=None):
    context = Context(clock=SystemClock(), log=logging.getLogger("test"), work_dir=tmp_path, config_file=config_file)
    (provider,) = pilot_queue_sources()
    assert provider.name == "toml"
    made = provider.factory(provider.settings(file=file), context)
    assert isinstance(made, TomlQueueSource)
    return made


def ask(source, name):
    return source.queue(name, cancel=CancelToken(), deadline=Deadline.after(SystemClock(), 60))


def test_the_pilots_own_file_is_read_beside_its_other_tables(tmp_path):
    config = tmp_path / "pilot.toml"
    config.write_text("server = 'https://h'\n" + FULL)
    assert ask(source(tmp_path, config_file=config), "HERE").site == "SITE"


def test_an_unknown_queue_is_none(tmp_path):
    config = tmp_path / "pilot.toml"
    config.write_text(FULL)
    assert ask(source(tmp_path, config_file=config), "THERE") is None


def test_without_any_file_no_queue_is_known(tmp_path):
    assert ask(source(tmp_path), "HERE") is None


def test_a_file_of_its_own_wins_and_may_hold_nothing_else(tmp_path):
    config, own = tmp_path / "pilot.toml", tmp_path / "queues.toml"
    config.write_text("[queues.HERE]\nsite = 'CONFIG'")
    own.write_text("[queues.HERE]\nsite = 'OWN'")
    assert ask(source(tmp_path, file=own, config_file=config), "HERE").site == "OWN"
    own.write_text("[queue.HERE]\nsite = 'OWN'")
    with pytest.raises(ConfigError, match=r"queues\.toml: queue: unknown key \(did you mean 'queues'\?\)"):
        ask(source(tmp_path, file=own), "HERE")


def test_a_changed_file_is_read_again(tmp_path):
    own = tmp_path / "queues.toml"
    own.write_text("[queues.HERE]\nsite = 'A'")
    made = source(tmp_path, file=own)
    assert ask(made, "HERE").site == "A"
    own.write_text("[queues.HERE]\nsite = 'B'")
    assert ask(made, "HERE").site == "B"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no-such\.toml: cannot be read: No such file or directory"):
        ask(source(tmp_path, file=tmp_path / "no-such.toml"), "HERE")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[queues", "is not valid TOML: .*at end of document"),
        (b"x = '\xff'", "is not UTF-8 text: .* at byte 5"),
        (b"x = 1\n" * 2, "is not valid TOML: .*line 2"),
        (b"a=" + b"[" * 5000, "is not valid TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_a_config_error(tmp_path, content, expected):
    own = tmp_path / "queues.toml"
    own.write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        ask(source(tmp_path, file=own), "HERE")


def test_the_settings_say_what_they_are():
    (field,) = TomlQueueSettings.__dataclass_fields__.values()
    assert field.metadata["help"]


def test_the_documentation_has_every_key_and_its_example_is_a_queue(pytestconfig):
    from pilot_core.builtin import toml_queue

    text = (pytestconfig.rootpath / "docs/queues.md").read_text(encoding="utf-8")
    of_queues, of_storages = text.split("## Keys of a ")[1:]
    documented = [
        {key for row in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
        for part in (of_queues, of_storages.split("## ")[0])
    ]
    assert documented == [set(toml_queue._QUEUE), set(toml_queue._STORAGE)]
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (made,) = parse_queues(tomli.loads(example), "pilot.toml").values()
    assert made.storages["MY_DISK"].prefixes("read_lan")[0].startswith("root:")
    assert made.storages["MY_DISK"].prefixes("write_lan") == ("davs://disk.example:443/atlas/rucio",)
