"""What all pages have in common: the frame, states as pills, tables, times, forms with their token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from pilot_devserver.web.markup import Child, Markup, element, join

__all__ = ["Frame", "Notice", "View", "clock_time", "duration", "facts", "form", "page", "pill", "size", "table"]

_NAVIGATION = (("/", "Jobs"), ("/exchanges", "Exchanges"), ("/faults", "Faults"), ("/submit", "Submit"))
_STATES = frozenset(
    {
        *("activated", "sent", "starting", "running", "holding", "transferring", "finished", "failed", "cancelled"),
    }
)


@dataclass(frozen=True)
class Notice:
    """What was just done, or why it was not."""

    text: str
    good: bool = True


@dataclass(frozen=True)
class Frame:
    """What pages show of the server itself, and the token of its forms."""

    token: str = field(repr=False)
    url: str = ""
    queues: Sequence[str] = ()


@dataclass(frozen=True)
class View:
    """The content of one page; the live page replaces `main`, and nothing else."""

    title: str
    main: Markup
    section: str = "/"
    """Which entry of the navigation it belongs to."""
    status: int = 200


def page(view: View, frame: Frame, notice: Notice | None = None, *, live: str = "") -> str:
    """Return a whole document; `live` is the address of its stream of changes, "" = it has none."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{view.title} · PanDA development server"),
        element("link", rel="icon", href="/static/icon.svg", type="image/svg+xml"),
        element("link", rel="stylesheet", href="/static/style.css"),
        element("script", src="/static/page.js", defer=True),
    )
    body = element(
        "body",
        element("a", "Skip to the content", href="#main", class_="skip"),
        _header(view, frame, live),
        _notice(notice),
        element("main", view.main, id="main", tabindex="-1"),
        data_live=live or None,
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(view: View, frame: Frame, live: str) -> Markup:
    links = [
        element("li", element("a", text, href=path, aria_current="page" if path == view.section else None))
        for path, text in _NAVIGATION
    ]
    where = (
        element("p", element("code", frame.url), class_="where", title="The address for pilots") if frame.url else None
    )
    state = element("span", "reload to update", id="live", class_="live", role="status") if live else None
    return element(
        "header",
        element("p", element("a", "PanDA", element("span", " development server"), href="/"), class_="brand"),
        element("nav", element("ul", links), aria_label="Pages"),
        where,
        state,
    )


def _notice(notice: Notice | None) -> Markup | None:
    if notice is None:
        return None
    kind = "good" if notice.good else "bad"
    return element("p", notice.text, class_=f"notice {kind}", role="status" if notice.good else "alert", id="notice")


def pill(state: str) -> Markup:
    """Return a job's state as a coloured word."""
    return element("span", state, class_=f"pill {state if state in _STATES else 'other'}")


def table(
    heads: Sequence[Child], rows: Iterable[Markup], *, empty: str, caption: str = "", class_: str | None = None
) -> Markup:
    """Return a table that scrolls sideways if it must, or a sentence if there are no rows."""
    found = list(rows)
    if not found:
        return element("p", empty, class_="empty")
    head = element("thead", element("tr", [element("th", text, scope="col") for text in heads]))
    title = element("caption", caption) if caption else None
    inner = element("table", title, head, element("tbody", found), class_=class_)
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption or "Table")


def facts(items: Iterable[tuple[str, Child]]) -> Markup:
    """Return names and values; what has no value is left out."""
    shown = [
        element("div", element("dt", name), element("dd", value)) for name, value in items if value not in (None, "")
    ]
    return element("dl", shown, class_="facts")


def form(frame: Frame, action: str, *children: Child, back: str = "", **attributes: Any) -> Markup:
    """Return a form that is posted, with the token without which nothing is done; `back` is the page to return to."""
    hidden = [element("input", type="hidden", name="csrf", value=frame.token)]
    if back:
        hidden.append(element("input", type="hidden", name="back", value=back))
    return element("form", *hidden, join(*children), method="post", action=action, **attributes)


def clock_time(seconds: float, *, date: bool = False) -> Markup:
    """Return a wall time to milliseconds, in UTC, with the whole of it as a hint."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    whole = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = moment.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S") + f".{moment.microsecond // 1000:03d}"
    return element("time", text, datetime=whole, title=f"{moment.strftime('%Y-%m-%d')} {text} UTC")


def duration(seconds: float) -> str:
    """Return a duration in the unit that fits it."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(count: int) -> str:
    """Return a number of bytes in the unit that fits it."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
