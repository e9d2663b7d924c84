"""The protocol over a store in memory, without a socket."""

import gzip
import json
import logging
from urllib.parse import parse_qsl, urlencode

import pytest

from pilot_core.api.server import Identity, ServerRequest
from pilot_core.testing.clock import FakeClock

PILOT = Identity(dn="/O=x/CN=pilot", fqans=("/wlcg/Role=production",))


@pytest.fixture
def store():
    module = pytest.importorskip("pilot_devserver.store", reason="the job store comes with pilot-devserver")
    store = module.SqliteStore(None, clock=FakeClock(), adder_delay=None)
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
def respond(store):
    """Send a request: a form, JSON (packed) if `packed`, or these very bytes."""
    from pilot_communicator_panda_legacy.server.protocol import LegacyProtocol

    protocol = LegacyProtocol(logging.getLogger("test"))

    def respond(name, fields=None, *, packed=False, method="POST", identity=PILOT, accept="*/*", denied="", **more):
        headers = {"accept": accept}
        if isinstance(fields, bytes):
            body = fields
        elif packed:
            body = gzip.compress(json.dumps(fields).encode())
        else:
            body = urlencode(fields or {}).encode()
        headers["content-type"] = "application/json" if packed else "application/x-www-form-urlencoded"
        query = more.pop("query", "")
        headers |= {key.replace("_", "-"): value for key, value in more.items()}
        path = name if name.startswith("/") else f"/server/panda/{name}"
        request = ServerRequest(
            method=method, path=path, query=query, headers=headers, body=body, identity=identity, denied=denied
        )
        assert protocol.handles(request)
        return protocol.respond(request, store)

    return respond


@pytest.fixture
def form(respond):
    """Send a form; return the fields of the answer, which is a form too."""

    def form(name, fields=None, **options):
        response = respond(name, fields, **options)
        assert (response.status, response.content_type) == (200, "text/plain"), response.body
        return dict(parse_qsl(response.body.decode(), keep_blank_values=True))

    return form


@pytest.fixture
def as_json(respond):
    """Send a form; return the answer, which is JSON."""

    def as_json(name, fields=None, **options):
        response = respond(name, fields, accept="application/json", **options)
        assert (response.status, response.content_type) == (200, "application/json"), response.body
        return json.loads(response.body)

    return as_json
