"""What a site can set, in the table `[queue-source.{{ cookiecutter.name }}]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilot_core import setting


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set queue-source.{{ cookiecutter.name }}.KEY=value`."""

    # YOUR CODE: your settings; setting(secret=True, ...) for a password
    directory: Path = setting(help="directory with a file NAME.json for each queue", metavar="D")
