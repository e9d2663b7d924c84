"""What the demo's jobs must have written, computed again in another way than the jobs do it."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Check", "WrongContent", "check_archive", "check_masses", "check_particles", "check_summary"]

Check = Callable[[Mapping[str, Path], Path], str]
"""Called with the outputs by LFN and the directory of the input data; says in a few words what was found."""

MUONS, JETS, PARTICLES = "cms-run315267-muons.csv", "cms-run315267-jets.csv", "pdg-particles-2026.csv"
HBAR_GEV_SECONDS = 6.582119569e-25
"""CODATA 2018."""


class WrongContent(Exception):
    """An output that does not hold what it should; the text says which and why."""


def _expect(what: str, found: Any, wanted: Any) -> None:
    if found != wanted:
        raise WrongContent(f"{what}: {found!r} instead of {wanted!r}")


def _expect_close(what: str, found: float, wanted: float, tolerance: float) -> None:
    if not abs(found - wanted) <= tolerance:
        raise WrongContent(f"{what}: {found!r} instead of {wanted!r}")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def _mass(one: Mapping[str, str], other: Mapping[str, str]) -> float:
    """Return the mass of a pair from transverse masses and rapidities, without any component along an axis."""
    (pt1, eta1, phi1, m1), (pt2, eta2, phi2, m2) = (
        [float(muon[name]) for name in ("pt", "eta", "phi", "mass")] for muon in (one, other)
    )
    mt1, mt2 = math.hypot(m1, pt1), math.hypot(m2, pt2)
    rapidities = math.asinh(pt1 * math.sinh(eta1) / mt1) - math.asinh(pt2 * math.sinh(eta2) / mt2)
    product = mt1 * mt2 * math.cosh(rapidities) - pt1 * pt2 * math.cos(phi1 - phi2)
    return math.sqrt(max(0.0, m1 * m1 + m2 * m2 + 2 * product))


def check_masses(outputs: Mapping[str, Path], data: Path) -> str:
    """Check the muon pairs and their histogram."""
    muons = _rows(data / MUONS)
    wanted = [
        (one["run"], one["event"], _mass(one, other))
        for number, one in enumerate(muons)
        for other in muons[number + 1 :]
        if one["event"] == other["event"] and int(one["charge"]) * int(other["charge"]) < 0
    ]
    pairs = _rows(outputs["dimuon-pairs.csv"])
    events = [(run, event) for run, event, _ in wanted]
    _expect("events of the pairs", [(pair["run"], pair["event"]) for pair in pairs], events)
    for pair, (_, event, mass) in zip(pairs, wanted, strict=True):
        _expect_close(f"mass of a pair of event {event}", float(pair["mass"]), mass, 1e-4)
    octaves = Counter(math.floor(math.log2(mass)) for _, _, mass in wanted)
    histogram = {float(line["from"]): int(line["pairs"]) for line in _rows(outputs["dimuon-histogram.csv"])}
    _expect("histogram", histogram, {2.0**step: octaves[step] for step in range(-2, 7)})
    near_z = sum(abs(mass - 91.19) < 5 for _, _, mass in wanted)
    return f"{len(wanted)} muon pairs, {near_z} of them within 5 GeV of the Z boson"


def check_particles(outputs: Mapping[str, Path], data: Path) -> str:
    """Check the summary of the particle table."""
    rows = _rows(data / PARTICLES)
    summary = json.loads(outputs["pdg-summary.json"].read_text(encoding="utf-8"))
    _expect("entries", summary["entries"], len(rows))
    kinds = Counter(_kind(abs(int(row["ID"]))) for row in rows)
    _expect("kinds", summary["kinds"], dict(kinds))
    lifetimes = {
        (int(row["ID"]), row["Name"]): HBAR_GEV_SECONDS * 1000 / float(row["Width"])
        for row in rows
        if float(row["Width"]) > 0 and not row["ID"].startswith("-")
    }
    longest = sorted(lifetimes, key=lambda particle: -lifetimes[particle])[:5]
    _expect("longest lived", [(item["id"], item["name"]) for item in summary["longest_lived"]], longest)
    for item in summary["longest_lived"]:
        wanted = lifetimes[item["id"], item["name"]]
        _expect_close(f"lifetime of {item['name']}", item["seconds"], wanted, wanted * 1e-9)
    _expect("heaviest", summary["heaviest"], "t")
    return f"{len(rows)} particles, {kinds['meson']} mesons and {kinds['baryon']} baryons among them"


def _kind(number: int) -> str:
    """Return a particle's kind by the three quark digits of its number."""
    for limit, kind in ((10, "quark"), (20, "lepton"), (100, "boson")):
        if number < limit:
            return kind
    first, _, third = (number // 10**place % 10 for place in (3, 2, 1))
    return "diquark" if third == 0 else "baryon" if first else "meson"


def check_archive(outputs: Mapping[str, Path], data: Path) -> str:
    """Check that the archive holds both inputs and their checksums."""
    wanted = {name: (data / name).read_bytes() for name in (MUONS, JETS)}
    lines = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in wanted.items())
    _expect("checksums", outputs["events.sha256"].read_text(encoding="utf-8"), lines)
    wanted["events.sha256"] = lines.encode()
    try:
        with tarfile.open(outputs["events.tar"]) as archive:
            _expect("members of the archive", sorted(archive.getnames()), sorted(wanted))
            for name, content in wanted.items():
                member = archive.extractfile(name)
                if member is None or member.read() != content:
                    raise WrongContent(f"{name} in the archive is not the job's input")
    except tarfile.TarError as error:
        raise WrongContent(f"events.tar: {error}") from None
    return f"an archive of {len(wanted)} files, equal to the inputs byte by byte"


def check_summary(outputs: Mapping[str, Path], data: Path) -> str:
    """Check the joined events."""
    muons, jets = _rows(data / MUONS), _rows(data / JETS)
    counts = [Counter(int(row["event"]) for row in rows) for rows in (muons, jets)]
    events = json.loads(outputs["events.json"].read_text(encoding="utf-8"))["events"]
    _expect("events", sorted((item["run"], item["event"]) for item in events), _events([*muons, *jets]))
    for item in events:
        number = item["event"]
        _expect(
            f"muons and jets of event {number}", (item["muons"], item["jets"]), (counts[0][number], counts[1][number])
        )
        momenta = [float(row["pt"]) for row in jets if int(row["event"]) == number]
        _expect_close(f"sum of event {number}", item["ht"], math.fsum(momenta), 1e-3)
        _expect(f"leading jet of event {number}", item["leading_jet"], max(momenta, default=None))
    return f"{len(events)} events joined, {len(jets)} jets"


def _events(rows: list[dict[str, str]]) -> list[tuple[int, int]]:
    """Return (run, event) of each event once, in order."""
    return sorted({(int(row["run"]), int(row["event"])) for row in rows})
