"""What a site can set, in the table `[executor.{{ cookiecutter.name }}]`."""

from __future__ import annotations

from dataclasses import dataclass

from pilot_core import setting


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set executor.{{ cookiecutter.name }}.KEY=value`."""

    # YOUR CODE: your settings, for example the path of an image
    command: tuple[str, ...] = setting(
        (), help="words before each payload's own command, for example nice,-n,10", metavar="WORD,WORD"
    )
