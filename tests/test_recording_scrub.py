"""Secrets stay out of recordings: known ones in every form they travel in, unknown ones by name and by look."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilot_core.logs import HIDDEN, Redactor
from pilot_core.recording.scrub import LearningRedactor, Scrubber, is_secret_field

SECRET = 'p/ss+w "ö" %d\\'

ENCODINGS = {
    "plain": str,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps({"a": json.dumps({"b": text})}),
    "JSON without escapes": lambda text: json.dumps(text, ensure_ascii=False),
    "URL": lambda text: quote(text, safe=""),
    "path": quote,
    "form": quote_plus,
    "URL in lower case": lambda text: quote(text, safe="").lower() if text.islower() else quote(text, safe=""),
    "Base64": lambda text: base64.b64encode(text.encode()).decode(),
    "Base64 after others": lambda text: base64.b64encode(b"user:" + text.encode() + b"!").decode(),
    "Base64 for URLs": lambda text: base64.urlsafe_b64encode(b"us:" + text.encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "repr": repr,
}


@pytest.fixture
def scrubber():
    made = Scrubber()
    made.learn([SECRET])
    return made


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("way", ["text", "body", "value"])
def test_a_known_secret_is_found_however_it_is_written(scrubber, encoding, way):
    written = ENCODINGS[encoding](SECRET)
    clean = getattr(scrubber, way)(f"before {written} after")
    # the ends of Base64 depend on their neighbours, and tell nothing
    assert written[4:-4] not in clean
    assert HIDDEN in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=8, max_size=40), st.data())
def test_no_secret_survives_in_any_encoding(secret, data):
    scrubber = Scrubber()
    scrubber.learn([secret])
    encode = data.draw(st.sampled_from(sorted(ENCODINGS)))
    written = ENCODINGS[encode](secret)
    inner = written.strip("\"'")[4:-4]
    if len(inner) >= 4:
        assert inner not in scrubber.text(f"[{written}]")


@given(st.text(max_size=60))
def test_a_text_without_secrets_is_left_alone(text):
    scrubber = Scrubber()
    scrubber.learn(["a secret that is not in there"])
    if "://" not in text and "eyJ" not in text and "BEGIN" not in text:
        assert scrubber.text(text) == text


@pytest.mark.parametrize("name", ["token", "access_token", "Access-Token", "pilotSecrets", "PASSWORD", "userProxy"])
def test_fields_are_secret_by_their_name(name):
    assert is_secret_field(name)
    scrubber = Scrubber()
    assert scrubber.value({name: "x" * 9, "other": "y" * 9}) == {name: HIDDEN, "other": "y" * 9}
    assert json.loads(scrubber.body(json.dumps({"data": [{name: "x" * 9}]}))) == {"data": [{name: HIDDEN}]}
    assert scrubber.body(urlencode({name: "x" * 9, "a": "b"})).startswith(f"{name}={HIDDEN}&")


@pytest.mark.parametrize("name", ["prodDBlockToken", "token_origin", "keys", "jobPars"])
def test_names_that_only_look_like_it_are_none(name):
    assert not is_secret_field(name)


def test_a_hidden_field_keeps_its_form():
    found = Scrubber().value({"secrets": {"A": "x", "B": ["y", 7], "C": None}, "pilotSecrets": '{"D": "z"}'})
    assert found == {"secrets": {"A": HIDDEN, "B": [HIDDEN, HIDDEN], "C": None}, "pilotSecrets": f'{{"D": "{HIDDEN}"}}'}


def test_secret_fields_are_found_in_json_that_is_a_text():
    found = Scrubber().value({"data": json.dumps({"inner": {"password": "x"}})})
    assert json.loads(found["data"]) == {"inner": {"password": HIDDEN}}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIabcdef\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIabcdef and the end is cut off",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.MIIabcdef",
        "Authorization: Bearer MIIabcdef",
        "https://user:MIIabcdef@proxy.example:3128/",
    ],
)
def test_what_looks_like_a_secret_is_one(text):
    clean = Scrubber().text(f"see {text} there")
    assert "MIIabcdef" not in clean
    assert HIDDEN in clean


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", "Bearer abc", f"Bearer {HIDDEN}"),
        ("Proxy-Authorization", "Basic abc", f"Basic {HIDDEN}"),
        ("authorization", "abc", HIDDEN),
        ("Set-Cookie", "a=b; Path=/", HIDDEN),
        ("Accept", "application/json", "application/json"),
    ],
)
def test_of_headers_with_credentials_only_the_scheme_is_left(name, value, shown):
    assert Scrubber().header(name, value) == shown


def test_json_that_needs_no_change_keeps_its_bytes():
    text = '{"a":1,\n  "b": [1.50, "é"]}'
    assert Scrubber().body(text) == text


def test_what_the_log_learns_the_recording_learns():
    scrubber = Scrubber()
    redactor = LearningRedactor(scrubber)
    redactor.add(iter(["a-secret-word"]))
    assert isinstance(redactor, Redactor)
    assert redactor.clean("a-secret-word") == HIDDEN
    assert scrubber.text("a-secret-word") == HIDDEN


def test_short_words_are_left_to_the_names_of_fields():
    scrubber = Scrubber()
    scrubber.learn(["17", "abc"])
    assert scrubber.text("job 17 of abc") == "job 17 of abc"


@pytest.mark.parametrize(
    "text",
    [
        "https://s3.example/x?X-Amz-Signature=CANARY123&x=1",
        "root://se.example//x?authz=Bearer%20CANARY123",
        "https://blob.example/x?se=1&sig=CANARY123",
        "fault://none/https://user:CANARY123@se.example/x?access_token=CANARY123",
        "prog --password CANARY123 file",
        "prog --api-key='CANARY123' file",
        'prog --token="CANARY123" file',
        """sh -c 'prog --token='"'"'CANARY123'"'"' file'""",
        "AWS_SECRET_ACCESS_KEY=CANARY123 prog",
        "Authorization: Basic Q0FOQVJZMTIz",
        "BEARER CANARY123",
        "ghp_CANARY123CANARY123CANARY",
    ],
)
def test_what_has_a_secrets_name_before_it_is_hidden_wherever_it_stands(text):
    for told in (
        Scrubber().text(text),
        json.dumps(Scrubber().value({"url": text, "argv": ["x", text]})),
        Scrubber().body(json.dumps({"jobPars": text})),
        Scrubber().body(json.dumps({"report": json.dumps({"command": text})})),
        Scrubber().query(f"a=b&jobPars={quote_plus(text)}"),
    ):
        assert "CANARY" not in told
        assert "Q0FOQVJZ" not in told
    # the body is still what it was
    assert json.loads(json.loads(Scrubber().body(json.dumps({"report": json.dumps({"command": text})})))["report"])


def test_an_argument_that_follows_a_secrets_option_is_hidden():
    argv = ["prog", "--password", "CANARY123", "--token", "--verbose", "--x-api-key", "CANARY123"]
    shown = ["prog", "--password", "<hidden>", "--token", "--verbose", "--x-api-key", "<hidden>"]
    assert Scrubber().value({"argv": argv}) == {"argv": shown}


@pytest.mark.parametrize("name", ["db_password", "X-Amz-Security-Token", "x-api-key", "aws_secret_access_key", "authz"])
def test_fields_and_headers_are_secret_by_the_end_of_their_name(name):
    assert Scrubber().value({name: "CANARY123"}) == {name: "<hidden>"}
    assert Scrubber().header(name, "CANARY123") == "<hidden>"
    assert "CANARY" not in Scrubber().query(f"{name}=CANARY123")


@pytest.mark.parametrize(
    "text", ["prodDBlockToken=ATLASDATADISK", "tokens=3", "config=x", "--use-token --verbose", "the token is bad"]
)
def test_what_only_sounds_like_a_secret_is_kept(text):
    assert Scrubber().text(text) == text
    assert Scrubber().value({"prodDBlockToken": "DISK", "token_origin": "x"}) == {
        "prodDBlockToken": "DISK",
        "token_origin": "x",
    }


@given(
    st.lists(
        st.sampled_from(["token", "=", "--", "-", " ", '"', "'", "\\", "x", ":", "{", "}", "[", "]", ",", "sig", "?"])
    ).map("".join)
)
def test_json_stays_json_whatever_looks_like_a_secret_in_it(text):
    value = {"a": text, "b": [text, {"c": json.dumps({text: text})}], text: 1}
    assert isinstance(json.loads(Scrubber().body(json.dumps(value))), dict)
    assert len(json.loads(Scrubber().text(json.dumps([text, text])))) == 2


def test_a_long_word_is_gone_through_once():
    text = "token" * 400_000
    assert Scrubber().text(text) == text
