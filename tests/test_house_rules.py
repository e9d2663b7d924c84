"""Rules that every source file keeps: time is injected, nothing global is written, only commands print."""

from __future__ import annotations

import ast
import re
import subprocess

import pytest

SOURCES = ("pilot_core/**/*.py", "plugins/*/src/**/*.py")

READS_TIME = {
    *(f"time.{name}" for name in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")),
    *(f"time.{name}" for name in ("process_time", "process_time_ns", "thread_time", "clock_gettime", "sleep")),
    *(f"datetime.{name}" for name in ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")),
    "asyncio.sleep",
    "asyncio.wait_for",
    "asyncio.timeout",
    "asyncio.timeout_at",
    "threading.Timer",
    "signal.alarm",
    "signal.setitimer",
    "signal.sigtimedwait",
    "socket.setdefaulttimeout",
    "uuid.uuid1",
}
"""Names that read a clock or wait for time to pass, wherever they are mentioned."""

READS_TIME_WITHOUT = {"time.localtime": 1, "time.gmtime": 1, "time.ctime": 1, "time.asctime": 1, "time.strftime": 2}
"""Functions that read the clock when they are called with fewer arguments than this."""

CLOCKED = {"clock", "deadline", "patience"}
"""Receivers of a `.wait(thing)` that is the injected clock's, and takes things to wait for, not seconds."""

ALLOWED_TIME: dict[tuple[str, str], str] = {
    ("pilot_core/api/clock.py", "*"): "the clock itself",
    ("pilot_core/testing/clock.py", "poll(timeout)"): "a clock moved by hand still gives real processes real time",
    ("pilot_core/testing/tls.py", "datetime.datetime.now"): "certificates for tests are judged by the real time",
    ("plugins/devserver/src/pilot_devserver/store_database.py", "connect(timeout=)"): "SQLite's own wait for a lock",
    ("pilot_core/payload.py", "get(timeout=)"): "requests' limit for one silent socket; the deadline bounds the whole",
    ("plugins/queue-source-cric/src/pilot_queue_source_cric/fetch.py", "get(timeout=)"): "likewise",
    ("plugins/stager-xrootd/src/pilot_stager_xrootd/worker.py", "*"): (
        "a process of its own: XRootD's client takes limits in seconds; the deadline is the stager's, which kills it"
    ),
}
"""(file, what) -> why it may; `*` = everything. An entry that nothing uses any more is an error."""

FILE_LINES, FUNCTION_LINES = 450, 70


def dotted(node):
    """Return `a.b.c` of a chain of names, or an empty string."""
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return node.id if isinstance(node, ast.Name) else ""


def aliases(tree):
    """Return local name -> what it was imported as."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def resolve(node, names):
    """Return the full dotted name of an expression."""
    first, dot, rest = dotted(node).partition(".")
    return f"{names.get(first, first)}{dot}{rest}"


def is_number(node):
    """Say whether an expression is a plain number, or a sum or product with one."""
    if isinstance(node, ast.BinOp):
        return is_number(node.left) or is_number(node.right)
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def is_zero(node):
    """Say whether an expression is the literal 0."""
    return isinstance(node, ast.Constant) and node.value == 0


def timed_wait(call, names):
    """Return what a call waits with, if it waits with a timeout of its own."""
    function, name = call.func, resolve(call.func, names)
    method = function.attr if isinstance(function, ast.Attribute) else name.rpartition(".")[2]
    receiver = dotted(function.value).rpartition(".")[2].strip("_") if isinstance(function, ast.Attribute) else ""
    first = call.args[0] if call.args else ast.Constant(None)
    none = isinstance(first, ast.Constant) and first.value is None
    timeouts = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
    rules = {
        "timeout=": not method[:1].isupper()
        and any(not is_zero(value) and ast.unparse(value) != "None" for value in timeouts),
        "timeout": (
            method == "wait" and not none and receiver not in CLOCKED and name not in {"asyncio.wait", "os.wait"}
        )
        or (method in {"join", "result", "exception"} and is_number(first))
        or (method == "poll" and not none and not is_zero(first))
        or (method == "settimeout" and not none)
        or (name == "select.select" and len(call.args) == 4 and not is_zero(call.args[3])),
    }
    return next((f"{method}({what})" for what, found in rules.items() if found), "")


def time_uses(source):
    """Yield (line, what) for every reading of time and every wait with a timeout."""
    names = aliases(source.tree)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute | ast.Name) and resolve(node, names) in READS_TIME:
            yield node.lineno, resolve(node, names)
        elif isinstance(node, ast.Call):
            name = resolve(node.func, names)
            if len(node.args) < READS_TIME_WITHOUT.get(name, 0):
                yield node.lineno, f"{name}()"
            if what := timed_wait(node, names):
                yield node.lineno, what


def test_nothing_but_the_clock_reads_time_or_waits_with_a_timeout(checkout):
    wrong, used = [], set()
    for source in checkout.sources(*SOURCES):
        for line, what in time_uses(source):
            keys = {(source.name, "*"), (source.name, what)} & set(ALLOWED_TIME)
            used |= keys
            if not keys:
                wrong.append(f"{source.name}:{line}: {what}: use the injected clock")
    assert not wrong, "\n".join(wrong)
    assert used == set(ALLOWED_TIME), f"no longer needed: {set(ALLOWED_TIME) - used}"


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import time\ntime.sleep(1)", ["time.sleep"]),
        ("from time import monotonic as now\nx = now", ["time.monotonic"]),
        ("import datetime as dt\ndt.datetime.now(dt.timezone.utc)", ["datetime.datetime.now"]),
        ("from datetime import datetime\ndatetime.fromtimestamp(3)", []),
        ("import time\ntime.gmtime()\ntime.gmtime(3)", ["time.gmtime()"]),
        ("event.wait(5)", ["wait(timeout)"]),
        ("event.wait()", []),
        ("self._clock.wait(token, until=3)", []),
        ("deadline.wait(token)", []),
        ("process.wait(timeout=left)", ["wait(timeout=)"]),
        ("thread.join(5)", ["join(timeout)"]),
        ("','.join(names)", []),
        ("lock.acquire(timeout=0)", []),
        ("poller.poll(100)\npoller.poll()\npoller.poll(0)", ["poll(timeout)"]),
        ("import select\nselect.select(r, w, x, 5)", ["select(timeout)"]),
        ("import subprocess\nsubprocess.run(argv, timeout=5)", ["run(timeout=)"]),
        ("connection.settimeout(5)\nconnection.settimeout(None)", ["settimeout(timeout)"]),
    ],
)
def test_the_check_of_time_finds_what_it_is_for(code, found):
    class Source:
        tree = ast.parse(code)

    assert [what for _, what in time_uses(Source)] == found


def test_nothing_writes_the_environment(checkout):
    wrong = []
    for source in checkout.sources(*SOURCES):
        names = aliases(source.tree)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
                written = resolve(node.value, names) == "os.environ"
            elif isinstance(node, ast.Call):
                writers = {f"os.environ.{name}" for name in ("update", "setdefault", "pop", "popitem", "clear")}
                written = resolve(node.func, names) in writers | {"os.putenv", "os.unsetenv"}
            else:
                written = False
            if written:
                wrong.append(f"{source.name}:{node.lineno}")
    assert not wrong, "\n".join(wrong)


def test_only_commands_print_and_nothing_uses_global_variables(checkout):
    """Transformations (`trf`) are payloads: programs of their own."""
    wrong = []
    for source in checkout.sources(*SOURCES):
        command = bool({"cli", "trf"} & set(source.path.parts)) or source.path.stem in {"cli", "__main__"}
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Global):
                wrong.append(f"{source.name}:{node.lineno}: global {', '.join(node.names)}")
            elif isinstance(node, ast.Call) and dotted(node.func) == "print" and not command:
                wrong.append(f"{source.name}:{node.lineno}: print")
    assert not wrong, "\n".join(wrong)


def public_things(tree):
    """Yield (node, name) for a module's public classes, functions and methods."""
    todo = [("", node) for node in tree.body]
    while todo:
        prefix, node = todo.pop()
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node, f"{prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                todo += [(f"{prefix}{node.name}.", inner) for inner in node.body]


def test_everything_public_has_a_docstring(checkout):
    wrong = []
    for source in checkout.sources(*SOURCES):
        if not ast.get_docstring(source.tree):
            wrong.append(f"{source.name}: module")
        for node, name in public_things(source.tree):
            ends = {dotted(decorator).rpartition(".")[2] for decorator in node.decorator_list}
            if not ends & {"overload", "setter", "deleter"} and not ast.get_docstring(node):
                wrong.append(f"{source.name}:{node.lineno}: {name}")
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_stay_short(checkout):
    wrong = []
    for source in checkout.sources(*SOURCES):
        lines = source.text.count("\n")
        # the map of the ecosystem is one file: half of it is examples
        if lines > FILE_LINES and source.name != "pilot_core/hookspecs.py":
            wrong.append(f"{source.name}: {lines} lines, at most {FILE_LINES}")
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = node.end_lineno - node.lineno + 1
                if length > FUNCTION_LINES:
                    wrong.append(f"{source.name}:{node.lineno}: {node.name}: {length} lines, at most {FUNCTION_LINES}")
    assert not wrong, "\n".join(wrong)


def defined(tree):
    """Return the names that a module defines or imports at its top level."""
    names = set()
    for node in tree.body:
        for inner in ast.walk(node) if isinstance(node, ast.If | ast.Try) else [node]:
            if isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(inner.name)
            elif isinstance(inner, ast.Import | ast.ImportFrom):
                names |= {(alias.asname or alias.name).split(".")[0] for alias in inner.names}
            elif isinstance(inner, ast.Assign | ast.AnnAssign):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def test_what_modules_export_is_there_once_and_public(checkout):
    wrong = []
    for source in checkout.sources(*SOURCES):
        for node in source.tree.body:
            if isinstance(node, ast.Assign) and dotted(node.targets[0]) == "__all__":
                names = ast.literal_eval(node.value)
                lazy = {"hookimpl"} if source.name == "pilot_core/__init__.py" else set()
                wrong += [f"{source.name}: {name} is not there" for name in set(names) - defined(source.tree) - lazy]
                wrong += [f"{source.name}: {name} is private" for name in names if re.match(r"_(?!_version__$)", name)]
                wrong += [f"{source.name}: {name} is listed twice" for name in names if names.count(name) > 1]
    assert not wrong, "\n".join(wrong)


@pytest.mark.needs("bin:git")
def test_no_committed_file_names_a_path_of_some_machine(checkout):
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=checkout.root, capture_output=True, check=True).stdout.decode()
    machine = re.compile(r"(?<![\w.$}~-])/(work/|root/|home/(?!user)\w|tmp/dev\b|Users/)")
    wrong = []
    for name in filter(None, listed.split("\0")):
        path = checkout.root / name
        if not path.is_file() or path == checkout.root / "tests/test_house_rules.py":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = enumerate(text.splitlines(), start=1)
        wrong += [f"{name}:{number}: {line.strip()[:100]}" for number, line in lines if machine.search(line)]
    assert not wrong, "\n".join(wrong)
