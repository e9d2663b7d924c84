"""What several of the core's tests share."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

# a slow machine is no failure: no test says how long an example may take
settings.register_profile("pilot-core", deadline=None)
settings.load_profile("pilot-core")


@dataclass(frozen=True)
class Source:
    """One Python file of the core or of a plugin."""

    path: Path
    name: str
    """Its path below the checkout."""
    tree: ast.Module
    text: str


@dataclass(frozen=True)
class Fence:
    """One fenced block of a document."""

    document: str
    """The document's path below the checkout."""
    line: int
    """The line of its first line of content."""
    language: str
    text: str

    @property
    def commands(self) -> list[tuple[int, str]]:
        """The commands of a console block, with their lines: what follows `$ `, or else every line.

        A line that ends in a backslash goes on in the next; comments and empty lines are none.
        """
        joined: list[tuple[int, str]] = []
        open_line = False
        for number, line in enumerate(self.text.splitlines(), start=self.line):
            if open_line:
                joined[-1] = (joined[-1][0], f"{joined[-1][1].removesuffix(chr(92)).rstrip()} {line.strip()}")
            else:
                joined.append((number, line.strip()))
            open_line = line.endswith(chr(92))
        if any(text.startswith("$ ") for _, text in joined):
            return [(number, text.removeprefix("$ ")) for number, text in joined if text.startswith("$ ")]
        return [(number, text) for number, text in joined if text and not text.startswith("#")]


@dataclass(frozen=True)
class Checkout:
    """The checkout that these tests are part of."""

    root: Path

    def sources(self, *patterns: str) -> list[Source]:
        """Return the Python files that match, parsed."""
        found = sorted({path for pattern in patterns for path in self.root.glob(pattern)})
        assert found, f"nothing matches {patterns} in {self.root}"
        texts = [(path, path.read_text(encoding="utf-8")) for path in found]
        return [Source(path, path.relative_to(self.root).as_posix(), ast.parse(text), text) for path, text in texts]

    @property
    def plugins(self) -> list[Path]:
        """The plugins' folders."""
        return sorted(path.parent for path in self.root.glob("plugins/*/pyproject.toml"))

    def fences(self) -> list[Fence]:
        """Return the fenced blocks of every README of the checkout."""
        found = []
        for path in [self.root / "README.md", *sorted(self.root.glob("plugins/*/README.md"))]:
            text = path.read_text(encoding="utf-8")
            for match in re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
                line = text.count("\n", 0, match.start(2)) + 1
                found.append(Fence(path.relative_to(self.root).as_posix(), line, match[1], match[2]))
        return found


@pytest.fixture(scope="session")
def checkout() -> Checkout:
    """The checkout that these tests are part of, not what is installed."""
    return Checkout(Path(__file__).resolve().parent.parent)


_DROP_PRIVILEGES = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (linux/capability.h)
    if libc.prctl(24, capability, 0, 0, 0) and os.geteuid() == 0:  # PR_CAPBSET_DROP (linux/prctl.h)
        raise OSError(ctypes.get_errno(), "prctl")
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


@pytest.fixture
def as_ordinary_user():
    """Run Python code, with arguments, in a process for which files' permissions count even if the tests run as root.

    It stays the same user, so that it can read the interpreter wherever that lies. The code's errors fail the test.
    """

    def run(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", _DROP_PRIVILEGES, code, *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def own_mounts():
    """Words before a command that then may mount, for itself alone; skips the test where nobody may."""
    for words in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        with suppress(FileNotFoundError):
            command = [*words, "mount", "-t", "tmpfs", "none", "/mnt"]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return words
    return pytest.skip("needs the right to mount a file system, or user namespaces")
