"""A job's timeline: what happened when, as a drawing and as a table of the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilot_core.api.staging import REMOTE_IO
from pilot_devserver.web.layout import clock_time, duration, pill, table
from pilot_devserver.web.markup import Markup, element, join

if TYPE_CHECKING:
    from pilot_core.api.server import JobRecord
    from pilot_devserver.web.exchanges import Exchange

__all__ = ["Event", "draw", "events_of", "listed", "transfers_of"]

FINAL = frozenset({"finished", "failed", "cancelled"})
_WIDTH, _LEFT, _RIGHT = 1000, 92, 12
_LANES = (
    ("state", 16, 30),
    ("update", 62, 20),
    ("command", 98, 20),
    ("exchange", 134, 20),
    ("fault", 170, 20),
    ("transfer", 206, 20),
)
"""Name, top and height of each lane."""
_NAMES = {
    "state": "state",
    "update": "updates",
    "command": "commands",
    "exchange": "exchanges",
    "fault": "faults",
    "transfer": "transfers",
}
_BOTTOM = 238
_HEIGHT = 262
_MOST_MARKS = 400
_STEPS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    1800,
    3600,
    7200,
)


@dataclass(frozen=True)
class Event:
    """Something that happened to a job."""

    time: float
    lane: str
    """state, update, command, exchange, fault or transfer."""
    text: str
    state: str = ""
    """The job's state, in the lanes `state` and `update`."""
    seconds: float = 0.0
    link: str = ""
    bad: bool = False


def events_of(job: JobRecord, exchanges: Sequence[Exchange], conceal: Callable[[str], str] = str) -> list[Event]:
    """Return everything that is known to have happened to a job, in order; `conceal` takes secrets out of texts."""
    events = [Event(time, "state", f"the job is {status}", state=status) for time, status in job.history]
    events += transfers_of(job.metadata, conceal)
    told = [exchange for exchange in exchanges if exchange.reported]
    for exchange in exchanges:
        link = f"/exchanges/{exchange.number}"
        status = exchange.response.status if exchange.response else None
        bad = status is None or status >= 400 or bool(exchange.problems) or bool(exchange.faults)
        answered = f"HTTP {status}" if status is not None else "no answer"
        text = f"{exchange.endpoint}: {answered} in {duration(exchange.seconds)}"
        events.append(Event(exchange.time, "exchange", text, seconds=exchange.seconds, link=link, bad=bad))
        events += [Event(exchange.time, "fault", f"fault: {text}", link=link, bad=True) for text in exchange.faults]
        if exchange.reported:
            text = f"the pilot reports {exchange.reported}"
            events.append(Event(exchange.time, "update", text, state=exchange.reported, link=link))
        if exchange.command:
            text = f"the pilot is told {exchange.command}"
            events.append(Event(exchange.time + exchange.seconds, "command", text, link=link))
    # updates of which the exchange is not kept any more: only their times are known
    known = [(exchange.time - 0.001, exchange.time + exchange.seconds + 0.001) for exchange in told]
    for beat in job.heartbeats:
        if not any(low <= beat <= high for low, high in known):
            events.append(Event(beat, "update", "an update of the pilot"))
    order = {name: number for number, (name, _, _) in enumerate(_LANES)}
    return sorted(events, key=lambda event: (event.time, order[event.lane]))


