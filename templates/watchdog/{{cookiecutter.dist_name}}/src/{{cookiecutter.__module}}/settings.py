"""What a site can set, in the table `[watchdog.{{ cookiecutter.name }}]`."""

from __future__ import annotations

from dataclasses import dataclass

from pilot_core import setting


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set watchdog.{{ cookiecutter.name }}.KEY=value`."""

    # YOUR CODE: your limit
    files: int = setting(100_000, help="files that a job's directory may hold", minimum=1)
    interval: float = setting(300.0, help="seconds between two looks", minimum=1)
