"""A real TLS server that answers what the test says, and clients of it."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from pilot_communicator_panda.client import PandaCommunicator
from pilot_communicator_panda.settings import PandaSettings

from pilot_core import BearerToken, CancelToken, Context, Deadline
from pilot_core.testing.clock import FakeClock
from pilot_core.testing.scripted import ScriptedServer
from pilot_core.testing.tls import TestAuthority

RECORDINGS = Path(__file__).parents[1] / "recordings"


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return TestAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_tls(authority):
    return authority.server_context(clients=authority)


@pytest.fixture
def serve(server_tls):
    """Start servers with a script each; they end with the test."""
    servers = []

    def start(*script, tls=server_tls):
        server = ScriptedServer(*script, tls=tls)
        servers.append(server)
        return server.__enter__()

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def clock():
    return FakeClock()


class Held:
    """A credential source that holds what the test puts in."""

    def __init__(self, *credentials):
        self.credentials = list(credentials)
        self.asked = 0

    def credential(self, *, cancel, deadline):
        self.asked += 1
        return self.credentials.pop(0) if len(self.credentials) > 1 else self.credentials[0]

    def secrets(self):
        return tuple(c.value for c in self.credentials if isinstance(c, BearerToken))


@pytest.fixture
def held():
    return Held


@pytest.fixture
def client(authority, clock, tmp_path):
    """Make clients of a server (or URL); they are closed with the test."""
    clients = []

    def make(server, settings=None, jitter=lambda: 1.0, **context):
        url = server if isinstance(server, str) else server.url
        base = Context(
            clock=clock,
            log=logging.getLogger("test.panda"),
            work_dir=tmp_path,
            server_url=url,
            ca_file=authority.ca_file,
            user_agent="pilot-core/0 (test)",
        )
        clients.append(PandaCommunicator(settings or PandaSettings(), replace(base, **context), jitter=jitter))
        return clients[-1]

    yield make
    for made in clients:
        made.close()


@pytest.fixture
def limits(clock):
    """Return the arguments that every call takes: a fresh token, and a deadline of an hour."""

    def make(seconds=3600.0, cancel=None):
        return {"cancel": cancel or CancelToken(), "deadline": Deadline.after(clock, seconds)}

    return make


@pytest.fixture(scope="session")
def recordings():
    """Return the recorded exchanges of panda-server 1.0.4, by id."""
    lines = (RECORDINGS / "exchanges-v1.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return {exchange["id"]: exchange for exchange in found}
