"""A decoded body on a page: fields as rows, nested values within them, and what is wrong beside the field."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot_devserver.web.decoding import Body, Nested
from pilot_devserver.web.markup import Markup, element, join

if TYPE_CHECKING:
    from pilot_core.api.server import FieldProblem
    from pilot_devserver.web.concealing import Concealer

__all__ = ["Fields", "anchor", "show_body"]

_LONG_TEXT = 600
_MOST_ITEMS = 500
_MOST_TEXT = 64 * 1024
_DEPTH = 12
_MILD = frozenset({"truncated", "ignored"})
_LIKE_NO_TEXT = re.compile(r"-?\d{1,300}(\.\d*)?([eE][+-]?\d+)?|true|false|null", re.ASCII | re.IGNORECASE)
_PARAMETERS = frozenset({"jobPars", "jobParameters"})
_KINDS = {
    "missing": "missing",
    "unknown": "unknown argument",
    "type": "wrong type",
    "truncated": "cut by the server",
    "ignored": "left out by the server",
    "refused": "refused",
    "unreadable": "unreadable",
}


def anchor(field: str) -> str:
    """Return the id of a field's row."""
    return "field-" + "".join(char if char.isascii() and (char.isalnum() or char in "_.-") else "_" for char in field)


def show_body(body: Body, concealer: Concealer, method: str, problems: Sequence[FieldProblem] = ()) -> Markup:
    """Return a body as HTML: fields with their problems, or a text."""
    notes = element("p", "; ".join(body.notes), class_="hint") if body.notes else None
    if body.kind == "empty" and not problems:
        return join(notes, element("p", "No body.", class_="empty"))
    if not body.structured and body.kind != "empty":
        text = concealer.text(body.text)
        cut = (
            element("p", f"{len(text) - _MOST_TEXT:,} more characters", class_="hint")
            if len(text) > _MOST_TEXT
            else None
        )
        return join(notes, element("pre", text[:_MOST_TEXT], class_="text", tabindex="0"), cut)
    value = concealer.value(body.value, method) if body.structured else {}
    by_field: dict[str, list[FieldProblem]] = {}
    for problem in problems:
        by_field.setdefault(problem.field, []).append(problem)
    shown = Fields(by_field, concealer, typed=body.kind != "form").show(value)
    return join(notes, shown, _raw(value, body.kind) if body.structured else None)


