"""The protocol over a store in memory, without a socket."""

import json
import logging

import pytest

from pilot_core.api.server import Identity, ServerRequest
from pilot_core.testing.clock import FakeClock

PILOT = Identity(dn="/O=x/CN=pilot", fqans=("/wlcg/Role=production",))
USER = Identity(dn="/O=x/CN=Jane User")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(clock):
    module = pytest.importorskip("pilot_devserver.store", reason="the job store comes with pilot-devserver")
    store = module.SqliteStore(None, clock=clock, adder_delay=None)
    store.set_queue("Q")
    yield store
    store.close()


@pytest.fixture
def submit(store):
    from pilot_devserver.store_jobs import FileSpec, JobSpec

    def submit(*outputs, **values):
        files = tuple(FileSpec(lfn=lfn, kind="log" if lfn.startswith("log") else "output") for lfn in outputs)
        return store.submit([JobSpec(**{"queue": "Q", "transformation": "/bin/true", "files": files, **values})])[0]

    return submit


@pytest.fixture
def protocol():
    from pilot_communicator_panda.server.protocol import PandaProtocol

    return PandaProtocol(logging.getLogger("test"))


@pytest.fixture
def respond(protocol, store):
    """Send a request; return the response."""

    def respond(path, body=None, *, method="POST", identity=PILOT, query="", denied="", **headers):
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given.setdefault("content-type", "application/json")
        path = path if path.startswith("/") else f"/api/v1/{path}"
        request = ServerRequest(
            method=method, path=path, query=query, headers=given, body=body or b"", identity=identity, denied=denied
        )
        assert protocol.handles(request)
        return protocol.respond(request, store)

    return respond


@pytest.fixture
def post(respond):
    """Send JSON; return the parsed answer of status 200."""

    def post(path, body, **options):
        response = respond(path, body, **options)
        assert response.status == 200, response.body
        assert response.content_type == "text/plain"
        return json.loads(response.body)

    return post


@pytest.fixture
def get(respond):
    """Send a query; return the parsed answer of status 200."""

    def get(path, query="", **options):
        response = respond(path, method="GET", query=query, accept="application/json", **options)
        assert response.status == 200, response.body
        return json.loads(response.body)

    return get
