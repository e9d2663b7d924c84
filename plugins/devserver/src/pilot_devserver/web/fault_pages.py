"""The page of faults: those in force with their counts, the common ones as buttons, and a form for any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from pilot_core.errors import BadInput
from pilot_devserver.faults import KINDS, Rule
from pilot_devserver.faults.kinds import CONDITIONS, Option
from pilot_devserver.web.layout import Frame, View, form, table
from pilot_devserver.web.markup import Markup, element, join

if TYPE_CHECKING:
    from pilot_devserver.faults import Fault, Kind

__all__ = ["faults_view", "quick_faults", "rule_of"]

_UPDATES = "update*"
_ENDPOINTS = (
    ("*", "any request"),
    ("acquire_jobs", "the next request for jobs (acquire_jobs)"),
    (_UPDATES, "the next update of any job"),
    ("getJob", "the next request for jobs of the form API (getJob)"),
)
_COMMON: Mapping[str, tuple[str, Mapping[str, str], str]] = MappingProxyType(
    {
        "503": ("503 once", {"fault": "retry-after", "seconds": "5"}, "the server turns the pilot away for 5 seconds"),
        "500": ("500 once", {"fault": "status"}, "an error of the server"),
        "lost": ("Lost reply", {"fault": "reset-after"}, "carried out, and then the connection is reset"),
        "reset": ("Reset", {"fault": "reset-before"}, "the connection is reset, nothing is carried out"),
        "delay": ("Delay 5 s", {"fault": "delay", "seconds": "5"}, "the answer comes five seconds late"),
        "half": ("Half an answer", {"fault": "truncate"}, "half of the body, then the connection is closed"),
        "html": ("HTML page", {"fault": "html"}, "HTTP 200 with an HTML page"),
        "database": ("No database", {"fault": "database-down"}, "carried out without a database"),
    }
)
"""Text of each button, its rule, and what it does."""


def rule_of(values: Mapping[str, str]) -> Rule:
    """Return the rule that a form or one of the buttons describes; what was left empty counts as not given.

    Raises `BadInput`.
    """
    given = {name: text.strip() for name, text in values.items() if text.strip() and name not in ("quick", "back")}
    if values.get("quick") in _COMMON:
        given |= _COMMON[values["quick"]][1]
    kind = given.pop("fault", "")
    if not kind:
        raise BadInput("choose a fault")
    # the form has the options of all kinds
    prefix = f"option-{kind}-"
    words = [
        f"{name.removeprefix(prefix)}={text}"
        for name, text in given.items()
        if name.startswith(prefix) or not name.startswith("option-")
    ]
    return Rule.from_words(kind, words)


def quick_faults(frame: Frame, *, back: str, job: int | None = None, over: bool = False) -> Markup:
    """Return the common faults as buttons, for the next update of a job, or for any endpoint."""
    if job is not None:
        about: Markup | None = join(
            element("input", type="hidden", name="job", value=job),
            element("input", type="hidden", name="endpoint", value=_UPDATES),
        )
    else:
        choices = [element("option", text, value=glob) for glob, text in _ENDPOINTS]
        about = element("label", "Strike ", element("select", choices, name="endpoint"), class_="inline")
    buttons = [
        element("button", text, type="submit", name="quick", value=name, title=hint, disabled=over)
        for name, (text, _, hint) in _COMMON.items()
    ]
    hint = "Each strikes the next update of this job, once. " if job is not None else "Each strikes once. "
    return element(
        "div",
        element("h2", "Faults" if job is not None else "The common ones"),
        form(frame, "/faults/add", about, element("div", buttons, class_="buttons"), back=back, class_="quick"),
        element("p", hint, element("a", "All faults", href="/faults") if job is not None else None, class_="hint"),
    )


def faults_view(
    faults: Sequence[Fault], fired: int, frame: Frame, values: Mapping[str, str] | None = None, error: str = ""
) -> View:
    """Return the page; `values` and `error` are of a form that was not accepted."""
    rows = [_row(fault, frame) for fault in faults]
    heads = ("", "fault", "when", "options", "seen", "fired", "")
    clear = (
        form(frame, "/faults/clear", element("button", "Remove all", type="submit"), back="/faults") if rows else None
    )
    main = join(
        element("h1", "Faults ", element("span", f"{fired} fired", class_="count")),
        element(
            "section",
            element("h2", "In force"),
            table(heads, rows, empty="The server behaves well.", caption="Faults"),
            clear,
        ),
        element("section", quick_faults(frame, back="/faults"), class_="steering"),
        _form(frame, values or {}, error),
        _explained(),
    )
    return View("Faults", main, "/faults", 422 if error else 200)


def _row(fault: Fault, frame: Frame) -> Markup:
    rule = fault.rule.to_json()
    kind = rule.pop("fault")
    own = {option.name for option in fault.rule.kind.options}
    when = [element("code", f"{name} = {value}", class_="word") for name, value in rule.items() if name not in own]
    options = [element("code", f"{name} = {value}", class_="word") for name, value in rule.items() if name in own]
    limit = f" of {fault.rule.count}" if fault.rule.count else " (no end)"
    remove = element("input", type="hidden", name="number", value=fault.number)
    button = element("button", "Remove", type="submit", aria_label=f"Remove fault {fault.number}")
    return element(
        "tr",
        element("td", fault.number, class_="number"),
        element("td", element("strong", kind), title=fault.rule.kind.help),
        element("td", when or "any request"),
        element("td", options),
        element("td", fault.seen, class_="number"),
        element("td", f"{fault.fired}{limit}", class_="number"),
        element("td", form(frame, "/faults/remove", remove, button, back="/faults")),
        id=f"fault-{fault.number}",
        class_="spent" if fault.spent else None,
    )


def _form(frame: Frame, values: Mapping[str, str], error: str) -> Markup:
    choices = [element("option", "choose a fault", value="")]
    choices += [
        element("option", f"{kind.name}: {kind.help}", value=kind.name, selected=values.get("fault") == kind.name)
        for kind in KINDS.values()
    ]
    select = element("select", choices, name="fault", required=True, id="fault-kind")
    conditions = [_input(option, values, prefix="") for option in CONDITIONS]
    own = [_options(kind, values) for kind in KINDS.values() if kind.options]
    return element(
        "section",
        element("h2", "Add a fault"),
        element("p", error, class_="notice bad", role="alert") if error else None,
        form(
            frame,
            "/faults/add",
            element("p", element("label", "Fault", for_="fault-kind"), select, class_="field wide"),
            element("fieldset", element("legend", "When it strikes"), element("div", conditions, class_="grid")),
            own,
            element("p", element("button", "Add", type="submit", class_="primary")),
            back="/faults",
            class_="card",
            id="fault-form",
        ),
    )


def _options(kind: Kind, values: Mapping[str, str]) -> Markup:
    """Return one kind's own options; the page's script shows those of the chosen kind only."""
    fields = [_input(option, values, prefix=f"option-{kind.name}-") for option in kind.options]
    legend = element("legend", f"Options of {kind.name}")
    return element("fieldset", legend, element("div", fields, class_="grid"), data_kind=kind.name)


def _input(option: Option, values: Mapping[str, str], *, prefix: str) -> Markup:
    name = prefix + option.name
    label_id = f"fault-{name}"
    default = "" if option.default in (None, "") else str(option.default)
    if option.choices or option.type is bool:
        known = option.choices or ("true", "false")
        choices = [element("option", "as usual" if not default else f"default ({default.lower()})", value="")]
        choices += [element("option", text, value=text, selected=values.get(name) == text) for text in known]
        entry = element("select", choices, name=name, id=label_id, aria_describedby=f"{label_id}-help")
    else:
        kind = {"int": "numeric", "float": "decimal"}.get(option.type.__name__, "text")
        entry = element(
            "input",
            name=name,
            id=label_id,
            value=values.get(name) or None,
            placeholder=default or None,
            inputmode=kind,
            autocomplete="off",
            aria_describedby=f"{label_id}-help",
        )
    text = option.help.replace("`", "")
    return element(
        "p",
        element("label", option.name, for_=label_id),
        entry,
        element("small", text, id=f"{label_id}-help"),
        class_="field",
    )


def _explained() -> Markup:
    rows = [element("tr", element("th", kind.name, scope="row"), element("td", kind.help)) for kind in KINDS.values()]
    return element(
        "details", element("summary", "What each fault does"), element("table", element("tbody", rows), class_="fields")
    )
