"""Which part may import which, and what every plugin's folder must have. The tables are the rules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
import tomli

from pilot_core import KINDS

LAYERS = (
    ("_version", "errors"),
    ("api",),
    ("hookspecs", "values"),
    ("settings", "journal", "keeping", "logs", "cleanup", "places", "selection", "signals", "plugins"),
    ("phases", "jobdir", "explanation", "routes", "catalogs", "archives"),
    (
        "supervision",
        "staging",
        "reporting",
        "past",
        "heartbeat",
        "payload",
        "joblog",
        "outputs",
        "remote_io",
        "node",
        "watching",
        "commands",
        "diagnostics",
    ),
    ("services", "reattach", "payloadrun", "spool", "delivery", "transfers", "jobstates", "judging"),
    ("jobrun",),
    ("pilot_settings", "limits_set"),
    ("assembly", "ending", "jobfile", "offline", "explain"),
    ("onejob", "recovery", "history"),
    ("recording", "flushing"),
    ("pilot", "scaffold", "checking"),
    ("replay",),
    ("cli",),
    ("__main__",),
)
"""Parts of `pilot_core`, lowest first: each may import what lies in lower layers, and itself."""

BESIDE = {
    "keeping": {"journal"},
    "plugins": {"settings", "logs"},
    "selection": {"plugins"},
    "routes": {"catalogs"},
    "remote_io": {"payload"},
    "outputs": {"joblog", "past", "payload", "staging"},
    "past": {"reporting"},
    "joblog": {"payload"},
    "diagnostics": {"payload"},
    "commands": {"diagnostics"},
    "reattach": {"services"},
    "payloadrun": {"reattach", "services"},
    "delivery": {"services", "spool"},
    "transfers": {"services"},
    "api": {"errors"},
}
"""Imports within a layer; nothing here may run in a circle."""

BUILTIN = {"", "api", "errors", "hookspecs"}
"""What every built-in plugin may import: what any plugin may, by its longer name too."""

BUILTIN_MORE = {
    "process_executor": {"supervision"},
}
"""What single built-in plugins may import besides."""

ALIASES = {"jwt": "pyjwt", "XRootD": "xrootd"}
"""Import names that differ from the distribution's."""

PLUGIN_MORE = {
    # it loads server protocols as the pilot loads plugins, and its commands log and end as the core's
    "devserver": {"plugins", "logs", "errors"},
}
"""Parts of the core that single plugins (by folder) may import besides `pilot_core` and `pilot_core.api`."""

EXTRA_NAMES = {"devserver": "pilot-devserver"}
"""Distributions whose folder is not <kind>-<name>."""