def _raw(value: Any, kind: str) -> Markup:
    """Return the whole value as JSON, to be copied."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False)[:_MOST_TEXT]
    name = (
        "As JSON"
        if kind == "json"
        else "As JSON, though it was sent as a form"
        if kind == "form"
        else "As JSON, though it was printed by Python"
    )
    return element("details", element("summary", name), element("pre", text, class_="json", tabindex="0"))


def _plain(value: Any) -> Any:
    if isinstance(value, Nested):
        return _plain(value.value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


@dataclass(frozen=True)
class Fields:
    """Shows values; `problems` are told beside the fields they belong to."""

    problems: Mapping[str, Sequence[FieldProblem]]
    concealer: Concealer
    typed: bool = True
    """Whether a text that looks like a number is put in quotes: in a form everything is a text."""

    def show(self, value: Any, path: str = "", depth: int = _DEPTH) -> Markup:
        """Return a value as HTML."""
        if isinstance(value, Nested):
            note = element("span", f"{value.how} in a text", class_="tag")
            inner = Fields(self.problems, self.concealer, typed=value.how == "JSON")
            return join(note, inner.show(value.value, path, depth))
        if depth and isinstance(value, Mapping):
            return self._object(value, path, depth)
        if depth and isinstance(value, (list, tuple)):
            return self._list(value, path, depth)
        return _scalar(value, quoted=self.typed)

    def _object(self, value: Mapping[str, Any], path: str, depth: int) -> Markup:
        prefix = f"{path}." if path else ""
        rows = [self._missing(name[len(prefix) :], name) for name in self._absent(value, prefix)]
        rows += [
            self._row(str(name), item, f"{prefix}{name}", depth) for name, item in list(value.items())[:_MOST_ITEMS]
        ]
        if len(value) > _MOST_ITEMS:
            rows.append(element("tr", element("td", f"{len(value) - _MOST_ITEMS:,} more", colspan="2")))
        if not rows:
            return element("code", "{}", class_="value")
        return element("table", element("tbody", rows), class_="fields")

    def _absent(self, value: Mapping[str, Any], prefix: str) -> list[str]:
        """Return the fields with problems that would stand right here, and do not."""
        return [
            field
            for field, found in self.problems.items()
            if field.startswith(prefix)
            and any(problem.kind == "missing" for problem in found)
            and (name := field[len(prefix) :]) not in value
            and "." not in name
            and "[" not in name
        ]

    def _row(self, name: str, value: Any, path: str, depth: int) -> Markup:
        problems = self.problems.get(path, ())
        shown = _parameters(value) if name in _PARAMETERS and isinstance(value, str) else None
        cell = element("td", shown or self.show(value, path, depth - 1), self._messages(problems))
        head = element("th", name, scope="row")
        return element("tr", head, cell, **_marked(path, problems))

    def _missing(self, name: str, path: str) -> Markup:
        absent = element("span", "not sent", class_="absent")
        cell = element("td", absent, self._messages(self.problems[path]))
        return element("tr", element("th", name, scope="row"), cell, **_marked(path, self.problems[path]))

    def _list(self, value: Sequence[Any], path: str, depth: int) -> Markup:
        if not value:
            return element("code", "[]", class_="value")
        plain = all(isinstance(item, (str, int, float, bool, type(None))) for item in value) and len(value) <= 20
        if plain and not any(field.startswith(f"{path}[") for field in self.problems):
            return element("ul", [element("li", _scalar(item, quoted=self.typed)) for item in value], class_="items")
        items = []
        for number, item in enumerate(value[:_MOST_ITEMS]):
            place = f"{path}[{number}]"
            problems = self.problems.get(place, ())
            inner = join(self.show(item, place, depth - 1), self._messages(problems))
            items.append(element("li", inner, value=number, **_marked(place, problems)))
        more = element("p", f"{len(value) - _MOST_ITEMS:,} more", class_="hint") if len(value) > _MOST_ITEMS else None
        return join(element("ol", items, class_="list", start="0"), more)

    def _messages(self, problems: Sequence[FieldProblem]) -> Markup:
        return join(
            [
                element(
                    "p",
                    element("strong", _KINDS.get(problem.kind, problem.kind)),
                    ": ",
                    self.concealer.text(problem.message),
                    class_=f"problem {'mild' if problem.kind in _MILD else 'grave'}",
                )
                for problem in problems
            ]
        )


def _marked(path: str, problems: Sequence[FieldProblem]) -> dict[str, str]:
    """Return the attributes of a row with problems, by which links find it."""
    if not problems:
        return {}
    mild = all(problem.kind in _MILD for problem in problems)
    return {"id": anchor(path), "class_": "wrong mild" if mild else "wrong"}


def _scalar(value: Any, *, quoted: bool = False) -> Markup:
    """Return a single value; long texts are folded, `quoted` tells texts from what looks the same and is none."""
    if isinstance(value, str):
        if quoted and _LIKE_NO_TEXT.fullmatch(value):
            return element("code", json.dumps(value), class_="value text")
        if not value:
            return element("span", "empty text", class_="absent")
        if len(value) > _LONG_TEXT or value.count("\n") > 8:
            shown = value[:_MOST_TEXT]
            more = (
                element("p", f"{len(value) - len(shown):,} more characters", class_="hint") if shown != value else None
            )
            summary = element(
                "summary", element("code", value[:80], class_="value text"), f" … {len(value):,} characters"
            )
            return element("details", summary, element("pre", shown, class_="text", tabindex="0"), more)
        return element("code", value, class_="value text")
    kind = "none" if value is None else "bool" if isinstance(value, bool) else "number"
    text = json.dumps(value) if isinstance(value, (bool, int, float, type(None))) else str(value)
    return element("code", text, class_=f"value {kind}")


def _parameters(text: str) -> Markup | None:
    """Return a payload's parameters, each by itself as well; None if there is nothing to take apart."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        return join(_scalar(text), element("p", f"no shell could read this: {error}", class_="hint"))
    if len(words) < 2 or len(text) > _LONG_TEXT:
        return None
    return join(_scalar(text), element("ol", [element("li", _scalar(word)) for word in words], class_="words"))
