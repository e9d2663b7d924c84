"""Every recorded exchange, replayed; the recordings are those of real servers (panda-server 1.0.4 and 0.8.1)."""

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("pilot_devserver", reason="the replay comes with pilot-devserver")

from pilot_communicator_panda.server.protocol import PandaProtocol
from pilot_devserver.devserver import DevServer
from pilot_devserver.replay.recording import load
from pilot_devserver.replay.runner import KNOWN_LEFT_OUT, report
from pilot_devserver.replay.stages import replay_in_process, replay_over_sockets

RECORDINGS = Path(__file__).parents[1] / "recordings" / "exchanges-v1.jsonl"
NEED_FORMS = {"dbdown-008", "dbdown-012", "dbdown-013", "dbdown-014"}
"""Exchanges with the other server, which need the protocol `panda-legacy`; its tests replay them too."""
NEED_NO_FORMS = {"api1-029", "api1-030"}
"""Exchanges that show that 1.0.4 forbids that protocol."""


@pytest.fixture
def panda():
    import logging

    return {"panda": PandaProtocol(logging.getLogger("test"))}


def test_every_recorded_exchange_is_answered_as_recorded(panda):
    outcomes = replay_in_process(load([RECORDINGS]), known=panda)
    print(*report(outcomes), sep="\n")
    assert len(outcomes) == 178
    assert [item.exchange.id for item in outcomes if item.differences] == []
    assert {item.exchange.id for item in outcomes if item.left_out} == NEED_FORMS | set(KNOWN_LEFT_OUT)


def test_it_is_the_same_over_real_connections(tmp_path):
    with DevServer(tmp_path, plain_port=0) as server:
        outcomes = replay_over_sockets(load([RECORDINGS]), server.state.path)
    print(*report(outcomes), sep="\n")
    assert [item.exchange.id for item in outcomes if item.differences] == []
    assert {item.exchange.id for item in outcomes if item.left_out} <= NEED_FORMS | NEED_NO_FORMS | set(KNOWN_LEFT_OUT)


@pytest.mark.parametrize("seed", range(3))
def test_parts_of_the_recordings_are_merged_in_their_order(tmp_path, panda, seed):
    lines = RECORDINGS.read_text(encoding="utf-8").splitlines()
    random.Random(seed).shuffle(lines)
    parts = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path, part in zip(parts, (lines[: len(lines) // 4], lines[len(lines) // 4 :]), strict=True):
        path.write_text("\n".join(part) + "\n", encoding="utf-8")
    assert load(parts) == load([RECORDINGS])
    outcomes = replay_in_process(load(parts), known=panda)
    assert not any(item.differences for item in outcomes)


def test_a_wrong_answer_is_seen(tmp_path, panda):
    lines = [json.loads(line) for line in RECORDINGS.read_text(encoding="utf-8").splitlines()]
    wrong = {
        "api1-002": {"response": '{"success": false, "message": "No job in PanDA", "data": null}'},
        "api1-022": {"status": "400"},
        "api1-016": {"response": '{"success": false, "message": "No jobs in PanDA", "data": null}'},
        "api2-068": {"response_headers": ["HTTP/1.1 411 Length Required", "Content-Type: text/plain"]},
        "api2-067": {"response_headers": ["HTTP/1.1 200 OK", "Content-Type: text/plain", "Content-Encoding: gzip"]},
    }
    file = tmp_path / "wrong.jsonl"
    rows = [{**line, **wrong.get(line["id"], {})} for line in lines if line["id"].startswith("api")]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    outcomes = replay_in_process(load([file]), known=panda)
    assert {item.exchange.id for item in outcomes if item.differences} == set(wrong)


def test_what_is_left_out_has_a_reason():
    left_out = {exchange.id for exchange in load([RECORDINGS]) if exchange.status is None or exchange.body is None}
    assert left_out == set(KNOWN_LEFT_OUT)
    print(*(f"{name}: {reason}" for name, reason in KNOWN_LEFT_OUT.items()), sep="\n")
