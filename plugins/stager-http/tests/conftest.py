"""What the tests of the stager share: a stager with a job's directory, and what it has to raise."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path

import pytest
from pilot_stager_http.settings import Settings
from pilot_stager_http.stager import HttpStager

from pilot_core import CancelToken, Context, Deadline, FetchRequest, StoreRequest, SystemClock

DATA = bytes(range(256)) * 8192  # 2 MiB


class Bench:
    """A stager, and a directory to fetch to and store from."""

    def __init__(self, folder: Path, *, context=None, **settings):
        self.folder = folder
        self.clock = SystemClock()
        self.cancel = CancelToken()
        self.deadline = Deadline.after(self.clock, 30)
        self.told = []
        self.context = Context(clock=self.clock, log=logging.getLogger("test.http"), work_dir=folder, **(context or {}))
        self.stager = HttpStager(Settings(**{"timeout": 5.0, **settings}), self.context)

    @property
    def limits(self):
        return {"cancel": self.cancel, "deadline": self.deadline}

    @property
    def copy(self):
        return self.folder / "in.dat"

    def fetch(self, url, **what):
        request = FetchRequest(url=url, destination=self.copy, **{"progress": self.told.append, **what})
        return self.stager.fetch(request, **self.limits)

    def store(self, url, data=DATA, **what):
        source = self.folder / "out.dat"
        source.write_bytes(data)
        request = StoreRequest(source=source, url=url, **{"progress": self.told.append, **what})
        return self.stager.store(request, **self.limits)

    def stat(self, url):
        return self.stager.stat(url, **self.limits)

    def remove(self, url):
        self.stager.remove(url, **self.limits)

    def check_clean(self):
        """See that nothing of a fetch is left."""
        assert [path.name for path in self.folder.iterdir() if path.name != "out.dat"] == []


@pytest.fixture
def bench(tmp_path):
    """Make a bench with settings."""
    folder = tmp_path / "job"
    folder.mkdir()

    def make(**settings):
        return Bench(folder, **settings)

    return make


@pytest.fixture
def serving():
    """Make scripts that read whole requests and answer them."""
    return _serving


@pytest.fixture
def answering():
    """Make scripts that give always the same answer."""
    return lambda status, body=b"", headers=None: _serving(
        lambda connection, asked, _: connection.answer(status, body, headers)
    )


@pytest.fixture
def kept():
    """Make storages that keep files."""
    return Kept


def _serving(answer):
    """Return a script that reads whole requests and answers them, one after the other."""

    def script(connection):
        while True:
            asked = connection.request()
            if "expect" in asked.headers:
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            answer(connection, asked, connection.body(asked.length))

    return script


class Kept(dict):
    """Files by target; answers as a storage that keeps them does. Its digests are those of WLCG's storages."""

    def __init__(self, *, digest=True, folders=None):
        super().__init__()
        self.digest = digest
        self.folders = folders
        """The folders that are there, with slashes at their ends; None = no folders are needed."""

    def __call__(self, connection, asked, body):
        getattr(self, asked.method.lower())(connection, asked, body)

    def head(self, connection, asked, body):
        data = self.get_data(asked)
        if data is None:
            return connection.answer(404)
        return connection.answer(200, b"", {"Content-Length": str(len(data)), **self.told(asked, data)})

    def get(self, connection, asked, body):
        data = self.get_data(asked)
        return connection.answer(404) if data is None else connection.answer(200, data, self.told(asked, data))

    def put(self, connection, asked, body):
        if self.folders is not None and asked.target.rpartition("/")[0] + "/" not in self.folders:
            return connection.answer(409)
        self[asked.target] = body
        return connection.answer(201)

    def delete(self, connection, asked, body):
        return connection.answer(204 if self.pop(asked.target, None) is not None else 404)

    def mkcol(self, connection, asked, body):
        if asked.target in self.folders:
            return connection.answer(405)
        if asked.target.rstrip("/").rpartition("/")[0] + "/" not in self.folders:
            return connection.answer(409)
        self.folders.add(asked.target)
        return connection.answer(201)

    def move(self, connection, asked, body):
        self["/" + asked.headers["destination"].split("/", 3)[3]] = self.pop(asked.target)
        return connection.answer(201)

    def get_data(self, asked):
        return dict.get(self, asked.target)

    def told(self, asked, data):
        headers = {"Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"}
        if self.digest and "want-digest" in asked.headers:
            headers["Digest"] = f"adler32={zlib.adler32(data):08x}"
        return headers
