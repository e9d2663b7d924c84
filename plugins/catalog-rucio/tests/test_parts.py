"""Parts on their own: settings, lines of an answer, names and URLs; paths compared with Rucio's own algorithm."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pilot_catalog_rucio import Settings, pilot_catalogs
from pilot_catalog_rucio.answers import json_lines
from pilot_catalog_rucio.lookup import LONGEST, canonical, portions, possible
from pilot_catalog_rucio.settings import check

from pilot_core import ConfigError, deterministic_path
from pilot_core.api.web import WebAddress
from pilot_core.testing.servers.rucio import NEEDS

# -- settings ----------------------------------------------------------------------------------------------------------

URL = "https://rucio.example.org"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": ""}, "catalog.rucio.url: '' is no URL"),
        ({"url": "rucio.example.org"}, "catalog.rucio.url: 'rucio.example.org' is no URL"),
        ({"url": "https://rucio.example.org:port"}, "is no URL"),
        ({"url": "https://rucio example"}, "is no URL"),
        ({"url": "http://rucio.example.org"}, "Rucio is asked over https only"),
        ({"url": "https://me:secret@rucio.example.org"}, "a user, a query or a fragment"),
        ({"url": URL, "auth_url": "http://auth.example.org"}, "catalog.rucio.auth_url"),
        ({"url": URL, "traces_url": "ftp://x"}, "catalog.rucio.traces_url"),
        ({"url": URL, "account": "a\nb"}, "catalog.rucio.account"),
        ({"url": URL, "username": "ä", "password_file": "p"}, "catalog.rucio.username"),
        ({"url": URL, "username": "u"}, "username and password_file go together"),
        ({"url": URL, "password_file": "p"}, "username and password_file go together"),
        ({"url": URL, "token_file": "t", "x509_proxy": "x"}, "token_file and x509_proxy are set; set one"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(given, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        check(Settings(**given))
    assert str(error.value).isprintable()
    assert "secret" not in str(error.value)


def test_settings_that_make_sense_are_taken():
    check(Settings(url="https://rucio.example.org:443/base", auth_url="https://[::1]:8443", token_file="t"))


def test_the_hook_offers_one_catalogue_with_help_for_every_setting():
    (provider,) = pilot_catalogs()
    assert provider.name == "rucio"
    assert all(field.metadata["help"] for field in provider.settings.__dataclass_fields__.values())


# -- answers -----------------------------------------------------------------------------------------------------------


class Body:
    """An answer whose body comes in pieces."""

    def __init__(self, data, sizes):
        self.data, self.sizes = data, sizes

    def blocks(self):
        at = 0
        for size in [*self.sizes, len(self.data)]:
            if self.data[at : at + size]:
                yield memoryview(bytearray(self.data[at : at + size]))
            at += size


@given(
    st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=6),
    st.lists(st.integers(1, 40), max_size=30),
    st.booleans(),
)
def test_lines_are_read_however_they_are_cut(rows, sizes, ends):
    data = b"\n".join(json.dumps(row).encode() for row in rows) + (b"\n" if ends else b"")
    assert list(json_lines(Body(data, sizes), "x")) == rows


@given(st.lists(st.integers(), max_size=50), st.integers(1, 60))
def test_portions_are_all_of_it_in_order(items, size):
    some = list(portions(items, size))
    assert [item for each in some for item in each] == items
    assert all(0 < len(each) <= size for each in some)


# -- names and URLs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pfn", "url"),
    [
        ("root://h.example.org:1094//store/a.root", "root://h.example.org:1094//store/a.root"),
        ("davs://h.example.org:0/a", "davs://h.example.org/a"),
        ("file://localhost:0/pool/a", "file:///pool/a"),
        ("file://localhost/pool/a", "file:///pool/a"),
        ("file://localhosts/pool/a", "file://localhosts/pool/a"),
        ("https://[::1]:443/a b", "https://[::1]:443/a%20b"),
        ("https://h/a?X-Sig=a%2Fb&n=1", "https://h/a?X-Sig=a%2Fb&n=1"),
        ("https://h:10/p:0/q", "https://h:10/p:0/q"),
        ("s3://h:443/ö", "s3://h:443/%C3%B6"),
    ],
)
def test_physical_names_become_urls(pfn, url):
    assert canonical(pfn) == url


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_name_makes_a_url_that_can_be_asked_for(name):
    url = canonical(f"https://h.example.org:443/store/{name}")
    assert canonical(url) == url
    WebAddress.parse(url)


@pytest.mark.parametrize("name", ["", "...", "a\nb", "a\0", "\udcff", "\x1b[31m", "a" * (LONGEST + 1), "a\u2028b"])
def test_names_that_cannot_be_are_not_asked_for(name):
    assert not possible("scope", name)
    assert not possible(name, "name") or len(name) > LONGEST


@pytest.mark.parametrize("name", ["a", "ä b.root", "文" * 60, "*[a-z]?.root", "/a/b", "a" * LONGEST])
def test_names_that_may_be_are_asked_for(name):
    assert possible("user.pilot", name)


# -- paths -------------------------------------------------------------------------------------------------------------

PIECES = st.text("abcXYZ0189_-.", min_size=1, max_size=12)
SCOPES = st.one_of(
    PIECES,
    st.builds("{}.{}".format, st.sampled_from(["user", "group", "users", "grouping", "data", "mc", "User"]), PIECES),
    st.builds("{}{}".format, st.sampled_from(["user", "group"]), PIECES),
)
NAMES = st.text("abcXYZ0189_-./", min_size=1, max_size=80)


@pytest.mark.needs(NEEDS)
@given(st.lists(st.tuples(SCOPES, NAMES), min_size=150, max_size=300))
@settings(max_examples=3, deadline=None)
def test_paths_are_those_of_rucios_own_algorithm(running, files):
    """`hash` of `rucio/rse/translation.py`, asked in Rucio's own Python."""
    theirs = running.native(
        "from rucio.rse.translation import RSEDeterministicTranslation as T\n"
        f"files = json.loads({json.dumps(files)!r})\n"
        "made = T('X', {'lfn2pfn_algorithm': 'hash', 'deterministic': True}, {})\n"
        "result = [made.path(scope, name) for scope, name in files]"
    )
    assert theirs == [deterministic_path(scope, name) for scope, name in files]
