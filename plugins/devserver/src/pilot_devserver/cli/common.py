"""What the server's commands share."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pilot_core.api.clock import Clock

__all__ = ["DEFAULT_STATE_DIR", "add_state_dir", "log_to_stderr", "table"]

DEFAULT_STATE_DIR = Path("pilot-devserver")


def add_state_dir(parser: argparse.ArgumentParser) -> None:
    """Declare the option for the server's directory."""
    parser.add_argument(
        "--state-dir",
        metavar="D",
        type=Path,
        default=DEFAULT_STATE_DIR,
        help="the server's directory: certificates, database, storages [default: ./%(default)s]",
    )


def log_to_stderr(level: str, clock: Clock) -> None:
    """Send the log of the core and of the server to standard error."""
    from pilot_core.logs import Redactor, set_up_logging

    # its handler takes whatever comes; only the level is each logger's own
    root = set_up_logging(sys.stderr, level, clock, Redactor())
    logging.getLogger("pilot_devserver").setLevel(root.level)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
