"""What is found by metadata alone, and what state it is in."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path

import pytest

from pilot_core.errors import ConfigError
from pilot_core.plugins import PluginSettings, Status, places
from pilot_core.plugins.discovery import discover
from pilot_core.plugins.trust import Trust

NEVER = "raise SystemExit('this must not be imported')"


def states(records):
    return [(record.entry_point, record.distribution, str(record.status)) for record in records]


def only(records):
    assert len(records) == 1
    return records[0]


def test_plugins_are_found_by_name_and_distribution_without_an_import(shelf):
    shelf.add("pilot-zz", "watchdog.zz", NEVER)
    shelf.add("pilot-aa", {"stager.b": "pilot_aa", "communicator.a": "pilot_aa:thing"}, NEVER, version="2.1")
    records = shelf.discover()
    assert states(records) == [
        ("communicator.a", "pilot-aa", "found"),
        ("stager.b", "pilot-aa", "found"),
        ("watchdog.zz", "pilot-zz", "found"),
    ]
    first = records[0]
    assert (first.kind, first.name, first.version, first.api) == ("communicator", "a", "2.1", 1)
    assert (first.value, first.where) == ("pilot_aa:thing", str(shelf.path))
    assert first.label == "communicator.a (pilot-aa 2.1)"
    assert (first.hooks, first.offers, first.import_ms) == (None, None, None)


def test_the_pilots_own_plugins_come_from_the_same_entry_points():
    own = [record for record in discover(PluginSettings()).records if record.distribution == "pilot-core"]
    assert {"stager.file", "executor.process", "queue-source.toml"} <= {record.entry_point for record in own}
    assert {record.status for record in own} == {Status.FOUND}


def test_a_plugin_for_another_api_is_incompatible_with_the_reason(shelf):
    shelf.add("pilot-new", "stager.new", NEVER, group="pilot_core.plugins.v2")
    record = only(shelf.discover())
    assert (record.status, record.api) == (Status.INCOMPATIBLE, 2)
    assert record.reason.startswith("made for plugin API v2; pilot-core ")
    assert record.next_step == "install a version of pilot-new for plugin API v1"


@pytest.mark.parametrize(
    ("entry", "value", "group", "reason"),
    [
        ("stagr.x", "m", "pilot_core.plugins.v1", "unknown kind 'stagr'; did you mean 'stager'?"),
        ("stager", "m", "pilot_core.plugins.v1", "entry point 'stager' must be called <kind>.<name>; kinds: catalog, "),
        ("stager.X_y", "m", "pilot_core.plugins.v1", "plugin name 'X_y': use lower-case letters, digits and dashes"),
        ("stager.a.b", "m", "pilot_core.plugins.v1", "plugin name 'a.b': use lower-case letters"),
        (
            "stager.x",
            "my-module",
            "pilot_core.plugins.v1",
            "entry point stager.x = 'my-module' is neither 'module' nor",
        ),
        ("stager.x", "m", "pilot_core.plugins", "entry-point group 'pilot_core.plugins' means nothing; did you mean"),
        ("stager.x", "m", "pilot-core.plugin.v1", "entry-point group 'pilot-core.plugin.v1' means nothing"),
        ("stager.x", "m", "pilot_core.plugins.v0", "entry-point group 'pilot_core.plugins.v0' means nothing"),
    ],
)
def test_an_entry_point_that_makes_no_sense_is_an_error_that_says_why(shelf, entry, value, group, reason):
    shelf.add("pilot-odd", {entry: value}, NEVER, group=group)
    record = only(shelf.discover())
    assert record.status is Status.ERROR
    assert record.reason.startswith(reason)
    assert record.next_step == "tell the authors of pilot-odd"


def test_commands_of_other_distributions_are_no_plugins(shelf):
    shelf.add("pilot-tool", {"serve": "pilot_tool"}, group="pilot_core.commands.v1")
    assert shelf.discover() == []


def test_two_distributions_of_one_name_are_both_errors_that_name_each_other(shelf):
    shelf.add("pilot-a", "stager.heron", NEVER, version="1.0")
    shelf.add("pilot-b", "stager.heron", NEVER, version="2.0")
    one, two = shelf.discover()
    assert (one.status, two.status) == (Status.ERROR, Status.ERROR)
    assert one.reason == "stager.heron is also offered by pilot-b 2.0"
    assert two.reason == "stager.heron is also offered by pilot-a 1.0"
    assert '[plugins] prefer = ["stager.heron=pilot-a"]' in one.next_step


def test_the_site_may_say_which_of_two_distributions_wins(shelf):
    shelf.add("pilot-a", "stager.heron", NEVER)
    shelf.add("pilot-b", "stager.heron", NEVER)
    one, two = shelf.discover(prefer=("stager.heron=Pilot_B",))
    assert (one.status, two.status) == (Status.SHADOWED, Status.FOUND)
    assert one.reason == "[plugins] prefer gives stager.heron to pilot-b 1.0"


def test_preferring_a_distribution_that_offers_no_such_plugin_settles_nothing(shelf):
    shelf.add("pilot-a", "stager.heron", NEVER)
    shelf.add("pilot-b", "stager.heron", NEVER)
    records = shelf.discover(prefer=("stager.heron=pilot-c",))
    assert {record.status for record in records} == {Status.ERROR}
    assert records[0].reason.endswith("[plugins] prefer names pilot-c, which is none of them")


def test_a_blocked_or_incompatible_rival_does_no_harm(shelf):
    shelf.add("pilot-a", "stager.heron", NEVER)
    shelf.add("pilot-b", "stager.heron", NEVER)
    shelf.add("pilot-c", "stager.heron", NEVER, group="pilot_core.plugins.v2")
    found = states(shelf.discover(block=("pilot-b",)))
    assert [state for _, _, state in found] == ["found", "blocked", "incompatible"]


def test_a_name_that_one_distribution_gives_twice_is_an_error(shelf):
    info = shelf.add("pilot-a", "stager.heron", NEVER)
    (info / "entry_points.txt").write_text("[pilot_core.plugins.v1]\nstager.heron = a\nstager.heron = b\n")
    records = shelf.discover(prefer=("stager.heron=pilot-a",))
    assert [record.reason for record in records] == ["pilot-a offers stager.heron more than once"] * 2


@pytest.mark.parametrize("text", ["stager.heron", "=x", "stager.heron=", ""])
def test_a_preference_that_cannot_be_read_is_a_configuration_error(shelf, text):
    with pytest.raises(ConfigError, match=r"plugins\.prefer: .* must be like 'stager\.http=pilot-stager-http'"):
        shelf.discover(prefer=(text,))


def test_contradicting_preferences_are_a_configuration_error(shelf):
    with pytest.raises(ConfigError, match=r"stager\.heron is given to both pilot-a and pilot-b"):
        shelf.discover(prefer=("stager.heron=pilot-a", "stager.heron=pilot-b"))


@pytest.mark.parametrize("text", ["stager.heron", "pilot-a", "Pilot_A"])
def test_plugins_are_blocked_by_entry_point_or_distribution(shelf, text):
    shelf.add("pilot-a", "stager.heron", NEVER)
    record = only(shelf.discover(block=(text,)))
    assert record.status is Status.BLOCKED
    assert record.reason == f'blocked by [plugins] block = ["{text}"]'
    assert record.next_step == f'to use it, take "{text}" out of the list'


def test_an_allow_list_blocks_everything_else_the_pilots_own_too(shelf):
    shelf.add("pilot-a", "stager.a", NEVER)
    shelf.add("pilot-b", "stager.b", NEVER)
    records = discover(shelf.settings(only=("pilot-b",))).records
    found = {record.entry_point: record.status for record in records}
    assert found.pop("stager.b") is Status.FOUND
    assert set(found.values()) == {Status.BLOCKED}
    own = next(record for record in records if record.entry_point == "stager.file")
    assert own.reason == "not named in [plugins] only"
    assert own.next_step == 'to use it, add "stager.file" to the list'


def test_blocking_wins_over_the_allow_list(shelf):
    shelf.add("pilot-a", "stager.a", NEVER)
    assert only(shelf.discover(only=("pilot-a",), block=("stager.a",))).status is Status.BLOCKED


def test_a_name_in_block_or_only_that_fits_nothing_is_noted(shelf):
    shelf.add("pilot-stager-heron", "stager.heron", NEVER)
    notes = discover(shelf.settings(block=("stager.hern",), only=("pilot-stager-heron", "pilot-core"))).notes
    (note,) = (note for note in notes if "hern" in note)
    assert note.startswith("[plugins] block names 'stager.hern', which no plugin and no distribution here is called")
    assert note.endswith("; did you mean 'stager.heron'?")
    assert not [note for note in notes if "[plugins] only" in note]


def test_a_distribution_seen_in_two_directories_is_taken_from_the_first(shelf, tmp_path):
    other = type(shelf)(tmp_path / "other")
    other.path.mkdir(mode=0o755)
    shelf.add("pilot-a", "stager.a", NEVER, version="1.0")
    other.add("Pilot_A", "stager.a", NEVER, version="2.0")
    records = discover(PluginSettings(paths=(str(other.path), str(shelf.path)))).records
    assert [record.version for record in records if record.entry_point == "stager.a"] == ["2.0"]
    linked = tmp_path / "linked"
    linked.symlink_to(shelf.path)
    records = discover(PluginSettings(paths=(str(shelf.path), str(linked)))).records
    assert [record.version for record in records if record.entry_point == "stager.a"] == ["1.0"]


def test_two_versions_in_one_directory_are_noted(shelf):
    shelf.add("pilot-a", "stager.a", NEVER, version="1.0")
    shelf.add("pilot-a", "stager.a", NEVER, version="1.1")
    found = discover(shelf.settings())
    assert [record.version for record in found.records if record.entry_point == "stager.a"] == ["1.0"]
    assert any(note.startswith(f"{shelf.path} holds pilot-a 1.0 and 1.1") for note in found.notes)


@pytest.mark.parametrize(
    "text",
    [
        "[pilot_core.plugins.v1]\nstager.a\n",
        "[pilot_core.plugins.v1]\nstager.a = pilot_a\n\xff",
        "stager.a = pilot_core\n",
    ],
)
def test_damaged_metadata_is_an_error_row_or_nothing_but_never_a_crash(shelf, text):
    info = shelf.add("pilot-a", "stager.a", NEVER)
    (info / "entry_points.txt").write_bytes(text.encode("latin-1"))
    shelf.add("pilot-b", "stager.b", NEVER)
    found = {record.distribution: record for record in shelf.discover()}
    assert found["pilot-b"].status is Status.FOUND
    if "pilot-a" in found:
        assert found["pilot-a"].status is Status.ERROR
        assert found["pilot-a"].reason
        assert found["pilot-a"].next_step


def test_a_distribution_without_metadata_file_is_known_by_its_directory(shelf):
    info = shelf.add("pilot-a", "stager.a", NEVER, version="3.2")
    (info / "METADATA").unlink()
    record = only(shelf.discover())
    assert (record.distribution, record.version, record.status) == ("pilot_a", "3.2", Status.FOUND)


def test_escape_sequences_of_foreign_metadata_do_not_reach_the_terminal(shelf):
    info = shelf.add("pilot-a", "stager.a", NEVER)
    (info / "METADATA").write_text("Name: pilot\x1b[31m-a\nVersion: 1\x07\n")
    record = only(shelf.discover())
    assert (record.distribution + record.version).isprintable()


def test_an_editable_installation_is_shown_where_its_source_is(shelf, tmp_path):
    source = tmp_path / "my project"
    source.mkdir()
    info = shelf.add("pilot-a", "stager.a", NEVER)
    (info / "direct_url.json").write_text(f'{{"url": "{source.as_uri()}", "dir_info": {{"editable": true}}}}')
    assert only(shelf.discover()).where == str(source)
    (info / "direct_url.json").write_text('{"url": 3, "dir_info": []}')
    assert only(shelf.discover()).where == str(shelf.path)


# -- where plugins are looked for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["plugins", "./x", "", "."])
def test_a_path_that_depends_on_the_working_directory_is_refused(path):
    with pytest.raises(ConfigError, match=r"plugins\.paths: .* is not an absolute path"):
        discover(PluginSettings(paths=(path,)))


def test_a_path_that_is_no_directory_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"plugins\.paths: .* is not a directory"):
        discover(PluginSettings(paths=(str(tmp_path / "nothing"),)))


def test_what_a_pth_file_in_site_packages_names_is_searched_but_not_if_it_is_the_working_directory(
    shelf, tmp_path, monkeypatch
):
    site_packages, source = tmp_path / "site-packages", shelf.path
    site_packages.mkdir()
    (site_packages / "x.pth").write_text(f"# a comment\nimport sys\n\n{source}\n/nonexistent\n")
    (site_packages / "y.pth").write_bytes(b"\xff\x00\n")
    shelf.add("pilot-a", "stager.a", NEVER)
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(site_packages)])
    monkeypatch.setattr(sys, "path", [str(source), str(site_packages)])
    record = next(record for record in discover(PluginSettings()).records if record.entry_point == "stager.a")
    assert (record.status, record.where) == (Status.FOUND, str(source))
    monkeypatch.chdir(source)
    assert not [record for record in discover(PluginSettings()).records if record.entry_point == "stager.a"]


def test_what_lies_in_site_packages_is_shown_as_that(shelf, monkeypatch):
    shelf.add("pilot-a", "stager.a", NEVER)
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(shelf.path)])
    monkeypatch.setattr(sys, "path", [str(shelf.path)])
    found = discover(PluginSettings())
    record = next(record for record in found.records if record.entry_point == "stager.a")
    assert (record.status, record.where, record.directory) == (Status.FOUND, "site-packages", str(shelf.path))
    # a checkout has no metadata of its own; as a wheel the core is found wherever it was installed
    installed = any(record.distribution == "pilot-core" for record in found.records)
    assert installed != any("pilot-core itself is not installed" in note for note in found.notes)


def test_beside_the_running_pilot_only_its_own_metadata_counts(shelf, monkeypatch):
    shelf.add("pilot-evil", "stager.evil", NEVER)
    shelf.add("pilot-core", {"stager.file": "pilot_core.builtin.file_stager"}, version="0.0.7", module="other")
    monkeypatch.setattr(places, "CORE", shelf.path / "pilot_core")
    found = discover(PluginSettings())
    names = {(record.entry_point, record.distribution, record.version) for record in found.records}
    assert ("stager.file", "pilot-core", "0.0.7") in names
    assert "stager.evil" not in {name for name, _, _ in names}
    assert any("the metadata of 0.0.7 is installed" in note for note in found.notes)


def planted(shelf, place):
    """Plant a plugin in a directory, one that leaves a mark when it is imported."""
    place.mkdir(parents=True, mode=0o755, exist_ok=True)
    mark = place / "imported"
    type(shelf)(place).add("pilot-evil", "stager.evil", f"open({str(mark)!r}, 'w').close()")
    return mark


@pytest.mark.parametrize("where", ["working directory", "PYTHONPATH", "user site"])
def test_what_is_planted_in_a_place_that_is_not_the_sites_is_not_loaded(shelf, tmp_path, list_plugins, where):
    place, environment, cwd = tmp_path / "planted", {}, tmp_path
    if where == "working directory":
        cwd = place
    elif where == "PYTHONPATH":
        environment = {"PYTHONPATH": str(place)}
    else:
        place = tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        environment = {"PYTHONUSERBASE": str(tmp_path)}
    mark = planted(shelf, place)
    done = list_plugins("--check", "--json", cwd=cwd, environment=environment)
    assert done.code == 0
    assert "evil" not in done.out
    assert not mark.exists()
    # a virtual environment has no user site, and the command drops the working directory before anything else
    if where == "PYTHONPATH":
        assert f"note: pilot-evil 1.0 (stager.evil) in {place} is ignored" in done.err
        assert f"name {place} in [plugins] paths" in done.err
    named = list_plugins("--check", "--json", cwd=cwd, environment=environment, paths=[place])
    assert named.rows["stager.evil", "pilot-evil"]["status"] == "error"
    assert mark.exists()
    assert "evil" not in named.err


def test_a_module_that_would_come_from_pythonpath_instead_is_refused(shelf, tmp_path, list_plugins):
    shelf.stager("tape")
    place, mark = module_in_its_place(tmp_path)
    environment = {"PYTHONPATH": str(place)}
    done = list_plugins("--check", "--json", paths=[shelf.path], cwd=tmp_path, environment=environment)
    row = done.rows["stager.tape", "pilot-stager-tape"]
    assert row["status"] == "error"
    assert row["reason"] == (
        f"its module pilot_stager_tape would be imported from {place / 'pilot_stager_tape.py'}, "
        "where plugins are not looked for"
    )
    assert not mark.exists()


def test_a_module_in_the_working_directory_is_not_seen(shelf, tmp_path, list_plugins):
    shelf.stager("tape")
    place, mark = module_in_its_place(tmp_path)
    done = list_plugins("--check", "--json", paths=[shelf.path], cwd=place)
    assert done.rows["stager.tape", "pilot-stager-tape"]["status"] == "ok"
    assert not mark.exists()


def module_in_its_place(tmp_path):
    """Plant a module that is called like a plugin's and leaves a mark when it is imported."""
    place = tmp_path / "planted"
    place.mkdir()
    mark = place / "imported"
    (place / "pilot_stager_tape.py").write_text(f"open({str(mark)!r}, 'w').close()")
    return place, mark


