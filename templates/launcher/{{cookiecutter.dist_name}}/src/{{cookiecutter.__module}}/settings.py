"""What a site can set, in the table `[launcher.{{ cookiecutter.name }}]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilot_core import setting


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set launcher.{{ cookiecutter.name }}.KEY=value`."""

    # YOUR CODE: your settings, for example the partition of a batch system
    directory: Path = setting(help="where pilots have their directories, with their output", metavar="D")
    grace: int = setting(60, help="seconds between asking a pilot to end and killing it", minimum=1)
