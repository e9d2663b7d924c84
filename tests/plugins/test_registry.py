"""Importing plugins one by one: what is in order, what is not and why, and that nothing of the rest is touched."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import pytest

from pilot_core.errors import PluginError
from pilot_core.plugins import Hooks, Registry, Status

NEVER = "raise SystemExit('this must not be imported')"
HEAD = "from dataclasses import dataclass\nfrom pilot_core import Provider, hookimpl, setting\nmake = print\n"


def fault(shelf, entry, code, **options):
    """Return the reason why a plugin cannot be used, and check that nothing of it is left."""
    shelf.add("pilot-faulty", {entry: options.get("value", "pilot_faulty")}, HEAD + textwrap.dedent(code))
    registry = shelf.registry()
    (record,) = registry.records
    with pytest.raises(PluginError) as caught:
        registry.load(record)
    (after,) = registry.records
    assert after.status is Status.ERROR
    assert str(caught.value) == f"plugin {entry} (pilot-faulty 1.0): {after.reason}; {after.next_step}"
    assert "\n" not in str(caught.value)
    for hook in ("pilot_heartbeat", "pilot_wrap_command", "pilot_stagein"):
        assert registry.listeners(hook) == []
    with pytest.raises(PluginError, match="pilot-faulty"):
        registry.load(record)
    return after.reason


def test_only_the_plugin_that_is_asked_for_is_imported(shelf):
    shelf.stager("tape", "tape", "tapes")
    shelf.add("pilot-other", "stager.other", NEVER)
    registry = shelf.registry()
    loaded = registry.provider("stager", "tape", "pilot_stageout")
    assert (loaded.name, loaded.hook, loaded.schemes) == ("tape", "pilot_stageout", {"tape", "tapes"})
    assert (loaded.distribution, loaded.version) == ("pilot-stager-tape", "1.0")
    assert loaded.label == "stager.tape (pilot-stager-tape 1.0)"
    assert loaded.provider.factory(None, None) == "made"
    assert "pilot_other" not in sys.modules
    states = {record.name: record.status for record in registry.records}
    assert states == {"tape": Status.OK, "other": Status.FOUND}
    record = next(record for record in registry.records if record.name == "tape")
    assert record.hooks == ("pilot_stagein", "pilot_stageout")
    assert record.import_ms > 0


def test_a_plugin_is_imported_once(shelf):
    shelf.add(
        "pilot-counter",
        "executor.counter",
        HEAD + "calls = []\n@hookimpl\ndef pilot_executors():\n    calls.append(1)\n"
        "    return [Provider(name='counter', factory=make)]",
    )
    registry = shelf.registry()
    first = registry.provider("executor", "counter")
    assert registry.provider("executor", "counter") == first
    assert sys.modules["pilot_counter"].calls == [1]


def test_an_object_can_be_a_plugin_and_its_properties_are_not_run(shelf):
    code = """
    class Plugin:
        @property
        def explodes(self):
            raise OSError("a property was run")

        @hookimpl
        def pilot_executors(self):
            yield Provider(name="thing", factory=make)

        @staticmethod
        @hookimpl
        def pilot_heartbeat(update):
            pass

        @hookimpl(specname="pilot_task_started")
        def anything(self, task):
            pass

    plugin = Plugin()
    """
    shelf.add("pilot-thing", {"executor.thing": "pilot_thing:plugin"}, HEAD + textwrap.dedent(code))
    registry = shelf.registry()
    assert registry.provider("executor", "thing").name == "thing"
    (record,) = registry.records
    assert record.hooks == ("pilot_executors", "pilot_heartbeat", "pilot_task_started")
    assert len(registry.listeners("pilot_heartbeat")) == 1


def test_a_hook_that_this_core_does_not_know_may_be_declared_optional(shelf):
    code = "@hookimpl(optionalhook=True)\ndef pilot_of_the_future(task):\n    pass\n"
    shelf.stager("tape")
    with (shelf.path / "pilot_stager_tape.py").open("a") as file:
        file.write(code)
    assert shelf.registry().provider("stager", "tape", "pilot_stagein").name == "tape"


GOOD = "@hookimpl\ndef pilot_executors():\n    yield Provider(name='x', factory=make)\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothere", "ModuleNotFoundError: No module named 'nothere'"),
        ("1/0", "ZeroDivisionError: division by zero ("),
        ("raise SystemExit", "its import called sys.exit()"),
        ("import sys; sys.exit(3)", "its import called sys.exit(3)"),
        ("def broken(:", "SyntaxError: invalid syntax (pilot_faulty.py, line 4)"),
        ("class Mine(BaseException): pass\nraise Mine('own')", "Mine: own ("),
        ("raise GeneratorExit", "GeneratorExit ("),
        ("class E(Exception):\n  def __str__(self): raise OSError\nraise E", "E: (its text cannot be shown: OSError)"),
        ("raise ValueError('two\\nlines\\x1b[31m')", "ValueError: two lines [31m ("),
        ("raise ValueError('long ' * 1000)", "ValueError: long long"),
        ("", "implements none of its kind's hooks (pilot_executors); is @hookimpl missing?"),
        ("def pilot_executors():\n  pass", "pilot_executors has no @hookimpl"),
        (GOOD.replace("executors", "executor"), "unknown hook 'pilot_executor'; did you mean 'pilot_executors'?"),
        (GOOD + "@hookimpl\ndef pilot_zzz(): pass", "unknown hook 'pilot_zzz'; known: pilot_catalogs, "),
        (GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)"), "pilot_executors: a wrapper round other plugins' hooks"),
        (GOOD.replace("@hookimpl", "@hookimpl(hookwrapper=True)"), "pilot_executors: a wrapper round other plugins'"),
        (GOOD.replace("@hookimpl", "@hookimpl(tryfirst=True)"), "pilot_executors: tryfirst and trylast have no effect"),
        (GOOD + "@hookimpl(trylast=True)\ndef pilot_heartbeat(): pass", "pilot_heartbeat: tryfirst and trylast have"),
        (GOOD + "@hookimpl(wrapper=True)\ndef pilot_heartbeat(): yield", "pilot_heartbeat: a wrapper round other"),
        (GOOD + "@hookimpl\ndef pilot_heartbeat(): yield", "pilot_heartbeat: must not yield"),
        (GOOD + "@hookimpl\nasync def pilot_heartbeat(): pass", "pilot_heartbeat: must not be async"),
        (GOOD + "@hookimpl\ndef pilot_heartbeat(update, b=5): pass", "pilot_heartbeat: argument 'b' must not have a"),
        (GOOD + "@hookimpl\ndef pilot_heartbeat(answer=None): pass", "pilot_heartbeat: argument 'answer' must not"),
        (
            GOOD + "@hookimpl\ndef pilot_heartbeat(*, update): pass",
            "pilot_heartbeat: argument 'update' must be a plain",
        ),
        (GOOD + "@hookimpl\ndef pilot_heartbeat(**rest): pass", "pilot_heartbeat: argument 'rest' must be a plain one"),
        (GOOD + "@hookimpl\ndef pilot_heartbeat(updat): pass", "pilot_heartbeat has no argument 'updat'; did you mean"),
        (GOOD.replace("executors()", "executors(job)"), "pilot_executors has no argument 'job'; it has none"),
        (
            GOOD.replace("executors", "communicators"),
            "implements pilot_communicators, so its entry point must be called",
        ),
        (GOOD.replace("'x'", "'y'"), "pilot_executors offers 'y', but the entry point executor.x says 'x'"),
        (GOOD + "    yield Provider(name='x', factory=make)", "pilot_executors offers 'x' more than once"),
        (GOOD.replace("yield", "return"), "pilot_executors returned a Provider; yield it, or return a list"),
        ("@hookimpl\ndef pilot_executors(): return None", "pilot_executors returned None; yield Providers, or return"),
        ("@hookimpl\ndef pilot_executors(): return 3", "pilot_executors returned 3; yield Providers, or return a list"),
        ("@hookimpl\ndef pilot_executors(): return 'x'", "pilot_executors gave 'x', which is not a Provider"),
        ("@hookimpl\ndef pilot_executors(): return [make]", "pilot_executors gave a builtin_function_or_method, which"),
        ("@hookimpl\ndef pilot_executors(): return []", "it offers no provider: pilot_executors yielded nothing"),
        ("@hookimpl\ndef pilot_executors():\n  yield 1/0", "ZeroDivisionError: division by zero"),
        ("@hookimpl\ndef pilot_executors():\n  exit(4)\n  yield", "its import called sys.exit(4)"),
        ("@hookimpl\ndef pilot_executors(): yield Provider(name='X', factory=make)", "ValueError: provider name 'X'"),
        (
            "@hookimpl\ndef pilot_executors(): yield Provider(name='x', factory=3)",
            "TypeError: provider 'x': factory is",
        ),
    ],
)
def test_what_is_wrong_with_a_plugin_is_said_and_nothing_of_it_stays(shelf, code, reason):
    assert fault(shelf, "executor.x", code).startswith(reason)


SETTINGS = """
@dataclass{frozen}
class S:
    port: int = {default}

