"""What a site can set, in the table `[credential.{{ cookiecutter.name }}]`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pilot_core import setting


@dataclass(frozen=True)
class Settings:
    """Each field is a key of the table, and `--set credential.{{ cookiecutter.name }}.KEY=value`."""

    # YOUR CODE: your settings; setting(secret=True, ...) for a password
    file: Path = setting(help='JSON file of the agent: {"token": ..., "expires": seconds since 1970}', metavar="F")
    origin: str = setting("vo.pilot", help="VO.ROLE, which PanDA wants beside every token")
