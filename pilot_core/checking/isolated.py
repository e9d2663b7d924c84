"""A fresh virtual environment with nothing but the core, its kits and what is checked."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import venv
import zipfile
from collections.abc import Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from pilot_core.checking.target import project_of
from pilot_core.errors import HandledError

if TYPE_CHECKING:
    from pilot_core.checking.target import Target

__all__ = ["fresh_environment", "repacked"]


def fresh_environment(folder: Path, target: Target, beside: Sequence[Path]) -> str:
    """Make a virtual environment in `folder` and return its interpreter.

    It holds `pilot-core[testing]` as it runs here, the target, and the projects in `beside`; everything else that they
    need comes from pip's index. Raises `HandledError` with pip's own reason.
    """
    try:
        venv.create(folder / "venv", with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.strerror if isinstance(error, OSError) else "ensurepip failed; is there room?"
        raise HandledError(f"a fresh environment cannot be made in {folder}: {reason}") from None
    python = str(folder / "venv" / "bin" / "python")
    what = [f"{_source(distribution('pilot-core'), folder)}[testing]"]
    what.append(str(target.project) if target.project else str(_source(distribution(target.name), folder)))
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what, *map(str, beside)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise HandledError(
            f"a fresh environment for {target.name} cannot be made: {pips_reason(done.stderr, done.returncode)}; "
            "name projects that are on no index with --with DIRECTORY"
        )
    return python


def pips_reason(text: str, code: int) -> str:
    """Return in one line why pip failed, out of what it said on standard error.

    What it could not find is the reason, even where it says so within the output of a build.
    """
    lines = [line.strip(" |│╰─>\N{MULTIPLICATION SIGN}") for line in text.splitlines()]
    missing = [line for line in lines if "Could not find a version" in line or "No matching distribution" in line]
    errors = [line for line in lines if line.startswith("ERROR")]
    reason = next(iter([*missing, *errors, *filter(None, lines)]), f"exit code {code}").removeprefix("ERROR:").strip()
    unreachable = any(line.startswith("WARNING: Retrying") for line in lines)
    return f"{reason}; pip's index is out of reach" if unreachable else reason


def _source(found: Distribution, folder: Path) -> Path:
    """Return what pip can install a distribution from: its checkout, or a wheel of what is installed here."""
    return project_of(found) or repacked(found, folder)


def repacked(found: Distribution, folder: Path) -> Path:
    """Make a wheel in `folder` from an installed distribution of pure Python (PEP 427), and return its path."""
    name = found.metadata["Name"].replace("-", "_")
    wheel = folder / f"{name}-{found.version}-py3-none-any.whl"
    lines, record = [], ""
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in found.files or ():
            path = Path(str(found.locate_file(file)))
            if ".." in file.parts or "__pycache__" in file.parts or not path.is_file():
                continue  # scripts are made anew from the entry points
            if file.name == "RECORD":
                record = str(file)
                continue
            data = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            archive.writestr(str(file), data)
            lines.append(f"{file},sha256={digest},{len(data)}")
        if not record:
            raise HandledError(f"{found.metadata['Name']} {found.version} is not installed from a wheel; install it so")
        archive.writestr(record, "\n".join([*lines, f"{record},,", ""]))
    return wheel