@hookimpl
def pilot_executors():
    yield Provider(name="x", factory=make, settings=S)
"""


@pytest.mark.parametrize(
    ("frozen", "default", "reason"),
    [
        ("", "setting(1, help='x')", "pilot_executors: the settings S must be a frozen dataclass"),
        ("(frozen=True)", "1", "pilot_executors: setting 'port' has no help text; declare it with pilot_core.setting"),
    ],
)
def test_settings_are_frozen_and_described(shelf, frozen, default, reason):
    assert fault(shelf, "executor.x", SETTINGS.format(frozen=frozen, default=default)) == reason


@pytest.mark.parametrize(
    ("schemes", "reason"),
    [
        ("", "pilot_stagein: a stager must say which URL schemes it serves"),
        ("'HTTP'", "pilot_stagein: 'HTTP' is not a URL scheme like 'https'"),
        ("'heron://'", "pilot_stagein: 'heron://' is not a URL scheme like 'https'"),
    ],
)
def test_a_stager_names_its_schemes(shelf, schemes, reason):
    code = "@hookimpl\ndef pilot_stagein():\n    yield Provider(name='x', factory=make, schemes=frozenset([{}]))"
    assert fault(shelf, "stager.x", code.format(schemes)) == reason


def test_an_extension_registers_nothing_but_listens(shelf):
    assert (
        fault(shelf, "extension.x", GOOD) == "implements pilot_executors, so its entry point must be called executor.x"
    )


@pytest.mark.parametrize(
    ("entry", "value", "reason"),
    [
        ("extension.x", "pilot_faulty", "implements no hook at all; is @hookimpl missing?"),
        ("executor.x", "pilot_faulty:Plugin", "pilot_faulty:Plugin is a class; point the entry point to a module"),
        ("executor.x", "pilot_faulty:nothing", "pilot_faulty:nothing is None; point the entry point to a module"),
        ("executor.x", "pilot_faulty:absent", "AttributeError: module 'pilot_faulty' has no attribute 'absent'"),
        ("executor.x", "pilot_faulty.sub", "ModuleNotFoundError: No module named 'pilot_faulty.sub'"),
        ("executor.x", "pilot_faulty:make", "implements none of its kind's hooks"),
    ],
)
def test_an_entry_point_that_leads_nowhere_says_so(shelf, entry, value, reason):
    assert fault(shelf, entry, "nothing = None\nclass Plugin: pass", value=value).startswith(reason)


def test_an_implementation_that_pluggy_would_not_see_is_an_error(shelf):
    code = """
    class Plugin:
        @hookimpl
        @staticmethod
        def pilot_executors():
            yield Provider(name="x", factory=make)

    plugin = Plugin()
    """
    reason = fault(shelf, "executor.x", code, value="pilot_faulty:plugin")
    assert reason == "pilot_executors: @hookimpl must be next to a plain function (below @staticmethod, @classmethod)"


def test_one_object_under_two_names_is_an_error_of_the_second(shelf):
    code = "@hookimpl\ndef pilot_heartbeat(update): pass"
    shelf.add("pilot-a", {"extension.a": "pilot_a", "extension.b": "pilot_a"}, HEAD + code)
    registry = shelf.registry()
    first, second = registry.extensions()
    assert registry.load(first).status is Status.OK
    with pytest.raises(PluginError, match=r"pilot_a is the plugin extension\.a already; one object serves one entry"):
        registry.load(second)
    assert len(registry.listeners("pilot_heartbeat")) == 1


def test_a_missing_module_is_named_with_what_to_install(shelf):
    shelf.add("pilot-a", "executor.a", "import Xylem.client")
    with pytest.raises(PluginError) as caught:
        shelf.registry().provider("executor", "a")
    assert f"install the Python module Xylem for {sys.executable}, or block it" in str(caught.value)


def test_interruption_by_the_user_passes_and_leaves_nothing(shelf):
    shelf.add("pilot-a", "extension.a", "raise KeyboardInterrupt")
    registry = shelf.registry()
    with pytest.raises(KeyboardInterrupt):
        registry.load(registry.records[0])
    assert registry.records[0].status is Status.FOUND


def test_a_deprecation_of_the_hooks_is_kept_in_the_record(shelf, monkeypatch):
    from pilot_core.hookspecs import PilotSpecs, hookspec

    def pilot_heartbeat(self, update, answer):
        """Hear of every update."""

    outdated = hookspec(pilot_heartbeat, warn_on_impl=DeprecationWarning("pilot_heartbeat goes away in 2.0"))
    monkeypatch.setattr(PilotSpecs, "pilot_heartbeat", outdated)
    shelf.add("pilot-a", "extension.a", HEAD + "@hookimpl\ndef pilot_heartbeat(update): pass")
    registry = shelf.registry()
    assert registry.load(registry.records[0]).warnings == ("pilot_heartbeat goes away in 2.0",)


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_one_line_with_near_names_and_what_to_install(shelf):
    shelf.stager("heron")
    with pytest.raises(PluginError) as caught:
        shelf.registry().provider("stager", "hern", "pilot_stagein")
    assert str(caught.value) == (
        "no stager 'hern' is installed; did you mean 'heron'?; install pilot-stager-hern, "
        "or see 'pilot-core list-plugins'"
    )


@pytest.mark.parametrize(
    ("options", "group", "reason"),
    [
        ({"block": ("executor.a",)}, "pilot_core.plugins.v1", "blocked by [plugins] block"),
        ({"only": ("x",)}, "pilot_core.plugins.v1", "not named in [plugins] only"),
        ({}, "pilot_core.plugins.v2", "made for plugin API v2"),
    ],
)
def test_what_may_not_be_imported_is_refused_by_its_reason(shelf, options, group, reason):
    shelf.add("pilot-a", "executor.a", NEVER, group=group)
    registry = shelf.registry(**options)
    assert not registry.has("executor", "a")
    with pytest.raises(PluginError, match=r"plugin executor\.a \(pilot-a 1\.0\): ") as caught:
        registry.provider("executor", "a")
    assert reason in str(caught.value)


def test_of_a_shadowed_and_a_preferred_plugin_the_preferred_is_used(shelf):
    shelf.stager("heron", distribution="pilot-a")
    shelf.stager("heron", distribution="pilot-b")
    registry = shelf.registry(prefer=("stager.heron=pilot-b",))
    assert registry.provider("stager", "heron", "pilot_stagein").distribution == "pilot-b"
    with pytest.raises(PluginError, match="also offered by pilot-b"):
        shelf.registry().provider("stager", "heron", "pilot_stagein")


def test_a_stager_without_stage_out_says_so(shelf):
    code = "@hookimpl\ndef pilot_stagein():\n    yield Provider(name='ro', factory=make, schemes=frozenset(['ro']))"
    shelf.add("pilot-ro", "stager.ro", HEAD + code)
    registry = shelf.registry()
    assert registry.provider("stager", "ro", "pilot_stagein").name == "ro"
    with pytest.raises(PluginError, match=r"plugin stager\.ro \(pilot-ro 1\.0\) offers no stage-out"):
        registry.provider("stager", "ro", "pilot_stageout")
    assert registry.providers("pilot_stageout") == ()


def test_a_kind_with_two_hooks_must_be_asked_for_by_hook(shelf):
    shelf.stager("heron")
    with pytest.raises(ValueError, match="say which"):
        shelf.registry().provider("stager", "heron")
    with pytest.raises(ValueError, match="not a registration hook"):
        shelf.registry().providers("pilot_heartbeat")


def test_all_providers_of_a_hook_without_the_broken_ones_which_are_logged(shelf, caplog):
    shelf.stager("b")
    shelf.stager("a")
    shelf.add("pilot-broken", "stager.broken", "import nothere")
    registry = shelf.registry()
    with caplog.at_level(logging.WARNING):
        assert [loaded.name for loaded in registry.providers("pilot_stagein")] == ["a", "b"]
        registry.providers("pilot_stagein")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "plugin stager.broken (pilot-broken 1.0)"
    ]
    assert [loaded.name for loaded in registry.providers("pilot_stagein", ["b"])] == ["b"]
    with pytest.raises(PluginError, match="pilot-broken"):
        registry.providers("pilot_stagein", ["b", "broken"])


def imported(registry):
    return {record.name for record in registry.records if record.status is not Status.FOUND}


def test_stagers_are_found_by_scheme_with_as_few_imports_as_that_takes(shelf):
    shelf.stager("root", "root")
    shelf.stager("heron", "heron", "herons")
    shelf.stager("gfal", "herons", "srm")
    registry = shelf.registry()
    assert [loaded.name for loaded in registry.stagers("pilot_stagein", "root")] == ["root"]
    assert imported(registry) == {"root"}
    assert [loaded.name for loaded in registry.stagers("pilot_stagein", "herons", ["gfal"])] == ["gfal"]
    assert imported(registry) == {"root", "gfal"}
    assert [loaded.name for loaded in registry.stagers("pilot_stagein", "herons")] == ["gfal", "heron"]
    assert registry.stagers("pilot_stagein", "s3") == ()


def test_a_stager_that_the_queue_names_and_that_is_not_there_is_logged_once(shelf, caplog):
    shelf.stager("heron")
    registry = shelf.registry()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert [loaded.name for loaded in registry.stagers("pilot_stagein", "heron", ["xylem"])] == ["heron"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "the queue names a stager that cannot be used: no stager 'xylem' is installed; known: heron; install "
        "pilot-stager-xylem, or see 'pilot-core list-plugins'"
    )


def test_discovery_logs_what_it_noted(shelf, caplog):
    with caplog.at_level(logging.WARNING):
        Registry.discover(shelf.settings(block=("stager.nothing",)))
    assert "[plugins] block names 'stager.nothing'" in caplog.text


def test_extensions_are_those_that_the_site_does_not_block(shelf):
    shelf.add("pilot-a", {"extension.a": "pilot_a", "extension.b": "pilot_a"}, NEVER)
    registry = shelf.registry(block=("extension.b",))
    assert [record.entry_point for record in registry.extensions()] == ["extension.a"]


# -- time and output ---------------------------------------------------------------------------------------------------

RUN = """
import sys
from pilot_core.errors import HandledError
from pilot_core.plugins import PluginSettings, Registry
registry = Registry.discover(PluginSettings(paths=(sys.argv[1],), import_timeout=float(sys.argv[2])))
print("before")
try:
    print(registry.provider("executor", "x").name)
