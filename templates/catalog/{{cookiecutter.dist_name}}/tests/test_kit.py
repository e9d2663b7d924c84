"""The catalogue does what pilot-core asks of every catalogue: each clause of the conformance kit is a test here."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pilot_core import Replica
from pilot_core.testing import CatalogKit, CatalogServer, Registered


class Database(CatalogServer):
    """The other side: the catalogue itself. It is written without the plugin's own code."""

    def __init__(self, place: Path) -> None:
        self._place = place
        with closing(self._open()) as database:
            schema = files("{{ cookiecutter.__module }}").joinpath("schema.sql")
            database.executescript(schema.read_text())

    @property
    def settings(self) -> Mapping[str, Any]:
        """The plugin's settings."""
        return {"database": self._place}

    def add(self, scope: str, lfn: str, replicas: Sequence[Replica]) -> None:
        """Have the catalogue know a file."""
        rows = [(scope, lfn, place, replica.url, replica.rse) for place, replica in enumerate(replicas)]
        with closing(self._open()) as database, database:
            database.execute("DELETE FROM replicas WHERE scope = ? AND lfn = ?", (scope, lfn))
            database.executemany("INSERT INTO replicas VALUES (?, ?, ?, ?, ?)", rows)

    def registered(self) -> Sequence[Registered]:
        """Return every entry that was registered."""
        query = "SELECT scope, lfn, guid, size, checksum, url, rse FROM files JOIN replicas USING (scope, lfn)"
        with closing(self._open()) as database:
            names = ("scope", "lfn", "guid", "size", "checksum", "url", "rse")
            return [Registered(**dict(zip(names, row, strict=True))) for row in database.execute(query)]

    def break_down(self) -> bool:
        """Let the catalogue be out of reach."""
        self._place.rename(self._place.with_suffix(".away"))
        return True

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._place)
        database.execute("PRAGMA synchronous = OFF")  # what the tests write need not survive the machine
        return database


class Test{{ cookiecutter.__class }}(CatalogKit):
    """The kit's clauses, run on `catalog.{{ cookiecutter.name }}`."""

    @pytest.fixture
    def plugin(self) -> str:
        """The plugin, by its entry point: what is installed is tested."""
        return "catalog.{{ cookiecutter.name }}"

    @pytest.fixture
    def catalog(self, tmp_path: Path) -> CatalogServer:
        """The other side."""
        # YOUR CODE: a real one, for example a server that this fixture starts
        return Database(tmp_path / "catalog.db")
