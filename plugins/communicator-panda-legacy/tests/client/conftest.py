"""A real TLS server that answers what the test says, and legacy clients of it."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from pilot_communicator_panda_legacy import LegacySettings
from pilot_communicator_panda_legacy.client import LegacyCommunicator

from pilot_core import CancelToken, Context, Deadline
from pilot_core.testing.clock import FakeClock
from pilot_core.testing.scripted import ScriptedServer
from pilot_core.testing.tls import TestAuthority

RECORDINGS = Path(__file__).parents[1] / "recordings"


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return TestAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_tls(authority):
    return authority.server_context()


@pytest.fixture
def serve(server_tls):
    """Start servers with a script each; they end with the test."""
    servers = []

    def start(*script):
        servers.append(ScriptedServer(*script, tls=server_tls))
        return servers[-1].__enter__()

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def client(authority, clock, tmp_path):
    """Make clients of a server; they are closed with the test."""
    clients = []

    def make(server, settings=None, **context):
        base = Context(
            clock=clock,
            log=logging.getLogger("test.legacy"),
            work_dir=tmp_path,
            server_url=server.url,
            ca_file=authority.ca_file,
        )
        clients.append(LegacyCommunicator(settings or LegacySettings(), replace(base, **context), jitter=lambda: 1.0))
        return clients[-1]

    yield make
    for made in clients:
        made.close()


@pytest.fixture
def limits(clock):
    """Return the arguments that every call takes."""

    def make():
        return {"cancel": CancelToken(), "deadline": Deadline.after(clock, 3600)}

    return make


@pytest.fixture(scope="session")
def recordings():
    """Return the recorded exchanges of panda-server 0.8.1, by id."""
    lines = (RECORDINGS / "exchanges-legacy.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return {exchange["id"]: exchange for exchange in found}
