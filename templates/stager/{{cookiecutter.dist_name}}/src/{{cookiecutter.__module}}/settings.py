"""What a site can set, in the table `[stager.{{ cookiecutter.name }}]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilot_core import setting


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set stager.{{ cookiecutter.name }}.KEY=value`."""

    # YOUR CODE: your settings; setting(secret=True, ...) for a password
    root: Path = setting(help="directory in which the libraries lie, one directory each", metavar="D")
