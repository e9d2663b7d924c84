"""A real server with its own directory, and a client that speaks to it over real sockets."""

import http.client
import json
import shutil
import ssl
from contextlib import closing

import pytest
from pilot_devserver.client import running_server
from pilot_devserver.devserver import DevServer
from pilot_devserver.statedir import StateDir

from pilot_core import SystemClock


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A state directory whose keys are made once for all tests."""
    path = tmp_path_factory.mktemp("prepared") / "state"
    StateDir(path, SystemClock()).prepare()
    return path


@pytest.fixture
def state_dir(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "state")


@pytest.fixture
def server(state_dir):
    with DevServer(state_dir, queues=("Q1", "Q2"), plain_port=0) as server:
        yield server


class Client:
    """One connection; `certificate` is a `ClientCertificate` or None."""

    def __init__(self, url, ca_file, certificate=None):
        scheme, _, address = url.partition("://")
        if scheme == "http":
            self.connection = http.client.HTTPConnection(address)
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca_file)
        if certificate:
            context.load_cert_chain(certificate.cert_file, certificate.key_file)
        self.connection = http.client.HTTPSConnection(address, context=context)

    def ask(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, headers or {})
        response = self.connection.getresponse()
        return response, response.read()

    def post(self, path, values, **headers):
        given = {"Content-Type": "application/json"} | {name.capitalize(): value for name, value in headers.items()}
        response, body = self.ask("POST", path, json.dumps(values), given)
        return json.loads(body) if response.status == 200 else (response.status, body.decode())

    def acquire(self, queue="Q1", label="managed", **headers):
        return self.post("/api/v1/pilot/acquire_jobs", {"site_name": queue, "prod_source_label": label}, **headers)

    def close(self):
        self.connection.close()


@pytest.fixture
def connect(server):
    """Make clients of the server; they are closed at the end."""
    clients = []

    def make(certificate=None, url=None):
        clients.append(Client(url or server.url, server.ca_file, certificate))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def pilot(server, connect):
    return connect(server.pilot_certificate)


@pytest.fixture
def one_shot():
    """Ask a server once over a connection of its own."""

    def ask(server, method, path, certificate=None):
        with closing(Client(server.url, server.ca_file, certificate)) as client:
            return client.ask(method, path)

    return ask


@pytest.fixture
def connect_to():
    """Make clients of servers; they are connected at once, and closed at the end."""
    clients = []

    def make(server, certificate=None):
        clients.append(Client(server.url, server.ca_file, certificate))
        clients[-1].connection.connect()
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def admin(server):
    """The client of the server's own interface."""
    return running_server(server.state)
