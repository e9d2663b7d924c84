"""`python -m pilot_core` is `pilot-core`."""

import sys

# -m puts the current directory first: where a pilot is started (a work directory) is no place to import from
if not getattr(sys.flags, "safe_path", False):
    del sys.path[0]

from pilot_core.cli import main

sys.exit(main())
