"""What a new project may be called, and whether somebody else is called so already."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterable, Mapping

from pilot_core.api.provider import KINDS
from pilot_core.errors import BadInput

__all__ = ["check_answers", "check_free", "check_name"]

LONGEST_NAME = 24
"""Characters: names of tables, classes and files are made of it, and lines of code have to stay short."""
LONGEST_DISTRIBUTION = 56
"""Characters, likewise."""
LONGEST_TEXT = 200

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OURS = frozenset({"pilot-core", "pilot-devserver"})


def check_name(kind: str, name: str) -> None:
    """Raise `BadInput` unless a plugin of that kind can have the name."""
    for prefix in (f"pilot-{kind}-", f"{kind}-", f"{kind}."):
        if name.startswith(prefix) and len(name) > len(prefix):
            rest = name.removeprefix(prefix)
            raise BadInput(f"name {name!r}: leave the kind out: pilot-core new {kind} {rest}")
    if not _NAME.fullmatch(name):
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
        hint = f", for example {near!r}" if _NAME.fullmatch(near) and len(near) <= LONGEST_NAME else ""
        shown = name if len(name) <= 40 else f"{name[:37]}..."
        raise BadInput(f"name {shown!r}: use lower-case letters, digits and single dashes, letter first{hint}")
    if len(name) > LONGEST_NAME:
        raise BadInput(f"name {name!r}: {len(name)} characters, at most {LONGEST_NAME}")
    if name in KINDS or name == "core":
        raise BadInput(f"name {name!r} is reserved; call it by what it speaks to, for example 'tape'")


def check_answers(kind: str, variables: Mapping[str, str]) -> None:
    """Raise `BadInput` unless the answers make a project that can be installed."""
    check_name(kind, variables["name"])
    distribution = variables["dist_name"]
    module = distribution.replace("-", "_")
    if not _NAME.fullmatch(distribution) or len(distribution) > LONGEST_DISTRIBUTION:
        raise BadInput(
            f"dist_name {distribution!r}: use lower-case letters, digits and single dashes, letter first, "
            f"at most {LONGEST_DISTRIBUTION} characters"
        )
    if distribution in _OURS or module in sys.stdlib_module_names or keyword.iskeyword(module):
        raise BadInput(f"dist_name {distribution!r} is reserved; the usual name is pilot-{kind}-{variables['name']}")
    for key in ("description", "author"):
        text = variables[key]
        if not text.strip() or not text.isprintable() or len(text) > LONGEST_TEXT or set(text) & set('"\\{}'):
            raise BadInput(
                f'{key}: one line of 1 to {LONGEST_TEXT} characters, without " and \\ and braces: '
                "it becomes part of pyproject.toml"
            )


def check_free(entry_points: Iterable[str], distribution: str) -> None:
    """Raise `BadInput` if an installed distribution offers one of the entry points or has that name.

    Only metadata is read; no plugin is imported.
    """
    from pilot_core.plugins.discovery import discover  # noqa: PLC0415
    from pilot_core.plugins.settings import PluginSettings  # noqa: PLC0415

    wanted = set(entry_points)
    for record in discover(PluginSettings()).records:
        if record.entry_point in wanted:
            whose = "built into pilot-core" if record.distribution == "pilot-core" else f"offered by {record.owner}"
            raise BadInput(f"the name is taken: {record.entry_point} is {whose}; choose another")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        found = version(distribution)
    except PackageNotFoundError:
        return
    raise BadInput(f"a distribution {distribution} {found} is installed here; choose another: --set dist_name=...")
