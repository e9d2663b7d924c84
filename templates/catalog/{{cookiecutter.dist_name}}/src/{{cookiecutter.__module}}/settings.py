"""What a site can set, in the table `[catalog.{{ cookiecutter.name }}]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilot_core import setting


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set catalog.{{ cookiecutter.name }}.KEY=value`."""

    # YOUR CODE: your settings; setting(secret=True, ...) for a password
    database: Path = setting(help="SQLite database with the tables files and replicas, see schema.sql", metavar="F")
