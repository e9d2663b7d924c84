"""The page to submit a job, and what its form means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pilot_core.errors import BadInput
from pilot_devserver.jobfile import InputTemplate, JobTemplate
from pilot_devserver.web.layout import Frame, View, form
from pilot_devserver.web.markup import Markup, element, join

__all__ = ["submit_view", "template_of"]

MOST_COPIES = 1000
_LABELS = ("managed", "user", "test", "ptest", "prod_test", "install", "panda")


def template_of(values: Mapping[str, str]) -> JobTemplate:
    """Return the job that a form describes; raises `BadInput` that names the field."""
    text = {name: value.strip() for name, value in values.items()}
    if not text.get("transformation"):
        raise BadInput("transformation: give a program, a path or a URL")
    inputs = []
    for line in _lines(values.get("inputs", "")):
        path = Path(line)
        if not path.is_absolute():
            raise BadInput(f"inputs: {line!r} is not a whole path; give one from / on, of this machine")
        inputs.append(InputTemplate(path=path))
    return JobTemplate(
        transformation=text["transformation"],
        parameters=values.get("parameters", "").replace("\r\n", "\n").strip(),
        inputs=tuple(inputs),
        outputs=tuple(_lines(values.get("outputs", ""))),
        log=bool(text.get("log")),
        queue=text.get("queue", ""),
        label=text.get("label") or "managed",
        name=text.get("name", ""),
        count=_number(text.get("count", "1")),
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadInput(f"count: must be a whole number, not {text!r}")
    if not 1 <= int(text) <= MOST_COPIES:
        raise BadInput(f"count: must be between 1 and {MOST_COPIES}, not {text}")
    return int(text)


def submit_view(frame: Frame, values: Mapping[str, str] | None = None, error: str = "") -> View:
    """Return the page; `values` and `error` are of a form that was not accepted."""
    given = values if values is not None else {"log": "1", "count": "1", "label": "managed"}
    main = join(
        element("h1", "Submit a job"),
        element("p", error, class_="notice bad", role="alert") if error else None,
        form(
            frame,
            "/submit",
            _field(
                "transformation",
                "Transformation",
                given,
                "a program on the pilot's PATH, a path, or a URL",
                required=True,
            ),
            _field(
                "parameters",
                "Parameters",
                given,
                "arguments in one text, as a shell has them; {n} is the copy's number",
            ),
            _area("inputs", "Inputs", given, "whole paths of this machine, one a line; copied to the queue's storage"),
            _area("outputs", "Outputs", given, "LFNs that the payload writes, one a line; {n} is the copy's number"),
            element(
                "div",
                _select("queue", "Queue", tuple(frame.queues), given),
                _select("label", "Label", _LABELS, given),
                _field("name", "Name", given, "empty = made up"),
                _field("count", "Copies", given, f"at most {MOST_COPIES}", inputmode="numeric"),
                class_="grid",
            ),
            element(
                "p",
                element(
                    "label",
                    element("input", type="checkbox", name="log", value="1", checked=bool(given.get("log"))),
                    " The pilot stores a log",
                ),
            ),
            element("p", element("button", "Submit", type="submit", class_="primary")),
            class_="card",
        ),
    )
    return View("Submit a job", main, "/submit", 422 if error else 200)


def _field(
    name: str, label: str, values: Mapping[str, str], hint: str, *, inputmode: str = "text", required: bool = False
) -> Markup:
    entry = element(
        "input",
        name=name,
        id=f"submit-{name}",
        value=values.get(name) or None,
        inputmode=inputmode,
        required=required,
        autocomplete="off",
        aria_describedby=f"submit-{name}-help",
    )
    return _labelled(name, label, entry, hint)


def _area(name: str, label: str, values: Mapping[str, str], hint: str) -> Markup:
    entry = element(
        "textarea",
        values.get(name, ""),
        name=name,
        id=f"submit-{name}",
        rows="2",
        aria_describedby=f"submit-{name}-help",
        spellcheck="false",
    )
    return _labelled(name, label, entry, hint)


def _select(name: str, label: str, choices: tuple[str, ...], values: Mapping[str, str]) -> Markup:
    options = [element("option", text, value=text, selected=values.get(name) == text) for text in choices]
    return _labelled(name, label, element("select", options, name=name, id=f"submit-{name}"), "")


def _labelled(name: str, label: str, entry: Markup, hint: str) -> Markup:
    small = element("small", hint, id=f"submit-{name}-help") if hint else None
    return element("p", element("label", label, for_=f"submit-{name}"), entry, small, class_="field")
