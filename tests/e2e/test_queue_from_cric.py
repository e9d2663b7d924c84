"""A pilot that is told nothing of its queue but the name: the server's queuedata says the rest."""

from __future__ import annotations

import shlex


def test_the_queue_and_its_storage_come_from_the_servers_queuedata(shell, server, states, documented):
    shell(documented("pilot-core submit"))
    line = ["pilot-core", "run", "--jobs", "0", "--server", server["url"], "--ca-file", server["ca_file"]]
    shell(shlex.join([*line, "--queue", server["queue"], "--cert", server["proxy"]]))
    assert states() == ["finished"]