def transfers_of(metadata: str, conceal: Callable[[str], str] = str) -> list[Event]:
    """Return the attempts to move files that pilot-core's report has in a job's metadata; anything else has none."""
    try:
        found = json.loads(metadata)["pilot"]["attempts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    events = (
        [_transfer(each, conceal) for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    )
    return [event for event in events if event is not None]


def _transfer(attempt: Mapping[str, Any], conceal: Callable[[str], str]) -> Event | None:
    """Return the event of one attempt; None if its times are none."""
    times = [attempt.get(name) for name in ("started", "seconds")]
    if not all(isinstance(time, (int, float)) and math.isfinite(time) and time >= 0 for time in times):
        return None
    started, seconds = map(float, times)  # type: ignore[arg-type]
    lfn, activity, rse, backend, outcome, error = (
        str(attempt.get(name, "")) for name in ("lfn", "activity", "rse", "backend", "outcome", "error")
    )
    way = "from" if activity == "read" else "to"
    good = outcome in {"ok", REMOTE_IO}
    how = f"{attempt.get('bytes')} bytes in {duration(seconds)}" if good else f"{outcome}: {error}"
    text = f"{activity} {lfn} {way} {rse or 'no RSE'} by {backend or 'nobody'}: {how}"
    return Event(started, "transfer", conceal(text), seconds=seconds, bad=not good)


def listed(events: Sequence[Event], start: float) -> Markup:
    """Return the events as a table, the last ones if there are many."""
    rows = []
    for event in events[-_MOST_MARKS:]:
        what = element("a", event.text, href=event.link) if event.link else join(event.text)
        state = join(" ", pill(event.state)) if event.state and event.lane == "state" else None
        rows.append(
            element(
                "tr",
                element("td", clock_time(event.time), class_="number"),
                element("td", f"+{event.time - start:.3f} s", class_="number"),
                element("td", event.lane),
                element("td", what, state),
                class_="bad" if event.bad else None,
            )
        )
    return table(
        ("time (UTC)", "since", "what", ""), rows, empty="Nothing has happened yet.", caption="Everything that happened"
    )


@dataclass(frozen=True)
class _Scale:
    start: float
    end: float

    def x(self, time: float) -> float:
        """Return where a time is on the drawing."""
        share = (time - self.start) / (self.end - self.start)
        return round(_LEFT + min(1.0, max(0.0, share)) * (_WIDTH - _LEFT - _RIGHT), 2)

    def holds(self, time: float) -> bool:
        return self.start <= time <= self.end


def draw(events: Sequence[Event], now: float, *, whole: bool = False) -> Markup:
    """Return the drawing; it begins when the job was handed out, or at the very beginning if `whole`."""
    states = [event for event in events if event.lane == "state"]
    if not states:
        return element("p", "Nothing has happened yet.", class_="empty")
    start = states[0].time if whole else _handed_out(events, states[0].time)
    ended = states[-1].state in FINAL
    end = max(event.time + event.seconds for event in events) if ended else max(now, events[-1].time)
    span = max(end - start, 0.01)
    scale = _Scale(start - 0.01 * span, end + 0.04 * span)
    shapes = [*_axis(scale, start), *_state_bars(states, scale, ended=ended)]
    for lane in ("update", "command", "exchange", "fault", "transfer"):
        marks = [event for event in events if event.lane == lane and scale.holds(event.time)]
        shapes += [_mark(event, scale) for event in marks[-_MOST_MARKS:]]
    label = f"Timeline of {duration(span)}: {len(events)} events; the table below has the same."
    drawing = element(
        "svg",
        element("title", label),
        shapes,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="group",
        aria_label=label,
        class_="timeline",
    )
    return element("div", drawing, class_="scroll", tabindex="0", role="region", aria_label="Timeline")


def _handed_out(events: Sequence[Event], otherwise: float) -> float:
    """Return when the exchange began by which a pilot got the job, or just when the job was sent."""
    sent = next((event.time for event in events if event.lane == "state" and event.state == "sent"), None)
    if sent is None:
        return otherwise
    exchanges = (event for event in events if event.lane == "exchange")
    return min((event.time for event in exchanges if event.time <= sent <= event.time + event.seconds), default=sent)


def _axis(scale: _Scale, zero: float) -> list[Markup]:
    """Return the names of the lanes, and ticks at round times."""
    shapes = []
    for name, top, height in _LANES:
        middle = top + height / 2
        shapes.append(element("text", _NAMES[name], x=_LEFT - 14, y=middle + 4, class_="lane"))
        shapes.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=middle, y2=middle, class_="rail"))
    span = scale.end - scale.start
    step = next((step for step in _STEPS if span / step <= 9), 10 ** len(str(int(span))))
    for number in range(int(span / step) + 1):
        x = scale.x(zero + number * step)
        shapes.append(element("line", x1=x, x2=x, y1=8, y2=_BOTTOM, class_="grid"))
        shapes.append(element("text", _offset(number * step), x=x, y=_BOTTOM + 18, class_="tick"))
    return shapes


def _offset(seconds: float) -> str:
    if seconds < 1 and seconds:
        return f"{seconds * 1000:g} ms"
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"


def _state_bars(states: Sequence[Event], scale: _Scale, *, ended: bool) -> list[Markup]:
    """Return a bar for each state: as long as the job was in it."""
    _, top, height = _LANES[0]
    shapes = []
    for number, event in enumerate(states):
        last = number == len(states) - 1
        until = scale.end if last else states[number + 1].time
        if until <= scale.start:
            continue
        left, right = scale.x(event.time), scale.x(until)
        width = round(max(right - left, 2), 2)
        if last and ended:
            spent = f"{event.state}, which is final"
        else:
            spent = f"{event.state} for {duration(until - event.time)}" if not last else f"{event.state} until now"
        box = element(
            "rect", element("title", spent), x=left, y=top, width=width, height=height, rx=3, class_=event.state
        )
        shapes.append(box)
        if width > 9 * len(event.state) + 8:
            shapes.append(
                element("text", event.state, x=round(left + width / 2, 2), y=top + height / 2 + 4, class_="in-bar")
            )
    return shapes


def _mark(event: Event, scale: _Scale) -> Markup:
    """Return the mark of one event in its lane."""
    top, height = next((top, height) for name, top, height in _LANES if name == event.lane)
    x, title = scale.x(event.time), element("title", event.text)
    middle = top + height / 2
    shape = f"mark {event.lane}{' bad' if event.bad else ''} {event.state}".strip()
    if event.lane in {"exchange", "transfer"}:
        width = round(max(scale.x(event.time + event.seconds) - x, 5), 2)
        box = element("rect", title, x=x, y=top + 3, width=width, height=height - 6, rx=2, class_=shape)
    elif event.lane == "update":
        box = element("circle", title, cx=x, cy=middle, r=6, class_=shape)
    elif event.lane == "command":
        points = f"{x - 5},{top + 3} {x + 7},{middle} {x - 5},{top + height - 3}"
        box = element("polygon", title, points=points, class_=shape)
    else:
        points = f"{x},{top + 2} {x + 8},{top + height - 2} {x - 8},{top + height - 2}"
        box = element("polygon", title, points=points, class_=shape)
    return element("a", box, href=event.link, aria_label=event.text) if event.link else box
