"""The kit on the queue source `cric`: queuedata and storages from a server on loopback, and from files."""

from __future__ import annotations

import json
from urllib.parse import quote, urlsplit

import pytest

from pilot_core import Queue, Storage, StorageProtocol
from pilot_core.testing import QueueSite, QueueSourceKit

TOOLS = {"http": "davix", "file": "cp"}


def described(queue):
    """Return the queuedata of a queue, the storages' data, and what of the queue they can say."""
    storages = {
        rse: Storage(rse=rse, url=each.url, layout=each.layout, protocols=protocols(each.url))
        for rse, each in queue.storages.items()
    }
    stagers = dict(queue.stagers)
    if "write" in stagers:
        stagers.setdefault("log", stagers["write"])  # CRIC's activity `pl` falls back to those of writing
    expected = Queue(
        name=queue.name,
        site=queue.site,
        status=queue.status,
        storages=storages,
        read=queue.read,
        write=queue.write,
        log=queue.log or queue.write,
        stagers=stagers,
        environment=queue.environment,
        max_memory_mb=queue.max_memory_mb,
        max_disk_mb=queue.max_disk_mb,
    )
    entry = {
        "nickname": queue.name,
        "atlas_site": queue.site,
        "status": queue.status,
        "state": "ACTIVE",
        "type": "unified",
        "maxrss": queue.max_memory_mb,
        "maxwdir": str(queue.max_disk_mb),
        "environ": ",".join(f"{name}={value}" for name, value in queue.environment.items()),
        "astorages": {"read_lan": list(queue.read), "write_lan": list(queue.write), "pl": list(expected.log)},
        "acopytools": {
            {"read": "read_lan", "write": "write_lan", "log": "pl"}[activity]: [TOOLS[name] for name in names]
            for activity, names in queue.stagers.items()
        },
    }
    return entry, {rse: endpoint(each) for rse, each in storages.items()}, expected


def protocols(url):
    """Return the protocols of a storage at a URL: that, and one for deleting."""
    return (
        StorageProtocol(url=url, activities=("read_lan", "write_lan", "delete")),
        StorageProtocol(url="davs://door.example.org:443/x", activities=("delete",)),
    )


def endpoint(storage):
    parts = urlsplit(storage.url)
    place = {"endpoint": f"{parts.scheme}://{parts.netloc}", "path": f"{parts.path}/"}
    door = {"endpoint": "davs://door.example.org:443/", "path": "x"}
    return {
        "arprotocols": {"read_lan": [place], "write_lan": [place], "delete": [place, door]},
        "is_deterministic": storage.layout == "rucio",
        "state": "ACTIVE",
    }


class Cache(QueueSite):
    """A server with a document for each queue and one for all storages, as PanDA's cache has them."""

    faults = ("not an object", "of a wrong type", "without a URL", "an odd variable")

    def __init__(self, server):
        self.server = server
        self.documents = {}
        self.endpoints = {}

    @property
    def settings(self):
        return {"url": f"{self.server.url}/q/{{queue}}.json", "endpoints_url": f"{self.server.url}/e", "tries": 1}

    def publish(self, queue):
        self.documents[queue.name], endpoints, expected = described(queue)
        self.endpoints |= endpoints
        self.write()
        return expected

    def write(self):
        self.server.answers.clear()
        self.server.serve("/e", self.endpoints)
        for name, document in self.documents.items():
            self.server.serve(f"/q/{quote(name, safe='')}.json", document)

    def withdraw(self, name):
        del self.documents[name]
        self.write()

    def spoil(self, name, fault):
        entry = self.documents[name]
        if fault == "not an object":
            self.documents[name] = [entry]
        elif fault == "of a wrong type":
            entry["maxrss"] = "many"
        elif fault == "without a URL":
            nowhere = {"arprotocols": {"read_lan": [{"endpoint": "x"}]}}
            self.endpoints = {rse: {**each, **nowhere} for rse, each in self.endpoints.items()}
        else:
            entry["environ"] = "no variable"
        self.write()
        return "/e" if fault == "without a URL" else f"/q/{quote(name)}.json"

    def break_down(self):
        self.server.answers.clear()
        for name in self.documents:
            self.server.serve(f"/q/{quote(name, safe='')}.json", b"", status=0)
        return True


class TestServer(QueueSourceKit):
    @pytest.fixture
    def plugin(self):
        return "queue-source.cric"

    @pytest.fixture
    def site(self, site):
        return Cache(site)


class Files(Cache):
    """CRIC's exports as files: all queues in one, all storages in the other."""

    faults = ("not JSON", "not an object", "of a wrong type", "without a URL", "an odd variable")

    def __init__(self, folder):
        self.documents, self.endpoints = {}, {}
        self.queues_file, self.endpoints_file = folder / "queues.json", folder / "endpoints.json"
        self.write()

    @property
    def settings(self):
        return {"file": self.queues_file, "endpoints_file": self.endpoints_file}

    def write(self):
        self.queues_file.write_text(json.dumps(self.documents))
        self.endpoints_file.write_text(json.dumps(self.endpoints))

    def spoil(self, name, fault):
        if fault == "not JSON":
            self.queues_file.write_text(json.dumps(self.documents)[:-5])
            return str(self.queues_file)
        place = super().spoil(name, fault)
        if fault == "not an object":
            self.queues_file.write_text(json.dumps([self.documents]))
        return str(self.endpoints_file if place == "/e" else self.queues_file)

    def break_down(self):
        return False


class TestFiles(QueueSourceKit):
    @pytest.fixture
    def plugin(self):
        return "queue-source.cric"

    @pytest.fixture
    def site(self, tmp_path):
        return Files(tmp_path)
