#!/usr/bin/env python3
"""Invariant masses of muon pairs of opposite charge: one line a pair, and a histogram."""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import sys
from pathlib import Path

BINS = [(0.25 * 2**step, 0.5 * 2**step) for step in range(9)]
"""From 0.25 to 128 GeV, each bin twice as wide as the one before."""


def four_vector(muon: dict[str, str]) -> tuple[float, float, float, float]:
    """Return (E, px, py, pz) in GeV."""
    pt, eta, phi, mass = (float(muon[name]) for name in ("pt", "eta", "phi", "mass"))
    px, py, pz = pt * math.cos(phi), pt * math.sin(phi), pt * math.sinh(eta)
    return math.sqrt(px * px + py * py + pz * pz + mass * mass), px, py, pz


def pair_mass(one: dict[str, str], other: dict[str, str]) -> float:
    """Return the invariant mass of two muons in GeV."""
    vectors = four_vector(one), four_vector(other)
    energy, px, py, pz = (sum(vector[component] for vector in vectors) for component in range(4))
    return math.sqrt(max(0.0, energy * energy - px * px - py * py - pz * pz))


def main() -> None:
    """Read the muons, write pairs and histogram."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--input", "--pairs", "--histogram"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    with arguments.input.open(newline="") as stream:
        muons = list(csv.DictReader(stream))
    masses = []
    with arguments.pairs.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["run", "event", "mass"])
        for (run, event), group in itertools.groupby(muons, key=lambda muon: (muon["run"], muon["event"])):
            for one, other in itertools.combinations(list(group), 2):
                if one["charge"] != other["charge"]:
                    masses.append(pair_mass(one, other))
                    writer.writerow([run, event, f"{masses[-1]:.4f}"])
    with arguments.histogram.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["from", "to", "pairs"])
        writer.writerows([low, high, sum(low <= mass < high for mass in masses)] for low, high in BINS)
    sys.stdout.write(f"{len(muons)} muons, {len(masses)} pairs of opposite charge\n")


if __name__ == "__main__":
    main()
