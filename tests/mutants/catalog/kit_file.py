"""The kit on the reference catalogue, or on the mutant of this process."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from catalog.faults import MUTANTS
from catalog.reference import SCHEMA, Plugin
from harness import chosen

from pilot_core.testing import CatalogKit, CatalogServer, Registered


class DatabaseServer(CatalogServer):
    def __init__(self, file):
        self.file = file
        self.lock = None
        self.added = set()

    @property
    def settings(self):
        return {"file": self.file}

    def connect(self):
        connection = sqlite3.connect(self.file)
        connection.executescript(f"pragma synchronous = off; {SCHEMA}")
        return connection

    def add(self, scope, lfn, replicas):
        with contextlib.closing(self.connect()) as connection, connection:
            connection.execute("delete from replicas where scope = ? and lfn = ?", (scope, lfn))
            rows = [(scope, lfn, number, each.url, each.rse) for number, each in enumerate(replicas)]
            connection.executemany("insert into replicas values (?, ?, ?, ?, ?)", rows)

    def registered(self):
        with contextlib.closing(self.connect()) as connection:
            rows = connection.execute(
                "select f.scope, f.lfn, guid, size, checksum, url, rse from files f left join replicas r"
                " on f.scope = r.scope and f.lfn = r.lfn"
            ).fetchall()
        names = ("scope", "lfn", "guid", "size", "checksum", "url", "rse")
        return [Registered(**dict(zip(names, row, strict=True))) for row in rows]

    def storage(self, rse, url):
        with contextlib.closing(self.connect()) as connection, connection:
            connection.execute("insert or replace into storages values (?, ?)", (rse, url))
        return True

    def break_down(self):
        self.lock = sqlite3.connect(self.file)
        self.lock.execute("begin exclusive")
        return True

    def close(self):
        if self.lock:
            self.lock.close()


class TestMutant(CatalogKit):
    @pytest.fixture
    def plugin(self):
        return chosen(MUTANTS, Plugin)

    @pytest.fixture
    def catalog(self, tmp_path):
        server = DatabaseServer(tmp_path / "catalogue.db")
        yield server
        server.close()
