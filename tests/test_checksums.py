"""Checksums: their written form and their values."""

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.api.checksums import DIGITS, Checksum, Digest, normalise, parse


def test_known_values():
    # the values of RFC 1950's algorithm for "Wikipedia", and of RFC 1321's appendix for "abc"
    for name, data, value in (
        ("adler32", b"Wikipedia", "11e60398"),
        ("adler32", b"", "00000001"),
        ("md5", b"abc", "900150983cd24fb0d6963f7d28e17f72"),
    ):
        digest = Digest(name)
        digest.update(data)
        assert digest.hexdigest() == value
        assert digest.checksum() == Checksum(name, value)


def test_a_short_adler32_gets_its_zeros_and_case_does_not_matter():
    assert parse("ADLER32:1A2B") == Checksum("adler32", "00001a2b")
    assert normalise(" adler32:ABCDEF12 ") == "adler32:abcdef12"
    assert parse("md5:" + "A" * 32) == parse("MD5:" + "a" * 32)


@pytest.mark.parametrize(
    "text", ["", "1a2b3c4d", "adler32:", "adler32:123456789", "adler32:xyz", "md5:abc", "crc:12", "adler32:-1", ":1"]
)
def test_what_is_no_checksum_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"^checksum [^\n]+$"):
        parse(text)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="one of adler32, md5"):
        Digest("crc32")


@given(st.text())
def test_any_text_is_parsed_or_refused(text):
    try:
        found = parse(text)
    except ValueError:
        return
    assert parse(str(found)) == found
    assert len(found.value) == DIGITS[found.name]


@given(st.lists(st.binary(max_size=200)), st.sampled_from(sorted(DIGITS)))
def test_blocks_give_what_the_whole_gives(blocks, name):
    digest = Digest(name)
    for block in blocks:
        digest.update(memoryview(block))
    whole = b"".join(blocks)
    expected = f"{zlib.adler32(whole):08x}" if name == "adler32" else hashlib.new(name, whole).hexdigest()
    assert digest.hexdigest() == expected
    assert parse(f"{name}:{expected.upper()}") == digest.checksum()
