"""The renderer knows what the templates use, as Jinja does it, and refuses the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.scaffold.render import BadTemplate, render

WORDS = {"name": "tape-2", "title": "{{ cookiecutter.name }}"}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("", ""),
        ("plain {text} }} %}\n\n", "plain {text} }} %}\n\n"),
        ("{{ cookiecutter.name }}", "tape-2"),
        ("{{cookiecutter.name}}{{ cookiecutter.name }}", "tape-2tape-2"),
        ("a {{ cookiecutter.name.upper() }} b", "a TAPE-2 b"),
        ("{{ cookiecutter.name.replace('-', '_') }}", "tape_2"),
        ('{{ cookiecutter.name.title().replace("-", "") }}', "Tape2"),
        ("{{ cookiecutter.title }}", "{{ cookiecutter.name }}"),
        ('{ name = "{{ cookiecutter.name }}" }]', '{ name = "tape-2" }]'),
    ],
)
def test_places_are_filled_in(text, rendered):
    assert render(text, WORDS) == rendered


@pytest.mark.parametrize(
    "text",
    [
        "{{ cookiecutter.nobody }}",
        "{{ name }}",
        "{{ cookiecutter }}",
        "{{ cookiecutter.name | upper }}",
        "{{ cookiecutter.name + 'x' }}",
        "{{ cookiecutter.name.format('x') }}",
        "{{ cookiecutter.name.upper('x') }}",
        "{{ cookiecutter.name.replace('-') }}",
        "{{ cookiecutter.name.replace('-', cookiecutter.name) }}",
        "{{ cookiecutter.name.__class__ }}",
        "{{ ''.join(cookiecutter) }}",
        "{% if cookiecutter.name %}x{% endif %}",
        "{# a comment #}",
        "{{ cookiecutter.name",
        "{{ }}",
        "{{ cookiecutter.name\0 }}",
    ],
)
def test_whatever_else_jinja_could_do_is_refused(text):
    with pytest.raises(BadTemplate):
        render(text, WORDS)


def test_a_refusal_says_what_is_wrong_and_where():
    with pytest.raises(BadTemplate, match=r"'\{%' in line 3"):
        render("one\ntwo\n{% raw %}", WORDS)


@given(st.text(alphabet=st.characters(exclude_characters="{")))
def test_text_without_places_stays_as_it_is(text):
    assert render(text, WORDS) == text


@given(st.text())
def test_a_value_is_not_rendered_again(value):
    assert render("<{{ cookiecutter.name }}>", {"name": value}) == f"<{value}>"