def imported(tree):
    """Yield (line, dotted module) for every absolute import, `from a import b` as both `a` and `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def core_parts(checkout):
    """Return the names directly below `pilot_core`."""
    paths = [
        *checkout.root.glob("pilot_core/*.py"),
        *(p.parent for p in checkout.root.glob("pilot_core/*/__init__.py")),
    ]
    return {path.stem for path in paths} - {"__init__"}


def imported_parts(source, parts):
    """Yield (line, part of the core) for every import of the core; the package itself is ''."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "pilot_core"]
            yield from ((node.lineno, name.partition(".")[2].partition(".")[0]) for name in names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pilot_core":
            if node.module != "pilot_core":
                yield node.lineno, node.module.split(".")[1]
            else:
                yield from ((node.lineno, alias.name if alias.name in parts else "") for alias in node.names)


def allowed_for(part):
    """Return what a part of the core may import."""
    level = next((number for number, layer in enumerate(LAYERS) if part in layer), 0)
    lower = {name for layer in LAYERS[:level] for name in layer}
    return lower | BESIDE.get(part, set()) | {part}


def test_every_part_of_the_core_has_its_place_in_the_table(checkout):
    placed = [part for layer in LAYERS for part in layer]
    assert len(placed) == len(set(placed))
    unplaced = core_parts(checkout) - set(placed) - {"builtin", "testing"}
    assert not unplaced, f"add to LAYERS in tests/test_structure.py: {sorted(unplaced)}"


def test_imports_of_the_core_point_one_way(checkout):
    parts = core_parts(checkout)
    wrong = []
    for source in checkout.sources("pilot_core/**/*.py"):
        part = source.path.relative_to(checkout.root / "pilot_core").parts[0].removesuffix(".py")
        if part == "__init__":
            # executors that wrap a payload's command leave its processes to the built-in one
            allowed = {"_version", "errors", "api", "hookspecs", "builtin"}
        elif part == "builtin":
            allowed = BUILTIN | BUILTIN_MORE.get(source.path.stem, set()) | {"builtin"}
        elif part == "testing":
            continue
        else:
            allowed = allowed_for(part)
        wrong += [
            f"{source.name}:{line}: {part} must not import pilot_core.{name}"
            for line, name in imported_parts(source, parts)
            if name not in allowed
        ]
    assert not wrong, "\n".join(wrong)


def test_imports_within_a_layer_run_in_no_circle():
    for start in BESIDE:
        seen, todo = set(), [start]
        while todo:
            for name in BESIDE.get(todo.pop(), set()):
                assert name != start, f"{start} imports itself by way of its layer"
                if name not in seen:
                    seen.add(name)
                    todo.append(name)


def test_the_interfaces_need_the_standard_library_only(checkout):
    wrong = [
        f"{source.name}:{line}: {name}"
        for source in checkout.sources("pilot_core/api/**/*.py", "pilot_core/errors.py", "pilot_core/_version.py")
        for line, name in imported(source.tree)
        if name.split(".")[0] not in sys.stdlib_module_names and name.split(".")[0] != "pilot_core"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["pilot_core", "pilot_core.cli"])
def test_an_import_of_the_core_brings_no_library_along(module):
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pluggy", "requests", "rich", "tomli", "urllib3", "asyncio", "ssl", "sqlite3", "importlib.metadata"}
    assert not heavy & set(done.stdout.split())


def test_every_name_that_the_core_exports_is_there():
    import pilot_core

    for name in pilot_core.__all__:
        assert getattr(pilot_core, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pilot_core.no_such_name


# -- plugins -----------------------------------------------------------------------------------------------------------


def project(folder):
    """Return a plugin's pyproject.toml."""
    return tomli.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def normalised(requirement):
    """Return a requirement's distribution name in its normal form."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]).lower()


def modules_of(folder):
    """Return the top-level packages of a plugin."""
    return {path.parent.name for path in folder.glob("src/*/__init__.py")}


def test_plugins_import_the_cores_public_names_only(checkout):
    parts = core_parts(checkout)
    wrong = []
    for folder in checkout.plugins:
        for source in checkout.sources(f"plugins/{folder.name}/**/*.py"):
            allowed = {"", "api"} | PLUGIN_MORE.get(folder.name, set())
            if "tests" in source.path.relative_to(folder).parts:
                allowed |= {"testing", "_version", "__main__"}
            wrong += [
                f"{source.name}:{line}: pilot_core.{name} is not a public name"
                for line, name in imported_parts(source, parts)
                if name not in allowed
            ]
    assert not wrong, "\n".join(wrong)


def test_plugins_declare_what_they_import(checkout):
    """Nothing that merely happens to be installed; another plugin only as a declared dependency."""
    ours = {module: project(folder)["project"]["name"] for folder in checkout.plugins for module in modules_of(folder)}
    wrong = []
    for folder in checkout.plugins:
        table = project(folder)["project"]
        extras = [item for items in table.get("optional-dependencies", {}).values() for item in items]
        declared = {normalised(item) for item in [*table["dependencies"], *extras]}
        for source in checkout.sources(f"plugins/{folder.name}/src/**/*.py"):
            for line, dotted in imported(source.tree):
                name = dotted.split(".")[0]
                if name in sys.stdlib_module_names or name in modules_of(folder):
                    continue
                wanted = ours.get(name, ALIASES.get(name, name.replace("_", "-")))
                if wanted not in declared:
                    wrong.append(f"{source.name}:{line}: {name} is not among the dependencies")
    assert not wrong, "\n".join(wrong)


def test_every_plugin_has_what_a_distribution_needs(checkout):
    wrong = []
    for folder in checkout.plugins:
        data, name = project(folder), folder.name
        table = data["project"]
        points = table.get("entry-points", {})
        expected = {
            "name": table["name"] == EXTRA_NAMES.get(name, f"pilot-{name}"),
            "build-system.build-backend": data["build-system"]["build-backend"] == "hatchling.build",
            "license (SPDX)": table.get("license") == "Apache-2.0",
            "requires-python": table.get("requires-python") == ">=3.10",
            "description": bool(table.get("description")),
            "readme": table.get("readme") == "README.md" and (folder / "README.md").is_file(),
            "dependency on pilot-core": "pilot-core" in map(normalised, table.get("dependencies", [])),
            "src/<module>": table["name"].replace("-", "_") in modules_of(folder),
            "py.typed": all((folder / "src" / module / "py.typed").is_file() for module in modules_of(folder)),
            "tests/test_*.py": any(folder.glob("tests/**/test_*.py")),
            "entry points": bool(points),
            "entry points' kinds": all(
                key.split(".")[0] in KINDS and key.count(".") == 1 for key in points.get("pilot_core.plugins.v1", {})
            ),
        }
        wrong += [f"plugins/{name}: {what}" for what, there in expected.items() if not there]
    assert not wrong, "\n".join(wrong)


def test_the_core_declares_what_it_ships(checkout):
    table = tomli.loads((checkout.root / "pyproject.toml").read_text())["project"]
    for entry in table["entry-points"]["pilot_core.plugins.v1"].values():
        module = checkout.root / entry.partition(":")[0].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file(), entry
    assert table["license"] == "Apache-2.0"
    assert (checkout.root / "LICENSE").read_text().lstrip().startswith("Apache License")
    assert (checkout.root / "pilot_core/py.typed").is_file()


def test_the_kits_of_built_in_plugins_are_shipped(checkout):
    """`pilot-core check pilot-core` finds them in an installed wheel, too."""
    data = tomli.loads((checkout.root / "pyproject.toml").read_text())
    shipped = data["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    kits = {path.relative_to(checkout.root).as_posix() for path in checkout.root.glob("tests/kits/test_*_kit.py")}
    assert {name: target for name, target in shipped.items() if "/kits/" in name} == {
        name: f"pilot_core/_kits/{name.rpartition('/')[2]}" for name in kits
    }
    # small and alike, they share a file
    watchdogs = (checkout.root / "tests/kits/test_watchdogs_kit.py").read_text()
    for entry in data["project"]["entry-points"]["pilot_core.plugins.v1"]:
        kind, _, name = entry.partition(".")
        if kind == "watchdog":
            assert f'"{name}"' in watchdogs, entry
            continue
        assert f"tests/kits/test_{entry.replace('.', '_').replace('-', '_')}_kit.py" in kits
