"""A real Rucio server for the session, catalogues that ask it, and servers in between that misbehave."""

from __future__ import annotations

import http.client
import logging
import ssl

import pytest
from pilot_catalog_rucio import Settings
from pilot_catalog_rucio.catalog import Rucio

from pilot_core import CancelToken, Context, Deadline, FileReport, Job, OutputFile, SystemClock
from pilot_core.testing.loopback import Loopback, Reaction, response_bytes
from pilot_core.testing.servers.rucio import RucioServer
from pilot_core.testing.tls import TestAuthority


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """The server; tests use `server`."""
    with RucioServer(tmp_path_factory.mktemp("rucio")) as server:
        (server.folder / "password").write_text(f"{server.password}\n")
        server.scope("user.pilot")
        server.scope("data26")
        server.rse("NEAR_DISK", "davs://near.example.org:443/data", "root://near.example.org:1094//data", site="HERE")
        server.rse("FAR_DISK", "root://far.example.org:1094//data", "davs://far.example.org:443/data", site="THERE")
        yield server


@pytest.fixture
def server(running):
    """The server, without a file."""
    running.empty()
    running.requests()
    running.traces()
    return running


@pytest.fixture
def clock():
    return SystemClock()


@pytest.fixture
def cancel():
    return CancelToken()


@pytest.fixture
def deadline(clock):
    return Deadline.after(clock, 60.0)


@pytest.fixture
def limits(cancel, deadline):
    return {"cancel": cancel, "deadline": deadline}


@pytest.fixture
def make(tmp_path, clock):
    """Make catalogues from settings, and from `Context` where a test says so."""

    def make(context=None, **settings):
        told = {"clock": clock, "log": logging.getLogger("test.rucio"), "work_dir": tmp_path, **(context or {})}
        return Rucio(Settings(**settings), Context(**told))

    return make


@pytest.fixture
def login(server):
    """Settings that reach the server, with user and password."""
    return {
        "url": server.url,
        "account": server.account,
        "username": server.user,
        "password_file": server.folder / "password",
        "ca_file": server.authority.ca_file,
    }


@pytest.fixture
def catalog(login, make):
    return make(**login)


@pytest.fixture
def outputs():
    """Make a job, and the reports of what was stored of it: `lfn=surl`, by the keywords given."""

    def make(rse, stored, *, scope="user.pilot", dataset="", size=7, checksum="adler32:00000007"):
        files = tuple(OutputFile(lfn=lfn, scope=scope, dataset=dataset) for lfn in stored)
        job = Job(id=4711, attempt=1, task_id=815, user="A User", label="user", outputs=files)
        guid = "0A1B2C3D-4E5F-4678-9ABC-000000000007"
        told = {"guid": guid, "size": size, "checksum": checksum, "rse": rse}
        return job, [FileReport(lfn=lfn, surl=surl, **told) for lfn, surl in stored.items()]

    return make


# -- servers that are none of Rucio's ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return TestAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def server_tls(authority):
    return authority.server_context()


@pytest.fixture
def said():
    """Make responses."""
    return _said


def _said(status, body=b"", headers=None, content_type="application/x-json-stream"):
    """Return a response."""
    return response_bytes(status, body, content_type, headers)


TOKEN = _said(200, headers={"X-Rucio-Auth-Token": "canary-token"})


@pytest.fixture
def scripted(authority, server_tls, make, tmp_path):
    """Make a catalogue and its server, which gives tokens, and reacts to all else as a list says, the last for ever."""
    servers = []

    def start(*script, **settings):
        left = list(script)

        def answer(request):
            if request.target.startswith("/auth/"):
                return Reaction(data=TOKEN)
            reaction = left.pop(0) if len(left) > 1 else left[0]
            return reaction if isinstance(reaction, Reaction) else Reaction(data=reaction)

        server = Loopback(answer, tls=lambda: server_tls)
        servers.append(server)
        (tmp_path / "password").write_text("canary-password")
        told = {"username": "pilot", "password_file": tmp_path / "password", "ca_file": authority.ca_file, **settings}
        return make(url=f"https://localhost:{server.port}", **told), server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def between(server, login, server_tls, make, authority):
    """Make a catalogue that asks the real server through one that hands on, and spoils answers as `spoil` says."""
    opened = []

    def start(spoil, **settings):
        trust = ssl.create_default_context(cafile=server.authority.ca_file)

        def answer(request):
            wire = http.client.HTTPSConnection("localhost", server.port, context=trust)
            try:
                kept = {n: v for n, v in request.headers.items() if n not in {"host", "connection", "content-length"}}
                wire.request(request.method, request.target, request.body, kept)
                told = wire.getresponse()
                headers = {n: v for n, v in told.getheaders() if n.lower() not in {"connection", "transfer-encoding"}}
                data = response_bytes(told.status, told.read(), "application/json", headers)
            finally:
                wire.close()
            return spoil(request, data)

        door = Loopback(answer, tls=lambda: server_tls)
        opened.append(door)
        told = {**login, "url": f"https://localhost:{door.port}", "ca_file": authority.ca_file}
        return make(**{**told, **settings})

    yield start
    for door in opened:
        door.close()