except HandledError as error:
    print(f"pilot-core: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def run(shelf, code, seconds="0.3"):
    """Import a plugin in a process of its own, as `pilot-core run` does."""
    shelf.add("pilot-slow", {"executor.x": "pilot_slow"}, HEAD + textwrap.dedent(code), version="7.1")
    return subprocess.run(
        [sys.executable, "-c", RUN, str(shelf.path), seconds], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.sleep(60)",
        "while True: pass",
        "import time\nwhile True:\n    try:\n        time.sleep(60)\n    except BaseException: pass",
        "import threading\nthreading.Event().wait()",
        "import ctypes\nwhile True: ctypes.CDLL(None).sleep(60)",
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\ntime.sleep(60)",
        "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\ntime.sleep(60)",
        "import os, time\nos.close(1)\ntime.sleep(60)",
        "@hookimpl\ndef pilot_executors():\n    while True: pass",
        "import subprocess\nsubprocess.run(['sleep', '60'])",
    ],
)
def test_an_import_that_takes_too_long_ends_the_pilot_with_one_line_that_names_the_plugin(shelf, code):
    done = run(shelf, code)
    assert done.stderr == (
        "pilot-core: plugin executor.x (pilot-slow 7.1): its import took longer than 0.3 s ([plugins] import_timeout); "
        'repair it, give it more time, or block it: [plugins] block = ["executor.x"]\n'
    )
    assert done.returncode == 3


