"""How to install this very pilot-core somewhere else: from its checkout, from the file it came from, or by version."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pilot_core._version import __version__

__all__ = ["CoreOrigin", "core_origin"]


@dataclass(frozen=True)
class CoreOrigin:
    """What pip is given to install the core that runs."""

    editable: bool
    """Whether it is installed from a checkout that is worked on."""
    where: str
    """A directory, a file, or a requirement."""

    def arguments(self, extra: str) -> list[str]:
        """Return what follows `pip install`."""
        if not self.where:
            return [f"pilot-core[{extra}]=={__version__}"]
        if Path(self.where).is_dir():
            return [*(["-e"] if self.editable else []), f"{self.where}[{extra}]"]
        return [f"pilot-core[{extra}] @ {Path(self.where).as_uri()}"]


def core_origin(package: Path | None = None) -> CoreOrigin:
    """Find out where the core that runs came from; `package` is the directory of `pilot_core`.

    Fact: installers note it in `direct_url.json` (PEP 610).
    """
    package = package or Path(__file__).resolve().parent.parent
    if (package.parent / "pyproject.toml").is_file() and (package.parent / "templates").is_dir():
        return CoreOrigin(editable=True, where=str(package.parent))
    try:
        noted = Distribution.from_name("pilot-core").read_text("direct_url.json")
        url = str(json.loads(noted or "{}").get("url", ""))
    except (PackageNotFoundError, OSError, ValueError):
        url = ""
    path = unquote(urlsplit(url).path) if url.startswith("file://") else ""
    return CoreOrigin(editable=False, where=path if path and Path(path).exists() else "")
