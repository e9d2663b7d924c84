"""What an author of a plugin meets: forgotten fixtures, opt-outs, replaced clauses, reports."""

import json

import pytest

from pilot_core.testing import DirectoryStorage, StagerKit

pytest_plugins = ["pytester"]
PLUGIN = ("-p", "pilot_core.testing.plugin", "-p", "no:cacheprovider")

HEAD = """
import sys
import pytest
from pilot_core import Provider, hookimpl
from pilot_core.testing import DirectoryStorage, StagerKit
"""
STAGER = """
class Made:
    @hookimpl
    def pilot_stagein(self):
        from pilot_core.builtin.file_stager import FileStager
        yield Provider(name="mine", factory=lambda settings, context: FileStager(), schemes=frozenset({"file"}))
"""
CLASS = """
class TestMine(StagerKit):
    @pytest.fixture
    def plugin(self):
        return Made()

    @pytest.fixture
    def storage(self, tmp_path):
        return DirectoryStorage(tmp_path / "storage")
"""


@pytest.fixture
def author(pytester):
    """Run an author's test file; what it prints, and the verdicts of its clauses."""

    def run(text, *options):
        # a process of its own: the kits' modules are imported there as an author's pytest imports them
        pytester.makepyfile(test_mine=HEAD + text)
        result = pytester.runpytest_subprocess(*PLUGIN, "--kit-report", "report", *options)
        report = pytester.path / "report"
        result.verdicts = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
        return result

    return run


def test_a_forgotten_plugin_fails_every_clause(author):
    result = author("class TestMine(StagerKit):\n    pass\n")
    assert result.ret == 1
    assert {verdict["outcome"] for verdict in result.verdicts} == {"error"}
    assert len(result.verdicts) > 60
    result.stdout.fnmatch_lines(["*override the fixture `plugin` in TestMine: return the entry point of your plugin*"])


def test_a_forgotten_storage_fails_the_clauses_that_need_it(author):
    text = STAGER + "class TestMine(StagerKit):\n    @pytest.fixture\n    def plugin(self):\n        return Made()\n"
    result = author(text)
    assert result.ret == 1
    wrong = [verdict for verdict in result.verdicts if verdict["outcome"] == "error"]
    assert len(wrong) > 40
    assert all("override the fixture `storage`" in verdict["reason"] for verdict in wrong)


def test_a_class_that_pytest_would_pass_over_is_an_error(author):
    result = author(STAGER + CLASS.replace("class TestMine", "class Mine"))
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*TypeError: Mine: pytest runs classes named Test...; rename it to TestMine*"])


@pytest.mark.parametrize("line", ["__test__ = False", "def __init__(self): pass"])
def test_a_class_that_hides_from_pytest_is_an_error(author, line):
    result = author(STAGER + CLASS + f"\n    {line}\n")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*TypeError: TestMine: without __init__ and __test__, please*"])


def test_a_clause_cannot_be_replaced(author):
    result = author(STAGER + CLASS + "\n    def test_progress_is_told(self): pass\n")
    assert result.ret == 2
    result.stdout.fnmatch_lines(["*TestMine.test_progress_is_told replaces a clause of the kit*KIT_OPT_OUTS*"])


def test_an_opt_out_is_told_with_its_reason(author):
    text = STAGER + '    KIT_OPT_OUTS = {"test_progress_is_told": "tapes do not tell"}\n' + CLASS
    result = author(text, "-k", "progress or opt_outs")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*opted out: 1 clauses*", "stager test_progress_is_told: tapes do not tell"])
    outcomes = {verdict["clause"]: verdict["outcome"] for verdict in result.verdicts}
    assert outcomes == {"test_progress_is_told": "opted out", "test_its_opt_outs_name_clauses": "passed"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"test_progress_is_told": " "}', "has no reason"),
        ('{"progress": "no"}', "write the clause's name"),
        ('["test_progress_is_told"]', "must be a mapping"),
    ],
)
def test_an_opt_out_without_reason_is_refused(author, value, said):
    result = author(STAGER + f"    KIT_OPT_OUTS = {value}\n" + CLASS, "-k", "progress")
    assert result.ret == 1
    assert [verdict["outcome"] for verdict in result.verdicts] == ["error"]
    assert said in result.verdicts[0]["reason"]


def test_clauses_of_a_task_that_is_not_offered_do_not_apply(author):
    result = author(STAGER + CLASS, "-k", "stored")
    assert result.ret == 0
    assert {verdict["outcome"] for verdict in result.verdicts} == {"does not apply"}
    assert result.verdicts[0]["reason"] == "the plugin offers no stage-out"


def test_without_the_pytest_plugin_opt_outs_are_told_all_the_same(pytester):
    text = STAGER + '    KIT_OPT_OUTS = {"test_progress_is_told": "tapes do not tell"}\n' + CLASS
    pytester.makepyfile(test_mine=HEAD + text)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", "progress")
    result.stdout.fnmatch_lines(["*opted out: 1 clauses*", "stager test_progress_is_told: tapes do not tell"])


