"""Every recorded exchange of both servers, replayed together in the order in which they happened."""

from pathlib import Path

import pytest

pytest.importorskip("pilot_devserver", reason="the replay comes with pilot-devserver")

from pilot_devserver.devserver import DevServer
from pilot_devserver.replay.recording import load
from pilot_devserver.replay.runner import KNOWN_LEFT_OUT, report
from pilot_devserver.replay.stages import replay_in_process, replay_over_sockets

RECORDINGS = Path(__file__).parents[1] / "recordings" / "exchanges-legacy.jsonl"
NEW_API = Path(__file__).parents[3] / "communicator-panda" / "tests" / "recordings" / "exchanges-v1.jsonl"
NEED_NO_FORMS = {"api1-029", "api1-030"}
"""Exchanges that show that 1.0.4 forbids this protocol: one server cannot do both."""


def test_every_recorded_exchange_is_answered_as_recorded():
    outcomes = replay_in_process(load([RECORDINGS, NEW_API]))
    print(*report(outcomes), sep="\n")
    assert len(outcomes) == 223
    assert {item.exchange.id for item in outcomes if not item.equal} == set(KNOWN_LEFT_OUT)


def test_the_form_api_alone():
    outcomes = replay_in_process(load([RECORDINGS]))
    assert [item.exchange.id for item in outcomes if not item.equal] == []


def test_it_is_the_same_over_real_connections(tmp_path):
    with DevServer(tmp_path, plain_port=0) as server:
        outcomes = replay_over_sockets(load([RECORDINGS, NEW_API]), server.state.path)
    print(*report(outcomes), sep="\n")
    assert {item.exchange.id for item in outcomes if not item.equal} == set(KNOWN_LEFT_OUT) | NEED_NO_FORMS
