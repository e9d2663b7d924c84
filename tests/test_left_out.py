"""The pytest plugin that says what was left out."""

from __future__ import annotations

import pytest

from pilot_core.testing.left_out import lacks

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "pilot_core.testing.left_out", "-p", "no:cacheprovider")

NEEDY = """
import pytest

@pytest.mark.needs("bin:no-such-program-here")
def test_needs_a_program():
    raise AssertionError

@pytest.mark.needs("module:sys", "bin:sh")
def test_has_what_it_needs():
    pass

def test_skips_itself():
    pytest.skip("it is Monday")
"""


def test_a_test_whose_need_is_missing_is_left_out_with_the_reason(pytester):
    pytester.makepyfile(NEEDY)
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*left out: 2 tests*",
            "1 x it is Monday",
            "    *::test_skips_itself",
            "1 x needs the program no-such-program-here",
            "    *::test_needs_a_program",
        ]
    )


def test_require_all_turns_everything_left_out_into_a_failure(pytester):
    pytester.makepyfile(NEEDY)
    result = pytester.runpytest_inprocess(*PLUGIN, "--require-all")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 1
    assert outcomes.get("failed", 0) + outcomes.get("errors", 0) == 2
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*left out, which --require-all does not allow: it is Monday*"])


def test_a_module_that_skips_itself_is_left_out_and_fails_under_require_all(pytester):
    pytester.makepyfile("import pytest; pytest.importorskip('no_such_module_here')")
    pytester.runpytest_inprocess(*PLUGIN).stdout.fnmatch_lines(["*left out: 1 tests*"])
    assert pytester.runpytest_inprocess(*PLUGIN, "--require-all").ret != 0


def test_nothing_is_said_when_nothing_is_left_out(pytester):
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest_inprocess(*PLUGIN, "--require-all")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*left out*")


def test_an_expected_failure_is_not_left_out(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it(): assert False")
    result = pytester.runpytest_inprocess(*PLUGIN, "--require-all")
    result.assert_outcomes(xfailed=1)


def test_an_unknown_need_is_an_error(pytester):
    pytester.makepyfile("import pytest\n@pytest.mark.needs('rot')\ndef test_it(): pass")
    result = pytester.runpytest_inprocess(*PLUGIN)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'rot'*not one of root, user, bin:NAME, module:NAME, env:NAME*"])


def test_needs_are_looked_up_on_this_machine(monkeypatch):
    monkeypatch.setenv("A_SERVER", "https://localhost")
    monkeypatch.delenv("NO_SERVER", raising=False)
    assert lacks("bin:sh") == ""
    assert lacks("module:json.decoder") == ""
    assert lacks("module:no_such.thing") == "the module no_such.thing"
    assert lacks("env:A_SERVER") == ""
    assert lacks("env:NO_SERVER") == "the environment variable NO_SERVER"
    assert bool(lacks("root")) != bool(lacks("user"))


@pytest.mark.parametrize("need", ["", "bin", "bin:", "root:x", "server:panda"])
def test_a_malformed_need_is_refused(need):
    with pytest.raises(ValueError, match="not one of"):
        lacks(need)
