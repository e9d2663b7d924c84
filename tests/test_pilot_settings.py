"""The pilot's own settings: what must not contradict itself, and what batch systems say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilot_core import ConfigError
from pilot_core.pilot_settings import BATCH_VARIABLES, PilotSettings, batch_id, node_name
from pilot_core.settings import Config

GOOD = {"server": "https://pandaserver.example:25443", "queue": "Q"}


def problem(**values):
    with pytest.raises(ConfigError) as caught:
        PilotSettings(**{**GOOD, **values}).check()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"server": "http://127.0.0.1:25080"},
        {"server": "https://h/"},
        {"server": "https://h/prefix"},
        {"server": "https://[::1]:25443"},
        {"server": "HTTPS://H"},
        {"cert": Path("c")},
        {"cert": Path("c"), "key": Path("k")},
        {"token_file": Path("t"), "token_origin": "vo.production"},
        {"server": "HTTPS://H", "token_file": Path("t"), "token_origin": "vo.production"},
    ],
)
def test_settings_that_fit_together_pass(values):
    PilotSettings(**{**GOOD, **values}).check()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"server": ""}, "no server: give --server, set pilot.server in the --config file, or PILOT_CORE_SERVER"),
        ({"queue": ""}, "no queue: give --queue, set pilot.queue in the --config file, or PILOT_CORE_QUEUE"),
        ({"server": "pandaserver.example"}, "server 'pandaserver.example': not a URL like https://"),
        ({"server": "ftp://h"}, "not a URL like"),
        ({"server": "https://"}, "not a URL like"),
        ({"server": "https:///x"}, "not a URL like"),
        ({"server": "https://h:port"}, "not a URL like"),
        ({"server": "https://h:0"}, "not a URL like"),
        ({"server": "https://h:70000"}, "not a URL like"),
        ({"server": "https://[::1"}, "not a URL like"),
        ({"server": "https://h /"}, "not a URL like"),
        ({"server": " https://h"}, "not a URL like"),
        ({"server": "https://h\n.example"}, "server 'https://h\\n.example': not a URL like"),
        ({"server": "https://h?"}, "give the base URL only, without ? and #"),
        ({"server": "https://h/#x"}, "give the base URL only, without ? and #"),
        ({"cert": Path("c"), "token_file": Path("t")}, "use one of them"),
        ({"key": Path("k")}, "--key needs --cert"),
        ({"token_file": Path("t")}, "--token-file needs --token-origin VO.ROLE"),
        ({"token_origin": "vo.x"}, "--token-origin needs --token-file"),
        (
            {"server": "http://h", "token_file": Path("t"), "token_origin": "vo.x"},
            "server http://h: a token is sent over https only",
        ),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_said(values, message):
    assert message in problem(**values)


@pytest.mark.parametrize(
    "server", ["https://u:canary@h", "https://u:canary@h:port", "canary@h", "https://canary@[::1", "https://h/?canary@"]
)
def test_a_password_in_the_url_is_refused_and_not_repeated(server):
    message = problem(server=server)
    assert "canary" not in message
    assert "give credentials by --cert or --token-file" in message


def test_a_proxys_password_is_in_no_repr():
    assert "canary" not in repr(PilotSettings(proxy="http://user:canary@proxy:3128"))


@given(st.text(max_size=40))
@example("https://h\u2028")
@example("https://\uff47")
def test_any_server_is_taken_or_refused_in_one_line(text):
    settings = PilotSettings(server=text, queue="Q")
    try:
        settings.check()
    except ConfigError as error:
        message = str(error)
    else:
        message = ""
        assert text.lower().startswith(("https://", "http://"))
    assert message.isprintable()


@pytest.mark.parametrize(
    ("variable", "name", "text", "value"),
    [
        ("PILOT_CORE_SERVER", "server", "https://h", "https://h"),
        ("PILOT_CORE_QUEUE", "queue", "Q", "Q"),
        ("PILOT_CORE_LABEL", "label", "user", "user"),
        ("PILOT_CORE_CA_FILE", "ca_file", "ca.pem", Path("ca.pem")),
        ("PILOT_CORE_CERT", "cert", "c.pem", Path("c.pem")),
        ("PILOT_CORE_KEY", "key", "k.pem", Path("k.pem")),
        ("PILOT_CORE_TOKEN_FILE", "token_file", "t", Path("t")),
        ("PILOT_CORE_TOKEN_ORIGIN", "token_origin", "vo.role", "vo.role"),
        ("PILOT_CORE_WORK_DIR", "work_dir", "/w", Path("/w")),
        ("PILOT_CORE_PROXY", "proxy", "http://p:3128", "http://p:3128"),
        ("PILOT_CORE_LOG_LEVEL", "log_level", "debug", "debug"),
        ("HARVESTER_ID", "harvester_id", "h", "h"),
        ("HARVESTER_WORKER_ID", "worker_id", "17", 17),
        ("PANDA_JSID", "scheduler_id", "x", "x"),
        ("GTAG", "log_url", "https://logs/1", "https://logs/1"),
    ],
)
def test_the_environment_can_say_it(variable, name, text, value):
    made = Config.read(None, (), {variable: text}).section("pilot", PilotSettings)
    assert made == PilotSettings(**{name: value})


@pytest.mark.parametrize(
    ("settings", "environment", "name"),
    [
        ({}, {}, socket.gethostname()),
        ({}, {"PANDA_HOSTNAME": "node7"}, "node7"),
        ({}, {"PANDA_HOSTNAME": "node7", "_CONDOR_SLOT": "slot1_3"}, "slot1_3@node7"),
        ({}, {"_CONDOR_SLOT": ""}, socket.gethostname()),
        ({"node": "given"}, {"PANDA_HOSTNAME": "node7", "_CONDOR_SLOT": "slot1"}, "given"),
    ],
)
def test_the_node_is_called_as_the_batch_system_calls_it(settings, environment, name):
    assert node_name(PilotSettings(**settings), environment) == name


@pytest.mark.parametrize("variable", BATCH_VARIABLES)
def test_the_batch_systems_id_is_found(variable):
    assert batch_id(PilotSettings(), {variable: "4711.cluster"}) == "4711.cluster"


def test_the_first_of_the_batch_systems_variables_counts():
    every = {name: f"id of {name}" for name in reversed(BATCH_VARIABLES)}
    assert batch_id(PilotSettings(), every) == f"id of {BATCH_VARIABLES[0]}"
    assert batch_id(PilotSettings(batch_id="given"), every) == "given"


def test_without_a_batch_system_the_process_is_named_and_always_alike():
    made = batch_id(PilotSettings(), {"JOB_ID": ""})
    assert made == f"{os.getpid()}.{socket.gethostname()}" == batch_id(PilotSettings(), {})