# -- what others may write --------------------------------------------------------------------------------------------


def refused(shelf):
    record = only(shelf.discover())
    assert record.status is Status.ERROR
    assert record.reason.startswith("not safe to import: ")
    assert "chmod go-w" in record.next_step
    assert not record.safe
    return record.reason.partition(": ")[2]


def test_a_directory_that_everybody_may_write_is_refused(shelf):
    shelf.stager("tape")
    shelf.path.chmod(0o777)
    assert refused(shelf) == f"everybody may write {shelf.path}"
    shelf.path.chmod(0o1777)  # sticky is no help: anybody could add a file
    assert refused(shelf) == f"everybody may write {shelf.path}"
    shelf.path.chmod(0o755)
    assert only(shelf.discover()).status is Status.FOUND


def test_a_directory_above_that_everybody_may_write_is_refused_unless_it_is_sticky(shelf):
    shelf.stager("tape")
    shelf.path.parent.chmod(0o777)
    assert refused(shelf) == f"everybody may write {shelf.path.parent}"
    shelf.path.parent.chmod(0o1777)
    assert only(shelf.discover()).status is Status.FOUND


@pytest.mark.parametrize("what", ["metadata", "entry points", "module", "package", "compiled"])
def test_every_part_of_a_plugin_that_everybody_may_write_is_refused(shelf, what):
    info = shelf.add("pilot-a", {"stager.a": "pilot_a.inner.deep"}, NEVER)
    (shelf.path / "pilot_a.py").unlink()
    package = shelf.path / "pilot_a"
    (package / "inner" / "__pycache__").mkdir(parents=True)
    for file in (package / "__init__.py", package / "inner" / "__init__.py", package / "inner" / "deep.py"):
        file.write_text("")
    assert only(shelf.discover()).status is Status.FOUND
    part = {
        "metadata": info,
        "entry points": info / "entry_points.txt",
        "module": package / "inner" / "deep.py",
        "package": package,
        "compiled": package / "inner" / "__pycache__",
    }[what]
    part.chmod(0o777)
    assert refused(shelf) == f"everybody may write {part}"


