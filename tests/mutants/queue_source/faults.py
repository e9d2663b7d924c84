"""Faults of queue sources."""

from __future__ import annotations

import fnmatch
import os
import re
import threading
from dataclasses import replace

from harness import Mutant
from queue_source.reference import DirectorySource, Plugin

from pilot_core import ConfigError


def made(fault):
    """Return a source whose answers are changed by `fault`."""

    class Changed(DirectorySource):
        def build(self, name, data, path):
            return fault(super().build(name, data, path))

    return Changed


class AnyCase(DirectorySource):
    def file_of(self, name):
        found = [each for each in os.listdir(self.folder) if each.lower() == f"{name}.json".lower()]
        return self.folder / found[0] if found else None

    def build(self, name, data, path):
        return replace(super().build(path.stem, data, path), name=name)


class Canonical(DirectorySource):
    def file_of(self, name):
        return super().file_of(name.strip())

    def build(self, name, data, path):
        return super().build(path.stem, data, path)


class Joined(DirectorySource):
    def file_of(self, name):
        path = self.folder / f"{name}.json"
        return path if path.exists() else None

    def build(self, name, data, path):
        data.pop("name", None)
        return super().build(name, data, path)


class Prefix(DirectorySource):
    def file_of(self, name):
        found = [each for each in os.listdir(self.folder) if each.startswith(name)]
        return self.folder / found[0] if found else None

    def build(self, name, data, path):
        return super().build(name, data | {"name": name}, path)


class Pattern(DirectorySource):
    def file_of(self, name):
        found = [each for each in os.listdir(self.folder) if fnmatch.fnmatchcase(each, f"{name}.json")]
        return self.folder / found[0] if found else None

    def build(self, name, data, path):
        return super().build(name, data | {"name": name}, path)


class Expression(DirectorySource):
    def file_of(self, name):
        found = [each for each in os.listdir(self.folder) if re.fullmatch(f"{name}[.]json", each)]
        return self.folder / found[0] if found else None


class Kept(DirectorySource):
    def queue(self, name, **limits):
        known = self.__dict__.setdefault("known", {})
        if name not in known or known[name] is None:
            known[name] = super().queue(name, **limits)
        return known[name]


class KeptNone(DirectorySource):
    def queue(self, name, **limits):
        nobody = self.__dict__.setdefault("nobody", set())
        if name in nobody:
            return None
        queue = super().queue(name, **limits)
        if queue is None:
            nobody.add(name)
        return queue


class KeptBySize(DirectorySource):
    def load(self, path):
        status = path.stat()
        key = (path, status.st_size, int(status.st_mtime))
        known = self.__dict__.setdefault("known", {})
        if key not in known:
            known[key] = super().load(path)
        return known[key]


class KeptError(DirectorySource):
    def load(self, path):
        errors = self.__dict__.setdefault("errors", {})
        if path in errors:
            raise errors[path]
        try:
            return super().load(path)
        except ConfigError as error:
            errors[path] = error
            raise


class Shared(DirectorySource):
    tables: dict = {}  # noqa: RUF012  (that is the fault)

    def build(self, name, data, path):
        queue = super().build(name, data, path)
        return replace(queue, environment=self.tables.setdefault(name, queue.environment))


class Mixed(DirectorySource):
    def queue(self, name, **limits):
        self.name = name
        threading.Event().wait(0.02)
        return super().queue(self.name, **limits)


class MalformedIsUnknown(DirectorySource):
    def queue(self, name, **limits):
        try:
            return super().queue(name, **limits)
        except ConfigError:
            return None


class Raw(DirectorySource):
    def load(self, path):
        import json

        return json.loads(path.read_text())


class RawBuild(DirectorySource):
    def queue(self, name, **limits):
        path = self.file_of(name)
        limits["cancel"].raise_if_cancelled()
        limits["deadline"].raise_if_passed("queue")
        return None if path is None else self.build(name, self.load(path), path)


class Half(DirectorySource):
    def value(self, key, value, default):
        try:
            return super().value(key, value, default)
        except (ValueError, KeyError, TypeError):
            return default


class Unchecked(DirectorySource):
    def check(self, queue):
        pass


class NoPlace(DirectorySource):
    def queue(self, name, **limits):
        try:
            return super().queue(name, **limits)
        except ConfigError:
            raise ConfigError("the queue's description cannot be used") from None


class ManyLines(DirectorySource):
    def queue(self, name, **limits):
        try:
            return super().queue(name, **limits)
        except ConfigError as error:
            raise ConfigError(f"{error}\nin: {self.folder}") from None


