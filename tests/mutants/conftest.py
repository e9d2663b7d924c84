"""The score: how many of the planted faults of each kind were noticed."""

from __future__ import annotations

from collections import Counter


def pytest_terminal_summary(terminalreporter):
    """Print it."""
    noticed, planted, again = Counter(), Counter(), []
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            if "::test_a_planted_fault_is_noticed[" in report.nodeid:
                kind = report.nodeid.partition("[")[2].partition("-")[0]
                planted[kind] += 1
                noticed[kind] += outcome == "passed"
                if dict(report.user_properties).get("tries", 1) > 1:
                    again.append(report.nodeid.partition("[")[2].rstrip("]"))
    if planted:
        terminalreporter.section("planted faults that the kits noticed")
        for kind in sorted(planted):
            terminalreporter.line(f"{kind:16} {noticed[kind]:4} of {planted[kind]}")
        if again:
            terminalreporter.line(f"not at the first try: {', '.join(sorted(again))}")
        terminalreporter.line(f"{'score':16} {100 * noticed.total() / planted.total():.1f} %")
