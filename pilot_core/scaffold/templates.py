"""The templates: where they lie, their questions, and the files that they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilot_core.errors import BadInput, HandledError
from pilot_core.scaffold.render import render

__all__ = ["File", "Question", "Template", "template_of", "templates_directory"]

_SKIPPED = "__pycache__"
"""Installers compile what looks like Python; the rest of a template is rendered, whatever it is."""


@dataclass(frozen=True)
class Question:
    """Something that the author decides."""

    key: str
    """Its name in `--set key=value`."""
    text: str
    """What is asked."""
    default: str
    """With places that refer to the answers before it."""


@dataclass(frozen=True)
class File:
    """One file of a new project."""

    path: str
    """Below the project's directory."""
    content: bytes
    mode: int
    """Permission bits, those of the template's file."""


@dataclass(frozen=True)
class Template:
    """One kind's template, in cookiecutter's format."""

    kind: str
    folder: Path
    """Holds `cookiecutter.json` and the project's directory, whose name is a place."""
    raw: Mapping[str, Any]
    """What `cookiecutter.json` says."""

    @property
    def questions(self) -> list[Question]:
        """The questions, in order, the project's name first."""
        texts = self.raw.get("__prompts__", {})
        return [
            Question(key, str(texts.get(key, key)), str(value))
            for key, value in self.raw.items()
            if not key.startswith("_")
        ]

    def variables(self, answers: Mapping[str, str]) -> dict[str, str]:
        """Return every variable: the answers, the defaults of what was not answered, and what follows from them.

        The rules are cookiecutter's: a name that begins with `__` is worked out, with one `_` it stands as it is.
        """
        known: dict[str, str] = {}
        for key, value in self.raw.items():
            if key == "__prompts__":
                continue
            plain = key.startswith("_") and not key.startswith("__")
            known[key] = answers[key] if key in answers else str(value) if plain else render(str(value), known)
        return known

    def files(self, variables: Mapping[str, str]) -> list[File]:
        """Return the files of the project, sorted by path."""
        (top,) = [path for path in self.folder.iterdir() if path.is_dir() and "{{" in path.name]
        made = []
        for path in sorted(top.rglob("*")):
            relative = path.relative_to(top).as_posix()
            if path.is_file() and _SKIPPED not in path.parts:
                text = path.read_text(encoding="utf-8")
                made.append(
                    File(render(relative, variables), render(text, variables).encode(), path.stat().st_mode & 0o777)
                )
        return made


def templates_directory(package: Path | None = None) -> Path:
    """Return where the templates lie: those of the checkout that runs, else those of the wheel.

    The wheel has a copy below the package, and so has an editable installation, where it would be out of date.
    `package` is the directory of `pilot_core`. Raises `HandledError` if neither is there.
    """
    package = package or Path(__file__).resolve().parent.parent
    checkout = package.parent / "templates"
    if (package.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    packaged = package / "_templates"
    if not packaged.is_dir():
        raise HandledError(f"{packaged}: the templates are missing; install pilot-core again")
    return packaged


def template_of(kind: str, directory: Path | None = None) -> Template:
    """Return a kind's template; raises `BadInput` for an unknown kind, `HandledError` for a damaged template."""
    from pilot_core.api.provider import KINDS  # noqa: PLC0415

    if kind not in KINDS:
        from pilot_core.settings import did_you_mean  # noqa: PLC0415

        raise BadInput(f"unknown kind {kind!r}{did_you_mean(kind, KINDS)} (see 'pilot-core new --help')")
    folder = (directory or templates_directory()) / kind
    try:
        raw = json.loads((folder / "cookiecutter.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is damaged"
        raise HandledError(f"{folder / 'cookiecutter.json'}: {reason}; install pilot-core again") from None
    return Template(kind, folder, raw)
