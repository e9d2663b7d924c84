"""`python -m pilot_core` is `pilot-core`."""

import sys

from pilot_core.cli import main

sys.exit(main())
