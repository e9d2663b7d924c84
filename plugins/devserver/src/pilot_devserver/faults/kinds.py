"""The table of faults: each one's name, what it does, where it strikes, and the options it takes. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

__all__ = ["ACQUIRES", "CONDITIONS", "KINDS", "UPDATES", "Kind", "Option", "Place", "documentation"]

ACQUIRES = ("acquire_jobs", "getJob")
"""The methods that hand out jobs, of both protocols."""
UPDATES = ("update_job", "update_jobs_bulk", "updateJob", "updateJobsInBulk")
"""The methods by which pilots tell of their jobs, of both protocols."""


class Place(Enum):
    """Where a fault strikes, which says what a rule can choose by."""

    CONNECTION = "connection"
    """When a connection is accepted; nothing is known of the request yet."""
    ANSWER = "answer"
    """One request and its answer; at most one such fault strikes a request."""
    SERVER = "server"
    """The server's own state; the request is answered all the same, by the changed server."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One key of a rule."""

    name: str
    type: type
    """`str`, `int`, `float`, `bool` or `dict` (of texts)."""
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One fault."""

    name: str
    place: Place
    help: str
    options: tuple[Option, ...] = ()
    endpoints: tuple[str, ...] = ()
    """PanDA's methods that it makes sense for; empty = all."""

    @property
    def task(self) -> str:
        """What calls of other protocols have to be for: acquire, update, or "" for anything."""
        return {ACQUIRES: "acquire", UPDATES: "update"}.get(self.endpoints, "")


CONDITIONS = (
    Option(
        name="endpoint",
        type=str,
        default="*",
        help="glob on the method's name (`update_job`, `getJob`) or, if it has a slash, on the whole path",
    ),
    Option(name="job", type=int, default=None, minimum=1, help="PandaID that the request is about"),
    Option(name="state", type=str, default="", help="state that an update reports (`running`, `finished` ...)"),
    Option(name="queue", type=str, default="", help="queue that is asked for jobs, or that the job belongs to"),
    Option(name="after", type=int, default=0, minimum=0, help="how many matching requests are let through first"),
    Option(name="count", type=int, default=1, minimum=0, help="how many times it strikes; 0 = for ever"),
    Option(
        name="probability",
        type=float,
        default=1.0,
        minimum=0.0,
        maximum=1.0,
        help="how likely it strikes each time; drawn from the scenario's `seed`, so that a run can be repeated",
    ),
)
"""What every rule may say of when it strikes."""


def _seconds(default: float, text: str) -> Option:
    return Option(name="seconds", type=float, default=default, minimum=0.0, maximum=1e9, help=text)


_PROCESSED = Option(name="processed", type=bool, default=False, help="whether the request is carried out all the same")
_BODY = Option(name="body", type=str, default="", help="the answer's body")

