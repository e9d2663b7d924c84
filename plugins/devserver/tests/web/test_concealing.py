"""No secret leaves by a page."""

import json

import pytest
from hypothesis import given, strategies
from pilot_devserver.web.concealing import HIDDEN, Concealer
from pilot_devserver.web.decoding import decode, unfold

CANARY = "canary-7f3a-secret"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJwaWxvdCJ9.c2lnbmF0dXJl"


def test_credentials_in_headers_are_hidden_and_the_scheme_stays():
    shown = Concealer().headers({"authorization": f"Bearer {JWT}", "origin": "wlcg.pilot", "cookie": CANARY})
    assert shown == {"authorization": f"Bearer {HIDDEN}", "origin": "wlcg.pilot", "cookie": HIDDEN}
    assert Concealer().headers({"authorization": CANARY}) == {"authorization": HIDDEN}


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"jobs": [{"PandaID": 1, "secrets": json.dumps({"K": CANARY})}]}},
        {"data": {"pilotSecrets": json.dumps({"K": CANARY})}},
        {"jobList": json.dumps([{"jobId": 1, "token": CANARY}])},
        {"userProxy": CANARY},
    ],
)
def test_secret_fields_are_hidden_wherever_they_are(sent):
    shown = Concealer().value(unfold(sent))
    assert CANARY not in repr(shown)
    assert HIDDEN in repr(shown)


def test_the_name_of_a_storage_token_is_no_secret():
    fields = {"prodDBlockToken": "NULL", "destinationDBlockToken": "dst:X", "get_proxy_key": "True", "token": "NULL"}
    assert Concealer().value(fields) == fields


@pytest.mark.parametrize("method", ["get_user_secrets", "getProxy", "get_access_token", "set_user_secrets"])
def test_of_methods_that_hand_out_credentials_only_the_frame_is_shown(method):
    sent = {"success": True, "message": "", "data": CANARY, "value": CANARY, "list": [{"x": CANARY}]}
    shown = Concealer().value(sent, method)
    assert CANARY not in repr(shown)
    assert (shown["success"], shown["message"]) == (True, "")


@pytest.mark.parametrize(
    "text",
    [
        '{"pilotSecrets": "{\\"K\\": \\"canary-7f3a-secret',
        "StatusCode=0&secrets=canary-7f3a-secret&x=1",
        "{'token': 'canary-7f3a-secret'}",
        "Authorization: Bearer canary-7f3a-secret",
        "-----BEGIN RSA PRIVATE KEY-----\ncanary-7f3a-secret",
    ],
)
def test_secrets_in_texts_that_cannot_be_parsed_are_hidden(text):
    assert CANARY not in Concealer().text(text)


def test_tokens_and_what_the_server_keeps_are_hidden_by_themselves():
    concealer = Concealer.of([CANARY, 'with "quotes" in it', "x"])
    text = f"log line {JWT} {CANARY} " + json.dumps('with "quotes" in it') + " x"
    shown = concealer.text(text)
    assert JWT not in shown
    assert CANARY not in shown
    assert "quotes" not in shown
    assert shown.endswith(" x")
    assert concealer.value({CANARY: [CANARY]}) == {HIDDEN: [HIDDEN]}


@given(strategies.text(min_size=4), strategies.text(), strategies.text())
def test_a_known_secret_is_never_left_in_a_text(secret, before, after):
    shown = Concealer.of([secret]).text(before + secret + after)
    assert secret not in shown.replace(HIDDEN, "\0") or secret in HIDDEN


def test_a_body_that_was_cut_in_the_middle_of_a_secret_shows_none():
    body = decode(json.dumps({"x": 1, "secrets": f"a {CANARY} b"}).encode()[:-5], "application/json")
    assert body.kind == "text"
    assert "canary" not in Concealer().text(body.text)


def test_a_password_in_a_url_is_hidden():
    assert Concealer().text("davs://user:canary@se.example/x") == "davs://[hidden]@se.example/x"


@pytest.mark.parametrize("name", ["db_password", "X-Rucio-Auth-Token", "aws_secret_access_key", "x-api-key"])
def test_fields_and_headers_are_secret_by_the_end_of_their_name(name):
    assert Concealer().value({name: "canary"}) == {name: "[hidden]"}
    assert Concealer().headers({name: "canary"}) == {name: "[hidden]"}
    assert Concealer().value({"prodDBlockToken": "DISK"}) == {"prodDBlockToken": "DISK"}
