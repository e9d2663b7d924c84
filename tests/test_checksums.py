"""Checksums: their written form and their values."""

import hashlib
import subprocess
import sys
import zlib
from importlib import import_module

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilot_core.api.checksums import DIGITS, LIBRARIES, Checksum, Digest, adler32_library, normalise, parse


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


@given(st.binary(max_size=200), st.integers(0, 3_000_000), st.binary(max_size=200), st.sampled_from(sorted(DIGITS)))
@settings(max_examples=40, deadline=None)
def test_zeros_are_taken_as_if_they_had_been_read(before, count, after, name):
    digest, whole = Digest(name), Digest(name)
    digest.update(before)
    digest.zeros(count)
    digest.update(after)
    whole.update(before + bytes(count) + after)
    assert digest.checksum() == whole.checksum()


def test_the_adler32_of_a_hole_needs_no_time_however_long_it_is():
    digest = Digest("adler32")
    digest.update(b"abc")
    digest.zeros(100 * 10**9)
    # RFC 1950: the low sum is that of the bytes, the high one that of all low sums so far
    low = 1 + sum(b"abc")
    high = sum((1 + ord("a"), 1 + ord("a") + ord("b"), low)) + 100 * 10**9 * low
    assert digest.hexdigest() == f"{high % 65521:04x}{low:04x}"


# -- what computes an adler32 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("zlib-ng", marks=pytest.mark.needs("module:zlib_ng")),
        pytest.param("isal", marks=pytest.mark.needs("module:isal")),
    ],
)
@given(st.lists(st.binary(max_size=9000), max_size=5), st.binary(min_size=1, max_size=5), st.integers(0, 70_000))
@settings(max_examples=60, deadline=None)
def test_every_library_computes_what_zlib_does_whatever_the_blocks(name, blocks, pattern, times):
    adler32 = import_module(LIBRARIES[name]).adler32
    blocks = [*blocks, pattern * times]
    found = 1
    for block in blocks:
        found = adler32(memoryview(block), found)
    whole = b"".join(blocks)
    assert found == zlib.adler32(whole)
    assert adler32(memoryview(whole)[1:], 1) == zlib.adler32(whole[1:])


def in_a_process(code):
    """Return what a new interpreter prints and logs."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


@pytest.mark.needs("module:zlib_ng", "module:isal")
@pytest.mark.parametrize(
    ("absent", "expected"), [([], "zlib-ng"), (["zlib_ng"], "isal"), (["isal", "zlib_ng"], "zlib")]
)
def test_the_fastest_library_that_is_installed_is_used_and_told(absent, expected):
    code = f"""
import logging, sys
logging.basicConfig(level="DEBUG")
sys.modules.update(dict.fromkeys({absent}))
from pilot_core.api.checksums import Digest, adler32_library
digest = Digest("adler32")
digest.update(b"Wikipedia" * 1000)
print(adler32_library(), digest.hexdigest())
"""
    told = in_a_process(code)
    assert f"{expected} {zlib.adler32(b'Wikipedia' * 1000):08x}\n" in told
    assert f"DEBUG:pilot_core.api.checksums:adler32 is computed by {expected}\n" in told


def test_a_library_that_computes_wrongly_is_not_used():
    code = """
import sys, types
sys.modules["zlib_ng"] = types.ModuleType("zlib_ng")
sys.modules["zlib_ng.zlib_ng"] = types.SimpleNamespace(adler32=lambda block, start: 1)
sys.modules["isal"] = None
from pilot_core.api.checksums import adler32_library
print(adler32_library())
"""
    told = in_a_process(code)
    assert told == "zlib\nzlib-ng computes a wrong adler32 on this machine and is not used\n"


def test_no_library_is_imported_before_an_adler32_is_computed():
    code = """
import sys
from pilot_core.api.checksums import Digest
from pilot_core.builtin.file_stager import FileStager
Digest("md5").update(b"x")
print({"zlib_ng", "isal"} & set(sys.modules))
"""
    assert in_a_process(code) == "set()\n"


def test_the_library_in_use_has_a_name():
    assert adler32_library() in LIBRARIES