def test_a_link_does_not_lead_past_the_check(shelf, tmp_path):
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    (open_to_all / "link").symlink_to(shelf.path)
    open_to_all.chmod(0o777)
    shelf.stager("tape")
    (record,) = (r for r in discover(PluginSettings(paths=(str(open_to_all / "link"),))).records if r.name == "tape")
    assert record.reason == f"not safe to import: everybody may write {open_to_all}"


def test_an_editable_installation_is_checked_where_its_source_is(shelf, tmp_path, monkeypatch):
    source = tmp_path / "source"
    source.mkdir()
    info = shelf.add("pilot-a", {"stager.a": "pilot_elsewhere"}, NEVER)
    (source / "pilot_elsewhere.py").write_text(NEVER)
    monkeypatch.syspath_prepend(source)  # as its .pth file would
    assert only(shelf.discover()).reason.startswith("its module pilot_elsewhere would be imported from ")
    (info / "direct_url.json").write_text(f'{{"url": "{source.as_uri()}", "dir_info": {{"editable": true}}}}')
    assert only(shelf.discover()).status is Status.FOUND
    source.chmod(0o757)
    assert refused(shelf) == f"everybody may write {source}"
    source.chmod(0o755)
    shelf.path.chmod(0o1777)
    assert refused(shelf) == f"everybody may write {shelf.path}"