_ALL = (
    Kind(
        name="refuse",
        place=Place.CONNECTION,
        help="the connection is reset when it is accepted, before TLS",
    ),
    Kind(
        name="down",
        place=Place.ANSWER,
        help="a server that restarts: the request is lost, open connections end, and nothing listens at its ports",
        options=(_seconds(5.0, "until it is back; 0 = when the fault is removed"),),
    ),
    Kind(name="reset-before", place=Place.ANSWER, help="the connection is reset, the request is not carried out"),
    Kind(
        name="reset-after",
        place=Place.ANSWER,
        help="a lost reply: the request is carried out, then the connection is reset without a byte of the answer",
    ),
    Kind(
        name="delay",
        place=Place.ANSWER,
        help="the request is carried out at once, its answer comes late",
        options=(_seconds(5.0, "how late"),),
    ),
    Kind(
        name="hang",
        place=Place.ANSWER,
        help="no answer, until the client leaves or the server ends",
        options=(_seconds(0.0, "after which the server hangs up; 0 = never"), _PROCESSED),
    ),
    Kind(
        name="drip",
        place=Place.ANSWER,
        help="the answer comes, head and all, a few bytes at a time",
        options=(Option(name="rate", type=float, default=10.0, minimum=0.01, maximum=1e9, help="bytes a second"),),
    ),
    Kind(name="truncate", place=Place.ANSWER, help="half of the answer's body, then the connection is closed"),
    Kind(
        name="content-length",
        place=Place.ANSWER,
        help="a wrong Content-Length, the whole body, then the connection is closed",
        options=(Option(name="bytes", type=int, default=16, help="how much too large; below 0 = too small"),),
    ),
    Kind(
        name="garbage",
        place=Place.ANSWER,
        help="bytes that are no HTTP, then the connection is closed",
        options=(Option(name="bytes", type=int, default=64, minimum=1, maximum=1e8, help="how many"), _PROCESSED),
    ),
    Kind(
        name="garbage-body",
        place=Place.ANSWER,
        help="HTTP 200 with a body that is neither JSON nor text",
        options=(Option(name="bytes", type=int, default=64, minimum=0, maximum=1e8, help="how many"), _PROCESSED),
    ),
    Kind(
        name="html",
        place=Place.ANSWER,
        help="HTTP 200 with an HTML page, as a portal in front of the server sends it",
        options=(_PROCESSED,),
    ),
    Kind(
        name="status",
        place=Place.ANSWER,
        help="an error of HTTP",
        options=(
            Option(name="status", type=int, default=500, minimum=400, maximum=599, help="its number"),
            _BODY,
            Option(name="headers", type=dict, default=None, help="a table of further headers"),
            _PROCESSED,
        ),
    ),
    Kind(
        name="retry-after",
        place=Place.ANSWER,
        help="the server turns the client away and says when to come back",
        options=(
            Option(name="status", type=int, default=503, minimum=400, maximum=599, help="429, 503 ..."),
            _seconds(30.0, "what Retry-After asks for"),
            Option(
                name="form", type=str, default="seconds", choices=("seconds", "date"), help="how Retry-After says it"
            ),
        ),
    ),
    Kind(
        name="clock-skew",
        place=Place.ANSWER,
        help="a good answer whose `Date` is wrong",
        options=(
            Option(
                name="seconds",
                type=float,
                default=3600.0,
                minimum=-1e9,
                maximum=1e9,
                help="how far ahead; below 0 = behind",
            ),
        ),
    ),
    Kind(
        name="database-down",
        place=Place.ANSWER,
        help="the request is carried out without a database: whatever the real server answers then",
    ),
    Kind(
        name="duplicate-dispatch",
        place=Place.ANSWER,
        help="the pilot gets a job that is with a pilot already (`job`: this one); waits until there is one",
        endpoints=ACQUIRES,
    ),
    Kind(
        name="expired-token",
        place=Place.SERVER,
        help="the bearer token that the request carries has expired, from this request on; others are good",
    ),
    Kind(
        name="certificate",
        place=Place.SERVER,
        help="new connections are shown another certificate; this one ends after the answer",
        options=(
            Option(
                name="kind",
                type=str,
                default="expired",
                choices=("expired", "wrong-host", "other-ca", "renewed"),
                help="what is wrong with it (`renewed`: nothing)",
            ),
        ),
    ),
    Kind(
        name="tobekilled",
        place=Place.SERVER,
        help="the job is to be killed: this update's answer says so, and every later one",
        endpoints=UPDATES,
    ),
    Kind(
        name="command",
        place=Place.SERVER,
        help="the job's pilot is told something: in the answer to this update, and to every later one",
        options=(Option(name="text", type=str, default="softkill", help="the command"),),
        endpoints=UPDATES,
    ),
)

KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL})
"""Every fault, by name."""


def documentation() -> str:
    """Return the tables of faults and of conditions in Markdown, as the README has them."""
    rows = ["| fault | what happens | options |", "|---|---|---|"]
    for kind in _ALL:
        options = "; ".join(_described(option) for option in kind.options)
        rows.append(f"| `{kind.name}` | {kind.help} | {options} |")
    rows += ["", "| when | what it means |", "|---|---|"]
    rows += [f"| {_key(option)} | {option.help} |" for option in CONDITIONS]
    return "\n".join(rows)


def _described(option: Option) -> str:
    choices = f" ({', '.join(option.choices)})" if option.choices else ""
    return f"{_key(option)}{choices}: {option.help}"


def _key(option: Option) -> str:
    """Return the key, with its default where it has one."""
    if option.default in (None, ""):
        return f"`{option.name}`"
    default = option.default
    if isinstance(default, bool):
        default = str(default).lower()
    elif isinstance(default, float):
        default = f"{default:g}"
    elif isinstance(default, str):
        default = f'"{default}"'
    return f"`{option.name} = {default}`"
