"""The templates of all kinds: complete, alike where they should be, and the same to cookiecutter."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest
import tomli

import pilot_core
from pilot_core import KINDS, __version__
from pilot_core.scaffold import check_answers, template_of, templates_directory

SHARED = (
    ".gitignore",
    ".pilot-template.json",
    "pyproject.toml",
    "src/{{cookiecutter.__module}}/py.typed",
    "tests/test_installed.py",
)
"""Files that are the same, byte for byte, in every template; pyproject.toml but for its entry points."""
ANSWERS = [
    {"name": "a"},
    {"name": "tape"},
    {
        "name": "x2-" + "y" * 21,
        "dist_name": "z" * 56,
        "description": "It's <Größe> & 漢字 'quoted' #1 100%",
        "author": "Jörg O'Neill <jörg@example.org>",
    },
]
MOST_QUESTIONS = 4


@pytest.fixture(scope="module")
def templates(checkout):
    return checkout.root / "templates"


def rendered(kind, templates, answers=ANSWERS[1]):
    """Return a kind's files by path, as text."""
    template = template_of(kind, templates)
    variables = template.variables(answers)
    check_answers(kind, variables)
    return {file.path: file.content.decode() for file in template.files(variables)}


def project_folder(kind, templates):
    return templates / kind / "{{cookiecutter.dist_name}}"


def test_there_is_a_template_for_each_kind_and_no_other(templates):
    assert {path.name for path in templates.iterdir() if path.is_dir()} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answers", ANSWERS, ids=["short", "usual", "long"])
def test_a_template_is_rendered_without_a_rest(kind, answers, templates):
    files = rendered(kind, templates, answers)
    module = answers.get("dist_name", f"pilot-{kind}-{answers['name']}").replace("-", "_")
    assert {"pyproject.toml", "README.md", "tests/test_kit.py", f"src/{module}/__init__.py"} <= set(files)
    for path, text in files.items():
        assert "cookiecutter" not in path + text, path
        assert "{{" not in path + text, path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answers", ANSWERS, ids=["short", "usual", "long"])
def test_what_is_made_is_python_toml_and_json(kind, answers, templates):
    files = rendered(kind, templates, answers)
    for path, text in files.items():
        if path.endswith(".py"):
            ast.parse(text, path)
            too_long = [line for line in text.splitlines() if len(line) > 120]
            assert not too_long, f"{path}: {too_long}"
        elif path.endswith(".json"):
            json.loads(text)
    project = tomli.loads(files["pyproject.toml"])["project"]
    told = json.loads(files[".pilot-template.json"])
    assert (
        project["description"] == answers.get("description", project["description"]) == told["answers"]["description"]
    )
    assert project["license"] == "Apache-2.0"
    points = project["entry-points"]["pilot_core.plugins.v1"]
    assert {point.partition(".")[2] for point in points} == {answers["name"]}
    assert kind in {point.partition(".")[0] for point in points}
    for module in points.values():
        path = f"src/{module.replace('.', '/')}"
        assert {f"{path}.py", f"{path}/__init__.py"} & set(files), f"{module} is not there"


@pytest.mark.parametrize("kind", KINDS)
def test_the_entry_points_are_those_that_are_checked_to_be_free(kind, templates):
    raw = template_of(kind, templates).raw
    points = tomli.loads(rendered(kind, templates)["pyproject.toml"])["project"]["entry-points"]
    assert sorted(points["pilot_core.plugins.v1"]) == sorted(f"{each}.tape" for each in raw["_entry_points"].split())


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_four_questions_are_asked_and_each_has_a_default(kind, templates):
    template = template_of(kind, templates)
    questions = template.questions
    assert len(questions) <= MOST_QUESTIONS
    assert questions[0].key == "name"
    for question in questions:
        assert question.default
        assert question.text != question.key, f"{question.key}: say in __prompts__ what is asked"


@pytest.mark.parametrize("kind", KINDS)
def test_the_marked_places_and_a_kit_are_there(kind, templates):
    files = rendered(kind, templates)
    assert any("YOUR CODE" in text for path, text in files.items() if path.startswith("src/"))
    name = "".join(part.title() for part in kind.split("-")) + "Kit"
    kit = {"CatalogKit": "CatalogKit"}.get(name, name)
    assert f"({kit})" in files["tests/test_kit.py"]
    named = {
        word.strip("`")
        for line in files["README.md"].splitlines()
        if line.startswith("| `")
        for word in line.split()[1:2]
    }
    module = f"src/pilot_{kind.replace('-', '_')}_tape"
    listed = {path.removeprefix(f"{module}/") for path in files if path.startswith(f"{module}/")} - {"py.typed"}
    assert listed - named <= {"server/__init__.py"}, "README.md names every module"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", SHARED)
