"""The source does what pilot-core asks of every queue source: each clause of the conformance kit is a test here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pilot_core import Queue
from pilot_core.testing import QueueSite, QueueSourceKit

# YOUR CODE: how your descriptions can be wrong; the kit wants each of them named with its place
FAULTS: dict[str, dict[str, Any]] = {
    "of another type": {"read": "DISK"},
    "without a storage": {"read": ["DISK"]},
    "without a URL": {"storages": {"DISK": {}}},
    "in an unknown state": {"status": "asleep"},
    "misspelt": {"sote": "X"},
}


class Directory(QueueSite):
    """The other side: a site that describes its queues in files. It is written without the plugin's own code."""

    faults = ("no JSON", "a list", *FAULTS)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plugin's settings."""
        return {"directory": self._folder}

    def publish(self, queue: Queue) -> Queue:
        """Describe a queue."""
        told = {key: value for key, value in asdict(queue).items() if key not in {"name", "source", "extra"}}
        for storage in told["storages"].values():
            del storage["rse"]
        self._file(queue.name).write_text(json.dumps(told))
        # YOUR CODE: if your format cannot say everything, return what the plugin can know: replace(queue, shell=False)
        return queue

    def withdraw(self, name: str) -> None:
        """Take a queue away."""
        self._file(name).unlink()

    def spoil(self, name: str, fault: str) -> str:
        """Make a description unusable."""
        texts = {"no JSON": '{"site": ', "a list": "[]"}
        self._file(name).write_text(texts.get(fault) or json.dumps(FAULTS[fault]))
        return self._file(name).name

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"


class Test{{ cookiecutter.__class }}(QueueSourceKit):
    """The kit's clauses, run on `queue-source.{{ cookiecutter.name }}`."""

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "queue-source.{{ cookiecutter.name }}"

    @pytest.fixture
    def site(self, tmp_path: Path) -> QueueSite:
        """The other side."""
        # YOUR CODE: a real one, for example a server that this fixture starts
        return Directory(tmp_path / "queues")
