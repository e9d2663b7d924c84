"""A server with its pages, and a visitor who has the key."""

import http.client
import re
from urllib.parse import urlencode, urlsplit

import pytest
from pilot_devserver.devserver import DevServer


@pytest.fixture
def server(state_dir):
    with DevServer(state_dir, queues=("Q1", "Q2"), web_port=0) as server:
        yield server


class Visitor:
    """A browser without a screen: keeps the cookie, reads the forms' token."""

    def __init__(self, web_url):
        address = urlsplit(web_url)
        self.port = address.port
        self.host = f"127.0.0.1:{self.port}"
        self.key = address.query.removeprefix("key=")
        self.cookie = ""
        self.token = ""

    def ask(self, method, path, body=None, headers=None):
        """Return status, headers and text of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        given = {"Host": self.host, **({"Cookie": self.cookie} if self.cookie else {}), **(headers or {})}
        try:
            connection.request(method, path, body, given)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def enter(self):
        """Show the key, keep the cookie."""
        status, headers, _ = self.ask("GET", f"/?key={self.key}")
        assert (status, headers["Location"]) == (303, "/")
        self.cookie = headers["Set-Cookie"].partition(";")[0]
        self.token = re.search(r'name="csrf" value="([^"]+)"', self.get("/submit"))[1]
        return self

    def get(self, path):
        """Return a page."""
        status, _, text = self.ask("GET", path)
        assert status == 200, (status, text)
        return text

    def send(self, path, *, headers=None, **values):
        """Send a form as our own pages do; return status and headers and text."""
        body = urlencode({"csrf": self.token, **values})
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://{self.host}"}
        return self.ask("POST", path, body, {**kind, **(headers or {})})

    def do(self, path, **values):
        """Send a form that is accepted; return the page that it leads to."""
        status, headers, text = self.send(path, **values)
        assert status == 303, (status, text)
        return self.get(headers["Location"])


@pytest.fixture
def stranger(server):
    return Visitor(server.web_url)


@pytest.fixture
def visitor(server):
    return Visitor(server.web_url).enter()
