"""`python -m pilot_devserver.replay`."""

from __future__ import annotations

import sys

from pilot_devserver.replay.cli import main

sys.exit(main())
