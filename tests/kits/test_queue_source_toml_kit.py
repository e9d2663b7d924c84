"""The kit on the queue source `toml`."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from pilot_core import Queue
from pilot_core.testing import QueueSite, QueueSourceKit


class TomlFile(QueueSite):
    """A file with a table for each queue, written by hand."""

    faults = ("not TOML", "not UTF-8", "of a wrong type", "an unknown key", "a storage missing", "without a URL")

    def __init__(self, file):
        self.file = file
        self.queues = {}
        self.write()

    @property
    def settings(self):
        return {"file": self.file}

    def publish(self, queue):
        self.queues[queue.name] = lines(queue)
        self.write()
        return queue

    def withdraw(self, name):
        del self.queues[name]
        self.write()

    def spoil(self, name, fault):
        path = f"queues.{quoted(name)}"
        if fault == "not UTF-8":
            self.file.write_bytes(b'[queues.X]\nsite = "\xff"\n')
            return str(self.file)
        text = {
            "not TOML": "[queues.X\n",
            "of a wrong type": f"[{path}]\nmax_memory_mb = 'many'\n",
            "an unknown key": f"[{path}]\nstatsu = 'online'\n",
            "a storage missing": f"[{path}]\nread = ['DISK']\n",
            "without a URL": f"[{path}.storages.DISK]\nlayout = 'flat'\n",
        }[fault]
        self.file.write_text(text)
        return str(self.file)

    def write(self):
        self.file.write_text("\n".join(self.queues.values()), encoding="utf-8")


def quoted(text):
    """Return a text as TOML has it: its basic strings are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def value(item):
    if isinstance(item, bool | int | float):
        return json.dumps(item)
    return quoted(item) if isinstance(item, str) else f"[{', '.join(map(quoted, item))}]"


def lines(queue):
    """Return the table of a queue, its tables written inline."""
    path = f"queues.{quoted(queue.name)}"
    plain, tables = [f"[{path}]"], []
    for field in fields(Queue):
        item = getattr(queue, field.name)
        if field.name in {"name", "source", "extra"}:
            continue
        if field.name == "storages":
            for rse, storage in item.items():
                tables.append(f"[{path}.storages.{quoted(rse)}]")
                tables += [f"url = {quoted(storage.url + '/')}", f"layout = {quoted(storage.layout)}"]
                tables.append(f"stagers = {value(storage.stagers)}")
        elif isinstance(item, dict):
            tables.append(f"[{path}.{field.name}]")
            tables += [f"{quoted(key)} = {value(each)}" for key, each in item.items()]
        else:
            plain.append(f"{field.name} = {value(item)}")
    return "\n".join([*plain, *tables])


class TestToml(QueueSourceKit):
    @pytest.fixture
    def plugin(self):
        return "queue-source.toml"

    @pytest.fixture
    def site(self, tmp_path):
        return TomlFile(tmp_path / "queues.toml")