class UnknownIsError(DirectorySource):
    def queue(self, name, **limits):
        queue = super().queue(name, **limits)
        if queue is None:
            raise ConfigError(f"{self.folder}: no queue {name[:50]!r}")
        return queue


class LongError(DirectorySource):
    def queue(self, name, **limits):
        if len(name) > 1000:
            raise ConfigError(f"{self.folder}: {name!r} is no name of a queue")
        return super().queue(name, **limits)


class Uncancelled(DirectorySource):
    def queue(self, name, *, cancel, deadline):
        path = self.file_of(name)
        deadline.raise_if_passed("queue")
        return None if path is None else self.build(name, self.load(path), path)


class Endless(DirectorySource):
    def queue(self, name, *, cancel, deadline):
        cancel.raise_if_cancelled()
        path = self.file_of(name)
        return None if path is None else self.build(name, self.load(path), path)


class Open(DirectorySource):
    def load(self, path):
        self.__dict__.setdefault("files", []).append(os.open(path, os.O_RDONLY))
        return super().load(path)


class Copying(DirectorySource):
    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.cache = context.work_dir

    def load(self, path):
        (self.cache / path.name).write_bytes(path.read_bytes())
        return super().load(path)


class Gathering(DirectorySource):
    def build(self, name, data, path):
        queue = super().build(name, data, path)
        variables = self.__dict__.setdefault("variables", {})
        variables.update(queue.environment)
        return replace(queue, environment=dict(variables))


class KeptStorages(DirectorySource):
    def storage(self, rse, entry):
        return self.__dict__.setdefault("rses", {}).setdefault(rse, super().storage(rse, entry))


class Telling(DirectorySource):
    def build(self, name, data, path):
        queue = super().build(name, data, path)
        self.log.debug("%s", queue)
        return queue


class Exporting(DirectorySource):
    def build(self, name, data, path):
        os.environ["PILOT_QUEUE"] = name
        return super().build(name, data, path)


class Threads(DirectorySource):
    def load(self, path):
        bell = self.__dict__.setdefault("bell", threading.Event())
        threading.Thread(target=bell.wait, daemon=True).start()
        return super().load(path)


class Slashes(DirectorySource):
    def storage(self, rse, entry):
        found = super().storage(rse, entry)
        return replace(found, url=f"{found.url}/")


def only_first(queue):
    return replace(queue, storages={rse: queue.storages[rse] for rse in queue.read[:1]})


def flat(queue):
    return replace(queue, storages={rse: replace(each, layout="flat") for rse, each in queue.storages.items()})


