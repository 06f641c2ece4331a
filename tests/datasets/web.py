"""A local web server that misbehaves on request."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.web_server import answering


@dataclass
class Web:
    """What is served, and what was asked for.

    Attributes:
        files: bytes by path, with its slash.
        statuses: answers by path instead of the file, in order, each once.
        break_after: bytes of a path's answers after which the connection is cut, in order, each once.
        stall_after: bytes of a path after which nothing comes any more, once; `stalled` is set then, and the answer
            ends with `ended`.
        ranges: whether ranges are served; tags: whether an ETag is sent.
        requests: method, path and range of each request.
    """

    files: dict[str, bytes]
    url: str = ""
    statuses: dict[str, list[int]] = field(default_factory=dict)
    break_after: dict[str, list[int]] = field(default_factory=dict)
    stall_after: dict[str, int] = field(default_factory=dict)
    stalled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    ranges: bool = True
    tags: bool = True
    requests: list[tuple[str, str, str]] = field(default_factory=list)


def handler_of(web: Web) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            asked = self.headers.get("Range", "")
            web.requests.append((self.command, self.path, asked))
            if body and web.statuses.get(self.path):
                return self.empty(web.statuses[self.path].pop(0))
            if self.path not in web.files:
                return self.empty(404)
            data = web.files[self.path]
            tag = f'"{hashlib.md5(data).hexdigest()}"'
            start = 0
            if asked and web.ranges and self.headers.get("If-Range") in (None, tag):
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(data):
                    return self.empty(416, **{"Content-Range": f"bytes */{len(data)}"})
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            if web.tags:
                self.send_header("ETag", tag)
            self.end_headers()
            if body and self.path in web.stall_after:
                self.wfile.write(data[start : start + web.stall_after.pop(self.path)])
                web.stalled.set()
                web.ended.wait()
                self.close_connection = True
            elif body:
                cuts = web.break_after.get(self.path)
                self.wfile.write(data[start : start + cuts.pop(0)] if cuts else data[start:])
                self.close_connection = True
            return None

        def empty(self, status: int, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Web]:
    """Serve `files` on a port of this machine."""
    web = Web(files)
    with answering(handler_of(web)) as web.url:
        try:
            yield web
        finally:
            web.ended.set()
