"""`docs/settings.md` has every setting of the core's own plugins, as the code has it."""

from __future__ import annotations

from dataclasses import MISSING, fields

import pytest

from pilot_core.builtin.file_stager import FileStagerSettings
from pilot_core.builtin.token_file import TokenFileSettings
from pilot_core.builtin.toml_queue import TomlQueueSettings
from pilot_core.builtin.watchdogs import settings as watchdogs
from pilot_core.builtin.x509 import X509Settings

OTHERS = {
    "stager.file": FileStagerSettings,
    "credential.x509": X509Settings,
    "credential.token-file": TokenFileSettings,
    "queue-source.toml": TomlQueueSettings,
}
WATCHDOGS = {
    f"watchdog.{kind.__doc__.split('`watchdog.')[1].split('`')[0]}": kind
    for kind in (getattr(watchdogs, name) for name in watchdogs.__all__)
}


def rows(kind: type) -> list[str]:
    """Return the lines of a settings class in the document's table."""
    return [f"| `{item.name}` | {shown(item.default)} | {item.metadata['help']} |" for item in fields(kind)]


def shown(default: object) -> str:
    if default is MISSING:
        return "(must be set)"
    if default in (None, ()):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize(("name", "kind"), [*WATCHDOGS.items(), *OTHERS.items()])
def test_each_setting_is_documented(checkout, name, kind):
    text = (checkout.root / "docs/settings.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert [line for line in sections[f"`{name}`"].splitlines() if line.startswith("| `")] == rows(kind)


def test_each_built_in_plugin_with_settings_is_there(checkout):
    text = (checkout.root / "docs/settings.md").read_text(encoding="utf-8")
    assert [line[4:-1] for line in text.splitlines() if line.startswith("## `")] == [*WATCHDOGS, *OTHERS]