def test_what_all_projects_share_is_the_same_in_all_templates(kind, path, templates):
    def content(kind):
        text = (project_folder(kind, templates) / path).read_text()
        head, table, rest = text.partition('[project.entry-points."pilot_core.plugins.v1"]')
        return head, table, rest.partition("\n[")[2]

    assert content(kind) == content("stager")


def test_both_projects_with_a_server_protocol_have_the_same_one(templates):
    module = "src/{{cookiecutter.__module}}"
    ours = project_folder("communicator", templates) / module / "server/protocol.py"
    assert ours.read_text() == (project_folder("server-protocol", templates) / module / "protocol.py").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_needs_the_core_that_it_was_made_by_or_a_newer_one(kind, templates):
    assert template_of(kind, templates).raw["_core"] == ".".join(__version__.split(".")[:2])


_COOKIECUTTER = """
import json, sys
from cookiecutter.main import cookiecutter
for job in json.load(sys.stdin):
    cookiecutter(job["template"], no_input=True, extra_context=job["answers"], output_dir=job["output"])
"""


@pytest.mark.needs("module:cookiecutter")
def test_cookiecutter_makes_the_same_bytes_names_and_modes(templates, tmp_path):
    jobs, homes = [], tmp_path / "home"
    homes.mkdir()
    for kind in KINDS:
        for number, answers in enumerate(ANSWERS):
            jobs.append(
                {"template": str(templates / kind), "answers": answers, "output": str(tmp_path / f"{kind}-{number}")}
            )
    subprocess.run(
        [sys.executable, "-c", _COOKIECUTTER],
        input=json.dumps(jobs),
        env={**os.environ, "HOME": str(homes), "PYTHONDONTWRITEBYTECODE": "1"},
        text=True,
        check=True,
    )
    for kind in KINDS:
        for number, answers in enumerate(ANSWERS):
            template = template_of(kind, templates)
            variables = template.variables(answers)
            theirs = tmp_path / f"{kind}-{number}" / variables["dist_name"]
            found = {
                path.relative_to(theirs).as_posix(): (path.read_bytes(), path.stat().st_mode & 0o777)
                for path in theirs.rglob("*")
                if path.is_file()
            }
            assert found == {file.path: (file.content, file.mode) for file in template.files(variables)}


def test_the_templates_of_the_checkout_come_before_the_packaged_ones(tmp_path):
    package = tmp_path / "core" / "pilot_core"
    (package / "_templates").mkdir(parents=True)
    assert templates_directory(package) == package / "_templates"
    (tmp_path / "core" / "templates").mkdir()
    assert templates_directory(package) == package / "_templates", "a directory of that name beside an installed core"
    (tmp_path / "core" / "pyproject.toml").touch()
    assert templates_directory(package) == tmp_path / "core" / "templates"


def test_a_core_without_templates_says_so(tmp_path):
    with pytest.raises(pilot_core.HandledError, match="the templates are missing; install pilot-core again"):
        templates_directory(tmp_path)


def test_a_damaged_template_says_so(tmp_path):
    (tmp_path / "stager").mkdir()
    with pytest.raises(pilot_core.HandledError, match="No such file or directory; install pilot-core again"):
        template_of("stager", tmp_path)
    (tmp_path / "stager/cookiecutter.json").write_text("{")
    with pytest.raises(pilot_core.HandledError, match="is damaged; install pilot-core again"):
        template_of("stager", tmp_path)


def test_the_wheel_has_the_templates_as_they_are(checkout, templates):
    here = templates_directory()
    if here == templates:
        pytest.skip("needs pilot-core installed as a wheel, not from the checkout")

    def content(folder):
        paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    assert content(here) == content(templates)


def test_what_installers_compile_is_no_part_of_a_project(templates, tmp_path):
    import shutil

    shutil.copytree(templates / "stager", tmp_path / "stager")
    cache = tmp_path / "stager/{{cookiecutter.dist_name}}/tests/__pycache__"
    cache.mkdir()
    (cache / "test_installed.cpython-311.pyc").write_bytes(b"\xff\x00")
    assert rendered("stager", tmp_path) == rendered("stager", templates)


def test_the_source_distribution_has_the_templates(checkout):
    targets = tomli.loads((checkout.root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert "templates" in targets["sdist"]["include"]
    assert targets["wheel"]["force-include"]["templates"] == "pilot_core/_templates"
