"""The pages of exchanges: the list as it grows, and one exchange with request and answer side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from pilot_devserver.web.decoding import decode_query
from pilot_devserver.web.fields import anchor, show_body
from pilot_devserver.web.layout import Frame, View, clock_time, duration, facts, form, pill, size, table
from pilot_devserver.web.markup import Child, Markup, element, join

if TYPE_CHECKING:
    from pilot_core.api.server import FieldProblem
    from pilot_devserver.web.concealing import Concealer
    from pilot_devserver.web.exchanges import Exchange

__all__ = ["Filter", "exchange_table", "exchange_view", "exchanges_view"]

_SHOWN = 200
_HEADS = ("", "time (UTC)", "endpoint", "job", "reports", "answer", "told", "took", "client", "")


@dataclass(frozen=True)
class Filter:
    """What the list shows; empty = everything."""

    endpoint: str = ""
    job: str = ""
    wrong: bool = False
    """Only what went wrong: problems, errors of HTTP, faults."""

    def admits(self, exchange: Exchange) -> bool:
        """Say whether an exchange is shown."""
        if self.endpoint and exchange.endpoint != self.endpoint:
            return False
        if self.job and self.job not in map(str, exchange.jobs):
            return False
        return not self.wrong or _is_wrong(exchange)

    def link(self, **changes: str | bool) -> str:
        """Return the address of the list with some of the filter changed."""
        values = {"endpoint": self.endpoint, "job": self.job, "wrong": "1" if self.wrong else ""}
        values.update({name: ("1" if value is True else value or "") for name, value in changes.items()})
        kept = {name: value for name, value in values.items() if value}
        return f"/exchanges?{urlencode(kept)}" if kept else "/exchanges"


def _is_wrong(exchange: Exchange) -> bool:
    failed = exchange.response is None or exchange.response.status >= 400
    return failed or bool(exchange.faults) or bool(exchange.problems)


# -- the list ----------------------------------------------------------------------------------------------------------


def exchanges_view(exchanges: Sequence[Exchange], frame: Frame, chosen: Filter) -> View:
    """Return the list of exchanges, oldest first as given."""
    counts: dict[str, int] = {}
    for exchange in exchanges:
        counts[exchange.endpoint] = counts.get(exchange.endpoint, 0) + 1
    shown = [exchange for exchange in reversed(exchanges) if chosen.admits(exchange)]
    chips = [_chip("all", len(exchanges), chosen.link(endpoint=""), chosen=not chosen.endpoint)]
    chips += [
        _chip(name, number, chosen.link(endpoint=name), chosen=name == chosen.endpoint)
        for name, number in sorted(counts.items())
    ]
    wrong = sum(map(_is_wrong, exchanges))
    trouble = _chip("only what went wrong", wrong, chosen.link(wrong=not chosen.wrong), chosen=chosen.wrong)
    about = None
    if chosen.job:
        link = element("a", "show all", href=chosen.link(job=""))
        about = element("p", f"Only about job {chosen.job}: ", link)
    nav = element(
        "nav",
        element("ul", chips, class_="chips", aria_label="Endpoint"),
        element("ul", trouble, class_="chips", aria_label="Outcome"),
        aria_label="Filter",
    )
    main = join(
        element("h1", "Exchanges ", element("span", len(exchanges), class_="count")),
        nav,
        about,
        exchange_table(
            shown[:_SHOWN], empty="No pilot has asked for anything yet." if not exchanges else "None matches."
        ),
        element("p", f"The newest {_SHOWN} of {len(shown)} are shown.", class_="hint") if len(shown) > _SHOWN else None,
        form(frame, "/exchanges/clear", element("button", "Forget all", type="submit"), back="/exchanges")
        if exchanges
        else None,
    )
    return View("Exchanges", main, "/exchanges")


def _chip(text: str, number: int, href: str, *, chosen: bool) -> Markup:
    count = element("span", number, class_="count")
    return element(
        "li", element("a", text, " ", count, href=href, class_="chip", aria_current="true" if chosen else None)
    )


def exchange_table(exchanges: Sequence[Exchange], *, empty: str) -> Markup:
    """Return exchanges as a table, in the order given."""
    return table(_HEADS, map(_row, exchanges), empty=empty, caption="Exchanges, newest first", class_="exchanges")


def _row(exchange: Exchange) -> Markup:
    jobs: list[Child] = [[element("a", job, href=f"/jobs/{job}"), " "] for job in exchange.jobs[:3]]
    if len(exchange.jobs) > 3:
        jobs.append(f"and {len(exchange.jobs) - 3} more")
    refusal = exchange.refusal
    cells = (
        element("td", element("a", f"#{exchange.number}", href=f"/exchanges/{exchange.number}"), class_="number"),
        element("td", clock_time(exchange.time), class_="number"),
        element(
            "td", element("a", exchange.endpoint, href=f"/exchanges/{exchange.number}", tabindex="-1"), class_="name"
        ),
        element("td", jobs),
        element("td", pill(exchange.reported) if exchange.reported else ""),
        element(
            "td", _status(exchange), element("span", f" {refusal}", class_="faint") if refusal else None, class_="name"
        ),
        element("td", element("code", exchange.command) if exchange.command else ""),
        element("td", duration(exchange.seconds), class_="number"),
        element("td", exchange.client, class_="name faint"),
        element("td", _badges(exchange)),
    )
    return element("tr", cells, id=f"exchange-{exchange.number}", class_="bad" if _is_wrong(exchange) else None)


def _status(exchange: Exchange) -> Markup:
    if exchange.response is None:
        return element("span", "no answer", class_="status bad")
    number = exchange.response.status
    return element("span", number, class_="status bad" if number >= 400 else "status", title=_reason(number))


def _reason(number: int) -> str:
    try:
        return HTTPStatus(number).phrase
    except ValueError:
        return ""


def _badges(exchange: Exchange) -> Markup:
    grave = len(exchange.problems)
    text = f"{grave} problem{'s' if grave > 1 else ''}"
    problems = element("span", text, class_="badge problem") if grave else None
    return join(
        problems,
        [element("span", name.partition(" ")[0], class_="badge fault", title=name) for name in exchange.faults],
    )


# -- one exchange ------------------------------------------------------------------------------------------------------


def exchange_view(exchange: Exchange, concealer: Concealer, neighbours: Mapping[str, int | None]) -> View:
    """Return one exchange; `neighbours` are the numbers of the `previous` and the `next`."""
    links = [
        element("a", name.capitalize(), href=f"/exchanges/{number}", rel="prev" if name == "previous" else "next")
        for name, number in neighbours.items()
        if number is not None
    ]
    crumbs: list[Child] = [element("a", "All exchanges", href="/exchanges")]
    for link in links:
        crumbs += [" · ", link]
    jobs = [[element("a", f"job {job}", href=f"/jobs/{job}"), " "] for job in exchange.jobs[:10]]
    main = join(
        element("p", crumbs, class_="crumbs"),
        element("h1", f"#{exchange.number} ", element("code", exchange.endpoint), " ", _status(exchange)),
        facts(
            [
                ("time", clock_time(exchange.time, date=True)),
                ("took", duration(exchange.seconds)),
                ("client", exchange.client),
                ("who", exchange.request.identity.dn if exchange.request.identity else "anonymous"),
                ("transport", "TLS" if exchange.request.secure else "plain HTTP"),
                ("about", jobs or ""),
                ("reports", pill(exchange.reported) if exchange.reported else ""),
                ("told", element("code", exchange.command) if exchange.command else ""),
            ]
        ),
        [element("p", element("strong", "Fault: "), text, class_="banner fault") for text in exchange.faults],
        _summary(exchange.problems, concealer),
        element("div", _request(exchange, concealer), _answer(exchange, concealer), class_="sides"),
    )
    return View(f"Exchange {exchange.number}: {exchange.endpoint}", main, "/exchanges")


def _summary(problems: Sequence[FieldProblem], concealer: Concealer) -> Markup | None:
    """Return everything that is wrong, each with a link to its field."""
    if not problems:
        return None
    items = []
    for problem in problems:
        message = concealer.text(problem.message)
        label = (
            element("a", element("code", problem.field), href=f"#{anchor(problem.field)}")
            if problem.field
            else "request"
        )
        items.append(element("li", label, f": {message}"))
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} with this request"
    return element("section", element("h2", count), element("ul", items), class_="problems")


def _request(exchange: Exchange, concealer: Concealer) -> Markup:
    request = exchange.request
    method = exchange.endpoint.rpartition("/")[2]
    body = show_body(
        exchange.sent, concealer, method, [item for item in exchange.problems if item.field[:7] != "header:"]
    )
    query = None
    if request.query and request.body:
        decoded = decode_query(request.query)
        query = join(element("h3", "Query"), show_body(decoded, concealer, method))
    return element(
        "section",
        element("h2", "Request"),
        element("p", element("code", f"{request.method} {concealer.text(request.path)}"), class_="line"),
        _headers(request.headers, exchange, concealer),
        query,
        element("h3", "Arguments", element("span", f" {size(exchange.request_size)}", class_="sub")),
        body,
        class_="side",
    )


def _answer(exchange: Exchange, concealer: Concealer) -> Markup:
    response = exchange.response
    if response is None:
        return element(
            "section", element("h2", "Answer"), element("p", exchange.answered.notes[0], class_="empty"), class_="side"
        )
    method = exchange.endpoint.rpartition("/")[2]
    headers = {"content-type": response.content_type, **{name.lower(): text for name, text in response.headers.items()}}
    return element(
        "section",
        element("h2", "Answer"),
        element("p", element("code", f"{response.status} {_reason(response.status)}"), class_="line"),
        _headers(headers, exchange, concealer, ours=True),
        element("h3", "Content", element("span", f" {size(exchange.response_size)}", class_="sub")),
        show_body(exchange.answered, concealer, method),
        class_="side",
    )


def _headers(headers: Mapping[str, str], exchange: Exchange, concealer: Concealer, *, ours: bool = False) -> Markup:
    """Return headers as rows, folded unless something is wrong with one."""
    wrong = {} if ours else {item.field[7:]: item for item in exchange.problems if item.field.startswith("header:")}
    rows = []
    for name, value in concealer.headers({**dict.fromkeys(wrong, ""), **headers}).items():
        problem = wrong.get(name)
        told = None
        if problem is not None:
            told = element(
                "p", element("strong", problem.kind), f": {concealer.text(problem.message)}", class_="problem grave"
            )
        cell = element("td", element("code", value, class_="value text"), told)
        row_id = anchor(f"header:{name}") if problem else None
        rows.append(
            element("tr", element("th", name, scope="row"), cell, id=row_id, class_="wrong" if problem else None)
        )
    summary = element("summary", f"{len(rows)} header{'s' if len(rows) != 1 else ''}")
    side = "answer" if ours else "request"
    return element(
        "details",
        summary,
        element("table", element("tbody", rows), class_="fields"),
        open=bool(wrong),
        id=f"headers-{side}",
    )
