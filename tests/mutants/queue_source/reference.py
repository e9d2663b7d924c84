"""A correct queue source: a directory with one JSON file a queue, whose keys are the fields of `Queue`."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

from pilot_core import ConfigError, Provider, Queue, Storage, hookimpl, setting

STATES = ("online", "test", "brokeroff", "offline")
TABLES = {"storages", "stagers", "environment", "extra"}


@dataclass(frozen=True)
class DirectorySettings:
    folder: Path = setting(help="directory with one file NAME.json a queue")


class DirectorySource:
    """Reads a queue's file anew for every question."""

    def __init__(self, settings, context):
        self.folder = settings.folder
        self.log = context.log

    def queue(self, name, *, cancel, deadline):
        cancel.raise_if_cancelled()
        deadline.raise_if_passed(f"queue {name[:100]!r}")
        path = self.file_of(name)
        if path is None:
            return None
        data = self.load(path)
        try:
            return self.build(name, data, path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{path}: cannot be used: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from error

    def file_of(self, name):
        """Return the queue's file; only what the directory itself lists can be one."""
        try:
            listed = f"{name}.json" in os.listdir(self.folder)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: cannot be read: {error.strerror}; set queue-source.directory.folder"
            ) from None
        return self.folder / f"{name}.json" if listed and "/" not in name else None

    def load(self, path):
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: is not JSON: {' '.join(str(error).split())}") from None

    def build(self, name, data, path):
        """Return the queue; raises `ValueError` and the like for what makes no sense."""
        known = {item.name: item for item in fields(Queue)}
        unknown = sorted(set(data) - set(known) - {"source"})
        if unknown:
            raise ValueError(f"unknown keys: {', '.join(unknown)}")
        if data.get("name", name) != name:
            raise ValueError("its name is not that of the file")
        queue = Queue(name=name, source=str(path))
        values = {key: self.value(key, data[key], getattr(queue, key)) for key in data if key not in {"name", "source"}}
        queue = replace(queue, **values)
        self.check(queue)
        return queue

    def value(self, key, value, default):
        if key == "storages":
            return {rse: self.storage(rse, entry) for rse, entry in value.items()}
        if key == "stagers":
            return {activity: tuple(names) for activity, names in value.items()}
        if isinstance(default, tuple):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise ValueError(f"{key}: must be an array of strings")
            return tuple(value)
        if isinstance(default, float) and isinstance(value, int):
            value = float(value)
        if type(value) is not type(default):
            raise ValueError(f"{key}: must be a {type(default).__name__}")
        return value

    def storage(self, rse, entry):
        url = entry["url"].rstrip("/")
        if "://" not in url or not url.isprintable():
            raise ValueError(f"storages.{rse}.url: {url!r} is not a URL")
        layout = entry.get("layout", "flat")
        if layout not in {"flat", "rucio"}:
            raise ValueError(f"storages.{rse}.layout: {layout!r}")
        return Storage(rse=rse, url=url, layout=layout, stagers=tuple(entry.get("stagers", ())))

    def check(self, queue):
        if queue.status not in STATES:
            raise ValueError(f"status: {queue.status!r}")
        if not 0 < queue.heartbeat_seconds < math.inf:
            raise ValueError(f"heartbeat_seconds: {queue.heartbeat_seconds}")
        if min(queue.max_memory_mb, queue.max_disk_mb, queue.kill_grace_seconds) < 0:
            raise ValueError("a limit is below 0")
        for rse in (*queue.read, *queue.write, *queue.log):
            if rse not in queue.storages:
                raise ValueError(f"no storage {rse!r}")


class Plugin:
    """The plugin, as an object; faulty ones have another source."""

    def __init__(self, source=DirectorySource):
        self.source = source

    @hookimpl
    def pilot_queue_sources(self):
        yield Provider(name="directory", factory=self.source, settings=DirectorySettings)
