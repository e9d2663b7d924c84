"""URLs in messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core import shown_url
from pilot_core.api.url import without_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("file:///a/b", "file:///a/b"),
        ("https://user:secret@host:1/a@b?c=d@e", "https://host:1/a@b?c=d@e"),
        ("https://user:p@ss@host/x", "https://host/x"),
        ("root://user@host//x", "root://host//x"),
        ("https://host/a\nb\x1b[31m", "https://host/a\\nb\\x1b[31m"),
        ("https://h/f?authz=eyJh.b&x=1", "https://h/f?authz=***&x=1"),
        (
            "https://h/b/k?X-Amz-Credential=AK%2F1&X-Amz-Date=2&X-Amz-Signature=ab#c",
            "https://h/b/k?X-Amz-Credential=***&X-Amz-Date=2&X-Amz-Signature=***#c",
        ),
        ("root://h//f?xrd.wantprot=unix&access_token=t", "root://h//f?xrd.wantprot=unix&access_token=***"),
        ("https://h/author=me/tokens", "https://h/author=me/tokens"),
        ("no url at all", "no url at all"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_user_and_password_on_one_line(url, shown):
    assert shown_url(url) == shown


def test_a_long_url_is_cut_and_kept_whole_in_records():
    url = "s3://bucket/" + "x" * 1000
    assert len(shown_url(url)) == 300
    assert without_password(url) == url


@given(
    st.text(st.characters(exclude_characters="/?#@:"), min_size=6),
    st.text(st.characters(exclude_characters="/?#@"), min_size=1),
)
def test_no_password_is_ever_shown(password, host):
    shown = shown_url(f"dav://somebody:{password}@{host}/file")
    assert "somebody" not in shown
    assert shown.isprintable()