def test_an_import_that_lets_no_other_thread_run_is_ended_and_shown(shelf):
    done = run(shelf, "import ctypes\nctypes.PyDLL(None).sleep(60)  # keeps Python's lock")
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:03.300000)!")
    assert str(shelf.path / "pilot_slow.py") in done.stderr


def test_what_a_plugin_prints_at_import_does_not_reach_standard_output(shelf):
    code = """
    import os, subprocess, sys
    print("from print")
    os.write(1, b"from os.write\\n")
    subprocess.run(["echo", "from a child"])
    sys.stdout.write("left in the buffer")
    sys.stdout = open(os.devnull, "w")
    @hookimpl
    def pilot_executors():
        print("from the hook")
        yield Provider(name="x", factory=make)
    """
    done = run(shelf, code, "30")
    assert done.stdout == "before\nx\n"
    assert "from print" in done.stderr
    assert "from a child" in done.stderr
    assert done.returncode == 0


def test_a_plugin_that_closes_every_descriptor_does_not_hang_the_pilot(shelf):
    done = run(shelf, "import os\nos.closerange(3, 100)\n" + GOOD, "1")
    assert done.stdout == "before\n"
    assert done.returncode == 0


def test_a_pilot_without_standard_output_can_import_plugins(shelf):
    shelf.add("pilot-slow", {"executor.x": "pilot_slow"}, HEAD + GOOD)
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", RUN, str(shelf.path), "30"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plugin_imported_in_another_thread_is_imported_once_and_in_order(shelf):
    shelf.stager("tape")
    registry = shelf.registry()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(registry.provider("stager", "tape", "pilot_stagein")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(loaded.provider) for loaded in found}) == 1


