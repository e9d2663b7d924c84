"""What a project may be called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import BadInput
from pilot_core.scaffold import check_answers, check_free
from pilot_core.scaffold.names import check_name


@pytest.mark.parametrize("name", ["a", "tape", "s3", "tape-2", "x" * 24])
def test_a_good_name_is_taken(name):
    check_name("stager", name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "use lower-case letters, digits and single dashes, letter first"),
        ("Tape", "letter first, for example 'tape'"),
        ("my tape", "for example 'my-tape'"),
        ("my_tape", "for example 'my-tape'"),
        ("-tape", "for example 'tape'"),
        ("tape-", "for example 'tape'"),
        ("ta--pe", "for example 'ta-pe'"),
        ("2tape", "for example 'tape'"),
        ("../tape", "for example 'tape'"),
        ("täpe", "for example 't-pe'"),
        ("ta\npe", "for example 'ta-pe'"),
        ("x" * 25, "25 characters, at most 24"),
        ("X" * 10_000, "'XXXXX"),
        ("stager-tape", "leave the kind out: pilot-core new stager tape"),
        ("stager.tape", "leave the kind out: pilot-core new stager tape"),
        ("pilot-stager-tape", "leave the kind out: pilot-core new stager tape"),
        ("executor", "'executor' is reserved"),
        ("core", "'core' is reserved"),
    ],
)
def test_a_bad_name_is_refused_with_what_to_do(name, message):
    with pytest.raises(BadInput) as caught:
        check_name("stager", name)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


@given(st.text(max_size=40))
def test_any_name_is_taken_or_refused(name):
    try:
        check_name("stager", name)
    except BadInput:
        return
    assert name.isascii()
    assert name.replace("-", "").isalnum()


GOOD = {"name": "tape", "dist_name": "pilot-stager-tape", "description": "Our tapes", "author": "We"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"dist_name": "Pilot_Tape"}, "dist_name 'Pilot_Tape': use lower-case letters"),
        ({"dist_name": "x" * 57}, "at most 56 characters"),
        ({"dist_name": "pilot-core"}, "is reserved; the usual name is pilot-stager-tape"),
        ({"dist_name": "json"}, "is reserved"),
        ({"dist_name": "class"}, "is reserved"),
        ({"description": ""}, "description: one line of 1 to 200 characters"),
        ({"description": "two\nlines"}, "description: one line"),
        ({"description": 'a "quoted" word'}, "description: one line"),
        ({"description": "{{ cookiecutter.name }}"}, "and braces"),
        ({"author": "back\\slash"}, "author: one line"),
        ({"author": "x" * 201}, "author: one line"),
    ],
)
def test_an_answer_that_would_break_the_project_is_refused(answer, message):
    check_answers("stager", GOOD)
    with pytest.raises(BadInput) as caught:
        check_answers("stager", {**GOOD, **answer})
    assert message in str(caught.value)


def test_a_name_of_a_built_in_plugin_is_taken():
    with pytest.raises(BadInput, match=r"the name is taken: stager.file is built into pilot-core; choose another"):
        check_free(["stager.file"], "pilot-stager-file")


def test_a_distribution_that_is_installed_is_taken():
    with pytest.raises(BadInput, match=r"a distribution pytest .+ is installed here; choose another: --set dist_name"):
        check_free(["stager.tape"], "pytest")
    check_free(["stager.tape"], "pilot-stager-tape-that-nobody-has")
