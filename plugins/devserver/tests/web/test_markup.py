"""HTML is safe by construction, whatever texts it is made of."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, strategies
from pilot_devserver.web.markup import Markup, element, escaped, join


class Read(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.found.append(data)


def read(text):
    reader = Read()
    reader.feed(f"{text}<p>")
    reader.close()
    return reader.found[:-1]


@given(strategies.text(min_size=1))
def test_a_text_stays_a_text(text):
    found = read(element("b", text, title=text))
    tag, attributes = found[0]
    assert tag == "b"
    shown = "".join(found[1:])
    assert attributes["title"] == shown
    if text.isprintable() and text.strip() == text:
        assert shown == text


def test_what_cannot_be_seen_is_shown_by_its_number():
    assert escaped("a\x00b\x1b\x85\u202ec\ud800\n\t") == "a\\x00b\\x1b\\x85\\u202ec\\ud800\n\t"


def test_markup_is_kept_and_everything_else_is_escaped():
    assert join("<", Markup("<br>"), None, False, [3, ["&"]], 1.5) == "&lt;<br>3&amp;1.5"


def test_attributes_are_named_as_in_html():
    made = element("input", name="n", disabled=True, hidden=False, value=None, data_x="1", class_="a b", for_='"')
    assert made == '<input name="n" disabled data-x="1" class="a b" for="&quot;">'


@pytest.mark.parametrize("text", ["</title><script>", "'><img>", "&#60;script&#62;", "]]>", "<!--"])
def test_nothing_breaks_out(text):
    assert read(element("td", text, title=text)) == [("td", {"title": text}), text]
