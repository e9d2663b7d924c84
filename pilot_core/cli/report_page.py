"""The page of `pilot-core report --html`: one file with a drawn timeline, which loads nothing from anywhere."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pilot_core.cli.jobs import utc
from pilot_core.history import said

if TYPE_CHECKING:
    from pilot_core.history import Span, Story

__all__ = ["page"]

WIDTH, LABEL, ROW = 1000, 260, 24
"""Pixels: of the drawing, of the names in it, of a row's height."""
MOST_ROWS = 60
"""Transfers that are drawn; the rest are in the table only."""
COLOURS = {"stage-in": "#4477aa", "start": "#ccbb44", "running": "#228833", "stage-out": "#66ccee", "report": "#aa3377"}
GOOD, BAD = "#88aacc", "#cc3311"

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>%s</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1040px;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.4em}table{border-collapse:collapse;width:100%%}td,th{padding:.2em .6em;text-align:left;
vertical-align:top;border-bottom:1px solid #ddd;overflow-wrap:anywhere}
td:first-child{white-space:nowrap;font-variant-numeric:tabular-nums}
.bad{color:#b00}svg{width:100%%;height:auto}svg text{font:12px system-ui,sans-serif;fill:#222}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}svg text{fill:#ddd}td,th{border-color:#444}
.bad{color:#f88}}</style></head><body>
"""


def page(story: Story) -> str:
    """Return the whole page."""
    record = story.record
    attempt = "" if record.attempt is None else f", attempt {record.attempt}"
    title = f"Job {record.job_id}{attempt}: {story.state}"
    parts = [HEAD % escape(title), f"<h1>{escape(title)}</h1>\n"]
    parts.append(
        f"<p>Queue {escape(record.queue)} at {escape(record.server)}, taken {utc(record.taken)}, "
        f"{story.end - record.taken:.3f} s.</p>\n"
    )
    for number, failure in enumerate(story.failures):
        name = "And" if number else "Cause"
        text = f"{failure['task']}: {failure['message']} (code {failure['code']})"
        parts.append(
            f'<p class="bad"><b>{name}:</b> {escape(text)}<br><b>To act:</b> {escape(str(failure["who"]))}</p>\n'
        )
    parts += [_drawing(story), "<table><thead><tr><th>s</th><th>what</th></tr></thead><tbody>\n"]
    rows = [(step.at, said(step), "") for step in record.steps]
    rows += [
        (span.begin, f"{span.name}: {span.outcome} in {span.seconds:.3f} s, {span.details}", _mark(span))
        for span in story.spans
        if span.lane == "transfer"
    ]
    for at, text, mark in sorted(rows):
        parts.append(f"<tr{mark}><td>{at - record.taken:.3f}</td><td>{escape(text)}</td></tr>\n")
    return "".join([*parts, "</tbody></table></body></html>\n"])


def _mark(span: Span) -> str:
    return "" if span.outcome in {"ok", "remote"} else ' class="bad"'


def _drawing(story: Story) -> str:
    """Return the timeline: a row for the job's states, one for each transfer, a line for each step of note."""
    begin, total = story.record.taken, max(story.end - story.record.taken, 1e-3)
    transfers = [span for span in story.spans if span.lane == "transfer"][:MOST_ROWS]
    height = ROW * (len(transfers) + 2) + 8

    def x(at: float) -> float:
        return LABEL + (WIDTH - LABEL - 10) * min(max((at - begin) / total, 0.0), 1.0)

    def bar(row: int, span: Span, colour: str) -> str:
        left, right = x(span.begin), x(span.begin + span.seconds)
        return (
            f'<rect x="{left:.1f}" y="{row * ROW + 4}" width="{max(right - left, 1.5):.1f}" height="{ROW - 8}" '
            f'fill="{colour}"><title>{escape(f"{span.name}: {span.seconds:.3f} s {span.details}")}</title></rect>'
        )

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="timeline">', _label(0, "job")]
    parts += [bar(0, span, COLOURS[span.name]) for span in story.spans if span.lane == "phase"]
    for row, span in enumerate(transfers, 1):
        parts += [_label(row, span.name), bar(row, span, BAD if _mark(span) else GOOD)]
    bottom = height - 10
    for step in story.record.steps:
        if step.step in {"taken-over", "payload-ended", "called-off", "spooled", "report-acknowledged"}:
            at = x(step.at)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{bottom - 14}" stroke="#999" stroke-dasharray="3 3">'
                f"<title>{escape(said(step))}</title></line>"
            )
    ticks = [(x(begin + total * part / 4), total * part / 4) for part in range(5)]
    parts += [
        f'<text x="{at:.1f}" y="{bottom}" text-anchor="{"end" if at > WIDTH - 40 else "middle"}">{seconds:.3g} s</text>'
        for at, seconds in ticks
    ]
    legend = " ".join(
        f'<span style="color:{colour}">&#9632;</span> {name}' for name, colour in (*COLOURS.items(), ("failed", BAD))
    )
    return "".join([*parts, f"</svg>\n<p>{legend}</p>\n"])


def _label(row: int, text: str) -> str:
    shown = text if len(text) < 38 else f"{text[:18]}…{text[-18:]}"
    return f'<text x="0" y="{row * ROW + 16}">{escape(shown)}</text>'
