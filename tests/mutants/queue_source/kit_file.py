"""The kit on the reference source, or on the mutant of this process."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from harness import chosen
from queue_source.faults import MUTANTS
from queue_source.reference import Plugin

from pilot_core.testing import QueueSite, QueueSourceKit


class DirectorySite(QueueSite):
    faults = ("cut", "not an object", "of a wrong type", "without a storage's URL", "not UTF-8", "a storage missing")

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder

    @property
    def settings(self):
        return {"folder": self.folder}

    def publish(self, queue):
        (self.folder / f"{queue.name}.json").write_text(json.dumps(asdict(queue)), encoding="utf-8")
        return queue

    def withdraw(self, name):
        (self.folder / f"{name}.json").unlink()

    def spoil(self, name, fault):
        path = self.folder / f"{name}.json"
        data = json.loads(path.read_text())
        if fault == "cut":
            path.write_text(json.dumps(data)[:-20])
        elif fault == "not UTF-8":
            path.write_bytes(b'{"site": "\xff\xfe"}')
        else:
            first = next(iter(data["storages"]))
            if fault == "of a wrong type":
                data["max_memory_mb"] = "many"
            elif fault == "without a storage's URL":
                del data["storages"][first]["url"]
            elif fault == "a storage missing":
                del data["storages"][first]
            path.write_text(json.dumps(data if fault != "not an object" else [data]))
        return path.name


class TestMutant(QueueSourceKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, Plugin)

    @pytest.fixture
    def site(self, tmp_path):
        return DirectorySite(tmp_path / "queues")