def test_a_refused_plugin_does_not_disturb_the_one_of_the_same_name(shelf, tmp_path):
    other = type(shelf)(tmp_path / "other")
    other.path.mkdir()
    shelf.stager("tape")
    other.stager("tape", distribution="pilot-evil")
    other.path.chmod(0o777)
    records = discover(shelf.settings(paths=(str(other.path),))).records
    found = {record.distribution: record.status for record in records if record.name == "tape"}
    assert found == {"pilot-stager-tape": Status.FOUND, "pilot-evil": Status.ERROR}


@pytest.mark.needs("root")
def test_what_belongs_to_another_user_is_refused(shelf):
    shelf.stager("tape")
    os.chown(shelf.path, 12345, 0)
    assert refused(shelf) == f"{shelf.path} belongs to user 12345"


@pytest.mark.needs("root")
def test_what_a_group_of_others_may_write_is_refused_but_not_what_only_the_owners_group_may(shelf):
    shelf.stager("tape")
    shelf.path.chmod(0o775)
    os.chown(shelf.path, 0, 0)
    assert only(shelf.discover()).status is Status.FOUND
    os.chown(shelf.path, 0, 54321)
    assert refused(shelf) == "the group 54321 may write " + str(shelf.path)


def test_a_file_that_cannot_be_examined_is_refused(tmp_path):
    trust = Trust(frozenset({os.geteuid()}))
    assert trust.objection(tmp_path / "nothing").endswith("nothing cannot be examined (No such file or directory)")


def test_the_running_pilot_and_interpreter_are_trusted():
    trust = Trust.here()
    assert {0, os.geteuid(), Path(os.__file__).stat().st_uid} <= trust.owners
