"""Job parameters: base64 without a mark, and directives cut out without touching the rest."""

import base64
import contextlib
import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pilot_communicator_panda.jobpars import decode_base64, parse_parameters
from pilot_communicator_panda.values import BadField


def encoded(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "text", ["--x '\u00e9 & b'", "hello world", "-n 10", "a\nb c d e f", "--maxEvents=50 --in x", "x" * 7, "run.sh 1"]
)
def test_encoded_parameters_are_seen(text):
    assert parse_parameters(encoded(text)).text == text


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "hello world",
        "PPPPPPPPPPPP",
        "P" * 100_000,
        "12345678",
        "123456789012",
        "HelloWorld12",
        "deadbeefdead",
        "testjob12345",
        "reconstruction12",
        "",
        " ",
        "aGVsbG8",
        "YSBi",
        "--x=aGVsbG8gd29ybGQ=",
        encoded("hello world") + " x",
        encoded("\x00\x01\x02\x03 a b c"),
        base64.b64encode(b"\xff\xfe\xfd a b c d e").decode(),
        "a=b=",
    ],
)
def test_plain_parameters_are_left_as_they_are(text):
    assert parse_parameters(text).text == text


def test_decoding_can_be_switched_off():
    assert parse_parameters(encoded("hello world"), decode=False).text == encoded("hello world")


@given(st.text(st.characters(blacklist_categories=("C", "Z")), min_size=4).map(lambda text: f"-a {text}"))
def test_any_printable_arguments_survive_encoding(text):
    if len(encoded(text)) >= 12:
        assert decode_base64(encoded(text)) == text


@pytest.mark.parametrize(
    ("text", "rest", "overrides"),
    [
        ("a --overwriteQueueData={'maxtime': 5} b", "a b", {"maxtime": 5}),
        ("--overwriteQueueData={'a':{'b':'}'}} 'x  y'", "'x  y'", {"a": {"b": "}"}}),
        ("x --overwriteQueueData={\"a\": 'it\\'s {'}", "x", {"a": "it's {"}),
        ("x '--overwriteQueueData={\"a\": 1}' y", "x y", {"a": 1}),
        ("x --overwriteQueueData=\"{'a': True}\" y", "x y", {"a": True}),
        ('x --overwriteQueueData={"a": true, "b": null} y', "x y", {"a": True, "b": None}),
        ("--overwriteQueuedata={a:b} y", "y", {}),
        ("--overwriteQueueData={'a': 1} --overwriteQueueData={'b': 2}", "", {"a": 1, "b": 2}),
        ("z--overwriteQueueData={'a': 1}", "z--overwriteQueueData={'a': 1}", {}),
        ("--overwriteQueueData=x", "--overwriteQueueData=x", {}),
    ],
)
def test_overrides_of_the_queue_are_taken_out(text, rest, overrides):
    made = parse_parameters(text)
    assert (made.text, made.queue_overrides) == (rest, overrides)


@pytest.mark.parametrize(
    "text",
    [
        "--overwriteQueueData={",
        "--overwriteQueueData={'a'}",
        "--overwriteQueueData={__import__('os').system('x')}",
        "--overwriteQueueData={'a': open('x')}",
        "--overwriteStorageData={[]: 1}",
        "--overwriteQueueData={" + "{" * 5000 + "}" * 5000 + "}",
        "--overwriteQueueData={'a':" + "[" * 5000 + "]" * 5000 + "}",
        "<MULTI_STEP_EXEC>[1]</MULTI_STEP_EXEC>",
        "<MULTI_STEP_EXEC>{</MULTI_STEP_EXEC>",
    ],
)
def test_a_directive_that_cannot_be_read_is_named(text):
    with pytest.raises(BadField, match=r"^jobPars: (--|<)"):
        parse_parameters(text)


def test_other_directives():
    made = parse_parameters(
        "a --overwriteStorageData={'s': 1} <ZIP_MAP>x:y</ZIP_MAP> --containerImage docker://i:1 --accessmode=direct "
        '<MULTI_STEP_EXEC>{"preprocess": {"command": "c"}}</MULTI_STEP_EXEC> --useLocalIO --sourceURL https://u "q  r"'
    )
    assert made.text == 'a --accessmode=direct --useLocalIO --sourceURL https://u "q  r"'
    assert made.extra == {"overwriteStorageData": {"s": 1}}
    assert made.archives == {"x": ("y",)}
    assert made.container_image == "docker://i:1"
    assert made.access_mode == "direct"
    assert made.multi_step == {"preprocess": {"command": "c"}}


@pytest.mark.parametrize("text", ["--containerImage=i:1 x", "--containerImage 'i:1' x", '--containerImage  "i:1"  x'])
def test_spellings_of_the_image(text):
    made = parse_parameters(text)
    assert made.container_image == "i:1"
    assert shlex.split(made.text) == ["x"]


DIRECTIVES = [
    "--overwriteQueueData={'a': 'b c'}",
    "--containerImage img",
    "<ZIP_MAP>a b 'c</ZIP_MAP>",
    '--overwriteStorageData={"x": {}}',
]


@given(
    st.lists(st.sampled_from(["'a b'", '"c  d"', "e\\ f", "--g=h", "\u00e9", "$X", "'i\nj'"]), max_size=6),
    st.sampled_from(DIRECTIVES),
    st.integers(0, 6),
)
@example([], DIRECTIVES[0], 0)
def test_what_is_not_a_directive_keeps_its_quoting(words, directive, place):
    words_with = [*words[:place], directive, *words[place:]]
    made = parse_parameters(" ".join(words_with), decode=False)
    assert made.text == " ".join(words)


@given(st.text(st.sampled_from("-{}='\"<>/ \\aZIP_MAPoverwriteQueueData,:")))
def test_any_text_is_parsed_or_named(text):
    with contextlib.suppress(BadField):
        parse_parameters(text)


@pytest.mark.parametrize(
    ("text", "archives"),
    [
        ("all.zip:a.root,b.root", {"all.zip": ("a.root", "b.root")}),
        (" z1:a,a,b  z2:HITS.* ", {"z1": ("a", "b"), "z2": ("HITS.*",)}),
    ],
)
def test_a_zip_map_names_archives_and_their_members(text, archives):
    made = parse_parameters(f"-o x <ZIP_MAP>{text}</ZIP_MAP> -i y")
    assert made.text == "-o x -i y"
    assert made.archives == archives
    assert made.extra == {}


@pytest.mark.parametrize("text", ["", "x", "z:", ":a", "z:a:b", "z:../a", "z:a x"])
def test_a_zip_map_that_is_none_is_kept_as_it_came(text):
    made = parse_parameters(f"<ZIP_MAP>{text}</ZIP_MAP>")
    assert (made.archives, made.extra) == ({}, {"ZIP_MAP": text})