def test_a_failed_clause_says_what_was_seen(author):
    text = (
        STAGER.replace("FileStager()", "Late()")
        + """
from dataclasses import replace
from pilot_core.builtin.file_stager import FileStager
class Late(FileStager):
    def fetch(self, request, *, cancel, deadline):
        return replace(super().fetch(request, cancel=cancel, deadline=deadline), size=7)
"""
    )
    result = author(text + CLASS, "-k", "catalogue_knows_nothing")
    assert result.ret == 1
    (verdict,) = result.verdicts
    assert (verdict["outcome"], verdict["kit"]) == ("failed", "stager")
    assert verdict["reason"].startswith("fetch: the result's size is 7, 4097 bytes were moved")
    assert verdict["seconds"] > 0


def test_kit_only_runs_clauses_only(author):
    result = author(STAGER + CLASS + "\ndef test_of_my_own(): pass\n", "--kit-only", "-k", "test_of_my_own or progress")
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes()["deselected"])
    assert [verdict["clause"] for verdict in result.verdicts] == ["test_progress_is_told"]


def test_kit_whole_tells_of_clauses_that_were_deselected(author):
    result = author(STAGER + CLASS, "--kit-whole", "-k", "test_progress_is_told")
    outcomes = {verdict["clause"]: verdict["outcome"] for verdict in result.verdicts}
    assert outcomes.pop("test_progress_is_told") == "passed"
    assert len(outcomes) > 60
    assert set(outcomes.values()) == {"error"}
    assert "a conftest.py of the project leave it out" in result.verdicts[0]["reason"]


def test_an_xfail_hides_no_broken_clause(author):
    broken = CLASS.replace(
        "DirectoryStorage(tmp_path", 'DirectoryStorage(tmp_path / "s", "file:///nowhere"); (tmp_path'
    )
    text = broken.replace("(StagerKit):", '(StagerKit):\n    pytestmark = pytest.mark.xfail(reason="later")')
    result = author(STAGER + text, "-k", "progress_is_told")
    (verdict,) = result.verdicts
    assert verdict["outcome"] == "failed"
    assert verdict["reason"].endswith("(hidden by an xfail; say so in KIT_OPT_OUTS instead)")


def test_an_unknown_entry_point_says_what_is_installed(author):
    text = 'class TestMine(StagerKit):\n    @pytest.fixture\n    def plugin(self):\n        return "stager.no-such"\n'
    result = author(text, "-k", "taken_by")
    reason = result.verdicts[0]["reason"]
    assert "no plugin stager.no-such is installed for this Python (installed of this kind: stager.f" in reason
    assert reason.endswith("install your project: pip install -e .")


def test_an_entry_point_of_another_kind_is_refused(author):
    text = 'class TestMine(StagerKit):\n    @pytest.fixture\n    def plugin(self):\n        return "executor.process"\n'
    result = author(text, "-k", "taken_by")
    assert "'executor.process' is no entry point of kind stager" in result.verdicts[0]["reason"]


def test_a_directory_storage_tells_of_everything_below_it(tmp_path):
    storage = DirectoryStorage(tmp_path / "made" / "here", "tape://library/shelf/")
    storage.put("a b/ü.dat", b"x")
    (storage.folder / "nowhere").symlink_to("absent")
    assert storage.url("a b/ü.dat") == "tape://library/shelf/a%20b/%C3%BC.dat"
    assert storage.get("a b/ü.dat") == b"x"
    assert storage.get("absent") is None
    assert storage.names() == {"a b/ü.dat", "nowhere"}


def test_the_kits_are_imported_when_they_are_asked_for():
    import pilot_core.testing

    assert pilot_core.testing.StagerKit is StagerKit
    with pytest.raises(AttributeError, match="no_such_kit"):
        _ = pilot_core.testing.no_such_kit
    for name in pilot_core.testing.__all__:
        assert getattr(pilot_core.testing, name) is not None


CLAIMS = STAGER.replace(
    'schemes=frozenset({"file"})', 'schemes=frozenset({"file"}), capabilities=frozenset({"resume"})'
)


@pytest.mark.parametrize(
    ("more", "outcome", "said"),
    [
        ("", "failed", "the capability 'resume' is claimed and not tested"),
        ('\n    capabilities = {"resume": ("test_it_resumes",)}\n', "failed", "there is no such test"),
        (
            '\n    capabilities = {"resume": ("test_it_resumes",)}\n    def test_it_resumes(self): pass\n',
            "passed",
            "",
        ),
    ],
    ids=["claimed only", "named only", "tested"],
)
def test_a_capability_of_ones_own_needs_a_test_of_ones_own(author, more, outcome, said):
    result = author(CLAIMS + CLASS + more, "-k", "capabilities_are_known")
    (verdict,) = result.verdicts
    assert verdict["outcome"] == outcome
    assert said in verdict["reason"]
