"""The journal: each step of a job is recorded before its effect, and the next pilot goes on from there.

A pilot has one SQLite file in its work directory for all of its jobs (`PilotJournal`); a job that is run out of a file
has a file of JSON lines in its own directory (`FileJournal`). Heartbeats are not recorded.
"""

from __future__ import annotations

from pilot_core.journal.files import FileJournal, Journal, SteadyJournal
from pilot_core.journal.points import DURABLE, MOMENTS, POINTS, Hook, point_of

__all__ = ["DURABLE", "MOMENTS", "POINTS", "FileJournal", "Hook", "Journal", "SteadyJournal", "point_of"]
