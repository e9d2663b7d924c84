#!/usr/bin/env python3
"""Join muons and jets by event: how many of each, the scalar sum of the jets' transverse momenta, the leading jet."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path


def read(path: Path) -> dict[tuple[int, int], list[float]]:
    """Return (run, event) -> transverse momenta in GeV."""
    found: dict[tuple[int, int], list[float]] = {}
    with path.open(newline="") as stream:
        for line in csv.DictReader(stream):
            found.setdefault((int(line["run"]), int(line["event"])), []).append(float(line["pt"]))
    return found


def main() -> None:
    """Read both inputs, write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--muons", "--jets", "--output"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    muons, jets = read(arguments.muons), read(arguments.jets)
    events = []
    for run, event in sorted(set(muons) | set(jets)):
        momenta = jets.get((run, event), [])
        events.append(
            {
                "run": run,
                "event": event,
                "muons": len(muons.get((run, event), [])),
                "jets": len(momenta),
                "ht": round(sum(momenta), 3),
                "leading_jet": max(momenta, default=None),
            }
        )
    arguments.output.write_text(json.dumps({"events": events}, indent=1))
    sys.stdout.write(f"{len(events)} events\n")


if __name__ == "__main__":
    main()
