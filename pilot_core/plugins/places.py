"""Where plugins are looked for, and where their code would come from. Nothing of theirs is imported here.

Looked at are the interpreter's own site-packages directories, the directories that `.pth` files in them name, and what
`[plugins] paths` names. The working directory, PYTHONPATH and the user's site-packages are not: a payload, or whoever
fills a shared directory, could leave a `*.dist-info` there that the next pilot would load with its credentials. Only
the distribution `pilot-core` is also taken from beside the package that is running, since whoever can write there has
no need of a plugin.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import NamedTuple

from pilot_core.errors import ConfigError

__all__ = ["CORE", "Place", "code_trail", "ignored_directories", "search_places"]

CORE = Path(__file__).resolve().parents[1]
"""The running `pilot_core` package."""


class Place(NamedTuple):
    """One directory in which distributions are looked for."""

    directory: Path
    site: bool = False
    """Whether it is a site-packages directory of the interpreter."""
    named: bool = False
    """Whether `[plugins] paths` names it."""
    core_only: bool = False
    """Only `pilot-core` itself is taken from here."""


def search_places(paths: Sequence[str]) -> list[Place]:
    """Return the directories to look at, each once, first come first served.

    `paths` is `[plugins] paths`. Raises `ConfigError` for one that is not absolute or not a directory.
    """
    home = str(CORE.parent)
    places = _site_places({home, os.path.realpath(".")})
    if home not in places:
        places = {home: Place(CORE.parent, core_only=True), **places}
    for text in paths:
        directory = Path(text).expanduser()
        if not directory.is_absolute():
            raise ConfigError(f"plugins.paths: {text!r} is not an absolute path; the working directory must not matter")
        if not directory.is_dir():
            raise ConfigError(f"plugins.paths: {text!r} is not a directory; create it, or take it out of the list")
        known = places.get(os.path.realpath(directory))
        if known is None or known.core_only:
            places[os.path.realpath(directory)] = Place(directory, named=True)
    return list(places.values())


def ignored_directories(places: Iterable[Place]) -> list[Path]:
    """Return the directories that Python imports from and that are not looked at for plugins."""
    searched = {os.path.realpath(place.directory) for place in places if not place.core_only}
    left = {os.path.realpath(entry or "."): None for entry in sys.path}
    return [Path(entry) for entry in left if entry not in searched and Path(entry).is_dir()]


def code_trail(module: str, places: Iterable[Place]) -> list[Path]:
    """Return the files and directories from which importing `module` would run code, the outermost first.

    Empty if there is no such module: the import will say so better. Nothing is imported.
    """
    top, *rest = module.split(".")
    spec = _find(top, [str(place.directory) for place in places if place.named])
    if spec is None:
        return []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    trail: list[Path] = []
    if spec.origin and spec.has_location:
        trail += (
            [Path(spec.origin).parent, *_with_cache(Path(spec.origin))] if folders else _with_cache(Path(spec.origin))
        )
    for part in rest:
        folder = next((folder for folder in folders if (folder / part).is_dir()), None)
        if folder is None:
            files = [file for outer in folders for file in sorted(outer.glob(f"{part}.*")) if file.stem == part]
            return trail + [step for file in files[:1] for step in _with_cache(file)]
        folders = [folder / part]
        trail += [folder / part, *_with_cache(folder / part / "__init__.py")]
    return trail


def _site_places(never: set[str]) -> dict[str, Place]:
    """Return the site-packages directories on the path, and what their `.pth` files name, by real path.

    Of the latter not those in `never`: what an editable installation names may be the working directory.
    """
    places: dict[str, Place] = {}
    on_path = {os.path.realpath(entry): Path(entry) for entry in sys.path if entry and Path(entry).is_dir()}
    sites = {os.path.realpath(entry) for entry in site.getsitepackages()}
    for real, directory in on_path.items():
        if real in sites:
            places[real] = Place(directory, site=True)
            for extra in _named_by_pth(directory):
                if extra in on_path and extra not in never | sites:
                    places.setdefault(extra, Place(on_path[extra]))
    return places


def _named_by_pth(directory: Path) -> list[str]:
    """Return the real paths that the `.pth` files in a site-packages directory name; their code lines are not run."""
    named = []
    for file in sorted(directory.glob("*.pth")):
        try:
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        named += [os.path.realpath(directory / line.strip()) for line in lines if line.strip() and "\0" not in line]
    return named


def _find(top: str, named: list[str]) -> ModuleSpec | None:
    """Return where a top-level module would be imported from, with the named directories at the end of the path."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        spec = None
    return spec or PathFinder.find_spec(top, named)


def _with_cache(file: Path) -> list[Path]:
    """Return a file and the directory of its compiled form, as far as they exist."""
    return [path for path in (file, file.parent / "__pycache__") if path.exists()]
