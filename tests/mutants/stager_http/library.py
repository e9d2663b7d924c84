"""A storage behind HTTP, in memory, on loopback: GET, HEAD, PUT, DELETE, MOVE; and trouble when it is asked for."""

from __future__ import annotations

import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit


class Library:
    """The other side, as the kit wants it; use it in a `with` block."""

    def __init__(self):
        self.files = {}
        self.stalled, self.half, self.refused = set(), set(), False
        self.end = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"library": self}))
        self.server.daemon_threads = True
        self.prefix = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.down()

    def url(self, name):
        return f"{self.prefix}/{quote(name, safe='/')}"

    def put(self, name, data):
        self.files[name] = data

    def get(self, name):
        return self.files.get(name)

    def names(self):
        return set(self.files)

    def stall(self, name, data):
        self.put(name, data)
        self.stalled.add(name)

    def cut(self, name, data):
        self.put(name, data)
        self.half.add(name)

    def refuse(self):
        self.refused = True

    def down(self):
        if self.thread.is_alive():
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.0"
    library: Library

    def name(self, path=None):
        return unquote(urlsplit(path or self.path).path).removeprefix("/")

    def tell(self, status, body=b"", length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def missing(self):
        if self.library.refused:
            self.tell(403)
        elif self.name() not in self.library.files:
            self.tell(404)
        else:
            return False
        return True

    def do_HEAD(self):
        if not self.missing():
            self.tell(200, length=len(self.library.files[self.name()]))

    def do_GET(self):
        if self.missing():
            return
        name, data = self.name(), self.library.files[self.name()]
        short = name in self.library.stalled | self.library.half
        self.tell(200, data[: len(data) // 2] if short else data, len(data))
        if name in self.library.stalled:
            self.library.end.wait()

    def do_PUT(self):
        if self.library.refused:
            self.tell(403)
            return
        length = int(self.headers["Content-Length"])
        data = self.rfile.read(length)
        if len(data) == length:
            self.library.files[self.name()] = data
            self.tell(201)

    def do_MOVE(self):
        target = self.name(self.headers["Destination"])
        if self.headers["Overwrite"] == "F" and target in self.library.files:
            self.tell(412)
        elif not self.missing():
            self.library.files[target] = self.library.files.pop(self.name())
            self.tell(201)

    def do_DELETE(self):
        if not self.missing():
            del self.library.files[self.name()]
            self.tell(204)

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            # the client has gone: nothing of ours may stand in its way
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
