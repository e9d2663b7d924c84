#!/usr/bin/env python3
"""Count the particles of the PDG's table by kind, and find those that live longest before they decay."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

HBAR = 6.582119569e-22  # MeV s
SHOWN = 5


def kind(number: int) -> str:
    """Return the kind of particle that a PDG Monte Carlo number stands for."""
    digits = str(abs(number)).zfill(7)
    if abs(number) <= 8:
        return "quark"
    if 11 <= abs(number) <= 18:
        return "lepton"
    if abs(number) < 100:
        return "boson"
    if digits[-2] == "0":
        return "diquark"
    return "meson" if digits[-4] == "0" else "baryon"


def main() -> None:
    """Read the table, write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--input", "--output"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.input.open(newline="") as stream:
        rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
    kinds: dict[str, int] = {}
    lifetimes = []
    for row in rows:
        number, width = int(row["ID"]), float(row["Width"])
        kinds[kind(number)] = kinds.get(kind(number), 0) + 1
        if number > 0 and width > 0:
            lifetimes.append((HBAR / width, number, row["Name"]))
    lifetimes.sort(reverse=True)
    summary = {
        "entries": len(rows),
        "kinds": kinds,
        "heaviest": max(rows, key=lambda row: float(row["Mass"]))["Name"],
        "longest_lived": [{"id": n, "name": name, "seconds": seconds} for seconds, n, name in lifetimes[:SHOWN]],
    }
    arguments.output.write_text(json.dumps(summary, indent=1, sort_keys=True))
    sys.stdout.write(f"{len(rows)} entries\n")


if __name__ == "__main__":
    main()