def test_nothing_is_shared_between_registries(shelf):
    shelf.add("pilot-a", "extension.a", HEAD + "@hookimpl\ndef pilot_heartbeat(update): pass")
    one, two = shelf.registry(), shelf.registry()
    one.load(one.records[0])
    assert len(one.listeners("pilot_heartbeat")) == 1
    assert two.listeners("pilot_heartbeat") == []
    Hooks(two).heartbeat(None, None)
    two.load(replace(two.records[0]))
    assert len(two.listeners("pilot_heartbeat")) == 1


@pytest.mark.needs("env:PILOT_CORE_OLDEST_PLUGGY")
def test_the_oldest_pluggy_behaves_alike(checkout):
    """`PILOT_CORE_OLDEST_PLUGGY` is a directory with pluggy 1.6 (`pip install --target`)."""
    import os

    oldest = os.environ["PILOT_CORE_OLDEST_PLUGGY"]
    code = f"import sys; sys.path.insert(0, {oldest!r}); import pluggy, pytest\n" + textwrap.dedent(
        """
        assert pluggy.__version__.startswith("1.6"), pluggy.__version__
        tests = ("tests/plugins/test_registry.py", "tests/plugins/test_hooks.py", "tests/test_hookspecs.py")
        sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *tests]))
        """
    )
    environment = {name: value for name, value in os.environ.items() if name != "PILOT_CORE_OLDEST_PLUGGY"}
    environment["PYTHONPATH"] = oldest
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout.root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