RIGHT = ("test_a_known_queue_is_right_in_every_field",)
CHANGED = {
    "status-dropped": ("the status is always online", lambda q: replace(q, status="online"), RIGHT),
    "site-is-name": ("the site's name is the queue's", lambda q: replace(q, site=q.name), RIGHT),
    "read-and-write-swapped": (
        "it reads where it should write",
        lambda q: replace(q, read=q.write, write=q.read),
        RIGHT,
    ),
    "log-dropped": ("the log's storages are lost", lambda q: replace(q, log=()), RIGHT),
    "order-sorted": ("storages are sorted by name", lambda q: replace(q, read=tuple(sorted(q.read))), RIGHT),
    "layout-ignored": ("every storage is flat", flat, RIGHT),
    "stagers-of-storage-dropped": (
        "a storage's own stagers are lost",
        lambda q: replace(q, storages={rse: replace(each, stagers=()) for rse, each in q.storages.items()}),
        RIGHT,
    ),
    "empty-variables-dropped": (
        "variables with an empty value are lost",
        lambda q: replace(q, environment={key: value for key, value in q.environment.items() if value}),
        RIGHT,
    ),
    "variables-cut": (
        "a variable ends at its second equals sign",
        lambda q: replace(q, environment={key: value.partition("=")[0] for key, value in q.environment.items()}),
        RIGHT,
    ),
    "seconds-rounded": (
        "heartbeats are whole",
        lambda q: replace(q, heartbeat_seconds=int(q.heartbeat_seconds)),
        RIGHT,
    ),
    "limits-swapped": (
        "memory and disk are swapped",
        lambda q: replace(q, max_memory_mb=q.max_disk_mb, max_disk_mb=q.max_memory_mb),
        RIGHT,
    ),
    "http-allowed": ("plain http is always allowed", lambda q: replace(q, allow_http=True), RIGHT),
    "percent-decoded": (
        "percent signs of a URL are decoded",
        lambda q: replace(
            q, storages={rse: replace(each, url=each.url.replace("%7E", "~")) for rse, each in q.storages.items()}
        ),
        RIGHT,
    ),
    "storages-incomplete": (
        "a storage that is written to is not described",
        only_first,
        ("test_used_storages_are_described",),
    ),
    "source-empty": ("it does not say where it read", lambda q: replace(q, source=""), RIGHT),
    "lists-for-tuples": ("read is a list", lambda q: replace(q, read=list(q.read)), RIGHT),
    "a-default-made-up": (
        "a limit is made up where none is said",
        lambda q: replace(q, max_disk_mb=q.max_disk_mb or 10_000),
        ("test_a_queue_that_says_little_has_the_defaults",),
    ),
}
SOURCES = {
    "any-case": ("names are compared without case", AnyCase, ("test_names_are_compared_exactly",)),
    "blanks-stripped": ("blanks around a name are dropped", Canonical, ("test_names_are_compared_exactly",)),
    "path-joined": (
        "a name leads out of the directory",
        Joined,
        ("test_hostile_names_lead_nowhere", "test_no_file_outside_is_read"),
    ),
    "prefix": ("a part of a name is enough", Prefix, ("test_names_are_compared_exactly",)),
    "pattern": ("a name is taken for a pattern", Pattern, ("test_hostile_names_lead_nowhere",)),
    "expression": ("a name is taken for a regular expression", Expression, ("test_hostile_names_lead_nowhere",)),
    "kept-for-good": ("an answer is kept for good", Kept, ("test_changes_are_seen",)),
    "unknown-kept": ("a queue once unknown stays so", KeptNone, ("test_changes_are_seen",)),
    "kept-by-second": ("a change within a second is not seen", KeptBySize, ("test_changes_are_seen",)),
    "error-kept": ("an error is kept for good", KeptError, ("test_it_goes_on_after_an_error",)),
    "table-shared": ("answers share a table", Shared, ("test_an_answer_is_nobody_elses",)),
    "threads-mixed": ("threads mix up their names", Mixed, ("test_many_may_ask_at_once",)),
    "malformed-is-unknown": (
        "malformed data is an unknown queue",
        MalformedIsUnknown,
        ("test_malformed_data_is_named_with_its_place",),
    ),
    "raw-error": ("an error of the parser gets through", Raw, ("test_malformed_data_is_named_with_its_place",)),
    "raw-key-error": ("a KeyError gets through", RawBuild, ("test_malformed_data_is_named_with_its_place",)),
    "half-queue": ("a field of a wrong type is passed over", Half, ("test_malformed_data_is_named_with_its_place",)),
    "unchecked": (
        "storages that are not described are let through",
        Unchecked,
        ("test_malformed_data_is_named_with_its_place",),
    ),
    "no-place": ("an error does not say where", NoPlace, ("test_malformed_data_is_named_with_its_place",)),
    "many-lines": ("an error has two lines", ManyLines, ("test_malformed_data_is_named_with_its_place",)),
    "unknown-is-an-error": ("an unknown queue is an error", UnknownIsError, ("test_an_unknown_queue_is_none",)),
    "endless-error": ("an error repeats a name of 10 kB", LongError, ("test_endless_names_lead_nowhere",)),
    "cancel-ignored": ("cancellation is not heeded", Uncancelled, ("test_cancellation_is_heeded",)),
    "deadline-ignored": ("the deadline is not heeded", Endless, ("test_a_deadline_is_heeded",)),
    "descriptor-kept": ("a descriptor stays open", Open, ("test_it_only_reads",)),
    "copy-written": ("a copy is written into the work directory", Copying, ("test_it_only_reads",)),
    "environment-written": ("the pilot's environment is changed", Exporting, RIGHT),
    "variables-gathered": ("a queue has the variables of those before it", Gathering, RIGHT),
    "storages-kept": ("a storage that moved is not seen", KeptStorages, ("test_changes_are_seen",)),
    "queue-logged": ("the whole queue is logged", Telling, ("test_a_password_in_a_url_is_not_told",)),
    "thread-kept": ("each question leaves a thread", Threads, ("test_it_only_reads",)),
    "slash-kept": ("a storage's URL ends in a slash", Slashes, RIGHT),
}

MUTANTS = [
    Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda change=change: Plugin(made(change)))
    for name, (fault, change, caught_by) in CHANGED.items()
] + [
    Mutant(name=name, fault=fault, caught_by=caught_by, plugin=lambda source=source: Plugin(source))
    for name, (fault, source, caught_by) in SOURCES.items()
]
