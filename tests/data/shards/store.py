"""A local web server for shards: counts bytes, and misbehaves on request."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.web_server import answering


@dataclass
class Store:
    """What is served, and how.

    Attributes:
        folder: whose files are served.
        statuses: answers in place of those to the next requests for shards.
        cut: bytes after which the next answers break off.
        ranges: whether parts are served.
        sent: bytes sent of shards, by name. requests: number of requests for shards.
    """

    folder: Path
    url: str = ""
    statuses: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    sent: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def part(self, name: str, asked: str) -> tuple[int, bytes]:
        path = self.folder / name
        if not path.is_file():
            return 404, b""
        with self.lock:
            self.requests += name.endswith(".tar")
            if name.endswith(".tar") and self.statuses:
                return self.statuses.pop(0), b""
        data = path.read_bytes()
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        if not match or not self.ranges:
            return 200, data
        start, last = int(match[1]), int(match[2] or len(data))
        return (206, data[start : last + 1]) if start < len(data) else (416, b"")


@contextmanager
def serve(folder: Path) -> Iterator[Store]:
    """Serve the files of `folder` on a port of this machine."""
    store = Store(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def answer(self, body: bool) -> None:
            name = self.path.lstrip("/")
            status, data = store.part(name, self.headers.get("Range", ""))
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if not body:
                return
            with store.lock:
                cut = store.cut.pop(0) if store.cut and name.endswith(".tar") else len(data)
                store.sent[name] = store.sent.get(name, 0) + min(cut, len(data))
            self.wfile.write(data[:cut])
            self.close_connection = cut < len(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with answering(Handler) as store.url:
        yield store
