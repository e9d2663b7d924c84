"""HTML that is safe by construction: every text is escaped unless it was made here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

__all__ = ["Child", "Markup", "element", "escaped", "join"]

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufeff]")
_EMPTY = frozenset({"br", "hr", "img", "input", "link", "meta"})


class Markup(str):
    """A piece of HTML that is put into a page as it is."""

    __slots__ = ()


Child: TypeAlias = "str | int | float | Markup | Iterable[Child] | None"


def escaped(text: str) -> Markup:
    """Return a text as HTML. Control characters, half surrogates and direction marks are shown by their numbers."""
    return Markup(html.escape(_UNPRINTABLE.sub(_shown, text)))


def _shown(found: re.Match[str]) -> str:
    return f"\\x{ord(found.group()):02x}" if ord(found.group()) < 256 else f"\\u{ord(found.group()):04x}"


def join(*children: Child) -> Markup:
    """Return children one after the other: texts escaped, None and False left out, iterables flattened."""
    return Markup("".join(_pieces(children)))


def _pieces(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str):
            yield escaped(child)
        elif child is None or child is False:
            continue
        elif isinstance(child, (int, float)):
            yield escaped(str(child))
        else:
            yield from _pieces(child)


def element(tag: str, *children: Child, **attributes: Any) -> Markup:
    """Return an element.

    `class_` and `for_` are those attributes, `data_x` is `data-x`; an attribute that is None or False is left out, one
    that is True has no value.
    """
    written = []
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        label = name.rstrip("_").replace("_", "-")
        written.append(f" {label}" if value is True else f' {label}="{escaped(str(value))}"')
    opening = f"<{tag}{''.join(written)}>"
    return Markup(opening if tag in _EMPTY else f"{opening}{join(*children)}</{tag}>")
