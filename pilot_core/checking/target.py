"""What `pilot-core check` is asked to check: a project's directory, or an installed distribution."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

from pilot_core.errors import BadInput, PluginError
from pilot_core.places import is_directory, is_there

__all__ = ["Target", "project_of", "target_of"]

KIT_FILE = re.compile(r"test_(?:.+_)?kit\.py")
"""How a file is called that has kits' classes: `test_kit.py`, `test_stager_file_kit.py`."""
WRITE_ONE = "write one: 'pilot-core new KIND NAME' makes a project that has it"


@dataclass(frozen=True)
class Target:
    """What is checked."""

    name: str
    """The distribution's name."""
    version: str
    """Its installed version; empty if it is not installed here."""
    project: Path | None
    """The project's directory, if it is known."""
    kits: tuple[Path, ...]
    """The files with the kits' classes."""
    note: str = ""
    """What the user should know beside, in one line."""

    @property
    def installed(self) -> bool:
        """Whether it is installed in this Python."""
        return bool(self.version)


def target_of(text: str) -> Target:
    """Find what is meant by a path or a distribution's name.

    Raises `BadInput` if there is no such thing, `PluginError` if it has no kits.
    """
    path = Path(text).expanduser()
    if is_directory(path) or "/" in text or text in {".", ".."}:
        return _project(path)
    try:
        found = distribution(text)
    except (PackageNotFoundError, ValueError):
        raise BadInput(f"{text!r} is neither a directory nor an installed distribution{_near(text)}") from None
    return _installed(found)


def project_of(found: Distribution) -> Path | None:
    """Return the directory that an editable installation leads to, None for any other installation (PEP 610)."""
    try:
        told: Any = json.loads(found.read_text("direct_url.json") or "{}")
        url = urlsplit(str(told["url"])) if told.get("dir_info", {}).get("editable") else None
    except (ValueError, KeyError, AttributeError):
        return None
    return Path(unquote(url.path)) if url and url.scheme == "file" else None


def _project(path: Path) -> Target:
    """Return a project's directory as target."""
    path = path.absolute()
    file = path / "pyproject.toml"
    if not is_there(file):
        what = "has no pyproject.toml" if is_directory(path) else "is not there"
        raise BadInput(f"{path} {what}; name the directory of a plugin's project, or an installed distribution")
    name = _name_in(file)
    kits = _kits_below(path / "tests")
    if not kits:
        raise PluginError(f"{path}/tests has no conformance kit (test_kit.py); {WRITE_ONE}")
    version, note = "", ""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        pass
    else:
        version, editable = found.version, project_of(found)
        if editable is None or editable.resolve() != path.resolve():
            where = editable or "a copy"
            note = f"the installed {name} {version} is {where}, not {path}: that is what is tested"
    return Target(name, version, path, kits, note)


def _installed(found: Distribution) -> Target:
    """Return an installed distribution as target: with its project's kits, or those that it ships."""
    name, project = found.metadata["Name"], project_of(found)
    if project is not None:
        kits = _kits_below(project / "tests")
    else:
        files = [Path(str(found.locate_file(file))) for file in found.files or () if _is_kit(file)]
        kits = tuple(sorted(file for file in files if file.is_file()))
    if not kits:
        where = f"{project}/tests" if project else f"{name} {found.version}"
        raise PluginError(f"{where} has no conformance kit (test_kit.py); {WRITE_ONE}")
    return Target(name, found.version, project, kits)


def _is_kit(file: PurePath) -> bool:
    """Say whether an installed file has kits; a template of one (`{{...}}/tests/test_kit.py`) is none yet."""
    return bool(KIT_FILE.fullmatch(file.name)) and "{{" not in str(file)


def _kits_below(folder: Path) -> tuple[Path, ...]:
    """Return the files with kits in a project's tests."""
    return tuple(sorted(path for path in folder.rglob("test_*.py") if KIT_FILE.fullmatch(path.name)))


def _name_in(file: Path) -> str:
    """Return the name of a project; raises `BadInput`."""
    import tomli  # noqa: PLC0415

    try:
        name: Any = tomli.loads(file.read_text(encoding="utf-8"))["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{file}: no project with a name can be read from it: {type(error).__name__}: {error}") from None
    return str(name)


def _near(text: str) -> str:
    """Return a hint at a distribution that may be meant."""
    from pilot_core.settings import did_you_mean  # noqa: PLC0415

    names = {found.metadata["Name"] for found in _with_plugins()}
    hint = did_you_mean(text, names | {f"pilot-{text}"})
    return (
        hint
        if "did you mean" in hint and f"pilot-{text}" not in hint
        else f"; with plugins: {', '.join(sorted(names))}"
    )


def _with_plugins() -> Iterable[Distribution]:
    """Return the installed distributions that have plugins."""
    for found in distributions():
        if any(entry.group.startswith("pilot_core.plugins.") for entry in found.entry_points):
            yield found
