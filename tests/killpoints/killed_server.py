"""A development server that is killed (SIGKILL) at its Nth request: `python killed_server.py N:MOMENT serve ...`.

Moments are `before` (nothing of the request is done), `after` (all is done, and not a byte of the answer is sent) and
`answered` (the answer is sent). `none` in place of both never kills. The methods that are
called are the lines of the file that `KILLED_SERVER_TOLD` names.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from dataclasses import replace

from pilot_devserver.host import Host

from pilot_core.cli import main

NUMBER = "X-Number"
"""The header in which an answer has its request's number."""

MOMENTS = ("before", "after", "answered")


class Killer:
    """Counts the requests of a server, and kills it."""

    def __init__(self, text):
        number, _, self.moment = text.partition(":")
        self.number = int(number) if self.moment in MOMENTS else 0
        self.numbers = itertools.count(1)

    def kill(self, number, moment):
        if (number, moment) == (self.number, self.moment):
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self):
        """Have every server of this process killed."""
        respond, handle, killer = Host._respond, Host._handle, self

        def counted_respond(host, request, store):
            number = next(killer.numbers)
            with open(os.environ["KILLED_SERVER_TOLD"], "a", encoding="utf-8") as told:
                told.write(request.path.rpartition("/")[2] + "\n")
            killer.kill(number, "before")
            answer = respond(host, request, store)
            killer.kill(number, "after")
            return replace(answer, headers={**answer.headers, NUMBER: str(number)})

        async def counted_handle(host, request):
            answer = await handle(host, request)
            if number := answer.headers.get(NUMBER):
                await answer.prepare(request)
                await answer.write_eof()
                killer.kill(int(number), "answered")
            return answer

        Host._respond, Host._handle = counted_respond, counted_handle


if __name__ == "__main__":
    Killer(sys.argv[1]).install()
    sys.exit(main(sys.argv[2:]))
